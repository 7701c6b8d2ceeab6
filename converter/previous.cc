#include "converter/previous.h"

#include <set>
#include <unordered_set>
#include <utility>

#include "converter/image_writer.h"

namespace imsy::converter {
namespace {

// Counts up when the same original and options give other bytes than before.
constexpr int kOutputVersion = 2;

std::string note(const std::map<std::string, std::string>& annotations, std::string_view key) {
  const auto found = annotations.find(std::string(key));
  return found == annotations.end() ? std::string() : found->second;
}

// The same for the same chunks, in whatever order they come.
std::string digest_of(const std::unordered_set<cdc::ChunkDigest>& chunks) {
  Hasher hasher;
  for (const auto& chunk : std::set<cdc::ChunkDigest>(chunks.begin(), chunks.end())) {
    hasher.update(chunk.bytes());
  }
  return hasher.finish().to_string();
}

Result<bool> has_blobs(oci::Repository& target, const oci::Manifest& manifest) {
  IMSY_TRY_ASSIGN(bool all, target.has_blob(manifest.config.digest, manifest.config.size));
  for (const auto& layer : manifest.layers) {
    if (!all) return false;
    IMSY_TRY_ASSIGN(all, target.has_blob(layer.digest, layer.size));
  }
  return all;
}

Result<Digest> find_artifact(oci::Repository& target, const Digest& image) {
  IMSY_TRY_ASSIGN(const auto referrers, target.get_referrers(image));
  for (const auto& referrer : referrers) {
    if (referrer.artifact_type != kArtifactType) continue;
    IMSY_TRY(target.get_manifest(referrer.digest.to_string()));
    return referrer.digest;
  }
  return Error(Errc::kNotFound, "the image has no artifact");
}

Result<Previous> look_at(oci::Repository& target, const Digest& original, const Digest& image) {
  Previous previous;
  IMSY_TRY_ASSIGN(previous.manifest, target.get_manifest(image.to_string()));
  IMSY_TRY_ASSIGN(const auto manifest, oci::parse_manifest(previous.manifest));
  if (note(manifest.annotations, annotation::kSource) != original.to_string() ||
      manifest.layers.empty()) {
    return Error(Errc::kInvalid, "the image was made from something else");
  }
  IMSY_TRY_ASSIGN(previous.anchor,
                  cdc::Anchor::parse(note(manifest.layers[0].annotations, annotation::kAnchor)));
  IMSY_TRY_ASSIGN(const bool whole, has_blobs(target, manifest));
  if (!whole) return Error(Errc::kNotFound, "the image is not whole");
  IMSY_TRY_ASSIGN(previous.artifact, find_artifact(target, image));
  return previous;
}

}  // namespace

std::string options_text(const DataLayerOptions& options, const cdc::Profile& profile) {
  // All members, so that none is missed.
  const auto& [level, jobs, chunker, bases, known] = options;
  static_cast<void>(jobs);
  static_cast<void>(known);
  return "output " + std::to_string(kOutputVersion) + ", " + cdc::FrameEncoder::describe(level) +
         ", chunker " + std::to_string(static_cast<int>(chunker.algorithm)) + " " +
         std::to_string(chunker.size_min) + " " + std::to_string(chunker.size_avg) + " " +
         std::to_string(chunker.size_max) + (bases ? ", known " + digest_of(bases->chunks()) : "") +
         (profile.accesses().empty() ? "" : ", profile " + sha256(profile.to_text()).to_string());
}

Status record_conversion(oci::Repository& target, const oci::Document& original,
                         const Digest& image, const std::string& options) {
  constexpr std::string_view kNothing = "{}";
  IMSY_TRY(target.put_blob(as_bytes(kNothing), sha256(kNothing)));
  oci::Descriptor nothing;
  nothing.media_type = oci::media_type::kOciEmpty;
  nothing.digest = sha256(kNothing);
  nothing.size = kNothing.size();
  oci::Manifest record;
  record.media_type = oci::media_type::kOciManifest;
  record.artifact_type = kRecordType;
  record.config = nothing;
  record.layers = {nothing};
  record.subject = original.describe();
  record.annotations[std::string(annotation::kImage)] = image.to_string();
  record.annotations[std::string(annotation::kOptions)] = options;
  const auto document = oci::Document::make(record.media_type, record.to_json());
  IMSY_TRY(target.put_manifest(document, ""));
  oci::Descriptor descriptor = document.describe();
  descriptor.artifact_type = record.artifact_type;
  descriptor.annotations = record.annotations;
  return target.add_referrer(original.digest, descriptor);
}

std::optional<Previous> find_previous(oci::Repository& target, const oci::Document& original,
                                      const std::string& options) {
  const auto referrers = target.get_referrers(original.digest);
  if (!referrers) return std::nullopt;
  for (const auto& record : *referrers) {
    if (record.artifact_type != kRecordType) continue;
    if (note(record.annotations, annotation::kOptions) != options) continue;
    const auto image = Digest::parse(note(record.annotations, annotation::kImage));
    if (!image) continue;
    auto previous = look_at(target, original.digest, *image);
    if (previous) return std::move(*previous);
  }
  return std::nullopt;
}

}  // namespace imsy::converter
