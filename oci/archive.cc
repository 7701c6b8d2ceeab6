#include "oci/archive.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>
#include <string_view>
#include <utility>

#include "common/log.h"
#include "oci/decompress.h"
#include "oci/tar/tar.h"

namespace imsy::oci {
namespace {

constexpr std::size_t kMembersMax = 65'536;
constexpr std::size_t kNameMax = 1'024;
constexpr int kLinksMax = 8;

// A file from where it stands to its end, copied into another one on the way if that is wanted.
class Input : public ByteReader {
 public:
  explicit Input(int file) : file_(file) {}
  Result<std::size_t> read(std::span<std::byte> buffer) override {
    return read_some(file_, buffer);
  }

 private:
  const int file_;
};

class Copying : public ByteReader {
 public:
  Copying(ByteReader& input, int copy) : input_(input), copy_(copy) {}
  Result<std::size_t> read(std::span<std::byte> buffer) override {
    IMSY_TRY_ASSIGN(const std::size_t got, input_.read(buffer));
    const Status written = write_all(copy_, buffer.first(got));
    if (!written) return written.error().with_context("spool of the archive");
    return got;
  }

 private:
  ByteReader& input_;
  const int copy_;
};

// Where the symbolic link `name` leads: a path in the archive, or nothing for one outside.
std::optional<std::string> follow(const std::string& name, std::string_view target) {
  if (target.starts_with('/')) return std::nullopt;
  std::string path = name.substr(0, name.rfind('/') + 1);
  while (!target.empty()) {
    const std::size_t end = std::min(target.find('/'), target.size());
    const std::string_view part = target.substr(0, end);
    target.remove_prefix(std::min(end + 1, target.size()));
    if (part.empty() || part == ".") continue;
    if (part != "..") {
      path += std::string(part) + "/";
      continue;
    }
    if (path.empty()) return std::nullopt;
    path.pop_back();
    path.resize(path.rfind('/') + 1);
  }
  if (!path.empty()) path.pop_back();
  return path;
}

}  // namespace

// Reads the archive and notes where its files lie.
class Archive::Indexer {
 public:
  explicit Indexer(Archive& archive) : archive_(archive) {}

  Status run(ByteReader& input) {
    tar::Reader tar(input);
    tar::Header header;
    for (;;) {
      IMSY_TRY_ASSIGN(const bool more, tar.next(header));
      if (!more) return {};
      const Status added = add(header, tar.content_offset());
      if (!added) return added.error().with_context(log::printable(header.name.substr(0, 200)));
    }
  }

 private:
  Status add(const tar::Header& header, std::optional<std::uint64_t> offset) {
    IMSY_TRY_ASSIGN(const std::string path, archive_path(header.name));
    Member member;
    switch (header.type) {
      case tar::Type::kRegular:
        if (!offset) return Error(Errc::kInvalid, "is a sparse file; pack the archive without");
        member.offset = *offset;
        member.size = header.size;
        break;
      case tar::Type::kHardLink: {
        IMSY_TRY_ASSIGN(member.link, archive_path(header.link));
        break;
      }
      case tar::Type::kSymlink: {
        if (header.link.size() > kNameMax) return Error(Errc::kInvalid, "its target is too long");
        auto target = follow(path, header.link);
        if (!target) return Error(Errc::kInvalid, "is a link that leads out of the archive");
        member.link = std::move(*target);
        break;
      }
      default: return {};  // no image keeps anything in directories themselves, or in devices
    }
    if (archive_.members_.size() >= kMembersMax) {
      return Error(Errc::kInvalid, "the archive has more than 65536 files");
    }
    if (!archive_.members_.emplace(path, std::move(member)).second) {
      return Error(Errc::kInvalid, "the archive has two files of this name");
    }
    return {};
  }

  Archive& archive_;
};

Result<std::string> archive_path(std::string_view name) {
  if (name.size() > kNameMax) return Error(Errc::kInvalid, "its name is longer than 1024 bytes");
  std::string path;
  while (!name.empty()) {
    const std::size_t end = std::min(name.find('/'), name.size());
    const std::string_view part = name.substr(0, end);
    name.remove_prefix(std::min(end + 1, name.size()));
    if (part.empty() || part == ".") continue;
    if (part == "..") return Error(Errc::kInvalid, "a name may not contain \"..\"");
    if (!path.empty()) path += '/';
    path += part;
  }
  return path;
}

Result<UniqueFd> open_input(const std::filesystem::path& file) {
  if (file != "-") return open_file(file, O_RDONLY);
  const int input = ::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0);
  if (input < 0) return Error::from_errno(errno, "standard input");
  return UniqueFd(input);
}

// A file that stands elsewhere than at its beginning was handed over to be read from there.
bool is_seekable(const UniqueFd& file) {
  struct stat st {};
  return ::fstat(file.get(), &st) == 0 && S_ISREG(st.st_mode) &&
         ::lseek(file.get(), 0, SEEK_CUR) == 0;
}

bool is_plain(const UniqueFd& file) {
  std::array<std::byte, 4> head{};
  const ssize_t got = ::pread(file.get(), head.data(), head.size(), 0);
  return got >= 0 && detect_compression(std::span(head).first(static_cast<std::size_t>(got))) ==
                         Compression::kNone;
}

Result<std::unique_ptr<const Archive>> Archive::open(const std::filesystem::path& file,
                                                     const std::filesystem::path& temporary) {
  IMSY_TRY_ASSIGN(UniqueFd input, open_input(file));
  return read(std::move(input), temporary);
}

Result<std::unique_ptr<const Archive>> Archive::read(UniqueFd file,
                                                     const std::filesystem::path& temporary) {
  auto archive = std::make_unique<Archive>();
  Indexer indexer(*archive);
  Input input(file.get());
  if (is_seekable(file) && is_plain(file)) {
    IMSY_TRY(indexer.run(input));
    archive->file_ = std::make_shared<const UniqueFd>(std::move(file));
  } else {
    IMSY_TRY_ASSIGN(UniqueFd spool, anonymous_file(temporary));
    IMSY_TRY_ASSIGN(const auto plain, decompress(input));
    Copying copying(*plain.content, spool.get());
    IMSY_TRY(indexer.run(copying));
    archive->file_ = std::make_shared<const UniqueFd>(std::move(spool));
  }
  return std::unique_ptr<const Archive>(std::move(archive));
}

Result<FileSet::File> Archive::open(const std::string& path) const {
  std::string name = path;
  for (int i = 0; i <= kLinksMax; ++i) {
    const auto found = members_.find(name);
    if (found == members_.end()) {
      const std::string via = i == 0 ? "" : ", to which " + log::printable(path) + " is a link";
      return Error(Errc::kNotFound, "has no file " + log::printable(name) + via);
    }
    const Member& member = found->second;
    if (member.link.empty()) {
      return File{member.size, std::make_unique<FileRange>(file_, member.offset, member.size)};
    }
    name = member.link;
  }
  return Error(Errc::kInvalid, log::printable(path) + ": leads through too many links");
}

}  // namespace imsy::oci
