// Profiles: the files that say what containers read first, one for each image that was recorded.
//
// <root>/profiles/<CDC manifest>, in the format of cdc/recording.h. Not synced: after a power cut a
// file may be shorter, which costs nothing but a part of a profile.
// Threads: all methods from any thread. They wait for the disk.
#pragma once

#include <filesystem>
#include <memory>
#include <utility>
#include <vector>

#include "common/digest.h"
#include "common/io.h"
#include "common/result.h"

namespace imsy::snapshotter {

class Profiles {
 public:
  // Makes `directory` when it is missing. Errors: as own_directory().
  static Result<std::unique_ptr<Profiles>> open(const std::filesystem::path& directory);

  // A new file to append to. kAlreadyExists: the image was recorded before.
  Result<UniqueFd> create(const Digest& manifest) const;
  // Absent: no error. Who still writes to the file does so in vain.
  Status remove(const Digest& manifest) const;
  // The images that have one, in no order.
  Result<std::vector<Digest>> list() const;

 private:
  Profiles(std::filesystem::path directory, UniqueFd fd)
      : directory_(std::move(directory)), fd_(std::move(fd)) {}

  const std::filesystem::path directory_;
  const UniqueFd fd_;
};

}  // namespace imsy::snapshotter
