// prepare: cuts a stream into chunks and keeps them, and the list of them, in a directory.
//
// Threads: call from one thread; hashing and writing go on beside it.
#pragma once

#include "cli/seed/directory.h"
#include "common/digest.h"
#include "common/stream.h"

namespace imsy::cli::seed {

// Reads `in` to its end and returns the digest of the list. By then everything is on disk for good.
// Memory: a few chunks, and 32 bytes for each chunk of the stream. kInvalid: the list would be
// longer than imsy reads. Other errors are those of `in` and of the disk; chunks that were stored
// by then stay, and are found again when the command is repeated.
Result<Digest> prepare(ByteReader& in, const Directory& directory);

}  // namespace imsy::cli::seed
