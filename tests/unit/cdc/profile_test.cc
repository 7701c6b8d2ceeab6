#include "cdc/profile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace imsy::cdc {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Profile profile_of(std::initializer_list<Profile::Access> accesses) {
  Profile profile;
  for (const auto& access : accesses) EXPECT_TRUE(profile.add(access));
  return profile;
}

std::vector<std::string> paths(const Profile& profile) {
  std::vector<std::string> found;
  for (const auto& access : profile.accesses()) found.push_back(access.path);
  return found;
}

TEST(ProfileTest, ReadsWhatPeopleWrite) {
  const auto profile = Profile::parse(
      "imsy-profile 1\n"
      "# of a web server\n"
      "\n"
      "0 131072 /usr/sbin/nginx\n"
      "0 0 etc/a\\040name\n"
      "4096 10 lib/x");
  ASSERT_TRUE(profile) << profile.error().message();
  EXPECT_THAT(profile->accesses(),
              ElementsAre(Profile::Access{"usr/sbin/nginx", 0, 131072},
                          Profile::Access{"etc/a name", 0, 0}, Profile::Access{"lib/x", 4096, 10}));
}

TEST(ProfileTest, EveryPathSurvivesItsText) {
  std::string every;
  for (int byte = 1; byte < 256; ++byte) every += static_cast<char>(byte);
  const auto profile = profile_of({{every, 1, 2}, {"\\040", 0, 0}, {"#", 0, 0}});
  const auto again = Profile::parse(profile.to_text());
  ASSERT_TRUE(again) << again.error().message();
  EXPECT_EQ(again->accesses(), profile.accesses());
  EXPECT_EQ(again->to_text(), profile.to_text());
}

TEST(ProfileTest, NoPathKeepsALeadingSlash) {
  const auto profile = Profile::parse("imsy-profile 1\n0 1 ///a//b\n");
  ASSERT_TRUE(profile) << profile.error().message();
  EXPECT_THAT(profile->accesses(), ElementsAre(Profile::Access{"a//b", 0, 1}));
  EXPECT_FALSE(Profile::parse("imsy-profile 1\n0 1 //\n"));
  EXPECT_FALSE(Profile::parse("imsy-profile 1\n0 1 \\057a\n"));
  EXPECT_FALSE(Profile().add({"/a", 0, 1}));
}

TEST(ProfileTest, AnEmptyProfileIsOne) {
  EXPECT_TRUE(Profile::parse("imsy-profile 1\n").value().accesses().empty());
  EXPECT_TRUE(Profile::parse("imsy-profile 1").value().accesses().empty());
}

struct Bad {
  const char* text;
  const char* complaint;
};
class BadProfileTest : public testing::TestWithParam<Bad> {};

TEST_P(BadProfileTest, IsRefusedWithItsLine) {
  const auto profile = Profile::parse(GetParam().text);
  ASSERT_FALSE(profile);
  EXPECT_EQ(profile.error().code(), Errc::kInvalid);
  EXPECT_THAT(profile.error().message(), HasSubstr(GetParam().complaint));
}

INSTANTIATE_TEST_SUITE_P(
    All, BadProfileTest,
    testing::Values(Bad{"", "this is no profile"},
                    Bad{"imsy-profile 2\n0 0 a\n", "this is no profile"},
                    Bad{"imsy-profile 1\n\n0 0\n", "line 3 of the profile: this can be no path"},
                    Bad{"imsy-profile 1\nusr/bin/x\n",
                        "line 2 of the profile: offset, length and path"},
                    Bad{"imsy-profile 1\n-1 0 a\n", "offset, length and path"},
                    Bad{"imsy-profile 1\n99999999999999999999 0 a\n", "offset, length and path"},
                    Bad{"imsy-profile 1\n18446744073709551615 2 a\n", "the range is too large"},
                    Bad{"imsy-profile 1\n0 0 a b\n", "must be written"},
                    Bad{"imsy-profile 1\n0 0 a\\\n", "must be written"},
                    Bad{"imsy-profile 1\n0 0 a\\04\n", "must be written"},
                    Bad{"imsy-profile 1\n0 0 a\\400\n", "must be written"},
                    Bad{"imsy-profile 1\n0 0 a\\089\n", "must be written"},
                    Bad{"imsy-profile 1\n0 0 a\\000\n", "this can be no path"},
                    Bad{"imsy-profile 1\n0 0 /\n", "this can be no path"}));

TEST(ProfileTest, HasLimits) {
  Profile profile;
  EXPECT_FALSE(profile.add({std::string(Profile::kPathLimit + 1, 'a'), 0, 0}));
  for (std::size_t i = 0; i < Profile::kAccessLimit; ++i) {
    ASSERT_TRUE(profile.add({std::to_string(i), 0, 0}));
  }
  EXPECT_FALSE(profile.add({"one more", 0, 0}));
  EXPECT_FALSE(Profile::parse(profile.to_text() + "0 0 more\n"));
  EXPECT_FALSE(Profile::parse("imsy-profile 1\n" + std::string(Profile::kTextLimit, '\n')));
}

TEST(ProfileTest, MergesByMeanPlace) {
  const Profile all[] = {
      profile_of({{"ld.so", 0, 0}, {"app", 0, 0}, {"late", 0, 0}}),
      profile_of({{"ld.so", 0, 0}, {"config", 0, 0}, {"app", 0, 0}}),
  };
  // Means: ld.so 0, config 1, app 1.5, late 2.
  EXPECT_THAT(paths(Profile::merge(all)), ElementsAre("ld.so", "config", "app", "late"));
  const Profile swapped[] = {all[1], all[0]};
  EXPECT_EQ(Profile::merge(swapped).accesses(), Profile::merge(all).accesses());
  EXPECT_EQ(Profile::merge(std::span(all).first(1)).accesses(), all[0].accesses());
  EXPECT_TRUE(Profile::merge({}).accesses().empty());
}

}  // namespace
}  // namespace imsy::cdc
