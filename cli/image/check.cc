#include "cli/image/check.h"

#include <algorithm>
#include <string>
#include <vector>

#include "cdc/frame.h"
#include "cli/image/raw_reader.h"
#include "common/log.h"
#include "converter/tar_image.h"
#include "oci/tar/tar.h"

namespace imsy::cli::image {
namespace {

// Walks the tree and holds what its tar should be against the tar that is there.
class TarCheck {
 public:
  TarCheck(const cdc::Manifest& manifest, RawReader& tar)
      : manifest_(manifest), tar_(tar), seen_(manifest.objects().count()) {}

  Status run() {
    IMSY_TRY(converter::for_each_tar_entry(
        manifest_.tree(), converter::TarOrder::of(manifest_),
        [&](const oci::tar::Header& header, std::uint32_t object) {
          const Status checked = check_entry(header, object);
          return checked ? checked : checked.error().with_context(log::printable(header.name));
        }));
    IMSY_TRY(expect(std::string(oci::tar::kEndSize, '\0'), "the end of the tar is missing"));
    std::byte more{};
    IMSY_TRY_ASSIGN(const std::size_t got, tar_.read({&more, 1}));
    if (got == 0) return {};
    return Error(Errc::kCorrupt, "the tar goes on behind its last entry");
  }

 private:
  Status check_entry(const oci::tar::Header& header, std::uint32_t object) {
    IMSY_TRY_ASSIGN(const std::string encoded, oci::tar::encode_header(header));
    IMSY_TRY(expect(encoded, "the tar's header is not the one that the CDC manifest makes"));
    if (object == cdc::kNone) return {};
    IMSY_TRY(check_place(object));
    IMSY_TRY(check_content(object));
    return expect(std::string(oci::tar::padding(header.size), '\0'),
                  "something lies in the padding behind its content");
  }

  // The CDC manifest points at the first copy of a content.
  Status check_place(std::uint32_t object) {
    if (seen_[object] || manifest_.objects().chunk_count(object) == 0) return {};
    seen_[object] = true;
    if (manifest_.objects().raw_offset(object) == tar_.position()) return {};
    return Error(Errc::kCorrupt, "the CDC manifest has its content at " +
                                     std::to_string(manifest_.objects().raw_offset(object)) +
                                     ", the tar at " + std::to_string(tar_.position()));
  }

  Status check_content(std::uint32_t object) {
    for (const cdc::Chunk& chunk : manifest_.objects().chunks_of(object)) {
      buffer_.resize(chunk.size);
      IMSY_TRY(read_exactly(tar_, buffer_));
      if (sha256(buffer_) == chunk.digest) continue;
      return Error(Errc::kCorrupt, "the tar has other bytes at " +
                                       std::to_string(chunk.object_offset) + " than chunk " +
                                       chunk.digest.to_string());
    }
    return {};
  }

  Status expect(std::string_view wanted, const char* complaint) {
    buffer_.resize(wanted.size());
    IMSY_TRY(read_exactly(tar_, buffer_));
    return as_text(buffer_) == wanted ? Status() : Status(Error(Errc::kCorrupt, complaint));
  }

  const cdc::Manifest& manifest_;
  RawReader& tar_;
  std::vector<bool> seen_;  // objects
  Bytes buffer_;
};

// Behind the frames: the skippable frame with the CDC manifest, and the end.
Status check_behind_frames(ByteReader& blob, const cdc::Anchor& anchor) {
  IMSY_TRY_ASSIGN(const Bytes header, cdc::skippable_header(anchor.manifest_size));
  Bytes found(header.size());
  IMSY_TRY(read_exactly(blob, found));
  if (found != header) {
    return Error(Errc::kCorrupt, "behind the frames lies something else than the CDC manifest");
  }
  found.resize(static_cast<std::size_t>(anchor.manifest_size));
  IMSY_TRY(read_exactly(blob, found));
  const auto manifest = cdc::Manifest::read(found, anchor);
  if (!manifest) return manifest.error().with_context("CDC manifest in the blob");
  IMSY_TRY_ASSIGN(const std::size_t more, blob.read(std::span(found).first(1)));
  if (more == 0) return {};
  return Error(Errc::kCorrupt, "something lies behind the CDC manifest");
}

Status check_data_layer(oci::ImageSource& source, const converter::ProvedImage& image) {
  IMSY_TRY_ASSIGN(const auto blob, source.open_blob(image.image.manifest.layers[1]));
  RawReader tar(*blob, image.manifest->objects(), 0);
  IMSY_TRY(TarCheck(*image.manifest, tar).run());
  const Digest diff_id = tar.finish_diff_id();
  if (diff_id != image.anchor.data_layers[0].diff_id) {
    return Error(Errc::kCorrupt, "its tar has diffID " + diff_id.to_string() +
                                     ", the anchor says " +
                                     image.anchor.data_layers[0].diff_id.to_string());
  }
  return check_behind_frames(*blob, image.anchor);
}

}  // namespace

Status check(oci::ImageSource& source, const converter::ProvedImage& image) {
  if (image.anchor.data_layers.size() > 1) {
    return Error(Errc::kInvalid, "has " + std::to_string(image.anchor.data_layers.size()) +
                                     " data layers; only images with one can be proved");
  }
  // Its digest is that of the tar which the anchor makes; that it is there remains to be seen.
  const auto anchor_layer = source.get_blob(image.image.manifest.layers[0], 1 << 20);
  if (!anchor_layer) return anchor_layer.error().with_context("anchor layer");
  const Status checked = check_data_layer(source, image);
  return checked ? checked : checked.error().with_context("data layer");
}

}  // namespace imsy::cli::image
