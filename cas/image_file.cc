// On disk: docs/format/store.md.
#include "cas/image_file.h"

#include <string_view>

#include "cdc/anchor.h"
#include "common/digest.h"

namespace imsy::cas {
namespace {

constexpr std::string_view kMagic = "IMSYIMG1";
constexpr std::size_t kFixedSize = 8 + 4 + 4;

}  // namespace

Result<Bytes> write_image_file(const ImageFile& image) {
  if (image.anchor_text.size() > cdc::kAnchorTextLimit ||
      image.trust_domain.size() > kTrustDomainLimit) {
    return Error(Errc::kInvalid, "the image's anchor or trust domain is too long to be kept");
  }
  Bytes file;
  file.reserve(kFixedSize + image.anchor_text.size() + image.trust_domain.size() + Digest::kSize +
               image.manifest.size());
  append(file, as_bytes(kMagic));
  append_le(file, static_cast<std::uint32_t>(image.anchor_text.size()));
  append_le(file, static_cast<std::uint32_t>(image.trust_domain.size()));
  append(file, as_bytes(image.anchor_text));
  append(file, as_bytes(image.trust_domain));
  const Digest digest = sha256(file);
  append(file, digest.bytes());
  append(file, image.manifest);
  return file;
}

Result<ImageFile> read_image_file(ByteSpan file) {
  const Error broken(Errc::kCorrupt, "not a file of an image, or damaged");
  if (file.size() < kFixedSize || as_text(file.first(kMagic.size())) != kMagic) return broken;
  const auto anchor_size = load_le<std::uint32_t>(file.data() + 8);
  const auto domain_size = load_le<std::uint32_t>(file.data() + 12);
  if (anchor_size > cdc::kAnchorTextLimit || domain_size > kTrustDomainLimit) return broken;
  const std::size_t header = kFixedSize + anchor_size + domain_size;
  if (file.size() < header + Digest::kSize) return broken;
  if (sha256(file.first(header)) != Digest(file.subspan(header).first<Digest::kSize>())) {
    return broken;
  }
  ImageFile image;
  image.anchor_text = as_text(file.subspan(kFixedSize, anchor_size));
  image.trust_domain = as_text(file.subspan(kFixedSize + anchor_size, domain_size));
  image.manifest = file.subspan(header + Digest::kSize);
  return image;
}

}  // namespace imsy::cas
