// Every system call by which the store and its index use the disk fails once, or from some moment
// on. The operation fails or succeeds; nothing wrong is ever read; when the fault is over the store
// opens, what was acknowledged holds, everything works, and nothing is left behind.
#include <fcntl.h>
#include <gmock/gmock.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <set>

#include "cas/store.h"
#include "common/log.h"
#include "tests/support/sys_faults.h"
#include "tests/unit/cas/fixture.h"

namespace imsy::cas {
namespace {

namespace fs = std::filesystem;
using test::MadeImage;
using test::SysFault;
using test::SysFaults;

std::size_t open_descriptors() {
  const fs::directory_iterator self("/proc/self/fd");
  return static_cast<std::size_t>(std::distance(begin(self), end(self)));
}

MadeImage first_image() {
  return test::ImageMaker()
      .chunker({.size_min = 4096, .size_avg = 8192, .size_max = 16384})
      .file("big", test::random_bytes(60'000, 1))
      .file("small", "of one chunk")
      .file("shared", "in both images")
      .make();
}

// Part of the other's large file lies in one of its own.
MadeImage second_image() {
  Bytes big = test::random_bytes(60'000, 1);
  append(big, test::random_bytes(10'000, 2));
  return test::ImageMaker()
      .chunker({.size_min = 4096, .size_avg = 8192, .size_max = 16384})
      .file("bigger", big)
      .file("shared", "in both images")
      .make();
}

// What the store has acknowledged of an image.
struct Promise {
  bool kept = false;      // it is there
  bool gone = false;      // it is not there
  bool resident = false;  // all of it can be read
};

// A life of a store, in which anything may fail.
class Life {
 public:
  explicit Life(fs::path root) : root_(std::move(root)) {}

  void run() {
    open();
    add(first_, of_first_);
    add(second_, of_second_);
    put_all(first_);
    mark_resident();
    put_all(second_);
    remove_second();
    collect();
    crash();
    open();
    read_all(first_);
    mark_resident();
    collect();
    store_.reset();
  }

  // Before the faults begin: there is a full store, whose index is lost.
  void prepare_without_index() {
    open();
    add(first_, of_first_);
    add(second_, of_second_);
    put_all(first_);
    store_.reset();
    fs::remove(root_ / "index.db");
  }

  void rebuild() {
    open();
    read_all(first_);
    store_.reset();
  }

  // Afterwards, without faults. `unreadable`: what the disk did not give back need not be on record
  // any more; when that was a part of the index, nothing is.
  void check(bool unreadable) {
    store_ = open_store(root_);
    ASSERT_NE(store_, nullptr);
    check_promise(first_, of_first_, unreadable);
    check_promise(second_, of_second_, unreadable);
    bring_back(first_);
    bring_back(second_);
    leave_nothing();
  }

 private:
  void open() {
    store_.reset();
    auto opened = Store::open(root_);
    if (opened) store_ = std::move(*opened);
  }

  // Goes on with what is on the disk while the store is in use.
  void crash() {
    if (!fs::exists(root_)) return;
    const fs::path left = root_.string() + "-after-crash";
    fs::copy(root_, left, fs::copy_options::recursive);
    fs::permissions(left, fs::perms::owner_all);
    fs::remove(left / "index.db-shm");
    store_.reset();
    root_ = left;
  }

  void add(const MadeImage& image, Promise& promise) {
    if (store_ != nullptr && cas::add(*store_, image)) promise.kept = true;
  }

  void put_all(const MadeImage& image) {
    if (store_ == nullptr) return;
    for (const auto& [path, content] : image.files) {
      const std::uint32_t object = image.object(path);
      const auto opened = store_->open_object(*image.manifest, object, "");
      if (!opened) continue;
      const auto chunks = image.manifest->objects().chunks_of(object);
      for (std::uint32_t i = 0; i < chunks.size(); ++i) {
        const auto copy = store_->find_chunk(chunks[i], "");
        if (copy && *copy) {
          EXPECT_EQ(**copy, to_bytes(chunk_bytes(image, path, i)));
        }
        ignore(store_->put_chunk(**opened, i, chunk_bytes(image, path, i)), "it may fail");
      }
    }
    read_all(image);
  }

  static Bytes to_bytes(ByteSpan bytes) { return Bytes(bytes.begin(), bytes.end()); }

  // Whatever is said to be there is right. The number of chunks that are not there.
  std::size_t read_all(const MadeImage& image) {
    std::size_t missing = 0;
    for (const auto& [path, content] : image.files) {
      const std::uint32_t object = image.object(path);
      const auto chunks = image.manifest->objects().chunks_of(object);
      if (store_ == nullptr) return missing + chunks.size();
      const auto opened = store_->open_object(*image.manifest, object, "");
      for (std::uint32_t i = 0; i < chunks.size(); ++i) {
        Bytes bytes(chunks[i].size);
        if (opened && (*opened)->has_chunk(i) && (*opened)->read(chunks[i].object_offset, bytes)) {
          EXPECT_EQ(bytes, to_bytes(chunk_bytes(image, path, i))) << path << ", chunk " << i;
        } else {
          ++missing;
        }
      }
    }
    return missing;
  }

  void mark_resident() {
    if (store_ != nullptr && store_->mark_resident(*first_.manifest)) of_first_.resident = true;
  }

  void remove_second() {
    if (store_ == nullptr) return;
    of_second_.kept = false;
    if (store_->remove_image(second_.manifest->digest())) of_second_.gone = true;
  }

  void collect() {
    if (store_ != nullptr) ignore(store_->collect(), "it may fail");
  }

  void check_promise(const MadeImage& image, const Promise& promise, bool unreadable) {
    const auto loaded = store_->load_image(image.manifest->digest());
    EXPECT_TRUE(loaded || !promise.kept) << loaded.error().message();
    EXPECT_FALSE(loaded && promise.gone);
    const auto resident = store_->is_resident(image.manifest->digest());
    ASSERT_OK(resident);
    EXPECT_TRUE(*resident || !promise.resident || unreadable);
    const std::size_t missing = read_all(image);
    EXPECT_TRUE(missing == 0 || !*resident) << missing << " chunks are missing";
  }

  // The store can be filled as if nothing had been.
  void bring_back(const MadeImage& image) {
    ASSERT_OK(cas::add(*store_, image));
    cas::put_all(*store_, image);
    EXPECT_EQ(read_all(image), 0u);
    EXPECT_OK(store_->mark_resident(*image.manifest));
  }

  void leave_nothing() {
    for (const MadeImage* image : {&first_, &second_}) {
      ASSERT_OK(store_->remove_image(image->manifest->digest()));
    }
    ASSERT_OK(store_->collect());
    store_.reset();
    for (const char* folder : {"objects", "partial", "trash", "manifests"}) {
      for (const auto& entry : fs::recursive_directory_iterator(root_ / folder)) {
        EXPECT_TRUE(entry.is_directory()) << entry.path() << " is left";
      }
    }
  }

  fs::path root_;
  const MadeImage first_ = first_image();
  const MadeImage second_ = second_image();
  Promise of_first_;
  Promise of_second_;
  std::unique_ptr<Store> store_;
};

struct Kind {
  const char* name;
  int error;
  SysFault::Lasts lasts;
};

class SysFaultTest : public ::testing::TestWithParam<Kind> {
 protected:
  static void SetUpTestSuite() {
    SysFaults::install();
    ASSERT_OK(log::configure("off"));
  }
  using Part = std::function<void(Life&)>;

  // Lets the calls of `part` fail, one in each life.
  void fail_calls(const Part& before, const Part& part);
};

bool is_read(const std::string& call) {
  return call == "read" || call == "pread" || call == "pread64" || call == "mmap";
}

// Which calls fail: IMSY_CALLS says "all" or the number of one, whose log is shown then. Else a
// part of them; a prime, so that it meets all kinds of calls.
std::vector<std::uint64_t> calls_to_fail(std::uint64_t of) {
  const char* wanted = std::getenv("IMSY_CALLS");
  const std::string which = wanted != nullptr ? wanted : "";
  std::vector<std::uint64_t> calls;
  if (!which.empty() && which != "all") {
    EXPECT_TRUE(log::configure("debug"));
    calls.push_back(std::strtoull(which.c_str(), nullptr, 10));
    return calls;
  }
  const std::uint64_t step = which == "all" ? 1 : 31;
  for (std::uint64_t call = 1; call <= of; call += step) calls.push_back(call);
  return calls;
}

void SysFaultTest::fail_calls(const Part& before, const Part& part) {
  const Kind kind = GetParam();
  const auto live = [&](std::uint64_t at,
                        const std::function<void(Life&, const SysFaults::Seen&)>& check) {
    const TempDir dir(TempDir::On::kMemory);
    Life life(dir.path() / "store");
    before(life);
    SysFaults::begin({.error = kind.error, .at = at, .lasts = kind.lasts});
    part(life);
    const auto seen = SysFaults::end();
    check(life, seen);
  };
  std::uint64_t calls = 0;
  live(0, [&](Life&, const SysFaults::Seen& seen) { calls = seen.calls; });
  const std::size_t descriptors = open_descriptors();
  std::set<std::string> failed;
  for (const std::uint64_t at : calls_to_fail(calls)) {
    live(at, [&](Life& life, const SysFaults::Seen& seen) {
      SCOPED_TRACE("call " + std::to_string(at) + " of " + std::to_string(calls) + ", " +
                   seen.failed + ": " + std::strerror(kind.error));
      failed.insert(seen.failed);
      life.check(/*unreadable=*/kind.error == EIO && is_read(seen.failed));
    });
    EXPECT_EQ(open_descriptors(), descriptors) << "after call " << at;
  }
  EXPECT_GT(failed.size(), 1u);
}

TEST_P(SysFaultTest, AtAnyCallCostsNothingThatWasPromised) {
  fail_calls([](Life&) {}, [](Life& life) { life.run(); });
}

TEST_P(SysFaultTest, WhileTheIndexIsMadeAnewCostsNothingEither) {
  fail_calls([](Life& life) { life.prepare_without_index(); }, [](Life& life) { life.rebuild(); });
}

INSTANTIATE_TEST_SUITE_P(, SysFaultTest,
                         ::testing::Values(Kind{"EioOnce", EIO, SysFault::Lasts::kOnce},
                                           Kind{"EioForEver", EIO, SysFault::Lasts::kForEver},
                                           Kind{"EnospcOnce", ENOSPC, SysFault::Lasts::kOnce},
                                           Kind{"EnospcForEver", ENOSPC, SysFault::Lasts::kForEver},
                                           Kind{"EintrOnce", EINTR, SysFault::Lasts::kOnce},
                                           Kind{"EmfileOnce", EMFILE, SysFault::Lasts::kOnce},
                                           Kind{"EmfileForEver", EMFILE, SysFault::Lasts::kForEver},
                                           Kind{"EnomemOnce", ENOMEM, SysFault::Lasts::kOnce},
                                           Kind{"EnomemForEver", ENOMEM,
                                                SysFault::Lasts::kForEver}),
                         [](const auto& kind) { return kind.param.name; });

}  // namespace
}  // namespace imsy::cas
