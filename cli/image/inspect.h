// inspect: what a converted image consists of, and what it shares with others.
//
// Everything is read from the image's documents and its CDC manifest.
// Threads: pure functions on plain values.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "converter/proved_image.h"

namespace imsy::cli::image {

// A number of things, and the bytes of all of them.
struct Amount {
  std::uint64_t count = 0;
  std::uint64_t bytes = 0;

  void add(std::uint64_t size) {
    ++count;
    bytes += size;
  }
  bool operator==(const Amount&) const = default;
};

nlohmann::ordered_json to_json(const Amount& amount);

// What of an image another one has too.
struct Shared {
  std::string with;  // as the other image was named
  Amount objects;
  Amount chunks;  // distinct ones, those of shared objects included
};

struct Inspection {
  std::string platform;
  Digest image;   // manifest
  Digest source;  // manifest of the original; zero when it is not recorded
  Digest cdc_manifest;
  std::vector<cdc::Anchor::DataLayer> data_layers;
  std::uint64_t raw_size = 0;     // of the tar
  std::uint64_t stored_size = 0;  // of the data layers
  std::uint64_t manifest_size = 0;
  std::uint64_t mount_size = 0;  // of the part of the CDC manifest that a mount needs
  std::uint64_t entries = 0;     // names in the tree
  Amount files;                  // regular files; hard links are one
  Amount objects;                // their distinct contents
  Amount chunks;                 // of these objects
  Amount distinct_chunks;
  Amount frames;  // stored bytes
  std::vector<Shared> shared;
};

Inspection inspect(const converter::ProvedImage& image);

// Compares `image` with `other`, which was named `name`.
Shared share(const converter::ProvedImage& image, const converter::ProvedImage& other,
             const std::string& name);

// For people: a table.
std::string to_text(const Inspection& inspection);
// For programs. Described in docs/cli.md.
nlohmann::ordered_json to_json(const Inspection& inspection);

}  // namespace imsy::cli::image
