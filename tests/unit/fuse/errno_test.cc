#include "fuse/errno.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <map>

namespace imsy::fuse {
namespace {

// Every value that names a kind; to_string says "unknown" to the others.
std::vector<Errc> all_kinds() {
  std::vector<Errc> kinds;
  for (int value = 0; value < 256; ++value) {
    const auto kind = static_cast<Errc>(value);
    if (to_string(kind) != "unknown") kinds.push_back(kind);
  }
  return kinds;
}

TEST(ErrnoTest, EveryKindHasItsErrno) {
  const std::map<Errc, int> expected = {
      {Errc::kInvalid, EINVAL},       {Errc::kNotFound, ENOENT},
      {Errc::kAlreadyExists, EEXIST}, {Errc::kFailedPrecondition, EINVAL},
      {Errc::kCorrupt, EIO},          {Errc::kUnavailable, EIO},
      {Errc::kNoSpace, EIO},          {Errc::kDenied, EIO},
      {Errc::kCancelled, EINTR},      {Errc::kTimeout, EIO},
      {Errc::kInternal, EIO},
  };
  const auto kinds = all_kinds();
  ASSERT_EQ(kinds.size(), expected.size()) << "a kind of error is missing in this test";
  for (const Errc kind : kinds) {
    ASSERT_TRUE(expected.contains(kind)) << to_string(kind);
    EXPECT_EQ(to_errno(kind), expected.at(kind)) << to_string(kind);
  }
}

}  // namespace
}  // namespace imsy::fuse
