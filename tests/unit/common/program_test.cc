#include "common/program.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <new>
#include <string>
#include <system_error>

namespace imsy {
namespace {

struct Ended {
  int code = -1;
  std::string err;
};

template <typename Body>
Ended run(Body body) {
  ::testing::internal::CaptureStderr();
  const int code = run_program("imsy", body);
  return {code, ::testing::internal::GetCapturedStderr()};
}

TEST(ProgramTest, ReturnsWhatItsBodyReturns) {
  for (const int wanted : {0, 1, 2}) {
    const Ended ended = run([&] { return wanted; });
    EXPECT_EQ(ended.code, wanted);
    EXPECT_EQ(ended.err, "");
  }
}

TEST(ProgramTest, AnExceptionBecomesOneLineAndCodeOne) {
  const Ended memory = run([]() -> int { throw std::bad_alloc(); });
  EXPECT_EQ(memory.code, 1);
  EXPECT_EQ(memory.err, "imsy: out of memory\n");

  const Ended thread = run([]() -> int {
    throw std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again));
  });
  EXPECT_EQ(thread.code, 1);
  EXPECT_EQ(thread.err, "imsy: Resource temporarily unavailable\n");

  const Ended name = run([]() -> int {
    throw std::filesystem::filesystem_error("cannot read", "two\nlines",
                                            std::make_error_code(std::errc::io_error));
  });
  EXPECT_EQ(name.code, 1);
  EXPECT_EQ(name.err.find('\n'), name.err.size() - 1) << name.err;
  EXPECT_NE(name.err.find("cannot read"), std::string::npos) << name.err;

  const Ended other = run([]() -> int { throw 1; });
  EXPECT_EQ(other.code, 1);
  EXPECT_EQ(other.err, "imsy: failed for a reason that cannot be told\n");
}

}  // namespace
}  // namespace imsy
