#include "converter/index_rewriter.h"

#include <optional>
#include <string>
#include <utility>

namespace imsy::converter {
namespace {

using oci::Json;

// How BuildKit marks the attestations of an image, and how docker and others find them.
constexpr const char* kReferenceType = "vnd.docker.reference.type";
constexpr const char* kReferenceDigest = "vnd.docker.reference.digest";

std::optional<Digest> reference_of(const oci::Descriptor& entry) {
  const auto found = entry.annotations.find(kReferenceDigest);
  if (found == entry.annotations.end()) return std::nullopt;
  const auto digest = Digest::parse(found->second);
  return digest ? std::optional(*digest) : std::nullopt;
}

}  // namespace

Result<IndexRewriter> IndexRewriter::open(const oci::Document& original) {
  IndexRewriter rewriter;
  IMSY_TRY_ASSIGN(auto index, oci::parse_index(original));
  IMSY_TRY_ASSIGN(rewriter.original_, oci::parse_json(original.bytes, "index"));
  rewriter.entries_ = std::move(index.manifests);
  rewriter.fates_.assign(rewriter.entries_.size(), Fate::kLeftOut);
  return rewriter;
}

void IndexRewriter::convert(std::size_t entry, const oci::Descriptor& converted) {
  fates_[entry] = Fate::kConverted;
  converted_.insert_or_assign(entries_[entry].digest, converted);
}

bool IndexRewriter::is_attestation(std::size_t entry) const {
  const auto& annotations = entries_[entry].annotations;
  return annotations.contains(kReferenceType) || annotations.contains(kReferenceDigest);
}

bool IndexRewriter::attests_converted(std::size_t entry) const {
  const auto reference = reference_of(entries_[entry]);
  return reference && converted_.contains(*reference);
}

oci::Document IndexRewriter::finish() const {
  Json index = original_;
  index["mediaType"] = oci::media_type::kOciIndex;
  index.erase("subject");  // it is about the original
  Json& manifests = index["manifests"] = Json::array();
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    if (fates_[i] == Fate::kLeftOut) continue;
    Json entry = original_["manifests"][i];
    if (fates_[i] == Fate::kConverted) {
      const oci::Descriptor& converted = converted_.at(entries_[i].digest);
      for (const char* key : {"data", "urls"}) entry.erase(key);  // of the original
      entry["mediaType"] = converted.media_type;
      entry["digest"] = converted.digest.to_string();
      entry["size"] = converted.size;
    } else if (attests_converted(i)) {
      const auto reference = reference_of(entries_[i]);
      entry["annotations"][kReferenceDigest] = converted_.at(*reference).digest.to_string();
    }
    manifests.push_back(std::move(entry));
  }
  return oci::Document::make(oci::media_type::kOciIndex, index);
}

}  // namespace imsy::converter
