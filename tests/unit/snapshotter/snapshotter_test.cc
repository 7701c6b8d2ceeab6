#include "snapshotter/snapshotter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "oci/tar/tar.h"
#include "tests/unit/snapshotter/temporary_directory.h"

namespace imsy::snapshotter {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Images whose answers a test chooses, and which remember what they were asked.
class FakeImages : public Images {
 public:
  class FakeAdmission : public Admission {
   public:
    FakeAdmission(FakeImages& images, ImageRecord image)
        : images_(images), image_(std::move(image)) {}
    ~FakeAdmission() override { ++images_.admissions_ended; }
    const ImageRecord& image() const override { return image_; }
    void recorded(std::int64_t slot) override { images_.recorded.push_back(slot); }

   private:
    FakeImages& images_;
    ImageRecord image_;
  };

  Result<std::unique_ptr<Admission>> admit(const Claim& claim, const std::string& name_space,
                                           Deadline deadline) override {
    ++admissions;
    last_deadline = deadline;
    if (refusal) return *refusal;
    ImageRecord image;
    image.anchor_layer = claim.anchor_layer;
    image.anchor_text = claim.anchor_text;
    image.data_layers = static_cast<std::uint32_t>(claim.anchor.data_layers.size());
    image.manifest = claim.anchor.manifest;
    image.name_space = name_space;
    image.config = claim.config;
    return std::unique_ptr<Admission>(new FakeAdmission(*this, std::move(image)));
  }
  Status may_give(const ImageRecord&, const PulledFrom& pull, Deadline) override {
    asked_for.push_back(pull.name_space);
    if (denial) return *denial;
    return {};
  }
  Status make_live(std::int64_t slot) override {
    live.push_back(slot);
    if (broken) return *broken;
    return {};
  }
  Result<Owner> root_owner(std::int64_t) override { return Owner{1000, 1001}; }
  void complete(std::int64_t slot) override { completed.push_back(slot); }
  void use(std::int64_t slot) override { used.push_back(slot); }
  bool make_room() override {
    ++rooms;
    refusal.reset();
    return true;
  }
  void release(const ImageRecord& image) override { released.push_back(image.slot); }

  std::optional<Error> refusal;
  std::optional<Error> denial;
  std::vector<std::string> asked_for;
  std::optional<Error> broken;
  int admissions = 0;
  int admissions_ended = 0;
  Deadline last_deadline;
  std::vector<std::int64_t> recorded;
  std::vector<std::int64_t> live;
  std::vector<std::int64_t> completed;
  std::vector<std::int64_t> used;
  int rooms = 0;
  std::vector<std::int64_t> released;
};

class SnapshotterTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "snapshots have owners: needs root";
    start();
  }
  void start() {
    snapshotter_.reset();
    database_.reset();
    auto database = Database::open(layout_.database());
    ASSERT_TRUE(database) << database.error().message();
    database_ = std::move(*database);
    auto snapshotter = Snapshotter::open(layout_, *database_, images_, options_);
    ASSERT_TRUE(snapshotter) << snapshotter.error().message();
    snapshotter_ = std::move(*snapshotter);
  }
  static Deadline never() { return Deadline::max(); }

  SnapshotterOptions options_{.volatile_containers = false, .boot_id = "boot-1"};

  Result<std::vector<Mount>> prepare(const std::string& key, const std::string& parent = "",
                                     const Labels& labels = {}) {
    return snapshotter_->prepare({key, parent, labels, "default"}, never());
  }
  void commit_layer(const std::string& name, const std::string& parent = "") {
    ASSERT_TRUE(prepare(name + "-active", parent));
    ASSERT_TRUE(snapshotter_->commit(name + "-active", name, {}, ""));
  }
  // The content directory of an active snapshot.
  std::filesystem::path upper(const std::vector<Mount>& mounts) {
    if (mounts.front().type == "bind") return mounts.front().source;
    for (const std::string& option : mounts.front().options) {
      if (option.starts_with("upperdir=")) return option.substr(9);
    }
    return {};
  }
  std::vector<std::string> directories() {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(layout_.snapshots())) {
      names.push_back(entry.path().filename());
    }
    std::ranges::sort(names);
    return names;
  }
  void clean_up() { ASSERT_TRUE(snapshotter_->cleanup(never())); }

  // --- an imsy image with one data layer ---
  cdc::Anchor anchor_{.manifest = sha256("manifest"),
                      .header_size = 200,
                      .manifest_size = 5000,
                      .manifest_offset = 10'000,
                      .manifest_layer = 0,
                      .data_layers = {{sha256("blob"), 20'000, sha256("layer")}}};
  std::string anchor_chain() const {
    return sha256(*oci::tar::marker_archive(cdc::kAnchorRecordKey, anchor_.to_text())).to_string();
  }
  std::string data_chain() const {
    return sha256(anchor_chain() + " " + anchor_.data_layers[0].diff_id.to_string()).to_string();
  }
  Labels image_labels(const std::string& role, const std::string& chain) const {
    return {{std::string(label::kRef), chain},
            {std::string(label::kAnchor), anchor_.to_text()},
            {std::string(label::kRole), role},
            {std::string(label::kConfig), sha256("config").to_string()}};
  }
  // What containerd does after kAlreadyExists.
  std::vector<Info> find(const std::string& chain, const std::string& parent) {
    auto infos = snapshotter_->list(
        {"labels.\"containerd.io/snapshot.ref\"==" + chain + ",parent==\"" + parent + "\""});
    EXPECT_TRUE(infos);
    return *infos;
  }
  // Pulls both layers; the name of the upper one.
  std::string pull_image() {
    EXPECT_EQ(prepare("k1", "", image_labels("anchor", anchor_chain())).error().code(),
              Errc::kAlreadyExists);
    const auto anchors = find(anchor_chain(), "");
    EXPECT_FALSE(anchors.empty());
    EXPECT_EQ(
        prepare("k2", anchors.front().name, image_labels("data", data_chain())).error().code(),
        Errc::kAlreadyExists);
    const auto data = find(data_chain(), anchors.front().name);
    EXPECT_EQ(data.size(), 1U);
    return data.front().name;
  }

  test::TemporaryDirectory directory_;
  const Layout layout_{directory_.path()};
  FakeImages images_;
  std::unique_ptr<Database> database_;
  std::unique_ptr<Snapshotter> snapshotter_;
};

template <typename T>
void expect_error(const Result<T>& result, Errc code) {
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), code) << result.error().message();
}

TEST_F(SnapshotterTest, DirectoriesHaveExactModes) {
  const mode_t before = umask(077);
  commit_layer("base");
  const auto mounts = prepare("active", "base");
  umask(before);
  ASSERT_TRUE(mounts);
  struct stat st = {};
  ASSERT_EQ(stat(upper(*mounts).c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 07777, 0755U);
  ASSERT_EQ(stat((upper(*mounts).parent_path() / "work").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 07777, 0711U);
  ASSERT_EQ(stat(layout_.snapshots().c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 07777, 0700U);
}

TEST_F(SnapshotterTest, TheUpperDirectoryBelongsToTheOwnerOfTheRootBelow) {
  const auto base = prepare("base-active");
  ASSERT_EQ(chown(upper(*base).c_str(), 12, 34), 0);
  ASSERT_TRUE(snapshotter_->commit("base-active", "base", {}, ""));
  struct stat st = {};
  ASSERT_EQ(stat(upper(*prepare("active", "base")).c_str(), &st), 0);
  EXPECT_EQ(st.st_uid, 12U);
  EXPECT_EQ(st.st_gid, 34U);
}

TEST_F(SnapshotterTest, MountsAreTheSameAgainAlsoAfterARestart) {
  commit_layer("base");
  const auto active = prepare("active", "base");
  const auto view = snapshotter_->view({"view", "base", {}, "default"});
  ASSERT_TRUE(view);
  EXPECT_EQ(*snapshotter_->mounts("active"), *active);
  start();
  EXPECT_EQ(*snapshotter_->mounts("active"), *active);
  EXPECT_EQ(*snapshotter_->mounts("view"), *view);
  expect_error(snapshotter_->mounts("base"), Errc::kFailedPrecondition);
  expect_error(snapshotter_->mounts("gone"), Errc::kNotFound);
}

TEST_F(SnapshotterTest, PrepareErrors) {
  commit_layer("base");
  ASSERT_TRUE(prepare("active", "base"));
  expect_error(prepare("active", "base"), Errc::kAlreadyExists);
  expect_error(prepare("base"), Errc::kAlreadyExists);
  expect_error(prepare("x", "gone"), Errc::kNotFound);
  expect_error(prepare("x", "active"), Errc::kInvalid);
  expect_error(prepare(""), Errc::kInvalid);
  expect_error(prepare(std::string("a\0b", 3)), Errc::kInvalid);
  expect_error(prepare(std::string(5000, 'k')), Errc::kInvalid);
  clean_up();
  EXPECT_EQ(directories().size(), 2U) << "what was refused leaves nothing";
}

TEST_F(SnapshotterTest, UsageIsMeasuredAndKept) {
  const auto mounts = prepare("active");
  const auto empty = snapshotter_->usage("active");
  ASSERT_TRUE(empty);
  EXPECT_EQ(empty->inodes, 1);
  std::ofstream(upper(*mounts) / "file") << std::string(100'000, 'x');
  const auto full = snapshotter_->usage("active");
  EXPECT_EQ(full->inodes, 2);
  EXPECT_GE(full->size - empty->size, 100'000);
  ASSERT_TRUE(snapshotter_->commit("active", "base", {}, ""));
  EXPECT_EQ(*snapshotter_->usage("base"), *full);
  ASSERT_TRUE(prepare("child", "base"));
  EXPECT_EQ(snapshotter_->usage("child")->inodes, 1) << "parents do not count";
  ASSERT_TRUE(snapshotter_->view({"view", "base", {}, ""}));
  EXPECT_EQ(*snapshotter_->usage("view"), Usage{});
  expect_error(snapshotter_->usage("gone"), Errc::kNotFound);
}

TEST_F(SnapshotterTest, RemoveFreesTheKeyAtOnceAndTheDirectoryLater) {
  const auto first = prepare("key");
  std::ofstream(upper(*first) / "file") << "x";
  ASSERT_TRUE(snapshotter_->remove("key"));
  const auto second = prepare("key");
  ASSERT_TRUE(second);
  EXPECT_NE(upper(*second), upper(*first));
  clean_up();
  EXPECT_FALSE(std::filesystem::exists(upper(*first)));
  EXPECT_TRUE(std::filesystem::exists(upper(*second)));
  expect_error(snapshotter_->remove("gone"), Errc::kNotFound);
}

TEST_F(SnapshotterTest, ARestartDeletesWhatACrashLeft) {
  const auto kept = prepare("kept");
  std::filesystem::create_directories(layout_.fs(77));
  std::ofstream(layout_.fs(77) / "file") << "x";
  std::filesystem::create_directories(layout_.snapshots() / "not-ours");
  start();
  clean_up();
  EXPECT_THAT(directories(), ElementsAre("1", "not-ours"));
  EXPECT_TRUE(std::filesystem::exists(upper(*kept)));
  // A number that was on disk is not used again while it may still be under deletion.
  EXPECT_EQ(upper(*prepare("new")), layout_.fs(78));
}

TEST_F(SnapshotterTest, APlantedLinkInPlaceOfTheSnapshotsIsNotFollowed) {
  const auto elsewhere = directory_.path() / "elsewhere";
  std::filesystem::create_directories(elsewhere / "1" / "fs");
  snapshotter_.reset();
  std::filesystem::remove_all(layout_.snapshots());
  std::filesystem::create_symlink(elsewhere, layout_.snapshots());
  const auto opened = Snapshotter::open(layout_, *database_, images_);
  ASSERT_FALSE(opened);
  EXPECT_THAT(opened.error().message(), HasSubstr("snapshots is not a directory"));
  EXPECT_TRUE(std::filesystem::exists(elsewhere / "1" / "fs"));
}

TEST_F(SnapshotterTest, UpdateMasks) {
  ASSERT_TRUE(prepare("a", "", {{"l1", "1"}, {"l2", "2"}, {"l.3", "3"}}));
  auto info = snapshotter_->update(
      {"a", {{"l1", "x"}, {"l.3", "y"}, {"l4", "4"}}, {"labels.l1", "labels.l2", "labels.l.3"}});
  ASSERT_TRUE(info);
  EXPECT_EQ(info->labels, (Labels{{"l1", "x"}, {"l.3", "y"}}));
  info = snapshotter_->update({"a", {{"z", "1"}}, {"labels"}});
  EXPECT_EQ(info->labels, (Labels{{"z", "1"}}));
  info = snapshotter_->update({"a", {{"y", "1"}, {"empty", ""}}, {}});
  EXPECT_EQ(info->labels, (Labels{{"y", "1"}}));
  for (const char* path : {"parent", "name", "kind", "label", "labels.", "labelsx"}) {
    expect_error(snapshotter_->update({"a", {}, {path}}), Errc::kInvalid);
  }
  expect_error(snapshotter_->update({"gone", {}, {}}), Errc::kNotFound);
  EXPECT_EQ(snapshotter_->stat("a")->labels, (Labels{{"y", "1"}}));
}

TEST_F(SnapshotterTest, RootsThatBreakOverlayOptionsAreRefused) {
  for (const char* name : {"a:b", "a,b", "a\\b"}) {
    const Layout layout(directory_ / name);
    expect_error(Snapshotter::open(layout, *database_, images_), Errc::kInvalid);
  }
}

TEST_F(SnapshotterTest, AProvedImageIsCommittedAtOnce) {
  const std::string name = pull_image();
  const auto info = snapshotter_->stat(name);
  ASSERT_TRUE(info);
  EXPECT_EQ(info->kind, Kind::kCommitted);
  EXPECT_EQ(info->labels, image_labels("data", data_chain()));
  EXPECT_EQ(info->created_ns, info->updated_ns);
  EXPECT_EQ(*snapshotter_->usage(name), Usage{});
  expect_error(snapshotter_->stat("k1"), Errc::kNotFound);
  expect_error(snapshotter_->stat("k2"), Errc::kNotFound);
  EXPECT_EQ(images_.admissions, 2);
  EXPECT_EQ(images_.admissions_ended, 2);
  EXPECT_THAT(images_.recorded, ElementsAre(1, 1));
  EXPECT_THAT(images_.completed, ElementsAre(1)) << "wanted once its last layer is there";
}

TEST_F(SnapshotterTest, ContainersGetTheLazyTree) {
  const std::string name = pull_image();
  const auto mounts = prepare("container", name);
  ASSERT_TRUE(mounts) << mounts.error().message();
  EXPECT_EQ(mounts->front().type, "overlay");
  EXPECT_THAT(mounts->front().options, ::testing::Contains("lowerdir=" + layout_.slot(1).string()));
  EXPECT_THAT(images_.live, ElementsAre(1)) << "live before the answer";
  struct stat st = {};
  ASSERT_EQ(stat(upper(*mounts).c_str(), &st), 0);
  EXPECT_EQ(st.st_uid, 1000U) << "from the manifest, not from the mounted tree";
  EXPECT_EQ(st.st_gid, 1001U);
  EXPECT_THAT(images_.used, ElementsAre(1));
  EXPECT_EQ(database_->get("container")->mount, MountKind::kLazy);
  ASSERT_TRUE(snapshotter_->mounts("container"));
  EXPECT_EQ(images_.live.size(), 2U);
  ASSERT_TRUE(snapshotter_->commit("container", "grown", {}, ""));
  EXPECT_TRUE(snapshotter_->view({"view", "grown", {}, ""}));
}

TEST_F(SnapshotterTest, WithoutRoomForAnImageItIsTriedOnceMore) {
  images_.refusal = Error(Errc::kNoSpace, "the disk is full");
  pull_image();
  EXPECT_EQ(images_.rooms, 1);
  EXPECT_THAT(images_.recorded, ElementsAre(1, 1));
}

TEST_F(SnapshotterTest, AnImageThatCannotBeShownIsAnErrorNotAnEmptyDirectory) {
  const std::string name = pull_image();
  images_.broken = Error(Errc::kUnavailable, "its manifest is damaged");
  expect_error(prepare("container", name), Errc::kUnavailable);
  expect_error(snapshotter_->view({"view", name, {}, ""}), Errc::kUnavailable);
  expect_error(snapshotter_->stat("container"), Errc::kNotFound);
}

TEST_F(SnapshotterTest, AKnownLayerIsReusedWithoutAskingAgain) {
  const std::string name = pull_image();
  EXPECT_EQ(pull_image(), name);
  EXPECT_EQ(images_.admissions, 2);
  // Also by a client that passes no labels but the chainID.
  expect_error(prepare("k", "", {{std::string(label::kRef), anchor_chain()}}),
               Errc::kAlreadyExists);
  // On another parent the same chainID is another layer.
  commit_layer("plain");
  EXPECT_TRUE(prepare("k", "plain", {{std::string(label::kRef), data_chain()}}));
}

TEST_F(SnapshotterTest, AKnownLayerThatMayNotBeGivenIsUnpacked) {
  const std::string name = pull_image();
  images_.asked_for.clear();
  images_.denial = Error(Errc::kDenied, "its content is private");
  Labels labels = image_labels("anchor", anchor_chain());
  labels[std::string(label::kConfig)] = sha256("other config").to_string();
  ASSERT_TRUE(snapshotter_->prepare({"k", "", labels, "k8s.io"}, never()));
  EXPECT_EQ(images_.asked_for, std::vector<std::string>{"k8s.io"}) << "once";
  EXPECT_EQ(images_.admissions, 2) << "it does not get in by another door";
  EXPECT_NE(database_->image(1)->config, sha256("other config"))
      << "who may not have it does not say where it is from";
  // Nor does it help to claim nothing.
  ASSERT_TRUE(snapshotter_->prepare(
      {"k2", "", {{std::string(label::kRef), anchor_chain()}}, "k8s.io"}, never()));
  images_.denial = Error(Errc::kCancelled, "stopping");
  expect_error(snapshotter_->prepare({"k3", "", labels, "k8s.io"}, never()), Errc::kUnavailable);
  images_.denial.reset();
  EXPECT_EQ(pull_image(), name);
}

TEST_F(SnapshotterTest, ReuseGivesBackTheLabelThatContainerdLooksFor) {
  const std::string name = pull_image();
  ASSERT_TRUE(snapshotter_->update({name, {{"other", "1"}}, {"labels"}}));
  EXPECT_EQ(pull_image(), name);
  EXPECT_EQ(snapshotter_->stat(name)->labels.at("other"), "1");
}

TEST_F(SnapshotterTest, TheLatestPullSaysWhereToAsk) {
  pull_image();
  Labels again = image_labels("anchor", anchor_chain());
  again[std::string(label::kConfig)] = sha256("other config").to_string();
  expect_error(snapshotter_->prepare({"k", "", again, "k8s.io"}, never()), Errc::kAlreadyExists);
  const ImageRecord image = *database_->image(1);
  EXPECT_EQ(image.name_space, "k8s.io");
  EXPECT_EQ(image.config, sha256("other config"));
}

TEST_F(SnapshotterTest, WithoutItsManifestAnImageIsUnpackedAltogether) {
  images_.refusal = Error(Errc::kUnavailable, "no registry answers");
  const auto mounts = prepare("k1", "", image_labels("anchor", anchor_chain()));
  ASSERT_TRUE(mounts) << mounts.error().message();
  EXPECT_EQ(mounts->front().type, "bind");
  const Labels labels = image_labels("anchor", anchor_chain());
  ASSERT_TRUE(snapshotter_->commit("k1", "ns/1/" + anchor_chain(), labels, ""));
  // The registry is back, but the image was decided.
  images_.refusal.reset();
  EXPECT_TRUE(prepare("k2", "ns/1/" + anchor_chain(), image_labels("data", data_chain())));
  EXPECT_EQ(images_.admissions, 1);
  // The next pull decides anew; what was unpacked does not hide it.
  const std::string name = pull_image();
  EXPECT_TRUE(name.starts_with("imsy/"));
}

TEST_F(SnapshotterTest, WhyALayerWasUnpackedIsKeptAndExplained) {
  images_.refusal = Error(Errc::kUnavailable, "no registry answers");
  const Labels labels = image_labels("anchor", anchor_chain());
  ASSERT_TRUE(prepare("ns/1/extract-1 " + anchor_chain(), "", labels));
  ASSERT_TRUE(snapshotter_->commit("ns/1/extract-1 " + anchor_chain(), "ns/2/" + anchor_chain(),
                                   labels, ""));
  ASSERT_TRUE(prepare("ns/3/web", "ns/2/" + anchor_chain()));
  start();
  const auto found = snapshotter_->explain("web");
  ASSERT_TRUE(found);
  ASSERT_EQ(found->size(), 1U);
  EXPECT_EQ(found->front().row.info.name, "ns/3/web");
  EXPECT_EQ(found->front().row.reason, "");
  ASSERT_EQ(found->front().parents.size(), 1U);
  EXPECT_EQ(found->front().parents[0].reason, "no registry answers");
  EXPECT_EQ(snapshotter_->explain("ns/3/web")->size(), 1U);
  EXPECT_EQ(snapshotter_->explain(anchor_chain())->size(), 1U);
  EXPECT_TRUE(snapshotter_->explain("we")->empty());
  EXPECT_TRUE(snapshotter_->explain("%")->empty());
  // One of ours is found by its chainID, too.
  images_.refusal.reset();
  pull_image();
  const auto both = snapshotter_->explain(anchor_chain());
  ASSERT_EQ(both->size(), 2U);
  EXPECT_TRUE(both->at(1).row.image.has_value());
}

bool is_volatile(const Result<std::vector<Mount>>& mounts) {
  return mounts && std::ranges::count(mounts->front().options, "volatile") == 1;
}

TEST_F(SnapshotterTest, VolatileIsForContainersThatAskForIt) {
  const Labels asks = {{std::string(label::kVolatile), "true"}};
  const Labels refuses = {{std::string(label::kVolatile), "false"}};
  commit_layer("base");
  EXPECT_FALSE(is_volatile(prepare("plain", "base")));
  EXPECT_TRUE(is_volatile(prepare("asking", "base", asks)));
  EXPECT_FALSE(is_volatile(prepare("without-parent", "", asks)));
  options_.volatile_containers = true;
  start();
  EXPECT_TRUE(is_volatile(prepare("by-configuration", "base")));
  EXPECT_FALSE(is_volatile(prepare("refusing", "base", refuses)));
  // What is unpacked stays, and is not read-only either.
  EXPECT_FALSE(is_volatile(
      prepare("extract", "base", {{std::string(label::kRef), sha256("x").to_string()}})));
  EXPECT_FALSE(is_volatile(snapshotter_->view({"view", "base", {}, "default"})));
  // The mounts of a snapshot stay the same.
  EXPECT_FALSE(is_volatile(snapshotter_->mounts("plain")));
  options_.volatile_containers = false;
  start();
  EXPECT_TRUE(is_volatile(snapshotter_->mounts("by-configuration")));
}

TEST_F(SnapshotterTest, AVolatileContainerStartsAgainUntilTheMachineCrashes) {
  commit_layer("base");
  const auto mounts = prepare("web", "base", {{std::string(label::kVolatile), "1"}});
  ASSERT_TRUE(is_volatile(mounts));
  const auto mount_and_unmount = [&](const std::vector<Mount>& given) {
    std::string options;
    for (const std::string& option : given.front().options) {
      options += (options.empty() ? "" : ",") + option;
    }
    const auto at = layout_.root() / "mounted";
    std::filesystem::create_directories(at);
    if (::mount("overlay", at.c_str(), "overlay", 0, options.c_str()) != 0) return errno;
    return ::umount(at.c_str()) == 0 ? 0 : errno;
  };
  const int mounted = mount_and_unmount(*mounts);
  if (mounted != 0) GTEST_SKIP() << "no overlay here: " << std::strerror(mounted);
  // The kernel refuses it from now on, by itself.
  EXPECT_NE(mount_and_unmount(*mounts), 0);
  const auto again = snapshotter_->mounts("web");
  ASSERT_TRUE(is_volatile(again));
  EXPECT_EQ(mount_and_unmount(*again), 0);
  options_.boot_id = "boot-2";
  start();
  expect_error(snapshotter_->mounts("web"), Errc::kFailedPrecondition);
  expect_error(snapshotter_->commit("web", "layer", {}, ""), Errc::kFailedPrecondition);
  EXPECT_TRUE(snapshotter_->remove("web"));
}

TEST_F(SnapshotterTest, WhatAVolatileContainerCommitsIsDurable) {
  commit_layer("base");
  ASSERT_TRUE(prepare("web", "base", {{std::string(label::kVolatile), "1"}}));
  ASSERT_TRUE(snapshotter_->commit("web", "layer", {}, ""));
  EXPECT_EQ(database_->get("layer")->volatile_boot, "");
}

TEST_F(SnapshotterTest, AnUpperDirectoryBelongsToTheRootOfItsUserNamespace) {
  commit_layer("base");
  const auto mounts = prepare("web", "base",
                              {{std::string(label::kUidMapping), "1:5:10,0:100000:65536"},
                               {std::string(label::kGidMapping), "0:200000:65536"}});
  ASSERT_TRUE(mounts);
  struct stat st = {};
  ASSERT_EQ(::stat(upper(*mounts).c_str(), &st), 0);
  EXPECT_EQ(st.st_uid, 100'000U);
  EXPECT_EQ(st.st_gid, 200'000U);
}

TEST_F(SnapshotterTest, FalseClaimsAreUnpacked) {
  // Another image's chainID; an anchor with a parent; a data layer on a foreign parent.
  const std::string popular = sha256("popular base").to_string();
  EXPECT_TRUE(prepare("k1", "", image_labels("anchor", popular)));
  EXPECT_TRUE(prepare("k2", "", image_labels("data", data_chain())));
  commit_layer("plain");
  EXPECT_TRUE(prepare("k3", "plain", image_labels("anchor", anchor_chain())));
  EXPECT_TRUE(prepare("k4", "plain", image_labels("data", data_chain())));
  EXPECT_EQ(images_.admissions, 0);
  EXPECT_TRUE(images_.recorded.empty());
}

TEST_F(SnapshotterTest, ADataLayerMustStandOnItsOwnAnchor) {
  pull_image();
  const std::string stranger = find(anchor_chain(), "").front().name;
  anchor_.data_layers[0].blob = sha256("another image");
  EXPECT_TRUE(prepare("k", stranger, image_labels("data", data_chain())));
  EXPECT_EQ(images_.admissions, 2);
}

TEST_F(SnapshotterTest, AStoppingDaemonDoesNotDecide) {
  images_.refusal = Error(Errc::kCancelled, "stopping");
  expect_error(prepare("k1", "", image_labels("anchor", anchor_chain())), Errc::kUnavailable);
  expect_error(snapshotter_->stat("k1"), Errc::kNotFound);
}

TEST_F(SnapshotterTest, RemovingTheLastLayerReleasesTheImage) {
  const std::string name = pull_image();
  const std::string anchor = find(anchor_chain(), "").front().name;
  ASSERT_TRUE(prepare("container", name));
  expect_error(snapshotter_->remove(name), Errc::kFailedPrecondition);
  EXPECT_THAT(snapshotter_->remove(anchor).error().message(), HasSubstr("remove"));
  ASSERT_TRUE(snapshotter_->remove("container"));
  ASSERT_TRUE(snapshotter_->remove(name));
  EXPECT_TRUE(images_.released.empty());
  ASSERT_TRUE(snapshotter_->remove(anchor));
  EXPECT_THAT(images_.released, ElementsAre(1));
  clean_up();
  EXPECT_TRUE(directories().empty());
}

TEST_F(SnapshotterTest, OnlyClaimsMayWaitForTheNetwork) {
  EXPECT_FALSE(Snapshotter::may_wait({"k", "", {{std::string(label::kRef), "x"}}, ""}));
  EXPECT_TRUE(Snapshotter::may_wait({"k", "", image_labels("anchor", "x"), ""}));
}

}  // namespace
}  // namespace imsy::snapshotter
