#include "snapshotter/database.h"

#include <gtest/gtest.h>
#include <sqlite3.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <map>
#include <thread>

#include "tests/unit/snapshotter/temporary_directory.h"

namespace imsy::snapshotter {
namespace {

Digest digest(char fill) {
  return sha256(std::string(1, fill));
}

class DatabaseTest : public ::testing::Test {
 protected:
  void SetUp() override { reopen(); }

  void reopen() {
    db_.reset();
    auto opened = Database::open(path());
    ASSERT_TRUE(opened) << opened.error().message();
    db_ = std::move(*opened);
  }
  std::filesystem::path path() const { return directory_ / "snapshots.db"; }

  // A snapshot called `key`; "committed" is reached through an active one.
  Status add(const std::string& key, const std::string& parent, Kind kind, Labels labels = {}) {
    Database::NewSnapshot snapshot;
    snapshot.key = kind == Kind::kCommitted ? key + "-active" : key;
    snapshot.kind = kind == Kind::kView ? Kind::kView : Kind::kActive;
    snapshot.parent = parent;
    if (!parent.empty()) {
      IMSY_TRY_ASSIGN(const auto chain, db_->chain(parent));
      snapshot.parent_id = chain.front().id;
    }
    snapshot.labels = labels;
    snapshot.directory = next_directory_++;
    IMSY_TRY(db_->create(snapshot));
    if (kind != Kind::kCommitted) return {};
    return db_->commit(snapshot.key, key, labels, "", Usage{100, 2});
  }

  static ImageRecord image(char anchor, char manifest = 'm') {
    ImageRecord image;
    image.anchor_layer = digest(anchor);
    image.anchor_text = std::string("anchor ") + anchor;
    image.data_layers = 1;
    image.manifest = digest(manifest);
    image.trust_domain = "domain";
    image.name_space = "default";
    image.config = digest('c');
    return image;
  }
  Result<Row> add_image(char anchor, std::uint32_t link, const std::string& parent) {
    const std::string chain = std::string("chain-") + anchor + std::to_string(link);
    return db_->add_image_snapshot({image(anchor), link, chain, parent, {{"ref", chain}}, {}});
  }

  static std::vector<std::string> names(const std::vector<Info>& infos) {
    std::vector<std::string> names;
    for (const Info& info : infos) names.push_back(info.name);
    return names;
  }

  test::TemporaryDirectory directory_;
  std::unique_ptr<Database> db_;
  std::int64_t next_directory_ = 1;
};

void expect_error(const Status& status, Errc code, const std::string& part = "") {
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code(), code) << status.error().message();
  EXPECT_NE(status.error().message().find(part), std::string::npos) << status.error().message();
}
template <typename T>
void expect_error(const Result<T>& result, Errc code, const std::string& part = "") {
  ASSERT_FALSE(result);
  expect_error(Status(result.error()), code, part);
}

TEST_F(DatabaseTest, KeepsWhatWasCreated) {
  ASSERT_TRUE(add("base", "", Kind::kCommitted, {{"l", "1"}, {"empty", ""}}));
  ASSERT_TRUE(add("child", "base", Kind::kActive, {{"m", "2"}}));
  reopen();
  const auto base = db_->get("base");
  ASSERT_TRUE(base);
  EXPECT_EQ(base->info.kind, Kind::kCommitted);
  EXPECT_EQ(base->info.parent, "");
  EXPECT_EQ(base->info.labels, (Labels{{"l", "1"}}));
  EXPECT_EQ(base->usage, (Usage{100, 2}));
  EXPECT_EQ(base->info.created_ns, base->info.updated_ns);
  EXPECT_GT(base->info.created_ns, 1'600'000'000'000'000'000);
  const auto child = db_->get("child");
  ASSERT_TRUE(child);
  EXPECT_EQ(child->info.parent, "base");
  EXPECT_EQ(child->info.kind, Kind::kActive);
  EXPECT_EQ(child->directory, 2);
  EXPECT_EQ(*db_->directories(), (std::set<std::int64_t>{1, 2}));
}

TEST_F(DatabaseTest, StoresTextWithoutLookingAtIt) {
  const std::string odd = "default/1/extract-1 'sha256:\"%_\n;--";
  ASSERT_TRUE(add(odd, "", Kind::kActive, {{odd, odd}}));
  EXPECT_EQ(db_->get(odd)->info.labels, (Labels{{odd, odd}}));
}

TEST_F(DatabaseTest, RefusesTakenKeysAndBadParents) {
  ASSERT_TRUE(add("base", "", Kind::kCommitted));
  ASSERT_TRUE(add("active", "", Kind::kActive));
  ASSERT_TRUE(add("view", "", Kind::kView));
  expect_error(add("base", "", Kind::kActive), Errc::kAlreadyExists);
  expect_error(add("active", "base", Kind::kView), Errc::kAlreadyExists);
  expect_error(add("x", "active", Kind::kActive), Errc::kInvalid);
  expect_error(add("x", "view", Kind::kActive), Errc::kInvalid);
  Database::NewSnapshot orphan;
  orphan.key = "x";
  orphan.parent = "gone";
  orphan.parent_id = 1;
  expect_error(db_->create(orphan), Errc::kNotFound, "gone");
  orphan.parent = "base";
  orphan.parent_id = 99;  // another snapshot had this name when the chain was read
  expect_error(db_->create(orphan), Errc::kNotFound, "base");
  expect_error(db_->get("x"), Errc::kNotFound, "x");
}

TEST_F(DatabaseTest, CommitTakesNameLabelsUsageAndTime) {
  ASSERT_TRUE(add("active", "", Kind::kActive, {{"old", "1"}}));
  const auto before = db_->get("active");
  ASSERT_TRUE(db_->commit("active", "name", {{"new", "2"}}, "", Usage{5, 6}));
  expect_error(db_->get("active"), Errc::kNotFound);
  const auto row = db_->get("name");
  ASSERT_TRUE(row);
  EXPECT_EQ(row->id, before->id);
  EXPECT_EQ(row->directory, before->directory);
  EXPECT_EQ(row->info.labels, (Labels{{"new", "2"}}));
  EXPECT_EQ(row->usage, (Usage{5, 6}));
  EXPECT_GT(row->info.created_ns, before->info.created_ns);
  EXPECT_EQ(row->info.created_ns, row->info.updated_ns);
}

TEST_F(DatabaseTest, CommitErrors) {
  ASSERT_TRUE(add("base", "", Kind::kCommitted));
  ASSERT_TRUE(add("other", "", Kind::kCommitted));
  ASSERT_TRUE(add("active", "base", Kind::kActive));
  ASSERT_TRUE(add("view", "base", Kind::kView));
  expect_error(db_->commit("active", "other", {}, "", {}), Errc::kAlreadyExists);
  expect_error(db_->commit("gone", "other", {}, "", {}), Errc::kAlreadyExists);
  expect_error(db_->commit("gone", "name", {}, "", {}), Errc::kNotFound);
  expect_error(db_->commit("view", "name", {}, "", {}), Errc::kFailedPrecondition);
  expect_error(db_->commit("base", "name", {}, "", {}), Errc::kFailedPrecondition);
  expect_error(db_->commit("active", "name", {}, "other", {}), Errc::kInvalid);
  EXPECT_TRUE(db_->commit("active", "name", {}, "base", {}));
}

TEST_F(DatabaseTest, CommitMovesAParentlessSnapshotOntoAParent) {
  ASSERT_TRUE(add("base", "", Kind::kCommitted));
  ASSERT_TRUE(add("active", "", Kind::kActive));
  expect_error(db_->commit("active", "name", {}, "gone", {}), Errc::kNotFound);
  expect_error(db_->commit("active", "name", {}, "active", {}), Errc::kFailedPrecondition);
  ASSERT_TRUE(db_->commit("active", "name", {}, "base", {}));
  EXPECT_EQ(db_->get("name")->info.parent, "base");
}

TEST_F(DatabaseTest, RemoveRefusesParentsAndFreesTheKey) {
  ASSERT_TRUE(add("base", "", Kind::kCommitted));
  for (const Kind kind : {Kind::kActive, Kind::kView, Kind::kCommitted}) {
    ASSERT_TRUE(add("child", "base", kind));
    expect_error(db_->remove("base"), Errc::kFailedPrecondition, "remove");
    const auto removed = db_->remove("child");
    ASSERT_TRUE(removed);
    EXPECT_EQ(removed->directory, next_directory_ - 1);
    EXPECT_FALSE(removed->image);
  }
  ASSERT_TRUE(db_->remove("base"));
  expect_error(db_->remove("base"), Errc::kNotFound);
  EXPECT_TRUE(add("base", "", Kind::kView));
}

TEST_F(DatabaseTest, ChainIsNearestFirst) {
  ASSERT_TRUE(add("a", "", Kind::kCommitted));
  ASSERT_TRUE(add("b", "a", Kind::kCommitted));
  ASSERT_TRUE(add("c", "b", Kind::kActive));
  const auto chain = db_->chain("c");
  ASSERT_TRUE(chain);
  ASSERT_EQ(chain->size(), 3U);
  EXPECT_EQ((*chain)[0].kind, Kind::kActive);
  EXPECT_EQ((*chain)[0].directory, 3);
  EXPECT_EQ((*chain)[1].directory, 2);
  EXPECT_EQ((*chain)[2].directory, 1);
  expect_error(db_->chain("gone"), Errc::kNotFound);
}

TEST_F(DatabaseTest, UpdateChangesLabelsAndTimeOnly) {
  ASSERT_TRUE(add("a", "", Kind::kCommitted, {{"l1", "1"}, {"l2", "2"}}));
  const Info before = db_->get("a")->info;
  auto info = db_->update_labels("a", {false, {{"l1", "x"}, {"l2", ""}, {"l3", "3"}}});
  ASSERT_TRUE(info);
  EXPECT_EQ(info->labels, (Labels{{"l1", "x"}, {"l3", "3"}}));
  EXPECT_EQ(info->created_ns, before.created_ns);
  EXPECT_GT(info->updated_ns, before.updated_ns);
  EXPECT_EQ(info->name, "a");
  info = db_->update_labels("a", {true, {{"only", "1"}, {"empty", ""}}});
  ASSERT_TRUE(info);
  EXPECT_EQ(info->labels, (Labels{{"only", "1"}}));
  EXPECT_EQ(db_->get("a")->info, *info);
  expect_error(db_->update_labels("gone", {}), Errc::kNotFound);
}

TEST_F(DatabaseTest, ListsImagesFirst) {
  ASSERT_TRUE(add("plain", "", Kind::kCommitted, {{"ref", "chain-a0"}}));
  ASSERT_TRUE(add_image('a', 0, ""));
  const auto filter = Filter::parse({"labels.ref==chain-a0,parent==\"\""});
  const auto infos = db_->list(*filter);
  ASSERT_TRUE(infos);
  EXPECT_EQ(names(*infos), (std::vector<std::string>{"imsy/image-2/chain-a0", "plain"}));
  EXPECT_EQ((*infos)[1].labels, (Labels{{"ref", "chain-a0"}}));
}

TEST_F(DatabaseTest, ImageSnapshotsAreFoundByChainAndParent) {
  const auto anchor = add_image('a', 0, "");
  ASSERT_TRUE(anchor);
  EXPECT_EQ(anchor->info.kind, Kind::kCommitted);
  EXPECT_TRUE(anchor->info.name.ends_with("/chain-a0"));
  ASSERT_TRUE(anchor->image);
  EXPECT_FALSE(anchor->image->top);
  EXPECT_FALSE(*db_->is_complete(anchor->image->slot));

  const auto data = add_image('a', 1, anchor->info.name);
  ASSERT_TRUE(data);
  EXPECT_TRUE(data->image->top);
  EXPECT_EQ(data->image->slot, anchor->image->slot);
  EXPECT_TRUE(*db_->is_complete(anchor->image->slot));
  EXPECT_EQ(data->info.parent, anchor->info.name);

  reopen();
  EXPECT_EQ((*db_->find_image_snapshot("chain-a1", anchor->info.name))->info, data->info);
  EXPECT_FALSE(*db_->find_image_snapshot("chain-a1", ""));
  EXPECT_FALSE(*db_->find_image_snapshot("chain-a0", "other"));
  EXPECT_EQ((*db_->find_image_snapshot("chain-a0", ""))->id, anchor->id);
  // The same again is the same snapshot.
  EXPECT_EQ(add_image('a', 0, "")->id, anchor->id);
  expect_error(add_image('a', 1, "gone"), Errc::kNotFound);
}

TEST_F(DatabaseTest, TheSameChainOnAnotherParentIsAnotherSnapshot) {
  const auto anchor = add_image('a', 0, "");
  ASSERT_TRUE(add("plain", "", Kind::kCommitted));
  const auto one = add_image('a', 1, anchor->info.name);
  const auto two = add_image('a', 1, "plain");
  ASSERT_TRUE(one);
  ASSERT_TRUE(two);
  EXPECT_NE(one->info.name, two->info.name);
}

TEST_F(DatabaseTest, TheLastSnapshotTakesTheImageAlong) {
  const auto anchor = add_image('a', 0, "");
  const auto data = add_image('a', 1, anchor->info.name);
  ASSERT_TRUE(data);
  expect_error(db_->remove(anchor->info.name), Errc::kFailedPrecondition, "remove");
  auto removed = db_->remove(data->info.name);
  ASSERT_TRUE(removed);
  EXPECT_FALSE(removed->image);
  EXPECT_TRUE(*db_->has_manifest(digest('m')));
  removed = db_->remove(anchor->info.name);
  ASSERT_TRUE(removed);
  ASSERT_TRUE(removed->image);
  EXPECT_EQ(removed->image->slot, anchor->image->slot);
  EXPECT_EQ(removed->image->manifest, digest('m'));
  EXPECT_FALSE(*db_->has_manifest(digest('m')));
  EXPECT_TRUE(db_->images()->empty());
}

TEST_F(DatabaseTest, SlotsAreNeverGivenTwice) {
  const auto first = add_image('a', 0, "");
  ASSERT_TRUE(db_->remove(first->info.name));
  reopen();
  const auto second = add_image('a', 0, "");
  EXPECT_GT(second->image->slot, first->image->slot);
  // Another anchor is another image, although it names the same CDC manifest.
  const auto third = add_image('b', 0, "");
  EXPECT_GT(third->image->slot, second->image->slot);
  ASSERT_TRUE(db_->remove(second->info.name));
  EXPECT_TRUE(*db_->has_manifest(digest('m')));
}

TEST_F(DatabaseTest, ImagesKeepWhatIsNeededToServeThem) {
  const auto row = add_image('a', 0, "");
  const auto other_config = digest('d');
  ASSERT_TRUE(db_->touch_image(row->image->slot, "k8s.io", other_config));
  reopen();
  const auto images = db_->images();
  ASSERT_TRUE(images);
  ASSERT_EQ(images->size(), 1U);
  const ImageRecord& kept = images->front();
  EXPECT_EQ(kept.slot, row->image->slot);
  EXPECT_EQ(kept.anchor_layer, digest('a'));
  EXPECT_EQ(kept.anchor_text, "anchor a");
  EXPECT_EQ(kept.data_layers, 1U);
  EXPECT_EQ(kept.manifest, digest('m'));
  EXPECT_EQ(kept.trust_domain, "domain");
  EXPECT_EQ(kept.name_space, "k8s.io");
  EXPECT_EQ(kept.config, other_config);
  EXPECT_EQ(db_->image(kept.slot)->anchor_layer, kept.anchor_layer);
  EXPECT_EQ((*db_->find_image(digest('a')))->slot, kept.slot);
  EXPECT_FALSE(*db_->find_image(digest('z')));
  expect_error(db_->image(kept.slot + 1), Errc::kNotFound);
  EXPECT_TRUE(db_->set_trust_domain(kept.slot, "other"));
  EXPECT_TRUE(db_->set_trust_domain(kept.slot + 1, "nobody's error"));
  reopen();
  EXPECT_EQ(db_->image(kept.slot)->trust_domain, "other");
}

TEST_F(DatabaseTest, SourcesAreRememberedLatestFirstAndBounded) {
  const std::int64_t slot = add_image('a', 0, "")->image->slot;
  const auto source = [](int i) {
    return Source{"host" + std::to_string(i), "repository", "https://host"};
  };
  for (int i = 0; i < 12; ++i) ASSERT_TRUE(db_->remember_source(slot, source(i)));
  ASSERT_TRUE(db_->remember_source(slot, source(9)));
  reopen();
  const auto sources = db_->sources(slot);
  ASSERT_TRUE(sources);
  ASSERT_EQ(sources->size(), 8U);
  EXPECT_EQ((*sources)[0], source(9));
  EXPECT_EQ((*sources)[1], source(11));
  EXPECT_EQ((*sources)[7], source(4));
  // An image that went meanwhile is nobody's error.
  EXPECT_TRUE(db_->remember_source(slot + 1, source(1)));
  EXPECT_TRUE(db_->sources(slot + 1)->empty());
}

TEST_F(DatabaseTest, KnowsWhetherTheMachineWasBooted) {
  EXPECT_TRUE(*db_->note_boot("one"));
  EXPECT_FALSE(*db_->note_boot("one"));
  reopen();
  EXPECT_FALSE(*db_->note_boot("one"));
  EXPECT_TRUE(*db_->note_boot("two"));
}

TEST_F(DatabaseTest, TheSecretIsRandomAndStays) {
  const std::string secret = db_->node_secret();
  EXPECT_EQ(secret.size(), 64U);
  reopen();
  EXPECT_EQ(db_->node_secret(), secret);
  EXPECT_NE((*Database::open(directory_ / "other.db"))->node_secret(), secret);
}

TEST_F(DatabaseTest, OnlyRootReadsTheFile) {
  using std::filesystem::perms;
  EXPECT_EQ(std::filesystem::status(path()).permissions(), perms::owner_read | perms::owner_write);
}

TEST_F(DatabaseTest, TakesOverVersionOne) {
  Database::NewSnapshot snapshot;
  snapshot.key = "a";
  snapshot.labels = {{"l", "1"}};
  ASSERT_TRUE(db_->create(snapshot));
  db_.reset();
  sqlite3* raw = nullptr;
  ASSERT_EQ(sqlite3_open(path().c_str(), &raw), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(raw,
                         "ALTER TABLE snapshots DROP COLUMN reason;"
                         "ALTER TABLE snapshots DROP COLUMN volatile;"
                         "UPDATE meta SET value = '1' WHERE key = 'version'",
                         nullptr, nullptr, nullptr),
            SQLITE_OK)
      << sqlite3_errmsg(raw);
  sqlite3_close(raw);
  auto again = Database::open(path());
  ASSERT_TRUE(again) << again.error().message();
  const auto row = (*again)->get("a");
  ASSERT_TRUE(row);
  EXPECT_EQ(row->info.labels, (Labels{{"l", "1"}}));
  EXPECT_EQ(row->reason, "");
  EXPECT_EQ(row->volatile_boot, "");
}

TEST_F(DatabaseTest, RefusesANewerVersion) {
  db_.reset();
  sqlite3* raw = nullptr;
  ASSERT_EQ(sqlite3_open(path().c_str(), &raw), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(raw, "UPDATE meta SET value = '99' WHERE key = 'version'", nullptr,
                         nullptr, nullptr),
            SQLITE_OK);
  sqlite3_close(raw);
  expect_error(Database::open(path()), Errc::kFailedPrecondition, "newer");
}

TEST_F(DatabaseTest, RefusesJunkWithInstructions) {
  db_.reset();
  for (const char* suffix : {"-wal", "-shm"}) std::filesystem::remove(path().string() + suffix);
  std::ofstream(path()) << std::string(8192, 'x');
  expect_error(Database::open(path()), Errc::kCorrupt, "restore it");
}

TEST_F(DatabaseTest, RefusesASymbolicLink) {
  db_.reset();
  std::filesystem::create_symlink(path(), directory_ / "link.db");
  EXPECT_FALSE(Database::open(directory_ / "link.db"));
}

// Databases that are opened while it lives have syncs that fail on demand.
class FailingSyncs {
 public:
  FailingSyncs() {
    below_ = ::sqlite3_vfs_find(nullptr);
    vfs_ = *below_;
    vfs_.zName = "failing-syncs";
    vfs_.xOpen = &open;
    EXPECT_EQ(::sqlite3_vfs_register(&vfs_, 1), SQLITE_OK);
  }
  ~FailingSyncs() {
    fail(false);
    ::sqlite3_vfs_unregister(&vfs_);
    ::sqlite3_vfs_register(below_, 1);
  }
  static void fail(bool fails) { fails_ = fails; }

 private:
  static int open(sqlite3_vfs*, sqlite3_filename name, sqlite3_file* file, int flags, int* out) {
    const int opened = below_->xOpen(below_, name, file, flags, out);
    if (opened != SQLITE_OK) return opened;
    sync_ = file->pMethods->xSync;
    const auto [methods, is_new] = methods_.try_emplace(file->pMethods, *file->pMethods);
    methods->second.xSync = [](sqlite3_file* synced, int how) {
      return fails_ ? SQLITE_IOERR_FSYNC : sync_(synced, how);
    };
    file->pMethods = &methods->second;
    return SQLITE_OK;
  }
  inline static sqlite3_vfs* below_ = nullptr;
  inline static std::map<const sqlite3_io_methods*, sqlite3_io_methods> methods_;
  inline static int (*sync_)(sqlite3_file*, int) = nullptr;
  inline static std::atomic<bool> fails_ = false;
  inline static sqlite3_vfs vfs_ = {};
};

TEST_F(DatabaseTest, AfterAFailedSyncNothingIsAcceptedUntilTheNextStart) {
  db_.reset();
  const FailingSyncs syncs;
  reopen();
  ASSERT_TRUE(add("before", "", Kind::kActive));
  FailingSyncs::fail(true);
  EXPECT_FALSE(add("unsure", "", Kind::kActive));
  FailingSyncs::fail(false);
  const Status refused = add("after", "", Kind::kActive);
  ASSERT_FALSE(refused) << "what is on disk may lack what the next change stands on";
  EXPECT_EQ(refused.error().code(), Errc::kUnavailable);
  EXPECT_NE(refused.error().message().find("check the disk, then restart"), std::string::npos);
  EXPECT_TRUE(db_->find("before")) << "reads go on";
  reopen();
  EXPECT_TRUE(db_->find("before"));
  EXPECT_TRUE(add("after", "", Kind::kActive));
}

TEST_F(DatabaseTest, ParallelCallsOnTheSameKeysStayConsistent) {
  ASSERT_TRUE(add("base", "", Kind::kCommitted));
  const std::int64_t base = db_->chain("base")->front().id;
  std::atomic<int> created = 0;
  std::atomic<int> removed = 0;
  std::atomic<std::int64_t> directory = 100;
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 25; ++i) {
        Database::NewSnapshot snapshot;
        snapshot.key = "key" + std::to_string(i % 3);
        snapshot.parent = "base";
        snapshot.parent_id = base;
        snapshot.directory = directory++;
        if (db_->create(snapshot)) ++created;
        const auto gone = db_->remove(snapshot.key);
        if (gone) ++removed;
        EXPECT_TRUE(gone || gone.error().code() == Errc::kNotFound);
        EXPECT_TRUE(db_->list(*Filter::parse({})));
      }
    });
  }
  threads.clear();
  const auto left = static_cast<int>(db_->list(*Filter::parse({}))->size()) - 1;
  EXPECT_EQ(created - removed, left);
}

}  // namespace
}  // namespace imsy::snapshotter
