// Uses all of a manifest the way its users do, and says what it finds wrong with itself.
#pragma once

#include <string>

#include "cdc/manifest.h"

namespace imsy::test {

// Visits every inode, entry, object, chunk and frame through the public functions. Empty when
// everything that the header of cdc/manifest.h promises holds; else what does not.
std::string walk(const cdc::Manifest& manifest);

}  // namespace imsy::test
