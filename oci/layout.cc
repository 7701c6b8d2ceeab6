#include "oci/layout.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <functional>
#include <system_error>
#include <utility>

#include "common/io.h"
#include "oci/json.h"

namespace imsy::oci {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kRefName = "org.opencontainers.image.ref.name";
constexpr std::string_view kLayoutVersion = "1.0.0";

// A blob's file as a stream that is checked against its descriptor when its end is reached.
class CheckedFile : public ByteReader {
 public:
  CheckedFile(UniqueFd file, std::string what, const Descriptor& descriptor)
      : file_(std::move(file)),
        what_(std::move(what)),
        size_(descriptor.size),
        digest_(descriptor.digest) {}

  Result<std::size_t> read(std::span<std::byte> buffer) override {
    if (buffer.empty()) return std::size_t{0};
    auto got = read_some(file_.get(), buffer);
    if (!got) return got.error().with_context(what_);
    hasher_.update(buffer.first(*got));
    seen_ += *got;
    if (*got > 0 && seen_ <= size_) return got;
    if (!finished_) {
      finished_ = true;
      right_ = seen_ == size_ && hasher_.finish() == digest_;
    }
    if (right_) return std::size_t{0};
    return Error(Errc::kCorrupt, what_ + ": is damaged, its content has another digest");
  }

 private:
  const UniqueFd file_;
  const std::string what_;
  const std::uint64_t size_;
  const Digest digest_;
  Hasher hasher_;
  std::uint64_t seen_ = 0;
  bool finished_ = false;
  bool right_ = false;
};

// The digest is known only at the end, so the file gets a name of its own first.
class FileBlob : public BlobWriter {
 public:
  FileBlob(AtomicFile file, fs::path place, fs::path blobs)
      : file_(std::move(file)), place_(std::move(place)), blobs_(std::move(blobs)) {}

  Status write(ByteSpan data) override {
    hasher_.update(data);
    const Status written = write_all(file_.fd(), data);
    return written ? written : written.error().with_context("a blob in " + blobs_.string());
  }
  Status commit(const Digest& digest) override {
    if (const Digest found = hasher_.finish(); found != digest) {
      return Error(Errc::kCorrupt, "a blob was announced as " + digest.to_string() +
                                       ", but it is " + found.to_string());
    }
    IMSY_TRY(file_.commit(/*durable=*/true));
    const fs::path target = blobs_ / digest.hex();
    if (::rename(place_.c_str(), target.c_str()) != 0) {
      const Error error = Error::from_errno(errno, "rename to " + target.string());
      ::unlink(place_.c_str());
      return error;
    }
    return sync_directory(blobs_);
  }

 private:
  AtomicFile file_;
  const fs::path place_;
  const fs::path blobs_;
  Hasher hasher_;
};

std::string tag_of(const Descriptor& entry) {
  const auto found = entry.annotations.find(std::string(kRefName));
  return found == entry.annotations.end() ? std::string() : found->second;
}

// Entries that are there to be found from an image, not to be named themselves.
bool is_referrer(const Descriptor& entry) {
  const std::string tag = tag_of(entry);
  const bool fallback = tag.starts_with("sha256-") && Digest::parse_hex(tag.substr(7));
  return fallback || (tag.empty() && !entry.artifact_type.empty());
}

Descriptor describe(const Document& document) {
  Descriptor descriptor;
  descriptor.media_type = document.media_type;
  descriptor.digest = document.digest;
  descriptor.size = document.bytes.size();
  return descriptor;
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

class LayoutDirectory : public Layout {
 public:
  explicit LayoutDirectory(fs::path directory) : directory_(std::move(directory)) {}

  std::string name() const override { return "oci:" + directory_.string(); }

  Result<Document> get_manifest(const std::string& tag_or_digest) override;
  Result<std::unique_ptr<ByteReader>> open_blob(const Descriptor& descriptor) override;
  Result<bool> has_blob(const Digest& digest, std::uint64_t size) override;
  Result<std::unique_ptr<BlobWriter>> create_blob() override;
  Status put_blob(ByteSpan data, const Digest& digest) override;
  Status put_manifest(const Document& document, const std::string& tag) override;
  Status add_referrer(const Digest& subject, const Descriptor& referrer) override;
  Result<std::vector<Descriptor>> get_referrers(const Digest& subject) override;
  Result<std::vector<Descriptor>> entries() override;
  Result<Descriptor> find(const std::string& tag) override;

  Status check();
  Status create();

 private:
  fs::path blobs() const { return directory_ / "blobs" / "sha256"; }
  fs::path index_path() const { return directory_ / "index.json"; }
  fs::path marker_path() const { return directory_ / "oci-layout"; }
  std::string describe_blob(const Digest& digest) const {
    return name() + ": blob " + digest.to_string();
  }

  Result<UniqueFd> open_regular(const fs::path& path, std::uint64_t& size) const;
  Result<std::string> read_document(const fs::path& path) const;
  Result<Document> read_index() const;
  Result<UniqueFd> lock() const;
  Status change_entries(const std::function<void(std::vector<Json>& entries)>& change);

  const fs::path directory_;
};

// Only regular files: whoever made the directory may have put a fifo there, which would be waited
// for without end. Symbolic links are usual in layouts that build systems make.
Result<UniqueFd> LayoutDirectory::open_regular(const fs::path& path, std::uint64_t& size) const {
  IMSY_TRY_ASSIGN(UniqueFd file, open_file(path, O_RDONLY | O_NONBLOCK));
  struct stat st {};
  if (::fstat(file.get(), &st) != 0) return Error::from_errno(errno, "fstat " + path.string());
  if (!S_ISREG(st.st_mode)) return Error(Errc::kInvalid, path.string() + ": is no regular file");
  size = static_cast<std::uint64_t>(st.st_size);
  return file;
}

Result<std::string> LayoutDirectory::read_document(const fs::path& path) const {
  std::uint64_t size = 0;
  IMSY_TRY_ASSIGN(const UniqueFd file, open_regular(path, size));
  if (size > kDocumentLimit) {
    return Error(Errc::kInvalid, path.string() + ": larger than the limit of " +
                                     std::to_string(kDocumentLimit) + " bytes");
  }
  Bytes bytes(size);
  IMSY_TRY(pread_all(file.get(), bytes, 0));
  return std::string(as_text(bytes));
}

Result<Document> LayoutDirectory::get_manifest(const std::string& tag_or_digest) {
  Digest digest;
  if (const auto named = Digest::parse(tag_or_digest)) {
    digest = *named;
  } else {
    IMSY_TRY_ASSIGN(const Descriptor entry, find(tag_or_digest));
    digest = entry.digest;
  }
  const std::string what = name() + ": manifest " + digest.to_string();
  auto bytes = read_document(blobs() / digest.hex());
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

Result<std::unique_ptr<ByteReader>> LayoutDirectory::open_blob(const Descriptor& descriptor) {
  const std::string what = describe_blob(descriptor.digest);
  std::uint64_t size = 0;
  auto file = open_regular(blobs() / descriptor.digest.hex(), size);
  if (!file) return file.error().with_context(what);
  if (size != descriptor.size) {
    return Error(Errc::kCorrupt, what + ": has " + std::to_string(size) + " bytes, not " +
                                     std::to_string(descriptor.size));
  }
  return std::unique_ptr<ByteReader>(
      std::make_unique<CheckedFile>(std::move(*file), what, descriptor));
}

Result<bool> LayoutDirectory::has_blob(const Digest& digest, std::uint64_t size) {
  struct stat st {};
  const fs::path path = blobs() / digest.hex();
  if (::stat(path.c_str(), &st) != 0) {
    if (errno == ENOENT) return false;
    return Error::from_errno(errno, "stat " + path.string());
  }
  return S_ISREG(st.st_mode) && static_cast<std::uint64_t>(st.st_size) == size;
}

Result<std::unique_ptr<BlobWriter>> LayoutDirectory::create_blob() {
  static std::atomic<std::uint64_t> counter{0};
  fs::path place = blobs() / (".upload-" + std::to_string(::getpid()) + "-" +
                              std::to_string(counter.fetch_add(1)));
  IMSY_TRY_ASSIGN(AtomicFile file, AtomicFile::create(place, 0644));
  return std::unique_ptr<BlobWriter>(
      std::make_unique<FileBlob>(std::move(file), std::move(place), blobs()));
}

// A blob of the right size that is damaged would be found by nobody before it is needed, and it is
// small: so it is read, not only looked for.
Status LayoutDirectory::put_blob(ByteSpan data, const Digest& digest) {
  if (sha256(data) != digest) {
    return Error(Errc::kCorrupt, "a blob does not have the digest " + digest.to_string());
  }
  const fs::path path = blobs() / digest.hex();
  IMSY_TRY_ASSIGN(const bool there, has_blob(digest, data.size()));
  if (there) {
    const auto known = read_file(path, data.size());
    if (known && sha256(*known) == digest) return {};
  }
  return replace_file(path, data, 0644);
}

Status LayoutDirectory::put_manifest(const Document& document, const std::string& tag) {
  const bool printable =
      std::all_of(tag.begin(), tag.end(), [](char c) { return c > ' ' && c <= '~'; });
  if (!printable) return Error(Errc::kInvalid, name() + ": a tag must be printable ASCII");
  IMSY_TRY(put_blob(as_bytes(document.bytes), document.digest));
  if (tag.empty()) return {};
  return change_entries([&](std::vector<Json>& entries) {
    std::erase_if(entries, [&](const Json& entry) {
      const auto annotations = entry.find("annotations");
      return annotations != entry.end() && annotations->is_object() &&
             annotations->value(std::string(kRefName), std::string()) == tag;
    });
    Descriptor entry = describe(document);
    entry.annotations[std::string(kRefName)] = tag;
    entries.push_back(entry.to_json());
  });
}

// A layout has no API: a referrer is found as an entry without a tag whose manifest names the
// subject. Other tools look for it there too.
Status LayoutDirectory::add_referrer(const Digest& subject, const Descriptor& referrer) {
  IMSY_TRY_ASSIGN(const Document document, get_manifest(referrer.digest.to_string()));
  IMSY_TRY_ASSIGN(const Manifest manifest, parse_manifest(document));
  if (!manifest.subject || manifest.subject->digest != subject) {
    return Error(Errc::kInvalid, "the manifest of a referrer does not name its subject");
  }
  return change_entries([&](std::vector<Json>& entries) {
    for (const Json& entry : entries) {
      if (entry["digest"] == referrer.digest.to_string()) return;
    }
    entries.push_back(referrer.to_json());
  });
}

Result<std::vector<Descriptor>> LayoutDirectory::get_referrers(const Digest& subject) {
  IMSY_TRY_ASSIGN(const std::vector<Descriptor> all, entries());
  std::vector<Descriptor> referrers;
  for (const Descriptor& entry : all) {
    if (!is_manifest(entry.media_type)) continue;
    IMSY_TRY_ASSIGN(const Document document, get_manifest(entry.digest.to_string()));
    IMSY_TRY_ASSIGN(const Manifest manifest, parse_manifest(document));
    if (!manifest.subject || manifest.subject->digest != subject) continue;
    Descriptor referrer = describe(document);
    // As the referrers API does: the type of the config stands in for a missing artifactType.
    referrer.artifact_type =
        manifest.artifact_type.empty() ? manifest.config.media_type : manifest.artifact_type;
    referrer.annotations = manifest.annotations;
    referrers.push_back(std::move(referrer));
  }
  return referrers;
}

Result<std::vector<Descriptor>> LayoutDirectory::entries() {
  IMSY_TRY_ASSIGN(const Document document, read_index());
  auto index = parse_index(document);
  if (!index) return index.error().with_context(name() + ": index.json");
  return std::move(index->manifests);
}

Result<Descriptor> LayoutDirectory::find(const std::string& tag) {
  IMSY_TRY_ASSIGN(const std::vector<Descriptor> all, entries());
  std::vector<Descriptor> found;
  for (const Descriptor& entry : all) {
    if (tag.empty() ? !is_referrer(entry) : tag_of(entry) == tag) found.push_back(entry);
  }
  if (found.empty()) {
    return Error(Errc::kNotFound,
                 name() + (tag.empty() ? ": holds no image" : ": has no tag " + tag));
  }
  if (found.size() > 1) {
    return Error(Errc::kInvalid,
                 name() + ": holds several images" +
                     (tag.empty() ? "; name one as oci:DIR:TAG" : " with the tag " + tag));
  }
  return found.front();
}

Result<Document> LayoutDirectory::read_index() const {
  auto bytes = read_document(index_path());
  if (!bytes) return bytes.error().with_context(name());
  return Document{std::string(media_type::kOciIndex), sha256(*bytes), std::move(*bytes)};
}

Result<UniqueFd> LayoutDirectory::lock() const {
  IMSY_TRY_ASSIGN(UniqueFd directory, open_file(directory_, O_RDONLY | O_DIRECTORY));
  while (::flock(directory.get(), LOCK_EX) != 0) {
    if (errno != EINTR) return Error::from_errno(errno, "lock " + directory_.string());
  }
  return directory;
}

// Reads, changes and replaces index.json while nobody else does. What we do not know in it stays.
Status LayoutDirectory::change_entries(
    const std::function<void(std::vector<Json>& entries)>& change) {
  IMSY_TRY_ASSIGN(const UniqueFd held, lock());
  IMSY_TRY_ASSIGN(const Document document, read_index());
  if (const auto valid = parse_index(document); !valid) {
    return valid.error().with_context(name() + ": index.json");
  }
  IMSY_TRY_ASSIGN(Json json, parse_json(document.bytes, "index.json"));
  std::vector<Json> entries;
  if (const Json* known = find_field(json, "manifests")) {
    entries.assign(known->begin(), known->end());
  }
  change(entries);
  json["manifests"] = std::move(entries);
  return replace_file(index_path(), as_bytes(json.dump()), 0644);
}

Status LayoutDirectory::check() {
  auto marker = read_document(marker_path());
  if (!marker) return marker.error().with_context(name() + ": is no OCI image layout");
  IMSY_TRY_ASSIGN(const Json json, parse_json(*marker, marker_path().string()));
  IMSY_TRY(check_object(json, {"imageLayoutVersion"}, marker_path().string()));
  IMSY_TRY_ASSIGN(const std::string version,
                  string_field(json, "imageLayoutVersion", marker_path().string()));
  if (version != kLayoutVersion) {
    return Error(Errc::kInvalid, name() + ": its version is not " + std::string(kLayoutVersion));
  }
  const auto readable = entries();
  return readable ? Status() : Status(readable.error());
}

// Another process may do the same at the same time; what is there already stays. The marker comes
// last, so that a layout that has it is complete.
Status LayoutDirectory::create() {
  std::error_code problem;
  fs::create_directories(blobs(), problem);
  if (problem) return Error::from_errno(problem.value(), "create " + blobs().string());
  IMSY_TRY_ASSIGN(const UniqueFd held, lock());
  if (!fs::exists(index_path(), problem)) {
    Index empty;
    empty.media_type = media_type::kOciIndex;
    IMSY_TRY(replace_file(index_path(), as_bytes(empty.to_json().dump()), 0644));
  }
  if (!fs::exists(marker_path(), problem)) {
    const Json marker = {{"imageLayoutVersion", kLayoutVersion}};
    IMSY_TRY(replace_file(marker_path(), as_bytes(marker.dump()), 0644));
  }
  return {};
}

// Whether a layout may be made here: nothing is there, or only what an interrupted attempt left.
bool may_create(const fs::path& directory) {
  std::error_code problem;
  if (!fs::exists(directory, problem)) return !problem;
  for (const auto& entry : fs::directory_iterator(directory, problem)) {
    const fs::path known = entry.path().filename();
    if (known != "blobs" && known != "index.json") return false;
  }
  return !problem;
}

}  // namespace

Result<std::unique_ptr<Layout>> Layout::open(const fs::path& dir) {
  auto layout = std::make_unique<LayoutDirectory>(dir);
  IMSY_TRY(layout->check());
  return std::unique_ptr<Layout>(std::move(layout));
}

Result<std::unique_ptr<Layout>> Layout::open_or_create(const fs::path& dir) {
  std::error_code problem;
  if (fs::exists(dir / "oci-layout", problem)) return open(dir);
  if (!may_create(dir)) {
    return Error(Errc::kInvalid,
                 dir.string() + ": is not empty and no OCI image layout; give another directory");
  }
  auto layout = std::make_unique<LayoutDirectory>(dir);
  IMSY_TRY(layout->create());
  IMSY_TRY(layout->check());
  return std::unique_ptr<Layout>(std::move(layout));
}

}  // namespace imsy::oci
