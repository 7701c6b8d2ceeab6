// BlobSource: one place where the bytes of blobs can be had; the only thing cas knows of
// registries.
//
// It is asked once and answers once: who asks decides whether to ask again, or elsewhere
// (cas/sources.h).
// Implemented by cas/source/registry_source.h and, for tests, by tests/support/memory_source.h. The
// contract suite in tests/unit/cas/blob_source_contract.h runs over all of them.
// Threads: all methods from any thread; none waits.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cas/cost.h"
#include "cas/dispatch.h"
#include "common/bytes.h"
#include "common/digest.h"
#include "common/result.h"

namespace imsy::cas {

struct BlobRange {
  Digest blob;
  std::uint64_t blob_size = 0;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;  // > 0, inside the blob
  Purpose purpose = Purpose::kDemand;
};

// Who gets what one request brings, as it comes. Called on a thread of the source, one call at a
// time; none may wait.
class BlobReceiver {
 public:
  virtual ~BlobReceiver() = default;
  // Before the first bytes: the answer is the range that was asked for. Whose the bytes are: ""
  // anybody's.
  virtual void begin(const std::string& trust_domain) = 0;
  // The next bytes, unverified.
  virtual void take(ByteSpan piece) = 0;
  // The last call. Success: exactly the bytes asked for have come.
  virtual void end(const Status& status) = 0;
};

class BlobSource {
 public:
  using Time = std::chrono::steady_clock::time_point;
  // Ends the request with kCancelled if it is still open; from any thread.
  using Cancel = std::function<void()>;
  virtual ~BlobSource() = default;

  // The place has no other name, and no other place has this one. For people, too.
  virtual const std::string& name() const = 0;
  // Who serves it: places at one host share its connections.
  virtual const std::string& host() const = 0;
  // As far as its host has shown.
  virtual Cost cost() const = 0;

  // Gets exactly range.length bytes. The end of it comes once, perhaps after a part of the bytes.
  // kNotFound: the place has no such blob. kDenied: it wants other credentials. kInvalid: it
  // answers nonsense. kUnavailable, kTimeout: it may work later. kCancelled: it was cancelled, or
  // the source is going away.
  virtual Cancel read(const BlobRange& range, std::shared_ptr<BlobReceiver> receiver) = 0;

  // Asking before then is of no use: it has failed too often, or wants to be left alone.
  virtual Time usable_at() const = 0;

  // What it gave of the blob was wrong: it should look for the blob anew.
  virtual void distrust(const Digest& blob) = 0;
};

using Places = std::vector<std::shared_ptr<BlobSource>>;

// Finds the places of an image: returns at once and calls back later, at most once, from any
// thread; the best place first.
using Located = std::function<void(Result<Places>)>;
using Locate = std::function<void(Located)>;

}  // namespace imsy::cas
