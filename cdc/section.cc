#include "cdc/section.h"

#include "cdc/frame_codec.h"

namespace imsy::cdc {
namespace {

// Small sections are compressed as far as zstd goes; large ones (from about 200,000 files on) would
// take seconds that way, and gain little.
constexpr std::size_t kSmall = 8u << 20;
constexpr int kLevelSmall = 19;
constexpr int kLevelLarge = 9;

}  // namespace

Bytes pack_section(const SectionContent& content) {
  const auto context =
      make_compress_context(content.columns.size() <= kSmall ? kLevelSmall : kLevelLarge);
  const Bytes packed = encode_frame(*context, content.columns);
  Bytes stored;
  stored.reserve(kSectionPrefix + packed.size() + content.plain.size());
  append_le<std::uint64_t>(stored, packed.size());
  append(stored, packed);
  append(stored, content.plain);
  return stored;
}

Result<SectionView> unpack_section(ByteSpan stored, std::uint64_t raw_size) {
  if (stored.size() < kSectionPrefix) return Error(Errc::kCorrupt, "section is cut short");
  const auto packed_size = load_le<std::uint64_t>(stored.data());
  const ByteSpan rest = stored.subspan(kSectionPrefix);
  if (packed_size > rest.size()) return Error(Errc::kCorrupt, "section is cut short");
  SectionView view;
  view.columns.resize(raw_size);
  IMSY_TRY(decode_frame(*make_decompress_context(), rest.first(packed_size), view.columns));
  view.plain = rest.subspan(packed_size);
  return view;
}

}  // namespace imsy::cdc
