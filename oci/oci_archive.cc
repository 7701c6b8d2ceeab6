#include "oci/oci_archive.h"

#include <algorithm>
#include <array>
#include <set>
#include <string>
#include <utility>

#include "common/io.h"
#include "oci/archive.h"
#include "oci/layout_reader.h"
#include "oci/tar/tar.h"

namespace imsy::oci {
namespace {

namespace fs = std::filesystem;

std::string name_of(const fs::path& file, std::string_view scheme = "oci-archive:") {
  return std::string(scheme) + file.string();
}

// The tar file while it grows.
class ArchiveFile {
 public:
  explicit ArchiveFile(AtomicFile file) : file_(std::move(file)) {}

  Status add_directory(const std::string& name) {
    return add_header(name + "/", tar::Type::kDirectory, 0);
  }

  Status add(const std::string& name, ByteReader& content, std::uint64_t size) {
    IMSY_TRY(add_header(name, tar::Type::kRegular, size));
    Bytes buffer(1u << 20);
    for (;;) {
      IMSY_TRY_ASSIGN(const std::size_t got, content.read(buffer));
      if (got == 0) break;
      IMSY_TRY(write_all(file_.fd(), ByteSpan(buffer).first(got)));
    }
    return add_zeros(tar::padding(size));
  }

  Status add(const std::string& name, ByteSpan content) {
    IMSY_TRY(add_header(name, tar::Type::kRegular, content.size()));
    IMSY_TRY(write_all(file_.fd(), content));
    return add_zeros(tar::padding(content.size()));
  }

  Status finish() {
    IMSY_TRY(add_zeros(tar::kEndSize));
    return file_.commit(/*durable=*/true);
  }

 private:
  Status add_header(const std::string& name, tar::Type type, std::uint64_t size) {
    tar::Header header;
    header.name = name;
    header.type = type;
    header.mode = type == tar::Type::kDirectory ? 0755 : 0644;
    header.size = size;
    IMSY_TRY_ASSIGN(const std::string encoded, tar::encode_header(header));
    return write_all(file_.fd(), as_bytes(encoded));
  }

  Status add_zeros(std::uint64_t count) {
    static constexpr std::array<std::byte, tar::kEndSize> kZeros{};
    return write_all(file_.fd(), std::span(kZeros).first(static_cast<std::size_t>(count)));
  }

  AtomicFile file_;
};

class OciArchive : public ArchiveTarget {
 public:
  OciArchive(std::string name, fs::path temporary, AtomicFile output,
             std::map<std::string, std::string> annotations)
      : name_(std::move(name)),
        temporary_(std::move(temporary)),
        output_(std::move(output)),
        annotations_(std::move(annotations)) {
    index_.media_type = media_type::kOciIndex;
  }

  Status begin();

  std::string name() const override { return name_; }
  Result<std::unique_ptr<BlobWriter>> create_blob() override;
  Result<Arrival> put_blob(ByteSpan data, const Digest& digest) override;
  Result<Arrival> copy_blob(ImageSource& from, const Descriptor& blob) override;
  Status put_manifest(const Document& document, const std::string& tag) override;
  Status add_file(const std::string& path, ByteSpan content) override {
    return in_context(output_.add(path, content));
  }
  Status finish(const std::vector<Digest>& images) override;

  // A blob whose content is complete and has been hashed.
  Result<Arrival> add_blob(UniqueFd spool, std::uint64_t size, const Digest& digest);

 private:
  Status in_context(Status status) const {
    return status ? status : status.error().with_context(name_);
  }

  const std::string name_;
  const fs::path temporary_;
  ArchiveFile output_;
  const std::map<std::string, std::string> annotations_;  // of what a tag names
  std::set<Digest> blobs_;                                // that are in the archive
  Index index_;
};

// The header of a blob has its size and digest, so its content waits in a file of its own.
class SpooledBlob : public BlobWriter {
 public:
  SpooledBlob(OciArchive& archive, UniqueFd spool) : archive_(archive), spool_(std::move(spool)) {}

  Status write(ByteSpan data) override {
    hasher_.update(data);
    size_ += data.size();
    const Status written = write_all(spool_.get(), data);
    return written ? written : written.error().with_context("spool of a blob");
  }

  Result<Arrival> commit(const Digest& digest) override {
    if (const Digest found = hasher_.finish(); found != digest) {
      return Error(Errc::kCorrupt, "a blob was announced as " + digest.to_string() +
                                       ", but it is " + found.to_string());
    }
    return archive_.add_blob(std::move(spool_), size_, digest);
  }

 private:
  OciArchive& archive_;
  UniqueFd spool_;
  Hasher hasher_;
  std::uint64_t size_ = 0;
};

Status OciArchive::begin() {
  IMSY_TRY(
      in_context(output_.add(std::string(layout_file::kMarker), as_bytes(layout_file::marker()))));
  IMSY_TRY(in_context(output_.add_directory("blobs")));
  return in_context(output_.add_directory(std::string(layout_file::kBlobs)));
}

Result<std::unique_ptr<BlobWriter>> OciArchive::create_blob() {
  IMSY_TRY_ASSIGN(UniqueFd spool, anonymous_file(temporary_));
  return std::unique_ptr<BlobWriter>(std::make_unique<SpooledBlob>(*this, std::move(spool)));
}

Result<Arrival> OciArchive::add_blob(UniqueFd spool, std::uint64_t size, const Digest& digest) {
  if (!blobs_.insert(digest).second) return Arrival::kWasThere;
  auto file = std::make_shared<const UniqueFd>(std::move(spool));
  CheckedReader content(std::make_unique<FileRange>(std::move(file), 0, size), size, digest,
                        "spool of a blob");
  IMSY_TRY(in_context(output_.add(layout_file::blob_path(digest), content, size)));
  return Arrival::kSent;
}

Result<Arrival> OciArchive::put_blob(ByteSpan data, const Digest& digest) {
  if (sha256(data) != digest) {
    return Error(Errc::kCorrupt, "a blob does not have the digest " + digest.to_string());
  }
  if (!blobs_.insert(digest).second) return Arrival::kWasThere;
  IMSY_TRY(in_context(output_.add(layout_file::blob_path(digest), data)));
  return Arrival::kSent;
}

Result<Arrival> OciArchive::copy_blob(ImageSource& from, const Descriptor& blob) {
  return blobs_.contains(blob.digest) ? Arrival::kWasThere : ImageTarget::copy_blob(from, blob);
}

Status OciArchive::put_manifest(const Document& document, const std::string& tag) {
  IMSY_TRY(put_blob(as_bytes(document.bytes), document.digest));
  if (tag.empty()) return {};
  const std::string key(layout_file::kRefName);
  std::erase_if(index_.manifests, [&](const Descriptor& entry) {
    const auto named = entry.annotations.find(key);
    return named != entry.annotations.end() && named->second == tag;
  });
  index_.manifests.push_back(document.describe());
  index_.manifests.back().annotations = annotations_;
  index_.manifests.back().annotations[key] = tag;
  return {};
}

Status OciArchive::finish(const std::vector<Digest>& /*images*/) {
  IMSY_TRY(
      in_context(output_.add(std::string(layout_file::kIndex), as_bytes(index_.to_json().dump()))));
  return in_context(output_.finish());
}

}  // namespace

Result<std::unique_ptr<ImageSource>> open_oci_archive(const fs::path& file,
                                                      const fs::path& temporary) {
  const std::string name = name_of(file);
  auto archive = Archive::open(file, temporary);
  if (!archive) return archive.error().with_context(name);
  auto layout = std::make_unique<LayoutReader>(name, std::move(*archive));
  IMSY_TRY(layout->check());
  return std::unique_ptr<ImageSource>(std::move(layout));
}

Result<std::unique_ptr<ArchiveTarget>> create_oci_archive(
    const fs::path& file, const fs::path& temporary,
    const std::map<std::string, std::string>& annotations, std::string_view scheme) {
  const std::string name = name_of(file, scheme);
  auto target = replaceable_file(file);
  if (!target) return target.error().with_context(name);
  auto output = AtomicFile::create(*target, 0644);
  if (!output) return output.error().with_context(name);
  auto archive = std::make_unique<OciArchive>(name, temporary, std::move(*output), annotations);
  IMSY_TRY(archive->begin());
  return std::unique_ptr<ArchiveTarget>(std::move(archive));
}

}  // namespace imsy::oci
