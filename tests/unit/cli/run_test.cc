#include "cli/run.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/cli/support.h"

namespace imsy::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::StartsWith;

struct Golden {
  const char* name;
  std::string input;
  const char* list;
  std::size_t files;  // chunks, all different, and the list
};

class PrepareTest : public ::testing::TestWithParam<Golden> {};

// What the original program prints and stores for the same input.
TEST_P(PrepareTest, MatchesTheOriginal) {
  TempDir temp;
  const Ran ran = run_imsy({"-dir", temp / "cas", "prepare"}, GetParam().input);
  EXPECT_EQ(ran.code, kExitDone);
  EXPECT_EQ(ran.out, std::string(GetParam().list) + "\n");
  EXPECT_EQ(ran.err, "");
  const auto names = names_in(temp / "cas");
  EXPECT_EQ(names.size(), GetParam().files);
  for (const std::string& name : names) {
    EXPECT_EQ(sha256(read_all(temp / "cas" / name)).hex(), name);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Goldens, PrepareTest,
    ::testing::Values(
        Golden{"Empty", "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", 1},
        Golden{"Hello", "hello\n",
               "c31379f84f44b97b924ad817e32f750f69cdfaddf08140033bd441056ff7271d", 2},
        Golden{"Zeros", std::string(4 << 20, '\0'),
               "3b68da0a10fc1ccacef6e4a1ffa3458022c95747098fad9ebe356c5fe0adfabe", 2},
        Golden{"Random", random_text(),
               "656e9a608f543fc917d682577452566d2448360b9a32f40da6f1c4abe1115163", 12}),
    [](const auto& golden) { return std::string(golden.param.name); });

TEST(Prepare, ReplacesADamagedChunk) {
  TempDir temp;
  const std::string list = prepare_in(temp / "cas", "hello\n");
  const std::string chunk = sha256("hello\n").hex();
  for (const char* damaged : {"hellO\n", "hel", ""}) {
    write_file(temp / "cas" / chunk, damaged);
    EXPECT_EQ(prepare_in(temp / "cas", "hello\n"), list);
    EXPECT_EQ(read_all(temp / "cas" / chunk), "hello\n");
  }
}

TEST(Prepare, FailsWhenItsInputFails) {
  TempDir temp;
  TextReader in(random_text(), 100'000, /*fails=*/true);
  std::ostringstream out;
  std::ostringstream err;
  const std::vector<std::string> args = {"-dir", temp / "cas", "prepare"};
  EXPECT_EQ(run(args, {in, out, err}, {}), kExitFailed);
  EXPECT_EQ(out.str(), "");
  EXPECT_THAT(err.str(), HasSubstr("the pipe broke"));
}

TEST(Prepare, FailsWhenAChunkCannotBeStored) {
  TempDir temp;
  std::filesystem::create_directories(temp / "cas" / sha256("hello\n").hex());
  const Ran ran = run_imsy({"-dir", temp / "cas", "prepare"}, "hello\n");
  EXPECT_EQ(ran.code, kExitFailed);
  EXPECT_EQ(ran.out, "");
}

TEST(Prepare, FailsWhenItCannotPrint) {
  TempDir temp;
  TextReader in("hello\n");
  std::ostringstream out;
  std::ostringstream err;
  out.setstate(std::ios::badbit);
  const std::vector<std::string> args = {"-dir", temp / "cas", "prepare"};
  EXPECT_EQ(run(args, {in, out, err}, {}), kExitFailed);
  EXPECT_THAT(err.str(), HasSubstr("cannot write to standard output"));
}

constexpr const char* kDigest = "c31379f84f44b97b924ad817e32f750f69cdfaddf08140033bd441056ff7271d";

TEST(CommandLine, IncompleteShowsTheUsage) {
  TempDir temp;
  const std::string dir = temp / "cas";
  const std::vector<std::vector<std::string>> cases = {{},
                                                       {"prepare"},
                                                       {"pull", kDigest},
                                                       {"-dir", dir},
                                                       {"-dir", dir, "pull", kDigest},
                                                       {"-dir", dir, "-o", "out", "pull"},
                                                       {"-dir=", "prepare"},
                                                       {"prepare", "-dir", dir}};
  for (const auto& args : cases) {
    const Ran ran = run_imsy(args);
    EXPECT_EQ(ran.code, kExitFailed);
    EXPECT_EQ(ran.out, "");
    EXPECT_EQ(ran.err, usage());
  }
  EXPECT_FALSE(std::filesystem::exists(dir));
}

TEST(CommandLine, AnUndefinedFlagIsAnErrorOfUsage) {
  const Ran ran = run_imsy({"-x", "prepare"});
  EXPECT_EQ(ran.code, kExitUsage);
  EXPECT_EQ(ran.err, "flag provided but not defined: -x\n" + usage());
}

TEST(CommandLine, HelpIsNoError) {
  EXPECT_EQ(run_imsy({"-h"}).code, kExitDone);
  EXPECT_EQ(run_imsy({"-h"}).err, usage());
  EXPECT_EQ(run_imsy({"help"}).code, kExitDone);
  EXPECT_EQ(run_imsy({"help"}).out, usage());
}

TEST(CommandLine, SaysItsVersion) {
  const Ran ran = run_imsy({"--version"});
  EXPECT_EQ(ran.code, kExitDone);
  EXPECT_THAT(ran.out, MatchesRegex("imsy [0-9]+\\.[0-9]+\\.[0-9]+\n"));
}

TEST(CommandLine, EachCommandOfOursHasItsHelp) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{"inspect"}, "REF"},
      {{"diff"}, "--files"},
      {{"check"}, "--against"},
      {{"unpack"}, "REF DIR"},
      {{"export"}, "--compress"},
      {{"stat"}, "--root"},
      {{"profile"}, "recorded"},
      {{"profile", "merge"}, "FILE"},
      {{"profile", "recorded"}, "MANIFEST-DIGEST"}};
  for (auto [args, part] : cases) {
    for (const char* flag : {"--help", "-h"}) {
      args.push_back(flag);
      const Ran ran = run_imsy(args);
      EXPECT_EQ(ran.code, kExitDone) << args[0];
      EXPECT_EQ(ran.err, "");
      EXPECT_THAT(ran.out, HasSubstr(part));
      EXPECT_THAT(ran.out, HasSubstr("imsy " + args[0]));
      args.pop_back();
    }
  }
}

TEST(CommandLine, AnUnknownCompressionIsAnErrorThatNamesTheKnownOnes) {
  const Ran ran = run_imsy({"export", "oci:a", "oci:b", "--compress", "xz"});
  EXPECT_EQ(ran.code, kExitUsage);
  EXPECT_EQ(ran.err, "imsy: --compress: xz not in {zstd,gzip,none}; see imsy help\n");
}

TEST(CommandLine, CommandsOfOursRefuseWhatTheyDoNotKnow) {
  const Ran ran = run_imsy({"help", "--nonsense"});
  EXPECT_EQ(ran.code, kExitUsage);
  EXPECT_THAT(ran.err, StartsWith("imsy: "));
}

TEST(CommandLine, AnUnknownCommandIsAFailure) {
  TempDir temp;
  const Ran ran = run_imsy({"-dir", temp / "cas", "foo\n"});
  EXPECT_EQ(ran.code, kExitFailed);
  EXPECT_THAT(ran.err, MatchesRegex("[0-9/]+ [0-9:]+ unknown command \"foo.x0a\"\n"));
}

TEST(CommandLine, ADirectoryThatCannotBeMadeIsAFailure) {
  TempDir temp;
  write_file(temp / "file", "");
  for (const char* command : {"prepare", "serve"}) {
    const Ran ran = run_imsy({"-dir", temp / "file" / "cas", command});
    EXPECT_EQ(ran.code, kExitFailed);
    EXPECT_THAT(ran.err, HasSubstr("file/cas"));
  }
}

TEST(CommandLine, AnAddressThatIsNoneIsAFailure) {
  TempDir temp;
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"8080", "missing port in address"},
      {"127.0.0.1:", "missing port in address"},
      {"[::1]", "missing port in address"},
      {"::1:8080", "IPv6 address"},
      {"127.0.0.1:no-such-service", "listen 127.0.0.1:no-such-service"}};
  for (const auto& [address, reason] : cases) {
    const Ran ran = run_imsy({"-dir", temp / "cas", "-listen", address, "serve"});
    EXPECT_EQ(ran.code, kExitFailed) << address;
    EXPECT_THAT(ran.err, HasSubstr(reason));
  }
}

}  // namespace
}  // namespace imsy::cli
