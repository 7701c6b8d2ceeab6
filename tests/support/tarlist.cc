// tarlist prints what our tar reader reads from archives, one canonical line per entry.
//
// The names of the archives come on standard input, one per line; compression is recognised. The
// same as golist/main.go prints from Go's reader.
#include <fcntl.h>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <iostream>
#include <set>
#include <string>

#include "common/digest.h"
#include "common/io.h"
#include "oci/decompress.h"
#include "oci/tar/tar.h"

namespace imsy::oci {
namespace {

// Sparse files of a few bytes can claim exabytes.
constexpr std::uint64_t kContentMax = 64u << 20;

class FileReader : public ByteReader {
 public:
  explicit FileReader(UniqueFd fd) : fd_(std::move(fd)) {}
  Result<std::size_t> read(std::span<std::byte> buffer) override {
    return read_some(fd_.get(), buffer);
  }

 private:
  UniqueFd fd_;
};

std::string escape(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       std::string_view("_./-").find(c) != std::string_view::npos;
    char hex[4];
    std::snprintf(hex, sizeof hex, "%%%02x", static_cast<unsigned>(static_cast<unsigned char>(c)));
    out += plain ? std::string(1, c) : hex;
  }
  return out;
}

const char* name_of(tar::Type type) {
  switch (type) {
    case tar::Type::kRegular: return "file";
    case tar::Type::kHardLink: return "hardlink";
    case tar::Type::kSymlink: return "symlink";
    case tar::Type::kCharDevice: return "char";
    case tar::Type::kBlockDevice: return "block";
    case tar::Type::kDirectory: return "directory";
    case tar::Type::kFifo: return "fifo";
  }
  return "?";
}

void print_entry(const tar::Header& header, const std::string& content) {
  std::printf("entry %s %s link=%s mode=%o uid=%" PRIu32 " gid=%" PRIu32 " size=%" PRIu64
              " mtime=%" PRId64 ".%09" PRIu32 " dev=%" PRIu32 ",%" PRIu32 " sha256=%s",
              name_of(header.type), escape(header.name).c_str(), escape(header.link).c_str(),
              header.mode, header.uid, header.gid, header.size, header.mtime_s, header.mtime_ns,
              header.device_major, header.device_minor, content.c_str());
  std::set<std::string> records;
  for (const auto& [name, value] : header.xattrs) {
    records.insert(" xattr:" + escape(name) + "=" + escape(value));
  }
  for (const auto& [key, value] : header.records) {
    records.insert(" record:" + escape(key) + "=" + escape(value));
  }
  for (const auto& record : records) std::fputs(record.c_str(), stdout);
  std::puts("");
}

Status list(const std::string& path) {
  IMSY_TRY_ASSIGN(UniqueFd fd, open_file(path, O_RDONLY));
  FileReader file(std::move(fd));
  IMSY_TRY_ASSIGN(const auto input, decompress(file));
  tar::Reader reader(*input.content, {.sparse_expanded = kContentMax});
  Bytes buffer(1 << 16);
  Hasher hasher;
  for (tar::Header header;;) {
    IMSY_TRY_ASSIGN(const bool more, reader.next(header));
    if (!more) return {};
    for (;;) {
      IMSY_TRY_ASSIGN(const std::size_t got, reader.read(buffer));
      if (got == 0) break;
      hasher.update(std::span(buffer).first(got));
    }
    print_entry(header, hasher.finish().hex());
  }
}

int run() {
  for (std::string path; std::getline(std::cin, path);) {
    std::printf("archive %s\n", path.c_str());
    const auto listed = list(path);
    if (listed) {
      std::puts("end");
    } else {
      std::printf("error %s\n", listed.error().message().c_str());
    }
  }
  return 0;
}

}  // namespace
}  // namespace imsy::oci

int main() {
  return imsy::oci::run();
}
