#include "common/result.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <memory>
#include <set>

namespace imsy {
namespace {

Result<int> parse(bool good) {
  if (good) return 7;
  return Error(Errc::kInvalid, "not a number");
}

Result<int> twice(bool good) {
  IMSY_TRY_ASSIGN(const int value, parse(good));
  return 2 * value;
}

Status both(bool first, bool second) {
  IMSY_TRY(parse(first));
  IMSY_TRY(parse(second));
  return {};
}

TEST(ResultTest, HoldsAValueOrAnError) {
  const auto good = parse(true);
  ASSERT_TRUE(good);
  EXPECT_TRUE(good.has_value());
  EXPECT_EQ(*good, 7);
  EXPECT_EQ(good.value_or(1), 7);
  const auto bad = parse(false);
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().code(), Errc::kInvalid);
  EXPECT_EQ(bad.error().message(), "not a number");
  EXPECT_EQ(bad.value_or(1), 1);
}

TEST(ResultTest, TryReturnsTheError) {
  EXPECT_EQ(*twice(true), 14);
  ASSERT_FALSE(twice(false));
  EXPECT_EQ(twice(false).error().message(), "not a number");
  EXPECT_TRUE(both(true, true));
  EXPECT_FALSE(both(false, true));
  EXPECT_FALSE(both(true, false));
}

TEST(ResultTest, HoldsValuesThatOnlyMove) {
  Result<std::unique_ptr<int>> result(std::make_unique<int>(3));
  ASSERT_TRUE(result);
  const std::unique_ptr<int> value = std::move(result).value();
  EXPECT_EQ(*value, 3);
}

TEST(ErrorTest, ContextGoesBeforeTheMessage) {
  const Error error(Errc::kCorrupt, "wrong digest", EIO);
  const Error with = error.with_context("chunk 3").with_context("image a");
  EXPECT_EQ(with.message(), "image a: chunk 3: wrong digest");
  EXPECT_EQ(with.code(), Errc::kCorrupt);
  EXPECT_EQ(with.sys_errno(), EIO);
}

TEST(ErrorTest, ErrnoDecidesTheKind) {
  const std::pair<int, Errc> kinds[] = {
      {ENOENT, Errc::kNotFound},
      {ENOTDIR, Errc::kNotFound},
      {EEXIST, Errc::kAlreadyExists},
      {ENOSPC, Errc::kNoSpace},
      {EDQUOT, Errc::kNoSpace},
      {EACCES, Errc::kDenied},
      {EPERM, Errc::kDenied},
      {EROFS, Errc::kDenied},
      {EINVAL, Errc::kInvalid},
      {ENAMETOOLONG, Errc::kInvalid},
      {ELOOP, Errc::kInvalid},
      {ECONNREFUSED, Errc::kUnavailable},
      {EMFILE, Errc::kUnavailable},
      {ENOMEM, Errc::kUnavailable},
      {EAGAIN, Errc::kUnavailable},
      {ETIMEDOUT, Errc::kTimeout},
      {EBUSY, Errc::kFailedPrecondition},
      {EIO, Errc::kInternal},
      {12345, Errc::kInternal},
  };
  for (const auto& [number, kind] : kinds) {
    const Error error = Error::from_errno(number, "open /x");
    EXPECT_EQ(error.code(), kind) << number;
    EXPECT_EQ(error.sys_errno(), number);
    EXPECT_TRUE(error.message().starts_with("open /x: ")) << error.message();
  }
}

TEST(ErrorTest, EveryKindHasItsName) {
  std::set<std::string_view> names;
  for (int i = 0; i <= static_cast<int>(Errc::kInternal); ++i) {
    names.insert(to_string(static_cast<Errc>(i)));
  }
  EXPECT_EQ(names.size(), static_cast<std::size_t>(Errc::kInternal) + 1);
  EXPECT_FALSE(names.contains("unknown"));
  EXPECT_EQ(to_string(Errc::kNotFound), "not found");
}

}  // namespace
}  // namespace imsy
