// compare_trees, compare_configs: two images path by path, and what a runtime reads of them.
//
// Threads: pure functions on immutable data.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "cdc/manifest.h"
#include "oci/descriptor.h"

namespace imsy::cli::image {

struct Content {
  const cdc::Tree& tree;
  std::vector<cdc::ObjectId> ids;  // of the tree's objects
};
Content content_of(const cdc::Manifest& manifest);

enum class Change {
  kSame,
  kAttributes,  // permissions, owner, mtime, extended attributes, links
  kChanged,     // another type, content, target or device
  kAdded,
  kRemoved,
};

struct Difference {
  Change change = Change::kSame;
  std::string path;                  // bytes as they are; "." for the root
  std::uint32_t left = cdc::kNone;   // inode; cdc::kNone when the path was added
  std::uint32_t right = cdc::kNone;  // inode; cdc::kNone when the path was removed
  // Of a path that both have, in words: what is not the same, its value left and right.
  std::string what;
};

// Visits every path of both trees, a directory before what it holds, names sorted as bytes.
// Compared are type, permissions, owner, mtime, target, device numbers, extended attributes,
// content (by object id), and which paths are links to one inode.
void compare_trees(const Content& left, const Content& right,
                   const std::function<void(const Difference&)>& visit);

// What is not the same in two configurations, as paths into them: "/config/Env/0". Left out are the
// members that tell of layers (`rootfs`, `history`) and of the build (`created`); all others count:
// what `config` says of running the image (Env, Entrypoint, Cmd, User, WorkingDir, ExposedPorts,
// Labels, ...), its platform, and what we do not know.
std::vector<std::string> compare_configs(const oci::ImageConfig& left,
                                         const oci::ImageConfig& right);

}  // namespace imsy::cli::image
