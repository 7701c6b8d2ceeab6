#include "snapshotter/profiles.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "snapshotter/own_directory.h"

namespace imsy::snapshotter {

Result<std::unique_ptr<Profiles>> Profiles::open(const std::filesystem::path& directory) {
  IMSY_TRY_ASSIGN(auto whole, own_directory(directory, 0700));
  IMSY_TRY_ASSIGN(UniqueFd fd, open_file(whole, O_PATH | O_DIRECTORY | O_NOFOLLOW));
  return std::unique_ptr<Profiles>(new Profiles(std::move(whole), std::move(fd)));
}

Result<UniqueFd> Profiles::create(const Digest& manifest) const {
  constexpr int kNewFile = O_WRONLY | O_APPEND | O_CREAT | O_EXCL | O_NOFOLLOW;
  return open_file_at(fd_.get(), manifest.hex(), kNewFile, 0600);
}

Status Profiles::remove(const Digest& manifest) const {
  if (::unlinkat(fd_.get(), manifest.hex().c_str(), 0) == 0 || errno == ENOENT) return {};
  return Error::from_errno(errno, "remove " + (directory_ / manifest.hex()).string());
}

Result<std::vector<Digest>> Profiles::list() const {
  std::vector<Digest> found;
  std::error_code error;
  for (auto at = std::filesystem::directory_iterator(directory_, error);
       !error && at != std::filesystem::directory_iterator(); at.increment(error)) {
    const auto manifest = Digest::parse_hex(at->path().filename().string());
    if (manifest) found.push_back(*manifest);
  }
  if (error) return Error::from_errno(error.value(), "list " + directory_.string());
  return found;
}

}  // namespace imsy::snapshotter
