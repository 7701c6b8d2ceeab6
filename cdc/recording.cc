#include "cdc/recording.h"

#include <charconv>
#include <vector>

namespace imsy::cdc {
namespace {

struct Name {
  std::uint32_t directory = kNone;  // inode
  std::uint32_t entry = kNone;
};

// The first name of each object, in tree order. Every object of a valid tree has one.
std::vector<Name> first_names(const Tree& tree) {
  std::vector<Name> names(tree.object_count());
  for (std::uint32_t directory = 0; directory < tree.inode_count(); ++directory) {
    const Inode& inode = tree.inode(directory);
    if (inode.type != NodeType::kDirectory) continue;
    for (std::uint32_t entry = inode.value; entry < inode.value + inode.count; ++entry) {
      const Inode& named = tree.inode(tree.entry(entry).inode);
      if (named.type != NodeType::kRegular) continue;
      if (names[named.value].entry == kNone) names[named.value] = {directory, entry};
    }
  }
  return names;
}

std::string path_of(const Tree& tree, const Name& name) {
  const std::string directory = tree.path_of(name.directory);
  return (directory.empty() ? "" : directory + "/") +
         std::string(tree.name(tree.entry(name.entry)));
}

}  // namespace

void append_access(std::string& recording, std::uint32_t chunk) {
  recording += std::to_string(chunk) + '\n';
}

Result<Profile> profile_of(std::string_view recording, const Manifest& manifest) {
  const Objects& objects = manifest.objects();
  const std::vector<Name> names = first_names(manifest.tree());
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
    const Name& name = names[objects.object_of_chunk(index)];
    IMSY_TRY(profile.add({path_of(manifest.tree(), name), chunk.object_offset, chunk.size}));
  }
  return profile;
}

}  // namespace imsy::cdc
