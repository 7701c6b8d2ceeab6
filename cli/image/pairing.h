// Pairing: which image of an original each converted one is held against.
//
// Threads: pure functions on plain values.
#pragma once

#include <vector>

#include "cli/image/place.h"

namespace imsy::cli::image {

// The manifest that `converted` was made from: the one it names, if that is for the same platform;
// else the only one for its platform, which somebody may have stored in another form. kNotFound:
// there is none; kInvalid: there are several, none of which it names.
Result<Digest> find_original(const std::vector<Listed>& originals, const Listed& converted);

// Whether each of `originals` is found for one of `converted`, and the other way round. kNotFound
// names those that are not; else errors of find_original().
Status check_complete(const std::vector<Listed>& originals, const std::vector<Listed>& converted);

}  // namespace imsy::cli::image
