// A file tree as it should look, made at random together with the image that holds it, and the
// comparison of a mounted directory with it.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "tests/unit/fuse/fake_image.h"

namespace imsy::fuse::testing {

struct ExpectedNode {
  mode_t mode = 0;  // with the type
  uid_t uid = 0;
  gid_t gid = 0;
  std::int64_t mtime_s = 0;
  std::uint32_t mtime_ns = 0;
  dev_t rdev = 0;
  std::uint64_t links = 1;
  std::string text;  // content of a file, target of a link
  std::map<std::string, std::string> xattrs;
  int group = 0;  // hard links of one file have the same number
};

struct RandomTree {
  std::map<std::string, ExpectedNode> nodes;  // by path, "" is the root
  std::shared_ptr<FakeImage> image;
};

// About `nodes` nodes of all kinds with wild names, owners, times, sizes and xattrs.
RandomTree random_tree(std::uint64_t seed, int nodes);

// Every difference between the directory and the tree, one per line; empty when there is none.
// `through_overlay`: overlayfs takes the attributes of the root from the upper directory and counts
// no links of directories, so those are not compared.
std::string compare(const std::string& directory, const RandomTree& expected, bool through_overlay);

}  // namespace imsy::fuse::testing
