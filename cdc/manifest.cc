// Writes and reads the container of the CDC manifest as docs/format/cdc-manifest.md describes it:
// change both.
#include "cdc/manifest.h"

#include <algorithm>
#include <array>

#include "cdc/objects_codec.h"
#include "cdc/section.h"
#include "cdc/tree_codec.h"

namespace imsy::cdc {
namespace {

constexpr std::string_view kMagic = "IMSYCDC\n";
constexpr std::uint32_t kFormatVersion = 1;
constexpr std::size_t kFixedSize = 40;       // of the header, before the table
constexpr std::size_t kTableEntrySize = 64;  // of the table, per section
constexpr std::uint32_t kSectionsMax = 64;
constexpr std::uint32_t kMandatory = 1;  // the only flag

// Room between the kinds, because they must ascend: a later optional section may lie anywhere
// behind the tree.
enum Kind : std::uint32_t { kTree = 16, kObjects = 32, kChunks = 48, kFrames = 64 };
constexpr std::array<std::uint32_t, 4> kKinds = {kTree, kObjects, kChunks, kFrames};

Error corrupt(const std::string& what) {
  return Error(Errc::kCorrupt, "CDC manifest: " + what);
}
Error refused(const std::string& what) {
  return Error(Errc::kInvalid, "CDC manifest: " + what);
}
// What is inconsistent is the caller's mistake when it is written, and corrupt when it is read.
Status as_corrupt(const Status& checked) {
  if (checked) return {};
  return corrupt(checked.error().message());
}

bool is_known(std::uint32_t kind) {
  return std::find(kKinds.begin(), kKinds.end(), kind) != kKinds.end();
}

std::string name_of(const ManifestHeader::Section& section) {
  return "section of kind " + std::to_string(section.kind);
}

Bytes encode_header(const ManifestHeader& header) {
  Bytes bytes;
  append(bytes, as_bytes(kMagic));
  append_le(bytes, kFormatVersion);
  append_le(bytes, static_cast<std::uint32_t>(header.sections.size()));
  append_le(bytes, static_cast<std::uint32_t>(header.chunker.algorithm));
  append_le(bytes, header.chunker.size_min);
  append_le(bytes, header.chunker.size_avg);
  append_le(bytes, header.chunker.size_max);
  append_le(bytes, header.content_size);
  for (const ManifestHeader::Section& section : header.sections) {
    append_le(bytes, section.kind);
    append_le(bytes, section.mandatory ? kMandatory : 0);
    append_le(bytes, section.offset);
    append_le(bytes, section.stored_size);
    append_le(bytes, section.raw_size);
    append(bytes, section.digest.bytes());
  }
  return bytes;
}

// `bytes` is exactly the header, and authentic.
Result<ManifestHeader> decode_header(ByteSpan bytes) {
  if (bytes.size() < kFixedSize || !as_text(bytes).starts_with(kMagic)) {
    return corrupt("it does not begin like one");
  }
  const auto version = load_le<std::uint32_t>(&bytes[8]);
  if (version != kFormatVersion) {
    return refused("format version " + std::to_string(version) +
                   " is unknown, this program reads version 1: use a newer imsy");
  }
  const auto count = load_le<std::uint32_t>(&bytes[12]);
  if (count > kSectionsMax || bytes.size() != kFixedSize + count * kTableEntrySize) {
    return corrupt("the header's size does not fit its " + std::to_string(count) + " sections");
  }
  const auto algorithm = load_le<std::uint32_t>(&bytes[16]);
  if (algorithm > 0xff) {
    return refused("chunker algorithm " + std::to_string(algorithm) + " is unknown");
  }
  ManifestHeader header;
  header.chunker.algorithm = static_cast<ChunkerAlgorithm>(algorithm);
  header.chunker.size_min = load_le<std::uint32_t>(&bytes[20]);
  header.chunker.size_avg = load_le<std::uint32_t>(&bytes[24]);
  header.chunker.size_max = load_le<std::uint32_t>(&bytes[28]);
  header.content_size = load_le<std::uint64_t>(&bytes[32]);
  if (auto valid = validate(header.chunker); !valid) return refused(valid.error().message());
  for (std::uint32_t i = 0; i < count; ++i) {
    const ByteSpan row = bytes.subspan(kFixedSize + i * kTableEntrySize, kTableEntrySize);
    ManifestHeader::Section section;
    section.kind = load_le<std::uint32_t>(&row[0]);
    const auto flags = load_le<std::uint32_t>(&row[4]);
    if ((flags & ~kMandatory) != 0) return refused(name_of(section) + " has unknown flags");
    section.mandatory = flags == kMandatory;
    section.offset = load_le<std::uint64_t>(&row[8]);
    section.stored_size = load_le<std::uint64_t>(&row[16]);
    section.raw_size = load_le<std::uint64_t>(&row[24]);
    section.digest = Digest(row.subspan<32, Digest::kSize>());
    header.sections.push_back(section);
  }
  return header;
}

// The sections fill [header_size, manifest_size) without gap or overlap, in ascending order of
// their kinds, the tree first.
Status check_table(const ManifestHeader& header, const Anchor& anchor) {
  std::uint64_t end = anchor.header_size;
  std::uint32_t previous = 0;
  for (const ManifestHeader::Section& section : header.sections) {
    if (section.kind <= previous) return corrupt(name_of(section) + " is out of order");
    previous = section.kind;
    if (section.offset != end || section.stored_size > anchor.manifest_size - end) {
      return corrupt(name_of(section) + " does not lie behind the one before it");
    }
    end += section.stored_size;
  }
  if (end != anchor.manifest_size) return corrupt("bytes behind the last section");
  for (const std::uint32_t kind : kKinds) {
    const bool there =
        std::any_of(header.sections.begin(), header.sections.end(),
                    [&](const auto& section) { return section.kind == kind && section.mandatory; });
    if (!there) return corrupt("no mandatory section of kind " + std::to_string(kind));
  }
  if (header.sections.front().kind != kTree) return corrupt("the tree is not the first section");
  return {};
}

Status check_sections(const ManifestHeader& header, const ManifestLimits& limits) {
  for (const ManifestHeader::Section& section : header.sections) {
    if (!is_known(section.kind)) {
      if (!section.mandatory) continue;
      return refused(name_of(section) +
                     " is mandatory, and unknown to this program: use a newer imsy");
    }
    if (section.raw_size > limits.section_raw ||
        section.raw_size / kSectionRatio > kSectionFree / kSectionRatio + section.stored_size) {
      return refused(name_of(section) + ": " + std::to_string(section.raw_size) + " bytes, from " +
                     std::to_string(section.stored_size) + " stored ones, exceed the limit");
    }
  }
  return {};
}

// Every section is what the header says, known or not.
Status check_digests(ByteSpan bytes, const ManifestHeader& header) {
  for (const ManifestHeader::Section& section : header.sections) {
    if (sha256(bytes.subspan(section.offset, section.stored_size)) != section.digest) {
      return corrupt(name_of(section) + " has a wrong digest");
    }
  }
  return {};
}

// The content of the section of `kind`, which is there.
Result<SectionView> open_section(ByteSpan bytes, const ManifestHeader& header, Kind kind) {
  const auto& section = *std::find_if(header.sections.begin(), header.sections.end(),
                                      [&](const auto& s) { return s.kind == kind; });
  const ByteSpan stored = bytes.subspan(section.offset, section.stored_size);
  auto view = unpack_section(stored, section.raw_size);
  if (!view) return corrupt(name_of(section) + ": " + view.error().message());
  return view;
}

std::uint64_t content_size(const Tree& tree) {
  std::uint64_t size = 0;
  for (std::uint32_t i = 0; i < tree.object_count(); ++i) size += tree.object_size(i);
  return size;
}

}  // namespace

Result<Manifest::Written> Manifest::write(const ManifestParts& parts) {
  if (parts.tree == nullptr) return refused("there is no tree");
  const ManifestLimits limits;
  const Tree& tree = *parts.tree;
  if (auto valid = validate(parts.chunker); !valid) return refused(valid.error().message());
  auto objects = ObjectsCodec::from_parts(parts);
  if (!objects) return refused(objects.error().message());
  if (auto linked = ObjectsCodec::link(*objects, tree, parts.chunker); !linked) {
    return refused(linked.error().message());
  }
  if (auto checked = ObjectsCodec::check_limits(*objects, tree, limits); !checked) {
    return refused(checked.error().message());
  }
  const ObjectsCodec::Sections sections = ObjectsCodec::encode(*objects, tree);
  const SectionContent tree_section = {TreeCodec::encode(tree), {}};
  const std::array<const SectionContent*, kKinds.size()> contents = {
      &tree_section, &sections.objects, &sections.chunks, &sections.frames};

  ManifestHeader header;
  header.chunker = parts.chunker;
  header.content_size = content_size(tree);
  Written written;
  written.header_size = kFixedSize + contents.size() * kTableEntrySize;
  written.bytes.resize(written.header_size);
  for (std::size_t i = 0; i < contents.size(); ++i) {
    const Bytes stored = pack_section(*contents[i]);
    header.sections.push_back({kKinds[i], true, written.bytes.size(), stored.size(),
                               contents[i]->columns.size(), sha256(stored)});
    append(written.bytes, stored);
  }
  const Bytes header_bytes = encode_header(header);
  std::copy(header_bytes.begin(), header_bytes.end(), written.bytes.begin());
  written.digest = sha256(header_bytes);
  if (written.bytes.size() > limits.manifest_stored) return refused("it is too large");
  IMSY_TRY(check_sections(header, limits));
  return written;
}

Result<ManifestHeader> Manifest::read_header(ByteSpan bytes, const Anchor& anchor,
                                             const ManifestLimits& limits) {
  IMSY_TRY(anchor.validate());
  if (anchor.manifest_size > limits.manifest_stored) {
    return refused(std::to_string(anchor.manifest_size) + " bytes exceed the limit of " +
                   std::to_string(limits.manifest_stored));
  }
  if (bytes.size() < anchor.header_size) return corrupt("the header is cut short");
  const ByteSpan header_bytes = bytes.first(anchor.header_size);
  if (sha256(header_bytes) != anchor.manifest) {
    return corrupt("the header does not have the digest " + anchor.manifest.to_string() +
                   " that the anchor names");
  }
  IMSY_TRY_ASSIGN(ManifestHeader header, decode_header(header_bytes));
  // Sections that a reader must know come first: a newer format should say so.
  IMSY_TRY(check_sections(header, limits));
  IMSY_TRY(check_table(header, anchor));
  return header;
}

std::uint64_t Manifest::mount_size(const ManifestHeader& header) {
  return header.sections.front().offset + header.sections.front().stored_size;
}

Result<std::shared_ptr<const Manifest>> Manifest::read(ByteSpan bytes, const Anchor& anchor,
                                                       const ManifestLimits& limits) {
  std::shared_ptr<Manifest> manifest(new Manifest);
  IMSY_TRY_ASSIGN(manifest->header_, read_header(bytes, anchor, limits));
  const ManifestHeader& header = manifest->header_;
  if (bytes.size() != anchor.manifest_size) {
    return corrupt(std::to_string(bytes.size()) + " bytes instead of " +
                   std::to_string(anchor.manifest_size));
  }
  IMSY_TRY(check_digests(bytes, header));
  {
    IMSY_TRY_ASSIGN(const SectionView view, open_section(bytes, header, kTree));
    if (!view.plain.empty()) return corrupt("tree: bytes behind the columns");
    IMSY_TRY_ASSIGN(manifest->tree_, TreeCodec::decode(view.columns, limits.entries));
  }
  const Tree& tree = manifest->tree_;
  {
    ObjectsCodec::Views views;
    IMSY_TRY_ASSIGN(views.objects, open_section(bytes, header, kObjects));
    IMSY_TRY_ASSIGN(views.chunks, open_section(bytes, header, kChunks));
    IMSY_TRY_ASSIGN(views.frames, open_section(bytes, header, kFrames));
    IMSY_TRY_ASSIGN(manifest->objects_, ObjectsCodec::decode(views, tree, limits));
  }
  Objects& objects = manifest->objects_;
  IMSY_TRY(as_corrupt(ObjectsCodec::link(objects, tree, header.chunker)));
  IMSY_TRY(as_corrupt(ObjectsCodec::check_blobs(objects, anchor)));
  IMSY_TRY(ObjectsCodec::check_limits(objects, tree, limits));
  if (content_size(tree) != header.content_size) return corrupt("the content size is wrong");
  manifest->digest_ = anchor.manifest;
  return std::shared_ptr<const Manifest>(std::move(manifest));
}

}  // namespace imsy::cdc
