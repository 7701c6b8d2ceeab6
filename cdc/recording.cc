#include "cdc/recording.h"

#include <charconv>
#include <vector>

namespace imsy::cdc {
namespace {

// The paths of an image's objects: of several that have one content the first in tree order.
class Paths {
 public:
  // Every object of a valid tree has a name. `tree` outlives this.
  explicit Paths(const Tree& tree)
      : tree_(tree), objects_(tree.object_count()), directories_(tree.inode_count()) {
    for (std::uint32_t directory = 0; directory < tree.inode_count(); ++directory) {
      const Inode& inode = tree.inode(directory);
      if (inode.type != NodeType::kDirectory) continue;
      for (std::uint32_t entry = inode.value; entry < inode.value + inode.count; ++entry) {
        take({directory, entry});
      }
    }
  }

  std::string of_object(std::uint32_t object) const {
    std::vector<std::string_view> names;  // upwards
    for (Name at = objects_[object]; at.entry != kNone; at = directories_[at.directory]) {
      names.push_back(tree_.name(tree_.entry(at.entry)));
    }
    std::string path;
    for (auto name = names.rbegin(); name != names.rend(); ++name) {
      if (!path.empty()) path += '/';
      path += *name;
    }
    return path;
  }

 private:
  struct Name {
    std::uint32_t directory = kNone;  // inode
    std::uint32_t entry = kNone;
  };

  void take(const Name& name) {
    const std::uint32_t inode = tree_.entry(name.entry).inode;
    const Inode& named = tree_.inode(inode);
    if (named.type == NodeType::kDirectory) {
      directories_[inode] = name;
    } else if (named.type == NodeType::kRegular && objects_[named.value].entry == kNone) {
      objects_[named.value] = name;
    }
  }

  const Tree& tree_;
  std::vector<Name> objects_;
  std::vector<Name> directories_;  // by inode; the root and what is no directory have none
};

}  // namespace

void append_access(std::string& recording, std::uint32_t chunk) {
  recording += std::to_string(chunk) + '\n';
}

Result<Profile> profile_of(std::string_view recording, const Manifest& manifest) {
  const Objects& objects = manifest.objects();
  const Paths paths(manifest.tree());
  Profile profile;
  std::size_t number = 1;
  for (std::size_t length; (length = recording.find('\n')) != std::string_view::npos; ++number) {
    const char* const begin = recording.data();
    std::uint32_t index = 0;
    const auto [end, error] = std::from_chars(begin, begin + length, index);
    if (error != std::errc() || end != begin + length || index >= objects.total_chunks()) {
      return Error(Errc::kInvalid, "line " + std::to_string(number) +
                                       " of the recording names no chunk of the image");
    }
    recording.remove_prefix(length + 1);
    const Chunk& chunk = objects.chunk(index);
    IMSY_TRY(profile.add(
        {paths.of_object(objects.object_of_chunk(index)), chunk.object_offset, chunk.size}));
  }
  return profile;
}

}  // namespace imsy::cdc
