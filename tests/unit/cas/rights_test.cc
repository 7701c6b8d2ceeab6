// Who may see what: two users, each with a repository of their own, on one node.
#include <sys/stat.h>

#include "tests/unit/cas/fixture.h"

namespace imsy::cas {
namespace {

namespace fs = std::filesystem;

constexpr const char* kAlice = "alice.example 1";
constexpr const char* kBob = "bob.example 2";
constexpr const char* kPublic = "";

class RightsTest : public ::testing::Test {
 protected:
  RightsTest() { open(); }
  void open(DedupScope scope = DedupScope::kCredential) {
    store_.reset();
    store_ = open_store(root(), {.dedup_scope = scope});
  }
  void lose_the_index() {
    store_.reset();
    fs::remove(root() / "index.db");
    open();
  }
  fs::path root() const { return dir_.path() / "store"; }
  std::uint32_t count() const { return chunks_; }
  fs::path file(const char* place) const {
    return object_path(root(), place, hers_.manifest->objects().id(hers_.object("secret")));
  }

  // The secret as `user` sees it, through their own image.
  std::shared_ptr<Object> secret(const std::string& user) {
    const test::MadeImage& image = user == kAlice ? hers_ : his_;
    auto opened = store_->open_object(*image.manifest, image.object("secret"), user);
    EXPECT_OK(opened);
    return *opened;
  }
  void bring(Object& object, std::uint32_t chunk) {
    ASSERT_OK(store_->put_chunk(object, chunk, chunk_bytes(hers_, "secret", chunk)));
  }
  void bring_all(const std::string& user) {
    const auto object = secret(user);
    for (std::uint32_t i = 0; i < count(); ++i) bring(*object, i);
  }
  // Numbers of the chunks that the user sees.
  std::vector<std::uint32_t> seen(const std::string& user) {
    const auto object = secret(user);
    std::vector<std::uint32_t> seen;
    for (std::uint32_t i = 0; i < count(); ++i) {
      if (object->has_chunk(i)) seen.push_back(i);
    }
    EXPECT_EQ(object->complete(), seen.size() == count());
    return seen;
  }
  std::vector<std::uint32_t> all() const {
    std::vector<std::uint32_t> all(count());
    for (std::uint32_t i = 0; i < count(); ++i) all[i] = i;
    return all;
  }
  bool may_copy(const std::string& user) {
    const auto chunk = hers_.manifest->objects().chunks_of(hers_.object("secret"))[0];
    const auto bytes = store_->find_chunk(chunk, user);
    EXPECT_OK(bytes);
    EXPECT_EQ(store_->likely_chunks(std::span(&chunk, 1), user)[0], bytes->has_value());
    return bytes->has_value();
  }
  std::uint64_t objects() {
    const auto stats = store_->stats();
    EXPECT_OK(stats);
    return stats->objects;
  }

  const test::MadeImage hers_ =
      test::ImageMaker().file("secret", test::random_bytes(600'000, 1)).file("a", "hers").make();
  const test::MadeImage his_ =
      test::ImageMaker().file("secret", test::random_bytes(600'000, 1)).file("b", "his").make();
  const std::uint32_t chunks_ = hers_.manifest->objects().chunk_count(hers_.object("secret"));
  TempDir dir_;
  std::unique_ptr<Store> store_;
};

using None = std::vector<std::uint32_t>;

TEST_F(RightsTest, WhoOnlyNamesAnObjectSeesNothingOfIt) {
  ASSERT_GT(count(), 3u);
  ASSERT_OK(add(*store_, hers_, kAlice));
  ASSERT_OK(add(*store_, his_, kBob));
  const auto before = secret(kBob);  // open before there is anything
  bring_all(kAlice);
  EXPECT_FALSE(before->complete());
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(seen(kAlice), all());
    for (const char* user : {kBob, kPublic}) {
      EXPECT_EQ(seen(user), None()) << user;
      EXPECT_FALSE(may_copy(user)) << user;
    }
    EXPECT_TRUE(may_copy(kAlice));
    open();
  }
}

TEST_F(RightsTest, EachOfTwoUsersPaysOnceAndTheDiskIsShared) {
  for (const auto& [first, second] : {std::pair(kAlice, kBob), std::pair(kBob, kAlice)}) {
    bring_all(first);
    const auto object = secret(second);
    for (std::uint32_t i = 0; i < count(); ++i) {
      EXPECT_FALSE(object->has_chunk(i)) << i;
      EXPECT_FALSE(object->complete());
      bring(*object, i);
      EXPECT_TRUE(object->has_chunk(i)) << i;
    }
    for (int round = 0; round < 2; ++round) {
      EXPECT_EQ(seen(first), all());
      EXPECT_EQ(seen(second), all());
      EXPECT_TRUE(may_copy(first));
      EXPECT_TRUE(may_copy(second));
      EXPECT_FALSE(may_copy("carol.example 3"));
      EXPECT_EQ(seen(kPublic), None());
      EXPECT_EQ(objects(), 1u);
      open();
    }
    store_.reset();
    fs::remove_all(root());
    open();
  }
}

TEST_F(RightsTest, WrongBytesEarnNothing) {
  bring_all(kAlice);
  const auto object = secret(kBob);
  Bytes wrong = test::random_bytes(chunk_bytes(hers_, "secret", 0).size(), 9);
  EXPECT_EQ(code_of(store_->put_chunk(*object, 0, wrong)), Errc::kCorrupt);
  EXPECT_FALSE(object->has_chunk(0));
}

TEST_F(RightsTest, PublicContentIsForAll) {
  bring_all(kPublic);
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(seen(kAlice), all());
    EXPECT_EQ(seen(kBob), all());
    open();
  }
  lose_the_index();
  EXPECT_EQ(seen(kAlice), all());
}

TEST_F(RightsTest, WhatThePublicBringsLaterIsForAll) {
  bring_all(kAlice);
  EXPECT_EQ(seen(kPublic), None());
  bring_all(kPublic);
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(seen(kPublic), all());
    EXPECT_EQ(seen(kBob), all());
    EXPECT_TRUE(may_copy(kBob));
    open();
  }
}

TEST_F(RightsTest, TwoWhoBringPartsSeeTheirOwnParts) {
  for (const char* first : {kAlice, kPublic}) {
    const auto one = secret(first);
    const auto other = secret(kBob);
    bring(*one, 0);
    bring(*one, 1);
    // What is public, all may see.
    EXPECT_EQ(seen(kBob), first == kPublic ? (None{0, 1}) : None());
    bring(*other, 1);
    bring(*other, 2);
    EXPECT_EQ(seen(first), (None{0, 1}));
    EXPECT_EQ(seen(kBob), first == kPublic ? (None{0, 1, 2}) : (None{1, 2}));
    for (std::uint32_t i = 3; i < count(); ++i) bring(*one, i);
    EXPECT_TRUE(fs::exists(file("objects")));
    EXPECT_FALSE(secret(first)->complete());
    // He has brought what the public lacks.
    EXPECT_EQ(secret(kBob)->complete(), first == kPublic);
    bring(*one, 2);
    EXPECT_EQ(seen(first), all());
    EXPECT_EQ(may_copy("carol.example 3"), first == kPublic);
    store_.reset();
    fs::remove_all(root());
    open();
  }
}

TEST_F(RightsTest, NobodyKnowsAfterARestartWhoseAMixedObjectIs) {
  bring(*secret(kAlice), 0);
  bring(*secret(kBob), 1);
  open();
  EXPECT_EQ(seen(kAlice), None());
  EXPECT_EQ(seen(kBob), None());
  EXPECT_EQ(seen(kPublic), None());
  const auto object = secret(kAlice);
  bring(*object, 0);
  EXPECT_TRUE(object->has_chunk(0));
  EXPECT_FALSE(object->has_chunk(1));
}

TEST_F(RightsTest, APartThatOneUserAloneHasBroughtStaysTheirsAfterARestart) {
  bring(*secret(kAlice), 1);
  open();
  EXPECT_EQ(seen(kAlice), None{1});
  EXPECT_EQ(seen(kBob), None());
}

// The power goes just after the second user's first byte: it must be on record that it was coming.
TEST_F(RightsTest, ACrashDoesNotGiveOneUserWhatAnotherHasBrought) {
  for (const char* first : {kAlice, kPublic}) {
    bring(*secret(first), 0);
    ASSERT_OK(store_->stats());  // what the index was told is written
    bring(*secret(kBob), 1);
    for (const char* name : {"index.db", "index.db-wal"}) {
      fs::copy(root() / name, dir_.path() / name);
    }
    store_.reset();
    for (const char* name : {"index.db", "index.db-wal"}) {
      fs::rename(dir_.path() / name, root() / name);
    }
    open();
    EXPECT_EQ(seen(first), None()) << first;
    EXPECT_EQ(seen("carol.example 3"), None()) << first;
    store_.reset();
    fs::remove_all(root());
    open();
  }
}

TEST_F(RightsTest, ALostIndexMakesPrivateContentNobodysUntilItIsBroughtAgain) {
  ASSERT_OK(add(*store_, hers_, kAlice));
  ASSERT_OK(add(*store_, his_, kBob));
  bring_all(kAlice);
  // He names what she has brought, and her image is gone: nothing but the index tells them apart.
  ASSERT_OK(store_->remove_image(hers_.manifest->digest()));
  lose_the_index();
  EXPECT_EQ(seen(kBob), None());
  EXPECT_EQ(seen(kAlice), None());
  EXPECT_FALSE(may_copy(kBob));
  bring_all(kAlice);
  EXPECT_EQ(seen(kAlice), all());
  EXPECT_EQ(seen(kBob), None());
  EXPECT_EQ(objects(), 1u);
}

TEST_F(RightsTest, WhatWasEarnedBesideAnotherOutlivesDamage) {
  bring_all(kAlice);
  bring_all(kBob);
  open();
  fs::resize_file(file("objects"), 10);
  EXPECT_EQ(seen(kBob), None());  // nothing of it is left
  bring_all("carol.example 3");
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(seen(kBob), all());
    open();
  }
}

TEST_F(RightsTest, OnANodeWithOneScopeAllSeeEverythingUntilItIsSetBack) {
  open(DedupScope::kNode);
  bring_all(kAlice);
  for (const char* user : {kBob, kPublic}) {
    EXPECT_EQ(seen(user), all());
    EXPECT_TRUE(may_copy(user));
  }
  open();
  EXPECT_EQ(seen(kBob), None());
  EXPECT_EQ(seen(kPublic), None());
  EXPECT_FALSE(may_copy(kBob));
  EXPECT_EQ(seen(kAlice), all());
}

TEST_F(RightsTest, TheFileSaysWhetherItIsPublic) {
  const auto mode = [&](const char* place) {
    struct stat st {};
    EXPECT_EQ(::stat(file(place).c_str(), &st), 0);
    return st.st_mode & 07777;
  };
  bring(*secret(kPublic), 0);
  EXPECT_EQ(mode("partial"), 0644u);
  bring(*secret(kAlice), 1);
  EXPECT_EQ(mode("partial"), 0600u);
  bring_all(kAlice);
  EXPECT_EQ(mode("objects"), 0400u);
}

}  // namespace
}  // namespace imsy::cas
