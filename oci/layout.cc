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
#include "oci/layout_reader.h"

namespace imsy::oci {
namespace {

namespace fs = std::filesystem;

// Only regular files: whoever made the directory may have put a fifo there, which would be waited
// for without end. Symbolic links are usual in layouts that build systems make.
class Directory : public FileSet {
 public:
  explicit Directory(fs::path path) : path_(std::move(path)) {}

  Result<File> open(const std::string& name) const override {
    const fs::path path = path_ / name;
    IMSY_TRY_ASSIGN(UniqueFd file, open_file(path, O_RDONLY | O_NONBLOCK));
    struct stat st {};
    if (::fstat(file.get(), &st) != 0) return Error::from_errno(errno, "fstat " + path.string());
    if (!S_ISREG(st.st_mode)) return Error(Errc::kInvalid, path.string() + ": is no regular file");
    const auto size = static_cast<std::uint64_t>(st.st_size);
    auto shared = std::make_shared<const UniqueFd>(std::move(file));
    return File{size, std::make_unique<FileRange>(std::move(shared), 0, size)};
  }

 private:
  const fs::path path_;
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
  Result<Arrival> commit(const Digest& digest) override {
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
    IMSY_TRY(sync_directory(blobs_));
    return Arrival::kSent;
  }

 private:
  AtomicFile file_;
  const fs::path place_;
  const fs::path blobs_;
  Hasher hasher_;
};

class LayoutDirectory : public Layout {
 public:
  explicit LayoutDirectory(const fs::path& directory)
      : directory_(directory),
        reader_("oci:" + directory.string(), std::make_unique<Directory>(directory)) {}

  std::string name() const override { return reader_.name(); }

  Result<Document> get_manifest(const std::string& object) override {
    return reader_.get_manifest(object);
  }
  Result<std::unique_ptr<ByteReader>> open_blob(const Descriptor& descriptor) override {
    return reader_.open_blob(descriptor);
  }
  Result<Bytes> read_part(const Descriptor& blob, std::uint64_t offset,
                          std::uint64_t length) override {
    return reader_.read_part(blob, offset, length);
  }
  Result<bool> has_blob(const Digest& digest, std::uint64_t size) override;
  Result<std::unique_ptr<BlobWriter>> create_blob() override;
  Result<Arrival> put_blob(ByteSpan data, const Digest& digest) override;
  Result<Arrival> copy_blob(ImageSource& from, const Descriptor& blob) override;
  Status put_manifest(const Document& document, const std::string& tag) override;
  Status add_referrer(const Digest& subject, const Descriptor& referrer) override;
  Result<std::vector<Descriptor>> get_referrers(const Digest& subject) override;
  Result<std::vector<Descriptor>> entries() override { return reader_.entries(); }
  Result<Descriptor> find(const std::string& tag) override { return reader_.find(tag); }

  Status check() const { return reader_.check(); }
  Status create();

 private:
  fs::path blobs() const { return directory_ / layout_file::kBlobs; }
  fs::path index_path() const { return directory_ / layout_file::kIndex; }
  fs::path marker_path() const { return directory_ / layout_file::kMarker; }

  Result<UniqueFd> lock() const;
  Status change_entries(const std::function<void(std::vector<Json>& entries)>& change);

  const fs::path directory_;
  LayoutReader reader_;
};

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
Result<Arrival> LayoutDirectory::put_blob(ByteSpan data, const Digest& digest) {
  if (sha256(data) != digest) {
    return Error(Errc::kCorrupt, "a blob does not have the digest " + digest.to_string());
  }
  const fs::path path = blobs() / digest.hex();
  IMSY_TRY_ASSIGN(const bool there, has_blob(digest, data.size()));
  if (there) {
    const auto known = read_file(path, data.size());
    if (known && sha256(*known) == digest) return Arrival::kWasThere;
  }
  IMSY_TRY(replace_file(path, data, 0644));
  return Arrival::kSent;
}

Result<Arrival> LayoutDirectory::copy_blob(ImageSource& from, const Descriptor& blob) {
  IMSY_TRY_ASSIGN(const bool there, has_blob(blob.digest, blob.size));
  return there ? Arrival::kWasThere : ImageTarget::copy_blob(from, blob);
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
             annotations->value(std::string(layout_file::kRefName), std::string()) == tag;
    });
    Descriptor entry = document.describe();
    entry.annotations[std::string(layout_file::kRefName)] = tag;
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
    Descriptor referrer = document.describe();
    // As the referrers API does: the type of the config stands in for a missing artifactType.
    referrer.artifact_type =
        manifest.artifact_type.empty() ? manifest.config.media_type : manifest.artifact_type;
    referrer.annotations = manifest.annotations;
    referrers.push_back(std::move(referrer));
  }
  return referrers;
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
  IMSY_TRY_ASSIGN(const Document document, reader_.index());
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
    IMSY_TRY(replace_file(marker_path(), as_bytes(layout_file::marker()), 0644));
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
