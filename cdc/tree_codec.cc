// Writes and reads the tree section as docs/format/cdc-manifest.md describes it: change both.
#include "cdc/tree_codec.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "cdc/tree_rules.h"

namespace imsy::cdc {
namespace {

using Time = std::pair<std::int64_t, std::uint32_t>;

constexpr unsigned kTypeShift = 12;  // a mode column's number: type << 12 | permissions
constexpr std::uint32_t kTypeMax = static_cast<std::uint32_t>(NodeType::kFifo);

Error corrupt(const std::string& what) {
  return Error(Errc::kCorrupt, "tree: " + what);
}

bool is_device(const Inode& inode) {
  return inode.type == NodeType::kCharDevice || inode.type == NodeType::kBlockDevice;
}

// All different mtimes, ascending.
std::vector<Time> distinct_times(const Tree& tree) {
  std::vector<Time> times;
  times.reserve(tree.inode_count());
  for (std::uint32_t i = 0; i < tree.inode_count(); ++i) {
    times.emplace_back(tree.inode(i).mtime_s, tree.inode(i).mtime_ns);
  }
  std::sort(times.begin(), times.end());
  times.erase(std::unique(times.begin(), times.end()), times.end());
  return times;
}

void encode_times(const Tree& tree, const std::vector<Time>& times, Bytes& columns) {
  Bytes seconds;
  Bytes nanoseconds;
  Bytes index;
  for (std::size_t i = 0; i < times.size(); ++i) {
    const auto second = static_cast<std::uint64_t>(times[i].first);
    if (i == 0) {
      put_varint(seconds, zigzag(times[i].first));
    } else {
      put_varint(seconds, second - static_cast<std::uint64_t>(times[i - 1].first));
    }
    put_varint(nanoseconds, times[i].second);
  }
  for (std::uint32_t i = 0; i < tree.inode_count(); ++i) {
    const Time time(tree.inode(i).mtime_s, tree.inode(i).mtime_ns);
    const auto found = std::lower_bound(times.begin(), times.end(), time);
    put_varint(index, static_cast<std::uint64_t>(found - times.begin()));
  }
  put_column(columns, seconds);
  put_column(columns, nanoseconds);
  put_column(columns, index);
}

}  // namespace

// --- encode -------------------------------------------------------------------------------------

Bytes TreeCodec::encode(const Tree& tree) {
  const std::vector<Time> times = distinct_times(tree);
  Bytes columns;
  Bytes counts;
  put_varint(counts, tree.inode_count());
  put_varint(counts, tree.entry_count());
  put_varint(counts, tree.object_count());
  put_varint(counts, times.size());
  put_varint(counts, tree.xattr_first_.size() - 1);
  put_column(columns, counts);
  encode_names(tree, columns);
  encode_owners(tree, columns);
  encode_times(tree, times, columns);
  encode_structure(tree, columns);
  encode_contents(tree, columns);
  encode_xattrs(tree, columns);
  return columns;
}

void TreeCodec::encode_names(const Tree& tree, Bytes& columns) {
  Bytes names;
  for (const Entry& entry : tree.entries_) put_text(names, tree.name(entry));
  put_column(columns, names);
}

void TreeCodec::encode_owners(const Tree& tree, Bytes& columns) {
  Bytes modes;
  Bytes uids;
  Bytes gids;
  for (const Inode& inode : tree.inodes_) {
    put_varint(modes, static_cast<std::uint32_t>(inode.type) << kTypeShift | inode.mode);
    put_varint(uids, inode.uid);
    put_varint(gids, inode.gid);
  }
  put_column(columns, modes);
  put_column(columns, uids);
  put_column(columns, gids);
}

void TreeCodec::encode_structure(const Tree& tree, Bytes& columns) {
  Bytes children;
  for (const Inode& inode : tree.inodes_) {
    if (inode.type == NodeType::kDirectory) put_varint(children, inode.count);
  }
  Bytes links;
  std::uint32_t next = 1;
  for (const Entry& entry : tree.entries_) {
    const bool is_new = entry.inode == next;
    put_varint(links, is_new ? 0 : entry.inode);
    if (is_new) ++next;
  }
  put_column(columns, children);
  put_column(columns, links);
}

void TreeCodec::encode_contents(const Tree& tree, Bytes& columns) {
  Bytes objects;
  Bytes targets;
  Bytes devices;
  std::uint32_t next = 0;
  for (const Inode& inode : tree.inodes_) {
    if (inode.type == NodeType::kRegular) {
      const bool is_new = inode.value == next;
      put_varint(objects, is_new ? 0 : std::uint64_t{inode.value} + 1);
      if (is_new) ++next;
    } else if (inode.type == NodeType::kSymlink) {
      put_text(targets, tree.symlink_target(inode));
    } else if (is_device(inode)) {
      put_varint(devices, inode.value);
      put_varint(devices, inode.count);
    }
  }
  Bytes sizes;
  for (const std::uint64_t size : tree.object_sizes_) put_varint(sizes, size);
  put_column(columns, objects);
  put_column(columns, sizes);
  put_column(columns, targets);
  put_column(columns, devices);
}

void TreeCodec::encode_xattrs(const Tree& tree, Bytes& columns) {
  Bytes sets;
  for (const Inode& inode : tree.inodes_) {
    put_varint(sets, inode.xattrs == kNone ? 0 : std::uint64_t{inode.xattrs} + 1);
  }
  Bytes counts;
  for (std::size_t i = 0; i + 1 < tree.xattr_first_.size(); ++i) {
    put_varint(counts, tree.xattr_first_[i + 1] - tree.xattr_first_[i]);
  }
  Bytes names;
  Bytes value_sizes;
  Bytes values;
  for (const Xattr& xattr : tree.xattrs_) {
    put_text(names, xattr.name);
    put_varint(value_sizes, xattr.value.size());
    append(values, as_bytes(xattr.value));
  }
  for (const Bytes* column : {&sets, &counts, &names, &value_sizes, &values}) {
    put_column(columns, *column);
  }
}

// --- decode -------------------------------------------------------------------------------------

Result<Tree> TreeCodec::decode(ByteSpan columns, std::uint64_t entries_limit) {
  ColumnReader reader("tree", columns);
  Tree tree;
  IMSY_TRY_ASSIGN(const Counts counts, decode_counts(reader, entries_limit));
  IMSY_TRY(decode_names(reader, counts, tree));
  IMSY_TRY(decode_owners(reader, counts, tree));
  IMSY_TRY(decode_times(reader, counts, tree));
  IMSY_TRY(decode_structure(reader, tree));
  IMSY_TRY(decode_objects(reader, counts, tree));
  IMSY_TRY(decode_targets(reader, tree));
  IMSY_TRY(decode_devices(reader, tree));
  IMSY_TRY(decode_xattrs(reader, counts, tree));
  IMSY_TRY(reader.finish());
  if (auto checked = finish(tree); !checked) return corrupt(checked.error().message());
  return tree;
}

Result<TreeCodec::Counts> TreeCodec::decode_counts(ColumnReader& reader,
                                                   std::uint64_t entries_limit) {
  IMSY_TRY_ASSIGN(Column column, reader.next("counts"));
  Counts counts;
  counts.inodes = column.varint32();
  counts.entries = column.varint32();
  counts.objects = column.varint32();
  counts.times = column.varint32();
  counts.xattr_sets = column.varint32();
  IMSY_TRY(column.finish());
  if (counts.entries > entries_limit) {
    return Error(Errc::kInvalid, "tree: " + std::to_string(counts.entries) +
                                     " entries exceed the limit of " +
                                     std::to_string(entries_limit));
  }
  // Each inode but the root has an entry; each object, time and set has an inode.
  if (counts.inodes == 0) return corrupt("no root directory");
  if (counts.inodes - 1 > counts.entries || counts.objects >= counts.inodes ||
      counts.times > counts.inodes || counts.xattr_sets > counts.inodes) {
    return corrupt("the counts contradict each other");
  }
  return counts;
}

Status TreeCodec::decode_names(ColumnReader& reader, const Counts& counts, Tree& tree) {
  IMSY_TRY_ASSIGN(Column names, reader.next("names"));
  IMSY_TRY(names.expect(counts.entries));
  if (names.size() > std::numeric_limits<std::uint32_t>::max()) return corrupt("too many names");
  tree.entries_.resize(counts.entries);
  tree.texts_.reserve(names.size() - counts.entries);
  for (Entry& entry : tree.entries_) {
    const std::string_view name = names.text();
    if (!is_legal_name(name))
      return corrupt("illegal name " + in_quotes(name.substr(0, kNameLimit)));
    entry.name_offset = static_cast<std::uint32_t>(tree.texts_.size());
    entry.name_size = static_cast<std::uint16_t>(name.size());
    tree.texts_ += name;
  }
  return names.finish();
}

Status TreeCodec::decode_owners(ColumnReader& reader, const Counts& counts, Tree& tree) {
  IMSY_TRY_ASSIGN(Column modes, reader.next("modes"));
  IMSY_TRY_ASSIGN(Column uids, reader.next("uids"));
  IMSY_TRY_ASSIGN(Column gids, reader.next("gids"));
  IMSY_TRY(modes.expect(counts.inodes));
  tree.inodes_.resize(counts.inodes);
  for (Inode& inode : tree.inodes_) {
    const std::uint32_t mode = modes.varint32();
    if (mode >> kTypeShift > kTypeMax) return corrupt("unknown type of inode");
    inode.type = static_cast<NodeType>(mode >> kTypeShift);
    inode.mode = static_cast<std::uint16_t>(mode & 07777);
    inode.uid = uids.varint32();
    inode.gid = gids.varint32();
  }
  if (tree.inodes_[0].type != NodeType::kDirectory) return corrupt("the root is no directory");
  IMSY_TRY(modes.finish());
  IMSY_TRY(uids.finish());
  return gids.finish();
}

Status TreeCodec::decode_times(ColumnReader& reader, const Counts& counts, Tree& tree) {
  IMSY_TRY_ASSIGN(Column seconds, reader.next("mtime seconds"));
  IMSY_TRY_ASSIGN(Column nanoseconds, reader.next("mtime nanoseconds"));
  IMSY_TRY_ASSIGN(Column index, reader.next("mtime of inode"));
  IMSY_TRY(seconds.expect(counts.times));
  std::vector<Time> times(counts.times);
  for (std::size_t i = 0; i < times.size(); ++i) {
    const std::uint64_t number = seconds.varint();
    times[i].second = nanoseconds.varint32();
    if (i == 0) {
      times[i].first = unzigzag(number);
      continue;
    }
    // A step too large wraps around, and is caught as a step back.
    times[i].first =
        static_cast<std::int64_t>(static_cast<std::uint64_t>(times[i - 1].first) + number);
    if (times[i] <= times[i - 1]) return corrupt("mtimes are not in order");
  }
  for (Inode& inode : tree.inodes_) {
    const std::uint32_t time = index.varint32();
    if (time >= times.size()) return corrupt("an inode's mtime does not exist");
    inode.mtime_s = times[time].first;
    inode.mtime_ns = times[time].second;
  }
  IMSY_TRY(seconds.finish());
  IMSY_TRY(nanoseconds.finish());
  return index.finish();
}

// Gives each directory its entries and each entry its inode. Inodes are numbered in the order in
// which entries first name them, so a directory that is not named by the entries of those before it
// can only hang below itself, or nowhere.
Status TreeCodec::decode_structure(ColumnReader& reader, Tree& tree) {
  IMSY_TRY_ASSIGN(Column children, reader.next("children"));
  IMSY_TRY_ASSIGN(Column links, reader.next("links"));
  tree.parents_.assign(tree.inodes_.size(), kNone);
  tree.parents_[0] = 0;
  std::uint32_t next = 1;  // inode
  std::uint32_t done = 0;  // entries
  for (std::uint32_t i = 0; i < tree.inodes_.size(); ++i) {
    if (i >= next)
      return corrupt("inode " + std::to_string(i) + " cannot be reached from the root");
    Inode& directory = tree.inodes_[i];
    if (directory.type != NodeType::kDirectory) continue;
    directory.value = done;
    directory.count = children.varint32();
    if (directory.count > tree.entries_.size() - done) {
      return corrupt("the directories have more entries than there are");
    }
    for (const std::uint32_t end = done + directory.count; done < end; ++done) {
      std::uint32_t inode = links.varint32();
      const bool is_new = inode == 0;
      if (is_new) inode = next++;
      if (inode >= tree.inodes_.size() || inode >= next) {
        return corrupt("an entry names an inode that is not there");
      }
      if (tree.inodes_[inode].type == NodeType::kDirectory) {
        if (!is_new) return corrupt("a directory has two names");
        tree.parents_[inode] = i;
      }
      tree.entries_[done].inode = inode;
    }
  }
  if (done != tree.entries_.size()) return corrupt("entries that belong to no directory");
  IMSY_TRY(children.finish());
  return links.finish();
}

Status TreeCodec::decode_objects(ColumnReader& reader, const Counts& counts, Tree& tree) {
  IMSY_TRY_ASSIGN(Column objects, reader.next("objects"));
  IMSY_TRY_ASSIGN(Column sizes, reader.next("object sizes"));
  std::uint32_t next = 0;
  for (Inode& inode : tree.inodes_) {
    if (inode.type != NodeType::kRegular) continue;
    const std::uint32_t reference = objects.varint32();
    inode.value = reference == 0 ? next++ : reference - 1;
    if (inode.value >= next) return corrupt("an inode's object does not exist");
  }
  IMSY_TRY(objects.finish());
  if (next != counts.objects) return corrupt("the number of objects is wrong");
  IMSY_TRY(sizes.expect(counts.objects));
  tree.object_sizes_.reserve(counts.objects);
  for (std::uint32_t i = 0; i < counts.objects; ++i) tree.object_sizes_.push_back(sizes.varint());
  return sizes.finish();
}

Status TreeCodec::decode_targets(ColumnReader& reader, Tree& tree) {
  IMSY_TRY_ASSIGN(Column targets, reader.next("targets"));
  if (targets.size() > std::numeric_limits<std::uint32_t>::max() - tree.texts_.size()) {
    return corrupt("too many targets");
  }
  tree.texts_.reserve(tree.texts_.size() + targets.size());
  for (Inode& inode : tree.inodes_) {
    if (inode.type != NodeType::kSymlink) continue;
    const std::string_view target = targets.text();
    inode.value = static_cast<std::uint32_t>(tree.texts_.size());
    inode.count = static_cast<std::uint32_t>(target.size());
    tree.texts_ += target;
  }
  return targets.finish();
}

Status TreeCodec::decode_devices(ColumnReader& reader, Tree& tree) {
  IMSY_TRY_ASSIGN(Column devices, reader.next("devices"));
  for (Inode& inode : tree.inodes_) {
    if (!is_device(inode)) continue;
    inode.value = devices.varint32();
    inode.count = devices.varint32();
  }
  return devices.finish();
}

Status TreeCodec::decode_xattrs(ColumnReader& reader, const Counts& counts, Tree& tree) {
  IMSY_TRY_ASSIGN(Column sets, reader.next("xattr sets"));
  IMSY_TRY_ASSIGN(Column set_counts, reader.next("xattr counts"));
  IMSY_TRY_ASSIGN(Column names, reader.next("xattr names"));
  IMSY_TRY_ASSIGN(Column value_sizes, reader.next("xattr value sizes"));
  IMSY_TRY_ASSIGN(Column values, reader.next("xattr values"));
  for (Inode& inode : tree.inodes_) {
    const std::uint32_t reference = sets.varint32();
    if (reference > counts.xattr_sets) return corrupt("an inode's xattrs do not exist");
    inode.xattrs = reference == 0 ? kNone : reference - 1;
  }
  IMSY_TRY(set_counts.expect(counts.xattr_sets));
  std::uint64_t total = 0;
  tree.xattr_first_.reserve(counts.xattr_sets + std::size_t{1});
  for (std::uint32_t i = 0; i < counts.xattr_sets; ++i) {
    total += set_counts.varint32();
    if (total > value_sizes.size()) return corrupt("there are fewer xattrs than counted");
    tree.xattr_first_.push_back(static_cast<std::uint32_t>(total));
  }
  tree.xattrs_.reserve(total);
  for (std::uint64_t i = 0; i < total; ++i) {
    const std::string_view name = names.text();
    tree.xattrs_.push_back({std::string(name), std::string(values.take(value_sizes.varint()))});
  }
  for (const Column* column : {&sets, &set_counts, &names, &value_sizes, &values}) {
    IMSY_TRY(column->finish());
  }
  return {};
}

Status TreeCodec::finish(Tree& tree) {
  for (Inode& inode : tree.inodes_) inode.link_count = inode.type == NodeType::kDirectory ? 2 : 0;
  for (std::uint32_t i = 0; i < tree.inodes_.size(); ++i) {
    const Inode& directory = tree.inodes_[i];
    if (directory.type != NodeType::kDirectory) continue;
    for (const Entry& entry : tree.entries_of(directory)) {
      Inode& child = tree.inodes_[entry.inode];
      ++(child.type == NodeType::kDirectory ? tree.inodes_[i] : child).link_count;
    }
  }
  return check_tree(tree);
}

}  // namespace imsy::cdc
