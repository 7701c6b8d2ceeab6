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
// Whose bytes are in the file: of one trust domain, until another one is about to write to it;
// then, durably and for ever, of nobody in particular. A file of the public domain says so in its
// mode.
//
// Threads: all methods from any thread. docs/locks.md.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cas/index.h"
#include "cas/layout.h"
#include "cas/rights.h"
#include "cas/store.h"
#include "common/mutex.h"

namespace imsy::cas {

class StoredObject {
 public:
  // What the file system and the index say of the object. Removes a file that cannot be its
  // content. Layout and index outlive the object.
  static Result<std::shared_ptr<StoredObject>> open(const Layout& layout, Index& index,
                                                    const cdc::Manifest& manifest,
                                                    std::uint32_t object);

  // As those of Object, for somebody who may see everything.
  const cdc::ObjectId& id() const { return id_; }
  bool complete() const { return complete_.load(std::memory_order_acquire); }
  bool has_chunk(std::uint32_t index);
  Status read(std::uint64_t offset, std::span<std::byte> buffer);
  int fd() const { return fd_.load(std::memory_order_acquire); }

  // What the trust domain may see; lives as long as the object.
  Rights& rights_of(const std::string& trust_domain);
  // The trust domain may see all of it from now on. `rights`: its own.
  void earn(const std::string& trust_domain, Rights& rights);
  std::uint32_t chunk_count() const { return static_cast<std::uint32_t>(chunks_.size()); }
  // `rights`: those of the trust domain.
  Status put(std::uint32_t index, ByteSpan raw, const std::string& trust_domain, Rights& rights);
  // The chunk at `offset` is not what it should be, as somebody found who read it.
  void reject(std::uint64_t offset);
  // These chunks are not on the disk as they should be: they are missing from now on. So is all of
  // it when at the object's name stands another file, none, or one of another size.
  Status take_off(std::span<const std::uint32_t> bad, std::string_view why);

 private:
  enum class Where { kNowhere, kPartial, kObjects };
  enum ChunkState : std::uint8_t { kUnknown, kAbsent, kPresent };

  StoredObject(const Layout& layout, Index& index, const cdc::Manifest& manifest,
               std::uint32_t object);
  Status find_file();
  Status use_partial(UniqueFd file) IMSY_REQUIRES(mu_);
  Status learn_origin(const Index::Standing& standing) IMSY_REQUIRES(mu_);
  Rights& find_rights(const std::string& trust_domain) IMSY_REQUIRES(mu_);
  Status claim(const std::string& trust_domain) IMSY_REQUIRES(mu_);
  Status mix() IMSY_REQUIRES(mu_);
  void bring(std::uint32_t index, const std::string& trust_domain, Rights& rights);
  bool is_public() const IMSY_REQUIRES(mu_) { return trust_domain_ && trust_domain_->empty(); }
  void set_all(ChunkState state);
  bool verify(std::uint32_t index);
  bool holds(std::uint32_t index, int fd) const;
  bool set_present(std::uint32_t index);
  Status finish();
  void lose(std::uint32_t index, std::string_view why);
  Result<bool> has_its_name() const IMSY_REQUIRES(mu_);
  Status begin_anew() IMSY_REQUIRES(mu_);
  // Whether what is read from or written to the descriptor is still what the object has.
  bool is_current(int file) const IMSY_REQUIRES(mu_) {
    return file == fd() || (writable_ && file == writable_.get());
  }
  Status leave_objects() IMSY_REQUIRES(mu_);
  Result<int> writable() IMSY_REQUIRES(mu_);
  Status write(std::uint32_t index, ByteSpan raw, const std::string& trust_domain);
  std::uint32_t chunk_at(std::uint64_t offset) const;
  bool lacks(std::uint64_t offset, std::uint64_t size) const;

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
  std::atomic<int> fd_{-1};  // of file_

  Mutex mu_;
  Where where_ IMSY_GUARDED_BY(mu_) = Where::kNowhere;
  UniqueFd file_ IMSY_GUARDED_BY(mu_);
  UniqueFd writable_ IMSY_GUARDED_BY(mu_);       // of the same file, when file_ is for reading only
  bool may_write_ IMSY_GUARDED_BY(mu_) = false;  // file_ is
  // Of files that are not the object's any more, but may still be read from or written to.
  std::vector<UniqueFd> retired_ IMSY_GUARDED_BY(mu_);
  // The one for which all bytes in the file were brought, or kSharedWithNobody; none: there is no
  // file and nothing on record.
  std::optional<std::string> trust_domain_ IMSY_GUARDED_BY(mu_);
  std::map<std::string, Rights> rights_ IMSY_GUARDED_BY(mu_);  // by trust domain
};

}  // namespace imsy::cas
