// BlobSource: where the fetch engine gets a blob's bytes from; the only thing cas knows of
// registries.
//
// Implemented by cas/source/registry_source.h and, for tests, by tests/support/memory_source.h. The
// contract suite in tests/unit/cas/blob_source_contract.h runs over all of them.
// Threads: read() from any thread, never waits.
#pragma once

#include <cstdint>
#include <functional>

#include "common/bytes.h"
#include "common/digest.h"
#include "common/result.h"

namespace imsy::cas {

struct BlobRange {
  Digest blob;
  std::uint64_t blob_size = 0;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;  // > 0, inside the blob
};

class BlobSource {
 public:
  using Done = std::function<void(Result<Bytes>)>;
  virtual ~BlobSource() = default;

  // Gets exactly range.length bytes, unverified. `done` runs exactly once, on a thread of the
  // source, and must not wait. kNotFound: the source has no such blob. kDenied: it wants other
  // credentials. kUnavailable, kTimeout: it may work later. kInvalid: it answers nonsense.
  virtual void read(const BlobRange& range, Done done) = 0;
};

}  // namespace imsy::cas
