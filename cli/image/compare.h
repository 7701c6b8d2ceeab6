// compare_trees: two trees path by path.
//
// Threads: pure function on immutable data.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "cdc/manifest.h"

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

}  // namespace imsy::cli::image
