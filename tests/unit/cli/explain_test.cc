#include "cli/explain.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/unit/cli/support.h"

namespace imsy::cli {
namespace {

using ::testing::HasSubstr;

control::v1::ExplainResponse lazy_container() {
  control::v1::ExplainResponse answer;
  auto& snapshot = *answer.add_snapshots();
  auto& own = *snapshot.add_layers();
  own.set_key("default/7/web");
  own.set_kind("active");
  own.set_directory("/r/snapshots/3/fs");
  auto& layer = *snapshot.add_layers();
  layer.set_key("imsy/image-2/sha256:ab");
  layer.set_kind("committed");
  layer.set_lazy(true);
  auto& image = *snapshot.mutable_image();
  image.set_manifest("sha256:cd");
  image.set_directory("/r/mnt/1");
  image.set_live(true);
  image.set_filling(true);
  image.set_is_public(true);
  image.add_places("https://registry.example/v2/web");
  image.set_requests(3);
  image.set_bytes_fetched(2'000'000);
  return answer;
}

TEST(Explain, ALazyContainer) {
  const std::string text = to_text(lazy_container());
  EXPECT_THAT(text, HasSubstr("default/7/web\n    active, written to\n    /r/snapshots/3/fs\n"
                              "  on imsy/image-2/sha256:ab\n    committed, of an imsy image, "
                              "read lazily\n"));
  EXPECT_THAT(text, HasSubstr("  image sha256:cd\n    /r/mnt/1\n    being fetched in the "
                              "background, public\n    from https://registry.example/v2/web\n"
                              "    2.0 MB in 3 requests"));
}

TEST(Explain, WhyALayerWasUnpacked) {
  control::v1::ExplainResponse answer;
  auto& layer = *answer.add_snapshots()->add_layers();
  layer.set_key("default/7/sha256:ab");
  layer.set_kind("committed");
  layer.set_reason("no registry\nanswers");
  EXPECT_THAT(to_text(answer), HasSubstr("claims to be of an imsy image, unpacked: "
                                         "no registry\\x0aanswers\n"));
  layer.clear_reason();
  EXPECT_THAT(to_text(answer), HasSubstr("unpacked; its labels name no imsy image"));
}

TEST(Explain, TheMachine) {
  control::v1::ExplainResponse answer;
  answer.add_facts("kernel 6.1.0");
  EXPECT_EQ(to_text(answer), "kernel 6.1.0\nnothing is in the way\n");
  auto& advice = *answer.add_advice();
  advice.set_what("no overlayfs");
  advice.set_remedy("modprobe overlay");
  EXPECT_EQ(to_text(answer), "kernel 6.1.0\n* no overlayfs\n  modprobe overlay\n");
}

TEST(Explain, ForPrograms) {
  const auto json = nlohmann::json::parse(to_json(lazy_container()));
  EXPECT_EQ(json["snapshots"][0]["layers"][1]["lazy"], true);
  EXPECT_EQ(json["snapshots"][0]["image"]["bytes_fetched"], 2'000'000);
  EXPECT_EQ(json["snapshots"][0]["image"]["places"][0], "https://registry.example/v2/web");
  EXPECT_TRUE(json["advice"].empty());
  // Bytes of a label need not be text.
  auto odd = lazy_container();
  odd.mutable_snapshots(0)->mutable_layers(0)->set_key("\xc3x");
  EXPECT_TRUE(nlohmann::json::accept(to_json(odd)));
}

TEST(Explain, ADaemonThatIsNotThere) {
  const TempDir temp;
  const Ran ran = run_imsy({"explain", "--state", temp / "state"});
  EXPECT_EQ(ran.code, kExitFailed);
  EXPECT_THAT(ran.err, HasSubstr("imsy-snapshotter does not answer at "));
}

}  // namespace
}  // namespace imsy::cli
