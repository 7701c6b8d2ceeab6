#include "oci/layer_type.h"

#include <array>

namespace imsy::oci {
namespace {

struct Known {
  std::string_view type;
  Compression compression;
};

constexpr std::string_view kOciPrefix = "application/vnd.oci.";

constexpr std::array<Known, 11> kKnown = {{
    {media_type::kOciLayer, Compression::kNone},
    {media_type::kOciLayerGzip, Compression::kGzip},
    {media_type::kOciLayerZstd, Compression::kZstd},
    {"application/vnd.docker.image.rootfs.diff.tar", Compression::kNone},
    {"application/vnd.docker.image.rootfs.diff.tar.gzip", Compression::kGzip},
    {"application/vnd.docker.image.rootfs.diff.tar.zstd", Compression::kZstd},
    {"application/vnd.oci.image.layer.nondistributable.v1.tar", Compression::kNone},
    {"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", Compression::kGzip},
    {"application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", Compression::kZstd},
    {"application/vnd.docker.image.rootfs.foreign.diff.tar", Compression::kNone},
    {"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Compression::kGzip},
}};

}  // namespace

std::string_view layer_type(Compression compression) {
  switch (compression) {
    case Compression::kNone: return media_type::kOciLayer;
    case Compression::kGzip: return media_type::kOciLayerGzip;
    case Compression::kZstd: return media_type::kOciLayerZstd;
  }
  return media_type::kOciLayer;
}

std::optional<Compression> promised_compression(std::string_view media_type) {
  for (const Known& known : kKnown) {
    if (known.type == media_type) return known.compression;
  }
  return std::nullopt;
}

bool tolerates(std::string_view media_type, Compression found) {
  const auto promised = promised_compression(media_type);
  if (!promised) return false;
  const bool taken_at_its_word =
      *promised == Compression::kNone && media_type.starts_with(kOciPrefix);
  return found == *promised || !taken_at_its_word;
}

}  // namespace imsy::oci
