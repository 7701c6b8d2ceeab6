// diff: what a node that holds one image fetches for another one.
//
// The rules are those of the background fill, which makes an image resident: a chunk is had when
// the old image has it, anywhere; a frame is fetched when it brings a chunk that is not had, in the
// order of the frames, and brings all its chunks; neighbours are joined by cas/planner.h with
// the options of cas/fetcher.h. The CDC manifest is fetched whole. A node that holds still other
// images fetches less.
// Threads: pure functions on plain values.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "cli/image/compare.h"
#include "cli/image/inspect.h"
#include "converter/proved_image.h"

namespace imsy::cli::image {

struct ChangedFile {
  Change change = Change::kAdded;
  std::string path;
  std::string what;             // of one that both images have
  std::uint64_t size = 0;       // of a regular file's content; of a removed one the old
  std::uint64_t new_bytes = 0;  // of chunks that no file before it brings
};

// What is fetched from the frames.
struct Upgrade {
  Amount chunks;               // that the node does not have
  Amount frames;               // that hold them, stored bytes
  std::uint64_t requests = 0;  // for the frames
  std::uint64_t bytes = 0;     // that they bring: the frames and the gaps between them
};

struct Diff {
  std::string platform;
  Digest from;  // image manifests
  Digest to;
  std::uint64_t manifest_size = 0;  // CDC manifest of the new image, bytes
  // Paths of all types, by Change.
  std::uint64_t same = 0;
  std::uint64_t attributes = 0;
  std::uint64_t changed = 0;
  std::uint64_t added = 0;
  std::uint64_t removed = 0;
  Upgrade upgrade;
  std::vector<ChangedFile> files;  // all that are not the same, in the order of paths
};

Diff diff(const converter::ProvedImage& from, const converter::ProvedImage& to);

// For people. `files`: with a line for each path that is not the same.
std::string to_text(const Diff& diff, bool files);
// For programs. Described in docs/cli.md.
nlohmann::ordered_json to_json(const Diff& diff, bool files);

}  // namespace imsy::cli::image
