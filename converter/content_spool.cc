#include "converter/content_spool.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace imsy::converter {
namespace {

constexpr std::size_t kWindow = 4u << 20;

bool all_zero(ByteSpan data) {
  return data[0] == std::byte{0} && std::memcmp(data.data(), data.data() + 1, data.size() - 1) == 0;
}

}  // namespace

Result<ContentSpool> ContentSpool::create(const std::filesystem::path& dir,
                                          const cdc::ChunkerParameters& parameters) {
  IMSY_TRY(cdc::validate(parameters));
  IMSY_TRY_ASSIGN(auto file, anonymous_file(dir));
  return ContentSpool(std::move(file), parameters);
}

ContentSpool::ContentSpool(UniqueFd file, const cdc::ChunkerParameters& parameters)
    : file_(std::move(file)),
      chunker_(parameters),
      window_(std::max<std::size_t>(kWindow, 2 * std::size_t{parameters.size_max})) {}

Result<std::uint32_t> ContentSpool::add(ByteReader& input, std::uint64_t size) {
  const std::uint64_t start = end_;
  const std::size_t first_chunk = digests_.size();
  std::uint64_t left = size;
  while (left > 0 || begin_ < filled_) {
    const std::size_t have = filled_ - begin_;
    if (left > 0 && have < chunker_.parameters().size_max) {
      IMSY_TRY(fill(input, left));
      continue;
    }
    const auto rest = ByteSpan(window_).subspan(begin_, have);
    const std::size_t length = chunker_.next(rest);
    IMSY_TRY(add_chunk(rest.first(length)));
    begin_ += length;
  }
  begin_ = filled_ = 0;

  const auto digests = std::span(digests_).subspan(first_chunk);
  const auto [known, is_new] = by_id_.try_emplace(cdc::object_id(size, digests),
                                                  static_cast<std::uint32_t>(contents_.size()));
  if (is_new) {
    contents_.push_back({size, start, first_chunk, static_cast<std::uint32_t>(digests.size())});
    return known->second;
  }
  // Seen before: the copy just written is forgotten, and overwritten by the next content.
  digests_.resize(first_chunk);
  sizes_.resize(first_chunk);
  end_ = start;
  if (::ftruncate(file_.get(), static_cast<off_t>(end_)) != 0) {
    return Error::from_errno(errno, "truncate the spool");
  }
  return known->second;
}

// Moves what is left to the front of the window and reads behind it.
Status ContentSpool::fill(ByteReader& input, std::uint64_t& left) {
  if (begin_ > 0) {
    std::memmove(window_.data(), window_.data() + begin_, filled_ - begin_);
    filled_ -= begin_;
    begin_ = 0;
  }
  const auto room = std::span(window_).subspan(filled_);
  const auto wanted = static_cast<std::size_t>(std::min<std::uint64_t>(left, room.size()));
  IMSY_TRY_ASSIGN(const std::size_t got, input.read(room.first(wanted)));
  if (got == 0) return Error(Errc::kCorrupt, "a file's content ends too early");
  filled_ += got;
  left -= got;
  return {};
}

Status ContentSpool::add_chunk(ByteSpan chunk) {
  digests_.push_back(sha256(chunk));
  sizes_.push_back(static_cast<std::uint32_t>(chunk.size()));
  if (!all_zero(chunk)) {
    auto written = pwrite_all(file_.get(), chunk, end_);
    if (!written) return written.error().with_context("spool of file contents");
  }
  end_ += chunk.size();
  return {};
}

std::span<const cdc::ChunkDigest> ContentSpool::digests(std::uint32_t content) const {
  const Content& c = contents_[content];
  return std::span(digests_).subspan(c.first_chunk, c.chunks);
}

std::span<const std::uint32_t> ContentSpool::chunk_sizes(std::uint32_t content) const {
  const Content& c = contents_[content];
  return std::span(sizes_).subspan(c.first_chunk, c.chunks);
}

Status ContentSpool::read(std::uint32_t content, std::uint64_t offset,
                          std::span<std::byte> buffer) const {
  std::uint64_t place = contents_[content].place + offset;
  while (!buffer.empty()) {
    const ssize_t n = ::pread(file_.get(), buffer.data(), buffer.size(), static_cast<off_t>(place));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Error::from_errno(errno, "read the spool");
    if (n == 0) {  // behind the last byte that was not zero
      std::fill(buffer.begin(), buffer.end(), std::byte{0});
      return {};
    }
    buffer = buffer.subspan(static_cast<std::size_t>(n));
    place += static_cast<std::uint64_t>(n);
  }
  return {};
}

}  // namespace imsy::converter
