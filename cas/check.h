// What a check of a store looks at, and what it finds. Store::check() does it.
//
// Threads: plain values; the events are called by the thread that checks.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "common/digest.h"
#include "common/result.h"

namespace imsy::cas {

// Where a check is; what is before it has been looked at.
struct CheckPosition {
  enum class Part {
    kIndex,    // the index itself
    kImages,   // by digest, and the objects of each
    kUnowned,  // objects that no image owns, by id
    kFiles,    // that belong to nothing, by folder
  };
  Part part = Part::kIndex;
  Digest at;                 // the next image or object
  std::uint32_t number = 0;  // of the next object of the image; of the next folder

  // One line. parse() gives kInvalid for what is none.
  std::string to_text() const;
  static Result<CheckPosition> parse(std::string_view text);
};

struct CheckOptions {
  bool read_data = true;  // hash the contents as they are on the disk, past the page cache
  bool repair = false;    // mend what is found, or take it off the record so that it is fetched
  std::uint64_t bytes_per_second = 0;  // of contents, at most; 0: no limit
  // Sees to it that a damaged CDC manifest is fetched again; only called with `repair`.
  std::function<Status(const Digest& manifest)> fetch_manifest = {};
  CheckPosition from = {};
};

struct Finding {
  std::string where;                // a name below the store's root
  std::string what;                 // is wrong with it
  std::string remedy = {};          // what was done, or what to do
  bool mended = false;              // nothing wrong will be served of it
  std::vector<Digest> images = {};  // that lack something until it was fetched again
};

struct CheckSummary {
  std::uint64_t images = 0;
  std::uint64_t objects = 0;
  std::uint64_t bytes = 0;  // of contents that were hashed
  std::uint64_t findings = 0;
  std::uint64_t mended = 0;
};

struct CheckEvents {
  std::function<void(const Finding&)> finding;
  // After each object: so much is done.
  std::function<void(const CheckPosition&, const CheckSummary&)> progress;
};

}  // namespace imsy::cas
