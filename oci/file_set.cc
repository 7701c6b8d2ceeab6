#include "oci/file_set.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace imsy::oci {

Result<std::string> read_document(const FileSet& files, const std::string& path) {
  IMSY_TRY_ASSIGN(const FileSet::File file, files.open(path));
  if (file.size > kDocumentLimit) {
    return Error(Errc::kInvalid,
                 path + ": larger than the limit of " + std::to_string(kDocumentLimit) + " bytes");
  }
  std::string text(static_cast<std::size_t>(file.size), '\0');
  const Status read = read_exactly(*file.content, std::as_writable_bytes(std::span(text)));
  if (!read) return read.error().with_context(path);
  return text;
}

void FileRange::skip(std::uint64_t bytes) {
  bytes = std::min(bytes, left_);
  offset_ += bytes;
  left_ -= bytes;
}

Result<std::size_t> FileRange::read(std::span<std::byte> buffer) {
  const auto wanted = static_cast<std::size_t>(std::min<std::uint64_t>(buffer.size(), left_));
  ssize_t got = 0;
  do {
    got = ::pread(file_->get(), buffer.data(), wanted, static_cast<off_t>(offset_));
  } while (got < 0 && errno == EINTR);
  if (got < 0) return Error::from_errno(errno, "read");
  offset_ += static_cast<std::uint64_t>(got);
  left_ -= static_cast<std::uint64_t>(got);
  return static_cast<std::size_t>(got);
}

CheckedReader::CheckedReader(std::unique_ptr<ByteReader> input, std::uint64_t size,
                             const Digest& digest, std::string what, std::string complaint)
    : input_(std::move(input)),
      size_(size),
      digest_(digest),
      what_(std::move(what)),
      complaint_(std::move(complaint)) {}

Result<std::size_t> CheckedReader::read(std::span<std::byte> buffer) {
  if (buffer.empty()) return std::size_t{0};
  auto got = input_->read(buffer);
  if (!got) return got.error().with_context(what_);
  hasher_.update(buffer.first(*got));
  seen_ += *got;
  if (*got > 0 && seen_ <= size_) return got;
  if (!finished_) {
    finished_ = true;
    right_ = seen_ == size_ && hasher_.finish() == digest_;
  }
  if (right_) return std::size_t{0};
  const std::string wrong = seen_ == size_ ? "its content has another digest"
                                           : std::string("it has ") +
                                                 (seen_ < size_ ? "fewer" : "more") + " than the " +
                                                 std::to_string(size_) + " bytes it should have";
  return Error(Errc::kCorrupt, what_ + ": " + complaint_ + ", " + wrong);
}

}  // namespace imsy::oci
