#include "cli/seed/flags.h"

#include <gtest/gtest.h>

namespace imsy::cli::seed {
namespace {

using Args = std::vector<std::string>;

Flags parsed(const Args& args) {
  const auto flags = parse_flags(args);
  EXPECT_TRUE(flags) << flags.error().message();
  return flags.value_or(Flags{});
}

std::string refused(const Args& args) {
  const auto flags = parse_flags(args);
  return flags ? "accepted" : flags.error().message();
}

TEST(Flags, HaveTheDefaultsOfTheOriginal) {
  const Flags flags = parsed({});
  EXPECT_EQ(flags.dir, "");
  EXPECT_EQ(flags.listen, ":8080");
  EXPECT_EQ(flags.addr, "http://localhost:8080");
  EXPECT_EQ(flags.output, "");
  EXPECT_TRUE(flags.words.empty());
}

TEST(Flags, AreWrittenInFourWays) {
  for (const Args& args : {Args{"-dir", "d", "serve"}, Args{"--dir", "d", "serve"},
                           Args{"-dir=d", "serve"}, Args{"--dir=d", "serve"}}) {
    EXPECT_EQ(parsed(args).dir, "d");
    EXPECT_EQ(parsed(args).words, Args{"serve"});
  }
}

TEST(Flags, AllOfThem) {
  const Flags flags =
      parsed({"-addr", "http://h", "-o=out", "--listen", ":1", "-dir", "d", "pull", "x"});
  EXPECT_EQ(flags.addr, "http://h");
  EXPECT_EQ(flags.output, "out");
  EXPECT_EQ(flags.listen, ":1");
  EXPECT_EQ(flags.words, (Args{"pull", "x"}));
}

TEST(Flags, TheLastOneWins) {
  EXPECT_EQ(parsed({"-dir", "a", "-dir=b"}).dir, "b");
}

TEST(Flags, MayBeEmptyOrLookLikeAFlag) {
  EXPECT_EQ(parsed({"-dir="}).dir, "");
  EXPECT_EQ(parsed({"-dir", ""}).dir, "");
  EXPECT_EQ(parsed({"-dir", "-o", "prepare"}).dir, "-o");
  EXPECT_EQ(parsed({"-dir=a=b"}).dir, "a=b");
}

TEST(Flags, EndAtTheFirstWord) {
  EXPECT_EQ(parsed({"prepare", "-dir", "d"}).words, (Args{"prepare", "-dir", "d"}));
  EXPECT_EQ(parsed({"-", "prepare"}).words, (Args{"-", "prepare"}));
  EXPECT_EQ(parsed({"", "prepare"}).words, (Args{"", "prepare"}));
  EXPECT_EQ(parsed({"-dir", "d", "--", "-o"}).words, Args{"-o"});
}

TEST(Flags, AskForHelp) {
  EXPECT_TRUE(parsed({"-h"}).help);
  EXPECT_TRUE(parsed({"--help"}).help);
  EXPECT_TRUE(parsed({"-dir", "d", "-help", "-nonsense"}).help);
}

TEST(Flags, RefusesInTheWordsOfTheOriginal) {
  EXPECT_EQ(refused({"-x"}), "flag provided but not defined: -x");
  EXPECT_EQ(refused({"--x=1"}), "flag provided but not defined: -x");
  EXPECT_EQ(refused({"-dir"}), "flag needs an argument: -dir");
  EXPECT_EQ(refused({"---dir", "d"}), "bad flag syntax: ---dir");
  EXPECT_EQ(refused({"-=d"}), "bad flag syntax: -=d");
}

}  // namespace
}  // namespace imsy::cli::seed
