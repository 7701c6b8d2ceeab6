#include "snapshotter/containerd_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace imsy::snapshotter {
namespace {

using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr const char* kSocket = "/run/imsy-snapshotter/imsy.sock";

constexpr const char* kProxy = R"(
[proxy_plugins.imsy]
  type = "snapshot"
  address = "/run/imsy-snapshotter/imsy.sock"
)";
constexpr const char* kExports = R"(
  [proxy_plugins.imsy.exports]
    enable_remote_snapshot_annotations = "true"
)";
constexpr const char* kUnpack = R"(
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
  platform = "linux"
  snapshotter = "overlayfs"
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
  platform = "linux"
  snapshotter = "imsy"
)";
constexpr const char* kCri2 = R"(
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "imsy"
)";
constexpr const char* kCri3 = R"(
[plugins.'io.containerd.cri.v1.images']
  snapshotter = 'imsy'
)";

std::vector<Advice> advice_on(const std::string& text, std::string_view version = "") {
  const auto config = parse_containerd_config(text, "config.toml");
  EXPECT_TRUE(config) << config.error().message();
  return config ? advise(*config, kSocket, version) : std::vector<Advice>();
}

auto says(const char* what) {
  return Field(&Advice::what, HasSubstr(what));
}

TEST(ContainerdConfig, CompleteOnesNeedNoAdvice) {
  const std::string two = std::string("version = 2\n") + kProxy + kCri2;
  EXPECT_THAT(advice_on(two + "  disable_snapshot_annotations = false\n", "1.6.20~ds1"), IsEmpty());
  const std::string three = std::string("version = 3\n") + kProxy + kExports + kUnpack + kCri3;
  EXPECT_THAT(advice_on(three, "v2.1.4"), IsEmpty());
  EXPECT_THAT(advice_on(three), IsEmpty());
  EXPECT_THAT(advice_on(three + "  disable_snapshot_annotations = false\n", "v2.0.5"), IsEmpty());
}

TEST(ContainerdConfig, ASnapshotterThatIsNotThere) {
  EXPECT_THAT(advice_on("version = 2\n"), ElementsAre(says("does not know this snapshotter")));
  EXPECT_THAT(advice_on("[proxy_plugins.imsy]\ntype = \"content\"\naddress = "
                        "\"/run/imsy-snapshotter/imsy.sock\"\n"),
              ElementsAre(says("does not know this snapshotter")));
  EXPECT_THAT(advice_on("[proxy_plugins.x]\ntype = \"snapshot\"\naddress = "
                        "\"unix:///run/imsy-snapshotter/imsy.sock\"\n"),
              ElementsAre(says("[proxy_plugins.x] has an address with unix://")));
}

TEST(ContainerdConfig, WhatIsImportedIsNotKnown) {
  EXPECT_THAT(advice_on("imports = [\"/etc/containerd/conf.d/*.toml\"]\n"), IsEmpty());
  EXPECT_THAT(advice_on("imports = []\n"), ElementsAre(says("does not know this snapshotter")));
}

TEST(ContainerdConfig, LabelsThatKubernetesKeepsBack) {
  const std::string two = std::string("version = 2\n") + kProxy + kCri2;
  EXPECT_THAT(advice_on(two, "1.6.20~ds1"), ElementsAre(says("Kubernetes pulls are not lazy")));
  EXPECT_THAT(advice_on(two + "  disable_snapshot_annotations = true\n", "1.7.27"),
              ElementsAre(says("Kubernetes pulls are not lazy")));
  // Somebody else's snapshotter is none of our business.
  EXPECT_THAT(advice_on(std::string("version = 2\n") + kProxy, "1.7.27"), IsEmpty());
  const std::string three = std::string("version = 3\n") + kProxy + kExports + kUnpack + kCri3;
  EXPECT_THAT(advice_on(three, "v2.0.5"), ElementsAre(says("Kubernetes pulls are not lazy")));
  EXPECT_THAT(advice_on(three + "  disable_snapshot_annotations = true\n", "v2.1.4"),
              ElementsAre(says("Kubernetes pulls are not lazy")));
}

TEST(ContainerdConfig, TheTransferService) {
  const std::string head = std::string("version = 3\n") + kProxy;
  EXPECT_THAT(advice_on(head, "v2.1.4"),
              ElementsAre(says("through the transfer service fail"), says("the image's name")));
  EXPECT_THAT(advice_on(head, "v2.0.5"), ElementsAre(says("through the transfer service fail")));
  EXPECT_THAT(advice_on(head, "1.7.27"), IsEmpty());
  const std::string only_ours =
      "[[plugins.\"io.containerd.transfer.v1.local\".unpack_config]]\nsnapshotter = \"imsy\"\n";
  EXPECT_THAT(advice_on(head + kExports + only_ours, "v2.1.4"),
              ElementsAre(says("pulls for overlayfs")));
}

TEST(ContainerdConfig, CapabilitiesThatAreNotThere) {
  EXPECT_THAT(advice_on(std::string("version = 2\n") + kProxy +
                            "  capabilities = [\"rebase\", \"remap-ids\"]\n",
                        "1.7.27"),
              ElementsAre(says("\"rebase\""), says("\"remap-ids\"")));
}

TEST(ContainerdConfig, OddFormsAreTakenForAbsentAndOddTextIsNot) {
  for (const char* text :
       {"version = \"2\"", "proxy_plugins = 1", "[proxy_plugins]\nimsy = 1", "plugins = []",
        "[plugins]\n\"io.containerd.grpc.v1.cri\" = 3",
        "[plugins.\"io.containerd.transfer.v1.local\"]\nunpack_config = [1, 2]"}) {
    EXPECT_THAT(advice_on(text), ElementsAre(says("does not know this snapshotter"))) << text;
  }
  const auto broken = parse_containerd_config("a = 1\nb =", "config.toml");
  ASSERT_FALSE(broken);
  EXPECT_EQ(broken.error().code(), Errc::kInvalid);
  EXPECT_THAT(broken.error().message(), HasSubstr("config.toml line 2"));
}

}  // namespace
}  // namespace imsy::snapshotter
