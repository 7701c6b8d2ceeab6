// imsy-snapshotter as a process, with imsy images from a registry, as containerd would drive it.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <fstream>
#include <future>
#include <latch>
#include <sstream>
#include <thread>

#include "tests/integration/lazy_fixture.h"

namespace imsy::test {
namespace {

using ::testing::HasSubstr;

TEST_F(LazyTest, PullsRunsAndReadsOnDemand) {
  start("background_fill = false\n");
  const Image image = publish(1);
  Client client(*process_);
  const auto names = pull(client, image);
  EXPECT_LE(registry_->count("", "/blobs/"), 2U) << "the CDC manifest, nothing else";
  Mounts mounts;
  ASSERT_TRUE(client.prepare("default/9/container", names.back(), {}, &mounts).ok());
  ASSERT_EQ(mounts.size(), 1U);
  EXPECT_EQ(mounts.front().type(), "overlay");
  expect_content(mounts, image);
  {
    const Mounted mounted(mounts, folder_ / "mounted");
    EXPECT_EQ(mounted.read("link"), "image 1");
    std::ofstream(mounted.path() / "etc/name") << "changed";
    EXPECT_EQ(mounted.read("etc/name"), "changed");
  }
  Mounts view;
  ASSERT_TRUE(client.view("default/10/view", names.back(), &view).ok());
  expect_content(view, image);
  api::UsageResponse usage;
  ASSERT_TRUE(client.usage(names.back(), &usage).ok());
  EXPECT_EQ(usage.size(), 0);
  process_->wait_for_stats([](const oci::Json& stats) {
    return stats.contains("images") && stats["images"].size() == 1 &&
           stats["bytes_fetched"].get<std::uint64_t>() > 400'000;
  });
  EXPECT_EQ(process_->stats()["images"][0]["manifest"], image.made.anchor.manifest.to_string());
  EXPECT_EQ(process_->stats()["images"][0]["objects"], 3);
}

TEST_F(LazyTest, ATreeThatWasTakenAwayIsMountedAgain) {
  start("background_fill = false\n");
  const Image image = publish(23);
  Client client(*process_);
  const std::string top = pull(client, image).back();
  Mounts mounts;
  ASSERT_TRUE(client.prepare("default/9/first", top, {}, &mounts).ok());
  const auto tree = process_->root / "mnt";
  {
    const Mounted first(mounts, folder_ / "first");
    ASSERT_EQ(umount2(tree.c_str(), MNT_DETACH), 0);
    ASSERT_TRUE(client.prepare("default/9/second", top, {}, &mounts).ok());
    expect_content(mounts, image);
    EXPECT_TRUE(first.read("data/big") == as_text(image.made.files.at("data/big")))
        << "who had it before goes on";
  }
  // Aborted: whoever used it has lost it, but new containers work.
  umount2(tree.c_str(), MNT_FORCE);
  ASSERT_TRUE(client.mounts("default/9/second", &mounts).ok());
  expect_content(mounts, image);
  const std::string log = process_->end(SIGTERM).log;
  const std::string line = "the lazy tree was taken away and is mounted again";
  EXPECT_THAT(log.substr(log.find(line) + 1), HasSubstr(line)) << "twice";
  EXPECT_TRUE(std::filesystem::is_empty(tree)) << "nothing is left mounted";
}

TEST_F(LazyTest, WithoutItsTreeAnImageCannotBeMounted) {
  start("background_fill = false\n");
  const Image image = publish(24);
  Client client(*process_);
  const std::string top = pull(client, image).back();
  const auto tree = process_->root / "mnt";
  ASSERT_EQ(mount("none", tree.c_str(), "tmpfs", 0, nullptr), 0);
  Mounts mounts;
  const grpc::Status refused = client.prepare("default/9/container", top, {}, &mounts);
  EXPECT_EQ(refused.error_code(), Code::UNAVAILABLE);
  EXPECT_THAT(refused.error_message(), HasSubstr("has a mount of type tmpfs"));
  EXPECT_EQ(prepare_layer(client, publish(25).labels(0), ""), "") << "unpacked instead";
  ASSERT_EQ(umount2(tree.c_str(), 0), 0);
  ASSERT_TRUE(client.prepare("default/9/container", top, {}, &mounts).ok());
  expect_content(mounts, image);
}

TEST_F(LazyTest, SeveralDataLayersAreOneTree) {
  start("background_fill = false\n");
  const Image image = publish(2, 3);
  Client client(*process_);
  const auto names = pull(client, image);
  ASSERT_EQ(names.size(), 4U);
  Mounts mounts;
  ASSERT_TRUE(client.prepare("default/9/container", names.back(), {}, &mounts).ok());
  expect_content(mounts, image);
  EXPECT_EQ(client.prepare("default/9/part", names[2]).error_code(), Code::FAILED_PRECONDITION);
}

TEST_F(LazyTest, BecomesResidentAndNeedsTheRegistryNoMore) {
  start();
  const Image image = publish(3);
  Client client(*process_);
  const auto names = pull(client, image);
  wait_resident(1);
  registry_.reset();
  Mounts mounts;
  ASSERT_TRUE(client.prepare("default/9/container", names.back(), {}, &mounts).ok());
  expect_content(mounts, image);
}

TEST_F(LazyTest, AResidentImageThatLosesContentIsFilledAgain) {
  start();
  const Image image = publish(20);
  Client client(*process_);
  Mounts mounts;
  ASSERT_TRUE(client.prepare("default/9/container", pull(client, image).back(), {}, &mounts).ok());
  wait_resident(1);
  const Bytes& content = image.made.files.at("data/big");
  const std::string id = image.made.manifest->objects().id(image.made.object("data/big")).hex();
  const auto file = process_->root / "store/objects" / id.substr(0, 2) / id;
  ASSERT_EQ(std::filesystem::file_size(file), content.size());
  const Digest& blob = image.made.anchor.data_layers[0].blob;
  const std::string bytes = *registry_->blob(blob);
  registry_->remove_blob(blob);
  std::filesystem::resize_file(file, 0);
  const Mounted mounted(mounts, folder_ / "mounted");
  EXPECT_EQ(read_error(mounted.path() / "data/big"), EIO);
  process_->wait_for_stats(
      [](const oci::Json& stats) { return !stats["images"][0]["resident"].get<bool>(); });
  registry_->set_blob(blob, bytes);
  wait_resident(1);
  EXPECT_THAT(process_->log(), HasSubstr("has lost content, it is filled again"));
  EXPECT_EQ(*read_file(file, 1'000'000), content);
  EXPECT_EQ(mounted.read("data/big"), as_text(content));
}

// A file system in memory that is full soon.
class SmallDisk {
 public:
  explicit SmallDisk(std::filesystem::path at, const char* options = "size=5m,mode=0700")
      : at_(std::move(at)) {
    std::filesystem::create_directories(at_);
    EXPECT_EQ(mount("none", at_.c_str(), "tmpfs", 0, options), 0);
  }
  ~SmallDisk() { umount2(at_.c_str(), MNT_DETACH); }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;
  void grow() { EXPECT_EQ(mount("none", at_.c_str(), "tmpfs", MS_REMOUNT, "size=100m"), 0); }

 private:
  const std::filesystem::path at_;
};

TEST_F(LazyTest, AFullDiskCostsNoReaderAndIsFilledOnWhenThereIsRoom) {
  const Image image = publish(ImageMaker()
                                  .file("a", random_bytes(3'000'000, 21))
                                  .file("b", random_bytes(9'000'000, 22))
                                  .make());
  process_ = std::make_unique<SnapshotterProcess>(folder_.path(), config());
  SmallDisk disk(process_->root);
  process_->start();
  Client client(*process_);
  Mounts mounts;
  ASSERT_TRUE(client.prepare("default/9/container", pull(client, image).back(), {}, &mounts).ok());
  wait_for_log("the background fill waits", "the store cannot keep what is fetched");
  expect_content(mounts, image);
  process_->wait_for_stats([](const oci::Json& stats) {
    return stats.contains("images") && stats["images"].size() == 1 &&
           !stats["images"][0]["resident"].get<bool>();
  });
  disk.grow();
  wait_resident(1);
  expect_content(mounts, image);
}

TEST_F(LazyTest, AnImageThatIsGoneMakesRoomForTheNextOne) {
  process_ = std::make_unique<SnapshotterProcess>(folder_.path(), config());
  SmallDisk disk(process_->root, "size=14m,mode=0700");
  process_->start();
  Client client(*process_);
  for (const unsigned seed : {23u, 24u}) {
    const Image image = publish(ImageMaker().file("a", random_bytes(9'000'000, seed)).make());
    auto names = pull(client, image);
    Mounts mounts;
    ASSERT_TRUE(client.prepare("default/9/container", names.back(), {}, &mounts).ok());
    wait_resident(1);
    expect_content(mounts, image);
    EXPECT_THAT(process_->log(), ::testing::Not(HasSubstr("the store cannot keep")));
    ASSERT_TRUE(client.remove("default/9/container").ok());
    for (; !names.empty(); names.pop_back()) ASSERT_TRUE(client.remove(names.back()).ok());
    process_->wait_for_stats(
        [](const oci::Json& stats) { return stats.contains("images") && stats["images"].empty(); });
  }
}

class FullDiskTest : public LazyTest {
 protected:
  bool is_resident(const Image& image) {
    const oci::Json stats = process_->stats();
    for (const auto& one : stats["images"]) {
      if (one["manifest"] == image.made.anchor.manifest.to_string()) return one["resident"];
    }
    return false;
  }
  // Two images that are too large for the disk together.
  void expect_shrinking(const char* disk_options, const Image& first, const Image& second) {
    process_ = std::make_unique<SnapshotterProcess>(folder_.path(), config());
    const SmallDisk disk(process_->root, disk_options);
    process_->start();
    Client client(*process_);
    Mounts mounts[2];
    const std::string top = pull(client, first).back();
    ASSERT_TRUE(client.prepare("default/9/first", top, {}, &mounts[0]).ok());
    wait_resident(1);
    auto others = pull(client, second);
    ASSERT_TRUE(client.prepare("default/9/second", others.back(), {}, &mounts[1]).ok());
    wait_for_log(first.made.anchor.manifest.to_string(), "is shrunk for want of room");
    process_->wait_for_stats([&](const oci::Json&) { return is_resident(second); });
    expect_content(mounts[0], first);
    expect_content(mounts[1], second);
    EXPECT_TRUE(is_resident(second)) << "what is read of the first shrinks no other";
    for (int i = 0; i < 20; ++i) {
      const std::string key = "default/9/more" + std::to_string(i);
      EXPECT_TRUE(client.prepare(key, top).ok()) << "the daemon commits";
      EXPECT_TRUE(client.remove(key).ok());
    }
    expect_content(mounts[0], first);
    expect_content(mounts[1], second);
    EXPECT_TRUE(is_resident(second)) << "nor do those uses";
    EXPECT_FALSE(is_resident(first));
    // Now there is room for all of it.
    ASSERT_TRUE(client.remove("default/9/second").ok());
    for (; !others.empty(); others.pop_back()) ASSERT_TRUE(client.remove(others.back()).ok());
    process_->wait_for_stats([](const oci::Json& stats) { return stats["images"].size() == 1; });
    EXPECT_TRUE(client.prepare("default/9/again", top, {}, &mounts[1]).ok());
    process_->wait_for_stats([&](const oci::Json&) { return is_resident(first); });
    expect_content(mounts[1], first);
    process_->end(SIGTERM);
  }
};

TEST_F(FullDiskTest, TheImageUsedLongestAgoIsShrunkAndReadAsEver) {
  expect_shrinking("size=64m,mode=0700",
                   publish(ImageMaker().file("a", random_bytes(32'000'000, 31)).make()),
                   publish(ImageMaker().file("a", random_bytes(32'000'000, 32)).make()));
}

TEST_F(FullDiskTest, SoItIsWhenThereAreNoInodesLeft) {
  ImageMaker first;
  ImageMaker second;
  for (unsigned i = 0; i < 500; ++i) {
    first.file(std::to_string(i), random_bytes(100, 1'000 + i));
    second.file(std::to_string(i), random_bytes(100, 2'000 + i));
  }
  expect_shrinking("size=100m,nr_inodes=1500,mode=0700", publish(first.make()),
                   publish(second.make()));
}

TEST_F(LazyTest, FewDescriptorsServeManyOpenFiles) {
  constexpr unsigned kFiles = 5'000;
  rlimit ours{};
  getrlimit(RLIMIT_NOFILE, &ours);
  ours.rlim_cur = ours.rlim_max;
  setrlimit(RLIMIT_NOFILE, &ours);
  if (ours.rlim_cur < kFiles + 100) GTEST_SKIP() << "needs descriptors itself";
  ImageMaker maker;
  for (unsigned i = 0; i < kFiles; ++i) {
    maker.file("d" + std::to_string(i % 50) + "/" + std::to_string(i), "file " + std::to_string(i));
  }
  const Image image = publish(maker.make());
  process_ = std::make_unique<SnapshotterProcess>(folder_.path(), config());
  process_->descriptors = 256;
  process_->start();
  Client client(*process_);
  Mounts mounts;
  ASSERT_TRUE(client.prepare("default/9/container", pull(client, image).back(), {}, &mounts).ok());
  {
    const Mounted mounted(mounts, folder_ / "mounted");
    std::vector<UniqueFd> open;
    for (const auto& [path, content] : image.made.files) {
      auto file = open_file(mounted.path() / path, O_RDONLY);
      ASSERT_TRUE(file) << path << ": " << file.error().message();
      Bytes bytes(content.size());
      const Status read = pread_all(file->get(), bytes, 0);
      ASSERT_TRUE(read) << path << ": " << read.error().message() << process_->log();
      EXPECT_TRUE(bytes == content) << path;
      open.push_back(std::move(*file));
    }
    const std::filesystem::directory_iterator in_use("/proc/" + std::to_string(process_->pid()) +
                                                     "/fd");
    EXPECT_LT(std::distance(in_use, {}), 256);
  }
  wait_resident(1);
  expect_content(mounts, image);
}

TEST_F(LazyTest, SurvivesKillsWithoutRegistryAndContainerd) {
  start();
  const Image image = publish(4);
  std::string top;
  {
    Client client(*process_);
    top = pull(client, image).back();
    ASSERT_TRUE(client.prepare("default/9/container", top).ok());
    wait_resident(1);
  }
  registry_.reset();
  containerd_.reset();
  for (const int signal : {SIGKILL, SIGTERM, SIGKILL}) {
    restart(signal);
    Client client(*process_);
    EXPECT_EQ(client.list().size(), 3U);
    Mounts mounts;
    ASSERT_TRUE(client.mounts("default/9/container", &mounts).ok()) << process_->log();
    expect_content(mounts, image);
    ASSERT_TRUE(client.prepare("default/9/new", top, {}, &mounts).ok());
    expect_content(mounts, image);
    ASSERT_TRUE(client.remove("default/9/new").ok());
  }
}

TEST_F(LazyTest, AKillInTheMiddleIsFetchedOnWith) {
  start("background_fill = false\n");
  const Image image = publish(5);
  std::string top;
  {
    Client client(*process_);
    top = pull(client, image).back();
  }
  containerd_.reset();  // the place that worked is remembered
  restart();
  Client client(*process_);
  Mounts mounts;
  ASSERT_TRUE(client.prepare("default/9/container", top, {}, &mounts).ok()) << process_->log();
  expect_content(mounts, image);
}

TEST_F(LazyTest, ASecondPullAsksNobody) {
  start("background_fill = false\n");
  const Image image = publish(6);
  Client client(*process_);
  const auto names = pull(client, image);
  const std::size_t requests = registry_->count("", "");
  const std::size_t calls = containerd_->calls();
  EXPECT_EQ(pull(client, image), names);
  EXPECT_EQ(registry_->count("", ""), requests);
  EXPECT_EQ(containerd_->calls(), calls);
}

TEST_F(LazyTest, AnImageMovesToAnotherRegistry) {
  start("background_fill = false\n");
  const Image image = publish(7);
  Client client(*process_);
  const auto names = pull(client, image);
  // The old place loses the blob; a pull from a new one has told containerd since.
  const auto moved = std::make_unique<FakeRegistry>();
  moved->add_blob(std::string(as_text(image.made.blobs[0])));
  registry_->remove_blob(image.made.anchor.data_layers[0].blob);
  containerd_->add_blob("default", "x");
  const std::string text =
      oci::Json{
          {"os", "linux"},
          {"architecture", "amd64"},
          {"rootfs",
           {{"type", "layers"},
            {"diff_ids", {image.chain[0], image.made.anchor.data_layers[0].diff_id.to_string()}}}}}
          .dump();
  ASSERT_EQ(sha256(text), image.config);
  containerd_->add_blob("default", text,
                        {{"containerd.io/distribution.source.127.0.0.1", "web"},
                         {"containerd.io/distribution.source.localhost", "moved"}});
  process_->end(SIGTERM);
  std::ofstream(folder_ / "config.toml", std::ios::app)
      << "[[registry]]\nhost = \"localhost\"\nendpoints = [\"" << moved->endpoint() << "\"]\n";
  process_->start();
  Client again(*process_);
  Mounts mounts;
  ASSERT_TRUE(again.prepare("default/9/container", names.back(), {}, &mounts).ok());
  expect_content(mounts, image);
  EXPECT_GT(moved->count("GET", "/v2/moved/blobs/"), 0U);
}

TEST_F(LazyTest, ContentThatNoRegistryHasIsAnInputOutputError) {
  start("background_fill = false\n");
  const Image image = publish(19);
  Client client(*process_);
  Mounts mounts;
  ASSERT_TRUE(client.prepare("default/9/container", pull(client, image).back(), {}, &mounts).ok());
  const Digest& blob = image.made.anchor.data_layers[0].blob;
  const std::string bytes = *registry_->blob(blob);
  const Mounted mounted(mounts, folder_ / "mounted");
  registry_->remove_blob(blob);
  EXPECT_EQ(read_error(mounted.path() / "data/small"), EIO) << process_->log();
  EXPECT_THAT(process_->log(), HasSubstr("no registry has its content"));
  wait_for_log("answered EIO", "not found: ");
  // Not the range that was asked for.
  registry_->set_blob(blob, bytes);
  registry_->fault("GET", "/blobs/", FakeRegistry::kAlways,
                   [](const FakeRequest&, FakeResponse& response) {
                     response.set("Content-Range", "bytes 0-0/1");
                   });
  EXPECT_EQ(read_error(mounted.path() / "data/small"), EIO) << process_->log();
  wait_for_log("answered EIO", "invalid: ");
  registry_->clear_faults();
  EXPECT_EQ(mounted.read("data/small"), as_text(image.made.files.at("data/small")));
}

TEST_F(LazyTest, AMirrorWithAWrongByteCostsNobodyAnError) {
  FakeRegistry mirror;
  process_ = std::make_unique<SnapshotterProcess>(
      folder_.path(), "hosts_dir = \"\"\ncontainerd_address = \"" + (folder_ / "c").string() +
                          "\"\n[[registry]]\nhost = \"127.0.0.1\"\nendpoints = [\"" +
                          mirror.endpoint() + "\", \"" + registry_->endpoint() + "\"]\n");
  process_->start();
  const Image image = publish(21);
  const Digest& blob = image.made.anchor.data_layers[0].blob;
  std::string damaged = *registry_->blob(blob);
  const std::string part(as_text(image.made.files.at("data/big")).substr(200'000, 64));
  damaged.at(damaged.find(part)) ^= 1;
  mirror.set_blob(blob, damaged);
  Client client(*process_);
  Mounts mounts;
  ASSERT_TRUE(client.prepare("default/9/container", pull(client, image).back(), {}, &mounts).ok());
  expect_content(mounts, image);
  wait_resident(1);
  EXPECT_GT(registry_->count("GET", "/blobs/"), 0U);
  EXPECT_THAT(process_->log(), ::testing::Not(HasSubstr("EIO")));
  EXPECT_THAT(process_->log(), ::testing::Not(HasSubstr("damaged")));
  EXPECT_EQ(process_->stats()["places"].size(), 2U) << process_->stats().dump();
}

TEST_F(LazyTest, ReadsThatWaitForARegistryCostFewRequestsAndEndWhenItIsBack) {
  start("background_fill = false\n");
  ImageMaker maker;
  std::vector<std::string> names;
  for (int i = 0; i < 12; ++i) {
    names.push_back("file" + std::to_string(i));
    maker.file(names.back(), random_bytes(300'000, 100 + i));
  }
  const Image image = publish(maker.make());
  Client client(*process_);
  Mounts mounts;
  ASSERT_TRUE(client.prepare("default/9/container", pull(client, image).back(), {}, &mounts).ok());
  const Mounted mounted(mounts, folder_ / "mounted");
  registry_->fault("GET", "/blobs/", FakeRegistry::kAlways,
                   [](const FakeRequest&, FakeResponse& response) { response.status = 503; });
  registry_->clear_log();
  std::vector<std::future<std::string>> reads;
  for (int i = 0; i < 48; ++i) {
    reads.push_back(
        std::async(std::launch::async, [&, i] { return mounted.read(names[i % names.size()]); }));
  }
  wait_for_log("its registry fails", "");
  // Each round of the outage costs one request.
  const std::size_t before = registry_->count("GET", "/blobs/");
  EXPECT_LE(before, image.made.manifest->objects().frame_count());
  while (registry_->count("GET", "/blobs/") < before + 2) std::this_thread::yield();
  registry_->clear_faults();
  for (std::size_t i = 0; i < reads.size(); ++i) {
    EXPECT_TRUE(reads[i].get() == as_text(image.made.files.at(names[i % names.size()]))) << i;
  }
  wait_for_log("its registry answers again", "");
}

TEST_F(LazyTest, WithoutRegistryOrContainerdTheImageIsUnpacked) {
  start();
  Client client(*process_);
  const Image image = publish(8);
  registry_->remove_blob(image.made.anchor.data_layers[0].blob);
  EXPECT_EQ(prepare_layer(client, image.labels(0), ""), "");
  EXPECT_THAT(process_->log(), HasSubstr("its CDC manifest cannot be fetched"));
  containerd_.reset();
  EXPECT_EQ(prepare_layer(client, image.labels(0), ""), "");
  EXPECT_THAT(process_->log(), HasSubstr("no registry is known for it: containerd"));
}

TEST_F(LazyTest, AWrongManifestIsNotBelieved) {
  start();
  Client client(*process_);
  const Image image = publish(9);
  const auto& layer = image.made.anchor.data_layers[0];
  std::string bytes(as_text(image.made.blobs[0]));
  for (const std::size_t at :
       {image.made.anchor.manifest_offset + 10,
        image.made.anchor.manifest_offset + image.made.anchor.manifest_size - 1}) {
    std::string wrong = bytes;
    wrong[at] = static_cast<char>(wrong[at] ^ 1);
    registry_->set_blob(layer.blob, wrong);
    EXPECT_EQ(prepare_layer(client, image.labels(0), ""), "");
  }
  registry_->set_blob(layer.blob, bytes);
  pull(client, image);
}

TEST_F(LazyTest, HostileLabelsChangeNothing) {
  start();
  Client client(*process_);
  const Image image = publish(10);
  const Image other = publish(11);
  const FakeRegistry elsewhere;
  // Another image's content under this chainID.
  Client::Labels labels = other.labels(0);
  labels[kRef] = image.chain[0];
  EXPECT_EQ(prepare_layer(client, labels, ""), "");
  // A configuration of another image, to have its registry asked.
  labels = image.labels(0);
  labels["containerd.io/snapshot/imsy.config"] = other.config.to_string();
  EXPECT_EQ(prepare_layer(client, labels, ""), "");
  // A host of the author's choice, and wishes that nobody grants.
  labels = image.labels(0);
  labels["containerd.io/snapshot/cri.image-ref"] = elsewhere.host() + "/evil:1";
  labels["containerd.io/snapshot/imsy.skip-verify"] = "true";
  labels["containerd.io/snapshot/imsy.repo"] = elsewhere.host() + "/evil";
  const std::string anchor = prepare_layer(client, labels, "");
  EXPECT_NE(anchor, "") << "the image is good, only its hints are not";
  EXPECT_EQ(elsewhere.count("", ""), 0U);
  EXPECT_THAT(process_->log(), HasSubstr("cri.image-ref is ignored"));
  // A data layer on a foreign anchor.
  EXPECT_EQ(prepare_layer(client, other.labels(1), anchor), "");
}

TEST_F(LazyTest, RemovingTheLastSnapshotTakesTheImageAway) {
  start();
  const Image image = publish(12);
  Client client(*process_);
  const auto names = pull(client, image);
  ASSERT_TRUE(client.prepare("default/9/container", names.back()).ok());
  wait_resident(1);
  EXPECT_EQ(client.remove(names[1]).error_code(), Code::FAILED_PRECONDITION);
  EXPECT_EQ(client.remove(names[0]).error_code(), Code::FAILED_PRECONDITION);
  ASSERT_TRUE(client.remove("default/9/container").ok());
  ASSERT_TRUE(client.remove(names[1]).ok());
  ASSERT_TRUE(client.remove(names[0]).ok());
  ASSERT_TRUE(client.cleanup().ok());
  process_->wait_for_stats(
      [](const oci::Json& stats) { return stats.contains("images") && stats["images"].empty(); });
  EXPECT_TRUE(std::filesystem::is_empty(process_->root / "mnt"));
  EXPECT_TRUE(std::filesystem::is_empty(process_->root / "snapshots"));
  // And it can come back.
  EXPECT_NE(pull(client, image), names);
}

TEST_F(LazyTest, AKillBeforeTheReleaseLeavesNothing) {
  start();
  const Image image = publish(13);
  {
    Client client(*process_);
    const auto names = pull(client, image);
    wait_resident(1);
    ASSERT_TRUE(client.remove(names[1]).ok());
    ASSERT_TRUE(client.remove(names[0]).ok());
  }
  restart();
  process_->wait_for_stats(
      [](const oci::Json& stats) { return stats.contains("images") && stats["images"].empty(); });
  Client client(*process_);
  Mounts mounts;
  ASSERT_TRUE(client.prepare("default/9/container", pull(client, image).back(), {}, &mounts).ok());
  expect_content(mounts, image);
}

TEST_F(LazyTest, ParallelPullsOfOneImageAreOneImage) {
  start("background_fill = false\n");
  const Image image = publish(14);
  std::vector<std::vector<std::string>> names(8);
  {
    std::vector<std::jthread> threads;
    for (auto& own : names) {
      threads.emplace_back([&] {
        Client client(*process_);
        own = pull(client, image);
      });
    }
  }
  for (const auto& own : names) EXPECT_EQ(own, names.front());
  EXPECT_LE(registry_->count("GET", "/blobs/"), 2U) << "fetched once";
}

TEST_F(LazyTest, PullsAndRemovesInParallelStayConsistent) {
  start();
  const Image image = publish(15);
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        Client client(*process_);
        for (int i = 0; i < 10; ++i) {
          const grpc::Status anchor = client.prepare("k" + std::to_string(t), "", image.labels(0));
          EXPECT_EQ(anchor.error_code(), Code::ALREADY_EXISTS) << anchor.error_message();
          for (const api::Info& info : client.list()) client.remove(info.name());
        }
      });
    }
  }
  Client client(*process_);
  for (const api::Info& info : client.list()) client.remove(info.name());
  Mounts mounts;
  ASSERT_TRUE(client.prepare("default/9/container", pull(client, image).back(), {}, &mounts).ok());
  expect_content(mounts, image);
}

TEST_F(LazyTest, ASlowRegistryHoldsUpNobodyElse) {
  start("prepare_timeout = 2\n");
  std::vector<Image> images;
  for (std::uint64_t i = 0; i < 20; ++i) images.push_back(publish(100 + i));
  registry_->fault("GET", "/blobs/", FakeRegistry::kAlways,
                   [](const FakeRequest&, FakeResponse& response) {
                     response.send_at_most = 0;
                     response.end = FakeResponse::End::kStall;
                   });
  std::vector<std::future<std::string>> slow;
  for (const Image& image : images) {
    slow.push_back(std::async(std::launch::async, [&] {
      Client client(*process_);
      return prepare_layer(client, image.labels(0), "");
    }));
  }
  // More of them wait than there are threads; the rest of the service answers at once.
  Client client(*process_);
  for (int i = 0; i < 20; ++i) {
    const std::string key = "plain" + std::to_string(i);
    ASSERT_TRUE(client.prepare(key).ok());
    ASSERT_TRUE(client.mounts(key).ok());
    ASSERT_TRUE(client.usage(key).ok());
    ASSERT_TRUE(client.commit(key + "-done", key).ok());
    ASSERT_TRUE(client.remove(key + "-done").ok());
  }
  for (auto& pull : slow) EXPECT_EQ(pull.get(), "") << "unpacked instead";
}

TEST_F(LazyTest, StopsWhileAPullWaits) {
  start("prepare_timeout = 60\n");
  const Image image = publish(16);
  std::latch asked(1);
  registry_->fault("GET", "/blobs/", 1, [&](const FakeRequest&, FakeResponse& response) {
    response.send_at_most = 0;
    response.end = FakeResponse::End::kStall;
    asked.count_down();
  });
  auto pull = std::async(std::launch::async, [&] {
    Client client(*process_);
    return client.prepare("k", "", image.labels(0));
  });
  asked.wait();
  EXPECT_EQ(process_->end(SIGTERM).code, 0);
  EXPECT_EQ(pull.get().error_code(), Code::UNAVAILABLE);
  process_->start();
  Client client(*process_);
  EXPECT_TRUE(client.list().empty()) << "nothing was decided";
}

TEST_F(LazyTest, ADamagedManifestInTheStoreIsFetchedAgain) {
  start();
  const Image image = publish(17);
  std::string top;
  {
    Client client(*process_);
    top = pull(client, image).back();
    wait_resident(1);
  }
  process_->end(SIGTERM);
  // Every file of the store that holds the manifest.
  int damaged = 0;
  const std::string needle(as_text(image.made.manifest_bytes).substr(0, 64));
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(process_->root / "store")) {
    if (!entry.is_regular_file()) continue;
    std::ifstream file(entry.path(), std::ios::binary);
    std::string bytes((std::istreambuf_iterator<char>(file)), {});
    const std::size_t at = bytes.find(needle);
    if (at == std::string::npos) continue;
    bytes[at + 20] = static_cast<char>(bytes[at + 20] ^ 1);
    std::filesystem::permissions(entry.path(), std::filesystem::perms::owner_all);
    std::ofstream(entry.path(), std::ios::binary) << bytes;
    ++damaged;
  }
  ASSERT_GT(damaged, 0);
  process_->start();
  wait_resident(1);
  Client client(*process_);
  Mounts mounts;
  ASSERT_TRUE(client.prepare("default/9/container", top, {}, &mounts).ok()) << process_->log();
  expect_content(mounts, image);
}

TEST_F(LazyTest, PrivateContentNeedsItsCredential) {
  registry_->require_basic("user", "correct horse");
  start();
  const Image image = publish(18);
  Client client(*process_);
  EXPECT_EQ(prepare_layer(client, image.labels(0), ""), "") << "no credential, no lazy image";
  std::filesystem::create_directories(folder_ / "docker");
  std::ofstream(folder_ / "docker/config.json")
      << oci::Json{{"auths", {{registry_->host(), {{"auth", "dXNlcjpjb3JyZWN0IGhvcnNl"}}}}}};
  Mounts mounts;
  ASSERT_TRUE(client.prepare("default/9/container", pull(client, image).back(), {}, &mounts).ok());
  expect_content(mounts, image);
  EXPECT_THAT(process_->log(), ::testing::Not(HasSubstr("horse")));
  EXPECT_THAT(process_->log(), ::testing::Not(HasSubstr("dXNlcjpjb3JyZWN0IGhvcnNl")));
}

}  // namespace
}  // namespace imsy::test
