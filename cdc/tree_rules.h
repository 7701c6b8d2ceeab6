// What a tree must satisfy before anybody serves it. Internal to cdc.
//
// Threads: free functions on plain data.
#pragma once

#include <string>
#include <string_view>

#include "cdc/manifest.h"

namespace imsy::cdc {

// Names legal, sorted and unique, paths within depth and length; attributes, targets, device
// numbers and xattrs within their limits. kInvalid names the path. That indexes are in range and
// that the tree is a tree is for the caller, who built it that way. O(entries).
Status check_tree(const Tree& tree);

// `bytes` in double quotes for a message: control characters, quotes, backslashes and non-ASCII
// bytes as \xNN, so that a hostile name can neither forge a log line nor break a terminal.
std::string in_quotes(std::string_view bytes);

}  // namespace imsy::cdc
