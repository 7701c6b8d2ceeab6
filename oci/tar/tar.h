// Tar: one entry's header, a reader equal to Go's archive/tar, and a deterministic writer.
//
// Source: POSIX.1-2001 pax interchange format, GNU tar's L/K records and base-256 numbers, Schily
// xattr records ("SCHILY.xattr.<name>"). containerd, Docker and podman all read tar with Go's
// archive/tar, so where readers differ ours does what Go does, or refuses. docs/format/tar.md.
// Threads: a reader or writer belongs to one thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/stream.h"

namespace imsy::oci::tar {

enum class Type : std::uint8_t {
  kRegular,
  kHardLink,
  kSymlink,
  kCharDevice,
  kBlockDevice,
  kDirectory,
  kFifo,
};

constexpr bool is_device(Type type) {
  return type == Type::kCharDevice || type == Type::kBlockDevice;
}

struct Header {
  std::string name;  // raw bytes as in the archive; not normalised
  std::string link;  // target of a hard link or symlink
  Type type = Type::kRegular;
  std::uint32_t mode = 0;  // permission bits and setuid, setgid, sticky (07777)
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::uint64_t size = 0;  // of the content, bytes; 0 unless regular. Sparse: the expanded size
  std::int64_t mtime_s = 0;
  std::uint32_t mtime_ns = 0;
  std::uint32_t device_major = 0;
  std::uint32_t device_minor = 0;
  std::map<std::string, std::string>
      xattrs;  // full name ("user.a", "security.capability") -> value
  // Pax records that are none of the above, as given (for imsy's anchor).
  std::map<std::string, std::string> records;
};

// More than one of these is kInvalid.
struct ReaderLimits {
  std::uint64_t pax_bytes = 1u << 20;     // of one pax header or GNU long name
  std::uint64_t sparse_bytes = 1u << 20;  // of one sparse map
  // Of the content of all sparse files together: some hundred bytes of archive can claim exabytes.
  std::uint64_t sparse_expanded = std::uint64_t{1} << 40;
};

// Reads entries in order. Ends at two zero blocks or at the end of the input, and then reads the
// input to its end (the bytes behind count for a layer's diffID). Names, links and records are
// handed on as they are: "..", absolute names, empty names and duplicates are the caller's to
// judge.
//
// A failed call leaves the reader failed: every later call gives the same error. An error of the
// input is passed on as it is. Both calls may wait for the input.
class Reader {
 public:
  // `input` must outlive the reader.
  explicit Reader(ByteReader& input, const ReaderLimits& limits = {});
  ~Reader();

  // The next entry, or false at the end. Skips what was not read of the entry before. kCorrupt for
  // a broken archive, kInvalid for one that is refused (unknown type, negative or huge numbers,
  // beyond a limit); the message names the entry and the offset of its header in the archive.
  // `header` is replaced as a whole, and undefined after an error.
  Result<bool> next(Header& header);
  // Content of the current entry, sparse regions as zeros; 0 at its end. kCorrupt when the archive
  // ends before it.
  Result<std::size_t> read(std::span<std::byte> buffer);
  // Where in the archive the content of the current entry begins. Nothing: it is a sparse file,
  // whose content does not lie there in one piece.
  std::optional<std::uint64_t> content_offset() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The header blocks of an entry: 512 bytes, with a pax header before them when a value does not fit
// ustar (long names, nanoseconds, xattrs, large numbers, records). A pure function of `header`:
// the same value gives the same bytes, for ever. The name of a directory ends in a slash, which the
// caller puts there.
// kInvalid for what tar cannot carry or readers would disagree about: a value that does not belong
// to the type (a size or link or device number on another one), an empty name, a NUL in a name or
// a '=' in an xattr's, a record that stands for one of the other members, more than 1 MiB of pax.
Result<std::string> encode_header(const Header& header);
// Zero bytes between the end of `size` bytes of content and the next header.
inline std::uint64_t padding(std::uint64_t size) {
  return (512 - size % 512) % 512;
}
// The end of an archive: two zero blocks.
inline constexpr std::size_t kEndSize = 1024;

// A whole archive of one entry, the directory "./" with mode 0755, owner 0:0, mtime 0 and one pax
// record. imsy's anchor layer; its SHA-256 is a diffID. kInvalid as for encode_header().
Result<std::string> marker_archive(std::string_view record_key, std::string_view record_value);

}  // namespace imsy::oci::tar
