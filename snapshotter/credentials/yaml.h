// YAML as JSON: the part of it that configuration files need.
//
// Promises
//   * One document of mappings, lists and scalars; JSON is such a document. Every scalar becomes a
//     string, a plain "null", "~" or nothing becomes null: who reads it knows what it should be.
//   * Anchors, aliases, tags and a key that stands twice in one mapping are refused: nothing can
//     become larger than it is written, and nothing can be read two ways.
//   * Depth and number of nodes are bounded. No message quotes the text, which may hold secrets.
// Threads: a pure function. Errors: kInvalid, with "<where> line <n>: ".
#pragma once

#include <string_view>

#include "oci/json.h"

namespace imsy::snapshotter {

Result<oci::Json> parse_yaml(std::string_view text, std::string_view where);

}  // namespace imsy::snapshotter
