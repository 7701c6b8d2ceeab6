// StoredObject: one object of the store: its file, which of its chunks are there, and its changes
// of place. Internal to cas/store*.cc.
//
//   nowhere --first put--> partial/ --last chunk present--> objects/
//                             ^                                |
//                             '--a chunk turns out to be bad---'
//
// A chunk is unknown (an earlier run may have left it), absent or present. Unknown ends by hashing;
// present ends only when some chunk of the object turns out to be bad. Before an object leaves
// objects/ the index forgets, durably, that it was complete; only then may its bytes change.
//
// Threads: all methods from any thread. docs/locks.md.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cas/index.h"
#include "cas/layout.h"
#include "cas/store.h"
#include "common/mutex.h"

namespace imsy::cas {

class StoredObject final : public Object {
 public:
  // What the file system and the index say of the object. Removes a file that cannot be its
  // content. Layout and index outlive the object.
  static Result<std::shared_ptr<StoredObject>> open(const Layout& layout, Index& index,
                                                    const cdc::Manifest& manifest,
                                                    std::uint32_t object);

  const cdc::ObjectId& id() const override { return id_; }
  bool complete() const override { return complete_.load(std::memory_order_acquire); }
  bool has_chunk(std::uint32_t index) override;
  Status read(std::uint64_t offset, std::span<std::byte> buffer) override;
  int fd() const override { return fd_.load(std::memory_order_acquire); }

  Status put(std::uint32_t index, ByteSpan raw, const std::string& trust_domain);
  // The chunk at `offset` is not what it should be, as somebody found who read it.
  void reject(std::uint64_t offset);

 private:
  enum class Where { kNowhere, kPartial, kObjects };
  enum ChunkState : std::uint8_t { kUnknown, kAbsent, kPresent };

  StoredObject(const Layout& layout, Index& index, const cdc::Manifest& manifest,
               std::uint32_t object);
  Status find_file();
  Status reject_size(std::uint64_t size);
  void set_all(ChunkState state);
  bool verify(std::uint32_t index);
  bool holds(std::uint32_t index, int fd) const;
  void set_present(std::uint32_t index);
  void finish();
  void lose(std::uint32_t index, std::string_view why);
  Status leave_objects() IMSY_REQUIRES(mu_);
  Result<int> writable() IMSY_REQUIRES(mu_);
  std::uint32_t chunk_at(std::uint64_t offset) const;

  // Constant after construction.
  const Layout& layout_;
  Index& index_;
  const cdc::ObjectId id_;
  const std::uint64_t size_;  // bytes
  const std::vector<cdc::Chunk> chunks_;

  // Synchronise themselves.
  std::unique_ptr<std::atomic<std::uint8_t>[]> states_;  // ChunkState of each chunk
  std::atomic<std::uint32_t> missing_;                   // chunks that are not kPresent
  std::atomic<bool> complete_{false};
  std::atomic<int> fd_{-1};  // of file_; set once

  Mutex mu_;
  Where where_ IMSY_GUARDED_BY(mu_) = Where::kNowhere;
  UniqueFd file_ IMSY_GUARDED_BY(mu_);           // never replaced, so that fd() stays valid
  UniqueFd writable_ IMSY_GUARDED_BY(mu_);       // of the same file, when file_ is for reading only
  bool may_write_ IMSY_GUARDED_BY(mu_) = false;  // file_ is
  // Of the bytes that this process has put; none: it has put nothing.
  std::optional<std::string> trust_domain_ IMSY_GUARDED_BY(mu_);
};

// The object without bytes: complete, without a file.
class EmptyObject final : public Object {
 public:
  explicit EmptyObject(const cdc::ObjectId& id) : id_(id) {}
  const cdc::ObjectId& id() const override { return id_; }
  bool complete() const override { return true; }
  bool has_chunk(std::uint32_t) override { return false; }
  Status read(std::uint64_t offset, std::span<std::byte> buffer) override;
  int fd() const override { return -1; }

 private:
  const cdc::ObjectId id_;
};

}  // namespace imsy::cas
