#include "oci/layout.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <optional>
#include <system_error>

#include "common/io.h"

namespace imsy::oci {
namespace {

constexpr std::string_view kRefName = "org.opencontainers.image.ref.name";
constexpr std::string_view kLayoutVersion = "1.0.0";

// A blob's file, checked against its descriptor when its end is reached.
class CheckedFile : public ByteReader {
 public:
  CheckedFile(UniqueFd file, Descriptor descriptor)
      : file_(std::move(file)), descriptor_(std::move(descriptor)) {}

  Result<std::size_t> read(std::span<std::byte> buffer) override {
    IMSY_TRY_ASSIGN(const std::size_t got, read_some(file_.get(), buffer));
    hasher_.update(buffer.first(got));
    seen_ += got;
    if (got > 0 || buffer.empty() || checked_) return got;
    checked_ = true;
    const Digest found = hasher_.finish();
    if (seen_ == descriptor_.size && found == descriptor_.digest) return got;
    return Error(Errc::kCorrupt, "blob " + descriptor_.digest.to_string() + " is damaged: it has " +
                                     std::to_string(seen_) + " bytes with digest " +
                                     found.to_string());
  }

 private:
  UniqueFd file_;
  Descriptor descriptor_;
  Hasher hasher_;
  std::uint64_t seen_ = 0;
  bool checked_ = false;
};

class FileBlob : public BlobWriter {
 public:
  FileBlob(AtomicFile file, std::filesystem::path place, std::filesystem::path directory)
      : file_(std::move(file)), place_(std::move(place)), directory_(std::move(directory)) {}

  Status write(ByteSpan data) override {
    hasher_.update(data);
    return write_all(file_.fd(), data);
  }
  // The digest is known only now, so the file gets a name of its own first.
  Status commit(const Digest& digest) override {
    if (const Digest found = hasher_.finish(); found != digest) {
      return Error(Errc::kCorrupt, "a blob was announced as " + digest.to_string() + " but is " +
                                       found.to_string());
    }
    IMSY_TRY(file_.commit(/*durable=*/true));
    if (::rename(place_.c_str(), (directory_ / digest.hex()).c_str()) != 0) {
      return Error::from_errno(errno, "rename to " + (directory_ / digest.hex()).string());
    }
    return sync_directory(directory_);
  }

 private:
  AtomicFile file_;
  std::filesystem::path place_;
  std::filesystem::path directory_;
  Hasher hasher_;
};

std::optional<std::string> tag_of(const Descriptor& entry) {
  const auto found = entry.annotations.find(std::string(kRefName));
  return found == entry.annotations.end() ? std::nullopt : std::optional(found->second);
}

Descriptor describe(const Document& document) {
  Descriptor descriptor;
  descriptor.media_type = document.media_type;
  descriptor.digest = document.digest;
  descriptor.size = document.bytes.size();
  return descriptor;
}

class LayoutDirectory : public Layout {
 public:
  explicit LayoutDirectory(std::filesystem::path directory) : directory_(std::move(directory)) {}

  std::string name() const override { return "oci:" + directory_.string(); }

  Result<Document> get_manifest(const std::string& tag_or_digest) override {
    Digest digest;
    if (tag_or_digest.starts_with("sha256:")) {
      IMSY_TRY_ASSIGN(digest, Digest::parse(tag_or_digest));
    } else {
      IMSY_TRY_ASSIGN(const Descriptor entry, find(tag_or_digest));
      digest = entry.digest;
    }
    IMSY_TRY_ASSIGN(const Bytes bytes, read_file(blob_path(digest), kDocumentLimit));
    Document document;
    document.digest = digest;
    document.bytes = as_text(bytes);
    if (sha256(document.bytes) != digest) {
      return Error(Errc::kCorrupt, name() + ": manifest " + digest.to_string() + " is damaged");
    }
    IMSY_TRY_ASSIGN(const Json json, parse_json(document.bytes, digest.to_string()));
    if (const auto type = json.find("mediaType"); type != json.end() && type->is_string()) {
      document.media_type = type->get<std::string>();
    } else {  // optional in OCI documents; their members tell them apart
      document.media_type =
          json.contains("manifests") ? media_type::kOciIndex : media_type::kOciManifest;
    }
    return document;
  }

  Result<std::unique_ptr<ByteReader>> open_blob(const Descriptor& descriptor) override {
    IMSY_TRY_ASSIGN(auto file, open_file(blob_path(descriptor.digest), O_RDONLY));
    return std::unique_ptr<ByteReader>(std::make_unique<CheckedFile>(std::move(file), descriptor));
  }

  Result<bool> has_blob(const Digest& digest, std::uint64_t size) override {
    struct stat st {};
    if (::stat(blob_path(digest).c_str(), &st) != 0) {
      if (errno == ENOENT) return false;
      return Error::from_errno(errno, "stat " + blob_path(digest).string());
    }
    return static_cast<std::uint64_t>(st.st_size) == size;
  }

  Result<std::unique_ptr<BlobWriter>> create_blob() override {
    static std::atomic<std::uint64_t> counter{0};
    auto place = blobs() / (".upload-" + std::to_string(::getpid()) + "-" +
                            std::to_string(counter.fetch_add(1)));
    IMSY_TRY_ASSIGN(auto file, AtomicFile::create(place, 0644));
    return std::unique_ptr<BlobWriter>(
        std::make_unique<FileBlob>(std::move(file), std::move(place), blobs()));
  }

  Status put_blob(ByteSpan data, const Digest& digest) override {
    if (sha256(data) != digest) {
      return Error(Errc::kCorrupt, "a blob does not have digest " + digest.to_string());
    }
    IMSY_TRY_ASSIGN(const bool there, has_blob(digest, data.size()));
    return there ? Status() : replace_file(blob_path(digest), data, 0644);
  }

  Status put_manifest(const Document& document, const std::string& tag) override {
    IMSY_TRY(put_blob(as_bytes(document.bytes), document.digest));
    if (tag.empty()) return {};
    return change_index([&](Index& index) {
      std::erase_if(index.manifests, [&](const Descriptor& entry) { return tag_of(entry) == tag; });
      Descriptor entry = describe(document);
      entry.annotations[std::string(kRefName)] = tag;
      index.manifests.push_back(std::move(entry));
    });
  }

  // A layout has no API: a referrer is found as an untagged entry whose manifest has the subject.
  Status add_referrer(const Digest& subject, const Descriptor& referrer) override {
    IMSY_TRY_ASSIGN(const auto document, get_manifest(referrer.digest.to_string()));
    IMSY_TRY_ASSIGN(const auto manifest, parse_manifest(document));
    if (!manifest.subject || manifest.subject->digest != subject) {
      return Error(Errc::kInvalid, "the referrer's manifest does not name its subject");
    }
    return change_index([&](Index& index) {
      for (const auto& entry : index.manifests) {
        if (entry.digest == referrer.digest) return;
      }
      index.manifests.push_back(referrer);
    });
  }

  Result<std::vector<Descriptor>> get_referrers(const Digest& subject) override {
    IMSY_TRY_ASSIGN(const Index index, read_index());
    std::vector<Descriptor> referrers;
    for (const auto& entry : index.manifests) {
      if (!is_manifest(entry.media_type)) continue;
      IMSY_TRY_ASSIGN(const auto document, get_manifest(entry.digest.to_string()));
      IMSY_TRY_ASSIGN(const auto manifest, parse_manifest(document));
      if (!manifest.subject || manifest.subject->digest != subject) continue;
      Descriptor referrer = describe(document);
      referrer.artifact_type = manifest.artifact_type;
      referrer.annotations = manifest.annotations;
      referrers.push_back(std::move(referrer));
    }
    return referrers;
  }

  Result<std::vector<Descriptor>> entries() override {
    IMSY_TRY_ASSIGN(Index index, read_index());
    return std::move(index.manifests);
  }

  Result<Descriptor> find(const std::string& tag) override {
    IMSY_TRY_ASSIGN(const Index index, read_index());
    std::vector<Descriptor> found;
    for (const auto& entry : index.manifests) {
      const bool artifact = !entry.artifact_type.empty();
      if (tag.empty() ? !artifact : tag_of(entry) == tag) found.push_back(entry);
    }
    if (found.empty()) {
      return Error(Errc::kNotFound,
                   name() + (tag.empty() ? " holds no image" : " has no tag " + tag));
    }
    if (found.size() > 1) {
      return Error(Errc::kInvalid, name() + " holds several images: name one as oci:DIR:tag");
    }
    return found.front();
  }

  Status check() {
    auto marker = read_file(directory_ / "oci-layout", kDocumentLimit);
    if (!marker) return marker.error().with_context("not an OCI image layout");
    IMSY_TRY_ASSIGN(const Json json, parse_json(as_text(*marker), "oci-layout"));
    const auto version = json.find("imageLayoutVersion");
    if (version == json.end() || !version->is_string() || *version != kLayoutVersion) {
      return Error(Errc::kInvalid, name() + ": oci-layout does not say version 1.0.0");
    }
    auto index = read_index();
    return index ? Status() : Status(index.error());
  }

  Status create() {
    std::error_code failed;
    std::filesystem::create_directories(blobs(), failed);
    if (failed) return Error::from_errno(failed.value(), "create " + blobs().string());
    Index empty;
    empty.media_type = media_type::kOciIndex;
    const Json marker{{"imageLayoutVersion", kLayoutVersion}};
    IMSY_TRY(replace_file(directory_ / "index.json", as_bytes(empty.to_json().dump()), 0644));
    return replace_file(directory_ / "oci-layout", as_bytes(marker.dump()), 0644);
  }

 private:
  std::filesystem::path blobs() const { return directory_ / "blobs" / "sha256"; }
  std::filesystem::path blob_path(const Digest& digest) const { return blobs() / digest.hex(); }

  Result<Index> read_index() {
    IMSY_TRY_ASSIGN(const Bytes bytes, read_file(directory_ / "index.json", kDocumentLimit));
    Document document;
    document.media_type = media_type::kOciIndex;
    document.bytes = as_text(bytes);
    auto index = parse_index(document);
    if (!index) return index.error().with_context(name() + ": index.json");
    return index;
  }

  // Reads, changes and replaces index.json while nobody else does.
  template <typename Change>
  Status change_index(Change change) {
    IMSY_TRY_ASSIGN(const auto lock, open_file(directory_, O_RDONLY | O_DIRECTORY));
    while (::flock(lock.get(), LOCK_EX) != 0) {
      if (errno != EINTR) return Error::from_errno(errno, "lock " + directory_.string());
    }
    IMSY_TRY_ASSIGN(Index index, read_index());
    change(index);
    return replace_file(directory_ / "index.json", as_bytes(index.to_json().dump()), 0644);
  }

  std::filesystem::path directory_;
};

}  // namespace

Result<std::unique_ptr<Layout>> Layout::open(const std::filesystem::path& dir) {
  auto layout = std::make_unique<LayoutDirectory>(dir);
  IMSY_TRY(layout->check());
  return std::unique_ptr<Layout>(std::move(layout));
}

Result<std::unique_ptr<Layout>> Layout::open_or_create(const std::filesystem::path& dir) {
  std::error_code failed;
  if (std::filesystem::exists(dir / "oci-layout", failed)) return open(dir);
  if (std::filesystem::exists(dir, failed) && !std::filesystem::is_empty(dir, failed)) {
    return Error(Errc::kInvalid, dir.string() + " is not empty and not an OCI image layout");
  }
  auto layout = std::make_unique<LayoutDirectory>(dir);
  IMSY_TRY(layout->create());
  return std::unique_ptr<Layout>(std::move(layout));
}

}  // namespace imsy::oci
