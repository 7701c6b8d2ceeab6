// TreeCodec: the tree section's columns. Internal to cdc. docs/format/cdc-manifest.md.
//
// Threads: static functions on plain data.
#pragma once

#include <cstdint>

#include "cdc/column.h"
#include "cdc/manifest.h"

namespace imsy::cdc {

class TreeCodec {
 public:
  static Bytes encode(const Tree& tree);
  // kCorrupt: not a tree, or one that breaks a rule of check_tree(). kInvalid: more than
  // `entries_limit` entries, objects or inodes.
  static Result<Tree> decode(ByteSpan columns, std::uint64_t entries_limit);

  // Counts links, and checks the rules (kInvalid). The last step of whoever makes a Tree.
  static Status finish(Tree& tree);

 private:
  struct Counts {
    std::uint32_t inodes = 0;
    std::uint32_t entries = 0;
    std::uint32_t objects = 0;
    std::uint32_t times = 0;
    std::uint32_t xattr_sets = 0;
  };
  static Result<Counts> decode_counts(ColumnReader& reader, std::uint64_t entries_limit);
  static Status decode_names(ColumnReader& reader, const Counts& counts, Tree& tree);
  static Status decode_owners(ColumnReader& reader, const Counts& counts, Tree& tree);
  static Status decode_times(ColumnReader& reader, const Counts& counts, Tree& tree);
  static Status decode_structure(ColumnReader& reader, Tree& tree);
  static Status decode_objects(ColumnReader& reader, const Counts& counts, Tree& tree);
  static Status decode_targets(ColumnReader& reader, Tree& tree);
  static Status decode_devices(ColumnReader& reader, Tree& tree);
  static Status decode_xattrs(ColumnReader& reader, const Counts& counts, Tree& tree);

  static void encode_names(const Tree& tree, Bytes& columns);
  static void encode_owners(const Tree& tree, Bytes& columns);
  static void encode_structure(const Tree& tree, Bytes& columns);
  static void encode_contents(const Tree& tree, Bytes& columns);
  static void encode_xattrs(const Tree& tree, Bytes& columns);
};

}  // namespace imsy::cdc
