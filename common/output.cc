#include "common/output.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <utility>

namespace imsy {

Result<Output> Output::open(const std::filesystem::path& path) {
  struct stat st {};
  const bool exists = ::stat(path.c_str(), &st) == 0;
  Output output(path);
  if (exists && !S_ISREG(st.st_mode)) {
    IMSY_TRY_ASSIGN(output.direct_, open_file(path, O_WRONLY | O_NOCTTY));
    return output;
  }
  IMSY_TRY_ASSIGN(const auto target, replaceable_file(path));
  IMSY_TRY_ASSIGN(auto file, AtomicFile::create(target, 0666));
  if (exists && ::fchmod(file.fd(), st.st_mode & 0777) != 0) {
    return Error::from_errno(errno, "fchmod " + path.string());
  }
  output.replacement_.emplace(std::move(file));
  return output;
}

Status Output::write(ByteSpan data) {
  const int fd = replacement_ ? replacement_->fd() : direct_.get();
  if (auto written = write_all(fd, data); !written) {
    return written.error().with_context(path_.string());
  }
  return {};
}

Status Output::commit() {
  return replacement_ ? replacement_->commit(/*durable=*/true) : Status();
}

}  // namespace imsy
