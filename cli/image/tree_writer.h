// TreeWriter: a tree on disk, with everything that a tree of an image has.
//
// Promises
//   * The tree is built in a new directory beside the target, which only its owner can enter, and
//     becomes the target when it is complete. A failure leaves nothing; a killed process leaves the
//     directory ".imsy-unpack-*".
//   * A stop request ends whatever is under way with kCancelled, which is a failure.
//   * Every path is made beneath that directory, and no link is followed on the way.
//   * Runs of zeros become holes.
//   * An extended attribute that the file system does not take is left out with a warning: ENOTSUP,
//     and EPERM for user.* on what is neither file nor directory.
// Needs to be root for owners other than its own, devices, and most extended attributes.
// Threads: one; waits for the disk.
#pragma once

#include <filesystem>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "cdc/manifest.h"
#include "common/io.h"

namespace imsy::cli::image {

class TreeWriter {
 public:
  // kInvalid unless `target` is new, or an empty directory other than the current one.
  static Status check_target(const std::filesystem::path& target);

  // Makes all names of `tree`, which must outlive the writer; contents are holes. Errors as above;
  // kDenied and others name the path in the tree.
  static Result<std::unique_ptr<TreeWriter>> create(const std::filesystem::path& target,
                                                    const cdc::Tree& tree,
                                                    const std::stop_token& stop);
  ~TreeWriter();
  TreeWriter(const TreeWriter&) = delete;
  TreeWriter& operator=(const TreeWriter&) = delete;

  // Bytes of an object. Fast when calls for one object follow each other.
  Status write(std::uint32_t object, std::uint64_t offset, ByteSpan bytes);

  // Copies equal contents, sets all attributes, and makes the tree the target.
  Status finish();

 private:
  struct Name {  // the first one of an inode
    std::uint32_t directory = cdc::kNone;
    std::uint32_t entry = 0;
  };

  TreeWriter(std::filesystem::path target, const cdc::Tree& tree, const std::stop_token& stop);
  Status check_stop() const;
  Status make_directory();
  Status make_tree();
  Status make_entries(std::uint32_t directory);
  Status make_entry(int directory, const char* name, std::uint32_t inode) const;
  Status make_link(int directory, const char* name, std::uint32_t inode) const;
  Status copy_contents();
  Status copy(int from, int to, std::uint64_t size) const;
  Status set_attributes(std::uint32_t inode);
  Status set_xattr(const std::string& place, std::uint32_t inode, const cdc::Xattr& xattr);

  std::string path_of(std::uint32_t inode) const;
  Result<UniqueFd> open(const std::string& path, int flags) const;

  const std::filesystem::path target_;
  const cdc::Tree& tree_;
  const std::stop_token stop_;
  std::filesystem::path building_;  // empty when there is nothing to remove
  UniqueFd root_;
  std::vector<Name> names_;              // by inode
  std::vector<std::uint32_t> inode_of_;  // by object: the one that gets what is written
  std::uint32_t open_object_ = cdc::kNone;
  UniqueFd open_file_;
  std::uint64_t xattrs_left_out_ = 0;
};

}  // namespace imsy::cli::image
