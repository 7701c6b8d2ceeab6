#include "oci/layout_reader.h"

#include <utility>

#include "oci/described.h"
#include "oci/json.h"

namespace imsy::oci {
namespace {

std::string tag_of(const Descriptor& entry) {
  const auto found = entry.annotations.find(std::string(layout_file::kRefName));
  return found == entry.annotations.end() ? std::string() : found->second;
}

// Entries that are there to be found from an image, not to be named themselves.
bool is_referrer(const Descriptor& entry) {
  const std::string tag = tag_of(entry);
  const bool fallback = tag.starts_with("sha256-") && Digest::parse_hex(tag.substr(7));
  return fallback || (tag.empty() && !entry.artifact_type.empty());
}

// The tags of `entries`, for a message.
std::string list_tags(const std::vector<Descriptor>& entries) {
  std::vector<std::string> tags;
  for (const Descriptor& entry : entries) {
    if (!is_referrer(entry) && !tag_of(entry).empty()) tags.push_back(tag_of(entry));
  }
  return tags.empty() ? "none has a tag" : "its tags are " + list_names(tags);
}

// What a document says it is; the member is optional in OCI documents, whose other members tell
// them apart.
Result<std::string> media_type_of(const Document& document, const std::string& what) {
  IMSY_TRY_ASSIGN(const Json json, parse_json(document.bytes, what));
  IMSY_TRY(check_object(json, {"mediaType", "manifests"}, what));
  IMSY_TRY_ASSIGN(std::string type, string_field(json, "mediaType", what));
  if (type.empty()) {
    const bool index = find_field(json, "manifests") != nullptr;
    type = index ? media_type::kOciIndex : media_type::kOciManifest;
  }
  if (!is_manifest(type) && !is_index(type)) {
    return Error(Errc::kInvalid, what + ": is no image manifest or index");
  }
  return type;
}

}  // namespace

namespace layout_file {

std::string blob_path(const Digest& digest) {
  return std::string(kBlobs) + "/" + digest.hex();
}

std::string marker() {
  return Json{{"imageLayoutVersion", kVersion}}.dump();
}

}  // namespace layout_file

LayoutReader::LayoutReader(std::string name, std::unique_ptr<const FileSet> files)
    : name_(std::move(name)), files_(std::move(files)) {}

Status LayoutReader::check() const {
  const std::string marker(layout_file::kMarker);
  const auto text = read_document(*files_, marker);
  if (!text) return text.error().with_context(name_ + ": is no OCI image layout");
  const std::string what = name_ + ": " + marker;
  IMSY_TRY_ASSIGN(const Json json, parse_json(*text, what));
  IMSY_TRY(check_object(json, {"imageLayoutVersion"}, what));
  IMSY_TRY_ASSIGN(const std::string version, string_field(json, "imageLayoutVersion", what));
  if (version != layout_file::kVersion) {
    return Error(Errc::kInvalid,
                 name_ + ": its version is not " + std::string(layout_file::kVersion));
  }
  const auto readable = entries();
  return readable ? Status() : Status(readable.error());
}

Result<Document> LayoutReader::get_manifest(const std::string& object) {
  const auto named = Digest::parse(object);
  if (!named) {
    IMSY_TRY_ASSIGN(const Descriptor entry, find(object));
    IMSY_TRY_ASSIGN(auto document, get_manifest(entry.digest.to_string()));
    const Status described = check_described(document, entry);
    if (!described) return described.error().with_context(name_);
    return document;
  }
  const Digest digest = *named;
  const std::string what = name_ + ": manifest " + digest.to_string();
  auto bytes = read_document(*files_, layout_file::blob_path(digest));
  if (!bytes) return bytes.error().with_context(what);
  Document document;
  document.bytes = std::move(*bytes);
  document.digest = digest;
  if (sha256(document.bytes) != digest) {
    return Error(Errc::kCorrupt, what + ": is damaged, its content has another digest");
  }
  IMSY_TRY_ASSIGN(document.media_type, media_type_of(document, what));
  return document;
}

Result<FileSet::File> LayoutReader::open_file(const Descriptor& blob,
                                              const std::string& what) const {
  auto file = files_->open(layout_file::blob_path(blob.digest));
  if (!file) return file.error().with_context(what);
  if (file->size != blob.size) {
    return Error(Errc::kCorrupt, what + ": has " + std::to_string(file->size) + " bytes, not " +
                                     std::to_string(blob.size));
  }
  return file;
}

Result<std::unique_ptr<ByteReader>> LayoutReader::open_blob(const Descriptor& descriptor) {
  const std::string what = name_ + ": blob " + descriptor.digest.to_string();
  IMSY_TRY_ASSIGN(FileSet::File file, open_file(descriptor, what));
  return std::unique_ptr<ByteReader>(std::make_unique<CheckedReader>(
      std::move(file.content), descriptor.size, descriptor.digest, what));
}

Result<Bytes> LayoutReader::read_part(const Descriptor& blob, std::uint64_t offset,
                                      std::uint64_t length) {
  const std::string what = name_ + ": blob " + blob.digest.to_string();
  IMSY_TRY_ASSIGN(const FileSet::File file, open_file(blob, what));
  if (offset > file.size || length > file.size - offset) {
    return Error(Errc::kInvalid, what + ": a part outside of the blob was asked for");
  }
  file.content->skip(offset);
  Bytes part(static_cast<std::size_t>(length));
  const Status read = read_exactly(*file.content, part);
  if (!read) return read.error().with_context(what);
  return part;
}

Result<Document> LayoutReader::index() const {
  auto bytes = read_document(*files_, std::string(layout_file::kIndex));
  if (!bytes) return bytes.error().with_context(name_);
  return Document{std::string(media_type::kOciIndex), sha256(*bytes), std::move(*bytes)};
}

Result<std::vector<Descriptor>> LayoutReader::entries() const {
  IMSY_TRY_ASSIGN(const Document document, index());
  auto parsed = parse_index(document);
  if (!parsed) return parsed.error().with_context(name_ + ": index.json");
  return std::move(parsed->manifests);
}

Result<Descriptor> LayoutReader::find(const std::string& tag) const {
  IMSY_TRY_ASSIGN(const std::vector<Descriptor> all, entries());
  std::vector<Descriptor> found;
  for (const Descriptor& entry : all) {
    if (tag.empty() ? !is_referrer(entry) : tag_of(entry) == tag) found.push_back(entry);
  }
  if (found.size() == 1) return found.front();
  if (found.empty() && tag.empty()) return Error(Errc::kNotFound, name_ + ": holds no image");
  if (found.empty()) {
    return Error(Errc::kNotFound, name_ + ": has no tag " + tag + "; " + list_tags(all));
  }
  if (!tag.empty()) {
    return Error(Errc::kInvalid, name_ + ": holds several images with the tag " + tag);
  }
  return Error(Errc::kInvalid, name_ + ": holds several images; " + list_tags(all) +
                                   "; name one as " + name_ + ":TAG");
}

}  // namespace imsy::oci
