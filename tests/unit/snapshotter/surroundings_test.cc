#include "snapshotter/surroundings.h"

#include <gtest/gtest.h>

namespace imsy::snapshotter {
namespace {

TEST(Surroundings, MountsAreHiddenInANamespaceThatOnlyFollows) {
  const std::string root = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/a rw\n";
  const std::string slave = "22 1 8:1 / / rw,relatime master:1 - ext4 /dev/a rw\n";
  const std::string alone = "22 1 8:1 / / rw,relatime - ext4 /dev/a rw\n";
  EXPECT_FALSE(hides_mounts(root, "/var/lib/imsy"));
  EXPECT_FALSE(hides_mounts(alone, "/var/lib/imsy"));  // without systemd nothing is shared
  EXPECT_TRUE(hides_mounts(slave, "/var/lib/imsy"));
  // A directory that is shared both ways, as a pod can have it.
  const std::string both = "30 22 8:1 /x /var/lib/imsy rw shared:9 master:1 - ext4 /dev/a rw\n";
  EXPECT_FALSE(hides_mounts(slave + both, "/var/lib/imsy"));
  EXPECT_FALSE(hides_mounts(both + slave, "/var/lib/imsy/root"));
  EXPECT_TRUE(hides_mounts(slave + both, "/var/lib/imsy2"));
  EXPECT_FALSE(hides_mounts("", "/var"));
  EXPECT_FALSE(hides_mounts("nonsense\n1 2 3\n", "/var"));
}

}  // namespace
}  // namespace imsy::snapshotter
