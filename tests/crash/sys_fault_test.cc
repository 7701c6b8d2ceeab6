// Every system call by which the store and its index use the disk fails once, or from some moment
// on. The operation fails or succeeds; nothing wrong is ever read; when the fault is over the store
// opens, what was acknowledged holds, everything works, and nothing is left behind.
#include <gmock/gmock.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <set>

#include "common/log.h"
#include "tests/crash/store_life.h"
#include "tests/support/sys_faults.h"
#include "tests/unit/cas/fixture.h"

namespace imsy::cas {
namespace {

namespace fs = std::filesystem;
using test::StoreLife;
using test::SysFault;
using test::SysFaults;

std::size_t open_descriptors() {
  const fs::directory_iterator self("/proc/self/fd");
  return static_cast<std::size_t>(std::distance(begin(self), end(self)));
}

// All that can happen to a store.
void live(StoreLife& life) {
  life.open();
  life.add_first();
  life.add_second();
  life.put_first();
  life.mark_first_resident();
  life.put_second();
  life.remove_second();
  life.collect();
  life.crash();
  life.open();
  life.read_first();
  life.mark_first_resident();
  life.collect();
  life.close();
}

// A full store whose index is lost.
void prepare_without_index(StoreLife& life) {
  life.open();
  life.add_first();
  life.add_second();
  life.put_first();
  life.close();
  fs::remove(life.root() / "index.db");
}

void rebuild(StoreLife& life) {
  life.open();
  life.read_first();
  life.close();
}

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
  using Part = std::function<void(StoreLife&)>;

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
  const std::uint64_t step = which == "all" ? 1 : 61;
  for (std::uint64_t call = 1; call <= of; call += step) calls.push_back(call);
  return calls;
}

void SysFaultTest::fail_calls(const Part& before, const Part& part) {
  const Kind kind = GetParam();
  const auto run = [&](std::uint64_t at, const auto& check) {
    const TempDir dir(TempDir::On::kMemory);
    StoreLife life(dir.path() / "store");
    before(life);
    SysFaults::begin({.error = kind.error, .at = at, .lasts = kind.lasts});
    part(life);
    check(life, SysFaults::end());
  };
  std::uint64_t calls = 0;
  run(0, [&](StoreLife&, const SysFaults::Seen& seen) { calls = seen.calls; });
  const std::size_t descriptors = open_descriptors();
  std::set<std::string> failed;
  for (const std::uint64_t at : calls_to_fail(calls)) {
    run(at, [&](StoreLife& life, const SysFaults::Seen& seen) {
      // What the index's thread does differs a little from time to time.
      if (!seen.failed.empty()) failed.insert(seen.failed);
      EXPECT_THAT(life.check(/*unreadable=*/kind.error == EIO && is_read(seen.failed)),
                  ::testing::IsEmpty())
          << "call " << at << " of " << calls << ", " << seen.failed << ": "
          << std::strerror(kind.error);
    });
    EXPECT_EQ(open_descriptors(), descriptors) << "after call " << at;
  }
  EXPECT_THAT(failed, ::testing::Not(::testing::IsEmpty()));
}

TEST_P(SysFaultTest, AtAnyCallCostsNothingThatWasPromised) {
  fail_calls([](StoreLife&) {}, live);
}

TEST_P(SysFaultTest, WhileTheIndexIsMadeAnewCostsNothingEither) {
  fail_calls(prepare_without_index, rebuild);
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
