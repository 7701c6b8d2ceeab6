// Any bytes as a tar archive: no crash, bounded memory, and what was read can be written and read
// again.
#include <cstdio>
#include <cstdlib>

#include "oci/tar/tar.h"
#include "tests/fuzz/mended_tar.h"
#include "tests/fuzz/span_reader.h"

namespace imsy::oci::tar {
namespace {

// Sparse files expand to any size; the fuzzer has no time to read zeros.
constexpr std::uint64_t kExpanded = 1u << 16;

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "tar_fuzz: %s\n", what);
  std::abort();
}

bool same(const Header& a, const Header& b) {
  return a.name == b.name && a.link == b.link && a.type == b.type && a.mode == b.mode &&
         a.uid == b.uid && a.gid == b.gid && a.size == b.size && a.mtime_s == b.mtime_s &&
         a.mtime_ns == b.mtime_ns && a.device_major == b.device_major &&
         a.device_minor == b.device_minor && a.xattrs == b.xattrs && a.records == b.records;
}

void check_round_trip(const Header& header) {
  const auto bytes = encode_header(header);
  if (!bytes) return;
  SpanReader input(as_bytes(*bytes));
  Reader reader(input, {.sparse_expanded = kExpanded});
  Header again;
  const auto more = reader.next(again);
  require(more && *more, "what was written cannot be read");
  require(same(header, again), "what was written reads differently");
}

void read_all(ByteSpan data) {
  SpanReader input(data);
  Reader reader(input, {.sparse_expanded = kExpanded});
  std::byte buffer[4096];
  for (Header header;;) {
    const auto more = reader.next(header);
    if (!more || !*more) return;
    std::uint64_t size = 0;
    for (;;) {
      const auto got = reader.read(buffer);
      if (!got) return;
      if (*got == 0) break;
      size += *got;
    }
    require(size == header.size, "the content is not as long as its header says");
    check_round_trip(header);
  }
}

}  // namespace
}  // namespace imsy::oci::tar

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  imsy::oci::tar::read_all(bytes);
  imsy::oci::tar::read_all(imsy::mended_tar(bytes));
  return 0;
}
