#include "snapshotter/filter.h"

#include <gtest/gtest.h>

namespace imsy::snapshotter {
namespace {

Info sample() {
  Info info;
  info.name = "default/7/sha256:abc";
  info.parent = "default/6/sha256:def";
  info.kind = Kind::kCommitted;
  info.labels = {{"l", "2"},
                 {"containerd.io/gc.root", "now"},
                 {"containerd.io/snapshot.ref", "sha256:abc"},
                 {"with.dots.in", "x"},
                 {"odd\"key", "quoted"},
                 {"text", "a,b c"},
                 {"tab", "a\tb"},
                 {"unicode", "\xc3\xa9t\xc3\xa9"}};
  return info;
}

bool matches(const std::vector<std::string>& filters, const Info& info = sample()) {
  const auto filter = Filter::parse(filters);
  EXPECT_TRUE(filter) << (filter ? "" : filter.error().message());
  return filter && filter->matches(info);
}

TEST(Filter, NothingMeansEverything) {
  EXPECT_TRUE(matches({}));
  EXPECT_TRUE(matches({""}));
  EXPECT_TRUE(matches({"name==other", ""}));
}

TEST(Filter, AlternativesAreFiltersAndConditionsAreSelectors) {
  EXPECT_TRUE(matches({"name==other", "kind==committed"}));
  EXPECT_FALSE(matches({"name==other", "kind==active"}));
  EXPECT_TRUE(matches({"kind==committed,labels.l==2"}));
  EXPECT_FALSE(matches({"kind==committed,labels.l==3"}));
}

struct FilterCase {
  const char* filter;
  bool expected;
};

class FilterTable : public ::testing::TestWithParam<FilterCase> {};

TEST_P(FilterTable, Matches) {
  EXPECT_EQ(matches({GetParam().filter}), GetParam().expected) << GetParam().filter;
}

INSTANTIATE_TEST_SUITE_P(
    All, FilterTable,
    ::testing::Values(
        // Fields.
        FilterCase{"name", true}, FilterCase{"parent", true}, FilterCase{"kind", true},
        FilterCase{"labels.l", true}, FilterCase{"labels.absent", false},
        FilterCase{"labels", false}, FilterCase{"size", false},
        FilterCase{"name==default/7/sha256:abc", true},
        FilterCase{"parent==default/6/sha256:def", true}, FilterCase{"parent==\"\"", false},
        FilterCase{"kind==view", false},
        // Label keys: dots join path elements, quotes take them literally.
        FilterCase{"labels.with.dots.in==x", true}, FilterCase{"labels.\"with.dots.in\"==x", true},
        FilterCase{"labels.\"containerd.io/snapshot.ref\"==sha256:abc", true},
        FilterCase{"labels.\"containerd.io/gc.root\"==now,parent!=\"\"", true},
        FilterCase{"labels.\"odd\\\"key\"==quoted", true},
        // Operators on absent fields.
        FilterCase{"labels.absent==\"\"", false}, FilterCase{"labels.absent!=x", true},
        FilterCase{"labels.absent!=\"\"", false}, FilterCase{"labels.absent~=\"^$\"", true},
        FilterCase{"unknown!=x", true},
        // Blanks before fields, operators and values.
        FilterCase{"  name", true}, FilterCase{"kind == committed", true},
        FilterCase{"kind==committed, labels.l", true},
        // Values.
        FilterCase{"labels.text==\"a,b c\"", true}, FilterCase{"labels.tab==\"a\\tb\"", true},
        FilterCase{"labels.tab==\"a\\x09b\"", true}, FilterCase{"labels.tab==\"a\\011b\"", true},
        FilterCase{"labels.unicode==\"\\u00e9t\\U000000e9\"", true},
        FilterCase{"labels.unicode==\xc3\xa9t\xc3\xa9", true}, FilterCase{"labels.l==2=", false},
        FilterCase{"labels.l!=2=", true},
        // Regular expressions search, in any of three quotations.
        FilterCase{"name~=sha256:", true}, FilterCase{"name~=^sha256", false},
        FilterCase{"name~=/abc$/", true}, FilterCase{"name~=|/7/|", true},
        FilterCase{"name~=/\\/7\\//", true}, FilterCase{"name~=\"[ad]bc$\"", true},
        FilterCase{"name~=\"(\"", false}, FilterCase{"name~=/\\\\d/", true}));

class FilterErrors : public ::testing::TestWithParam<const char*> {};

TEST_P(FilterErrors, AreInvalid) {
  const auto filter = Filter::parse({GetParam()});
  ASSERT_FALSE(filter) << GetParam();
  EXPECT_EQ(filter.error().code(), Errc::kInvalid);
}

INSTANTIATE_TEST_SUITE_P(All, FilterErrors,
                         ::testing::Values(" ", ",", "name,", "name,,kind", "name=", "name=x",
                                           "name===x", "name<x", "name==", "name== ", "name==,",
                                           "name==.x", "name==a b", "name ", "name.", ".name",
                                           "labels..l", "==x", "name==\"x", "name==\"x\"y",
                                           "name==/x/", "|name|==x", "name==\"\\q\"",
                                           "name==\"\\x4\"", "name==\"\\400\"", "name==\"\\ud800\"",
                                           "name==\"\\U00110000\"", "name==\"\\", "name==\"a\nb\"",
                                           "na-me"));

TEST(Filter, ErrorsNameThePlace) {
  const auto filter = Filter::parse({"name==x", "kind==="});
  ASSERT_FALSE(filter);
  EXPECT_NE(filter.error().message().find("at byte 4"), std::string::npos)
      << filter.error().message();
}

TEST(Filter, LengthIsLimited) {
  const std::string half = "labels." + std::string(40'000, 'x');
  EXPECT_TRUE(Filter::parse({half}));
  const auto filter = Filter::parse({half, half});
  ASSERT_FALSE(filter);
  EXPECT_EQ(filter.error().code(), Errc::kInvalid);
}

}  // namespace
}  // namespace imsy::snapshotter
