// IndexScan: what the index has on record, for who goes over all of it. Internal to cas.
//
// A connection of its own, so that look-ups do not wait for it. It sees what is written, not what
// is queued.
// Threads: belongs to one thread. Waits for the disk.
// On disk: docs/format/store.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cas/index.h"
#include "cas/sqlite.h"

namespace imsy::cas {

class IndexScan {
 public:
  struct Image {
    Index::ImageRow row;
    bool resident = false;
    std::uint64_t owned = 0;  // objects
  };
  struct Object {
    cdc::ObjectId id;
    bool complete = false;  // on record as that
  };

  static Result<IndexScan> open(const Layout& layout);

  // What is wrong with the tables that promises rest on, or "".
  Result<std::string> fault();
  // Rows about objects or images that are not there.
  Result<std::uint64_t> dangling_rows();
  // All images from `first` on, by digest.
  Result<std::vector<Digest>> images_from(const Digest& first);
  // nullopt: there is none.
  Result<std::optional<Image>> image(const Digest& manifest);
  // The images that own the object, by digest.
  Result<std::vector<Digest>> owners_of(const cdc::ObjectId& object);
  Result<bool> knows(const cdc::ObjectId& object);
  // Objects that no image owns, from `first` on, by id.
  Result<std::vector<Object>> unowned_from(const cdc::ObjectId& first, std::size_t limit);

 private:
  explicit IndexScan(Database database) : database_(std::move(database)) {}

  Database database_;
  Statement owners_;
  Statement knows_;
};

}  // namespace imsy::cas
