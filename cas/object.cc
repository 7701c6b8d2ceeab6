#include "cas/object.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "common/log.h"

namespace imsy::cas {

StoredObject::StoredObject(const Layout& layout, Index& index, const cdc::Manifest& manifest,
                           std::uint32_t object)
    : layout_(layout),
      index_(index),
      id_(manifest.objects().id(object)),
      size_(manifest.tree().object_size(object)),
      chunks_(manifest.objects().chunks_of(object).begin(),
              manifest.objects().chunks_of(object).end()),
      states_(new std::atomic<std::uint8_t>[chunks_.size()]),
      missing_(static_cast<std::uint32_t>(chunks_.size())) {
  set_all(kAbsent);
}

Result<std::shared_ptr<StoredObject>> StoredObject::open(const Layout& layout, Index& index,
                                                         const cdc::Manifest& manifest,
                                                         std::uint32_t object) {
  std::shared_ptr<StoredObject> opened(new StoredObject(layout, index, manifest, object));
  IMSY_TRY(opened->find_file());
  return opened;
}

void StoredObject::set_all(ChunkState state) {
  for (std::size_t i = 0; i < chunks_.size(); ++i) {
    states_[i].store(state, std::memory_order_relaxed);
  }
}

Status StoredObject::find_file() {
  MutexLock lock(mu_);
  const Index::Trust trust = index_.trust_of(id_);
  auto complete = layout_.open_object(Place::kObjects, id_, O_RDONLY);
  if (!complete && complete.error().code() != Errc::kNotFound) return complete.error();
  if (complete) {
    IMSY_TRY_ASSIGN(const std::uint64_t size, file_size(complete->get()));
    if (size == size_) {
      where_ = Where::kObjects;
      file_ = std::move(*complete);
      fd_ = file_.get();
      const bool trusted = trust == Index::Trust::kVerified;
      set_all(trusted ? kPresent : kUnknown);
      missing_ = trusted ? 0 : static_cast<std::uint32_t>(chunks_.size());
      complete_ = trusted;
      return {};
    }
    log::warn("store {}: object {} has {} bytes instead of {}; what is left of it will be checked",
              layout_.root().string(), id_.hex(), size, size_);
  }
  // What was on record is gone: say so before anything new is written under this name.
  if (trust != Index::Trust::kIncomplete) IMSY_TRY(index_.distrust(id_));
  if (complete) IMSY_TRY(layout_.move_object(id_, Place::kPartial));
  auto partial = layout_.open_object(Place::kPartial, id_, O_RDWR);
  if (!partial && partial.error().code() == Errc::kNotFound) return {};
  if (!partial && partial.error().code() == Errc::kDenied) {
    // It was complete once, and its mode says so.
    IMSY_TRY_ASSIGN(const auto readable, layout_.open_object(Place::kPartial, id_, O_RDONLY));
    ::fchmod(readable.get(), 0600);
    partial = layout_.open_object(Place::kPartial, id_, O_RDWR);
  }
  if (!partial) return partial.error();
  IMSY_TRY_ASSIGN(const std::uint64_t size, file_size(partial->get()));
  if (size != size_ && ::ftruncate(partial->get(), static_cast<off_t>(size_)) != 0) {
    return Error::from_errno(errno, "set the size of object " + id_.hex());
  }
  where_ = Where::kPartial;
  file_ = std::move(*partial);
  may_write_ = true;
  fd_ = file_.get();
  set_all(kUnknown);
  return {};
}

std::uint32_t StoredObject::chunk_at(std::uint64_t offset) const {
  const auto after = std::upper_bound(
      chunks_.begin(), chunks_.end(), offset,
      [](std::uint64_t at, const cdc::Chunk& chunk) { return at < chunk.object_offset; });
  return static_cast<std::uint32_t>(after - chunks_.begin()) - 1;
}

bool StoredObject::has_chunk(std::uint32_t index) {
  if (complete()) return true;
  if (index >= chunks_.size()) return false;
  const auto state = states_[index].load(std::memory_order_acquire);
  if (state == kUnknown) return verify(index);
  // All are there, but the file could not be moved when the last one came: try again.
  if (state == kPresent && missing_ == 0) finish();
  return state == kPresent;
}

// Whether the file holds the chunk's bytes.
bool StoredObject::holds(std::uint32_t index, int fd) const {
  const cdc::Chunk& chunk = chunks_[index];
  // A hole is the common case in a partial object, and cheap to find. No SEEK_DATA, no hint.
  const off_t data = ::lseek(fd, static_cast<off_t>(chunk.object_offset), SEEK_DATA);
  if (data < 0 && errno == ENXIO) return false;
  if (data >= static_cast<off_t>(chunk.object_offset + chunk.size)) return false;
  thread_local Bytes buffer;
  buffer.resize(chunk.size);
  return pread_all(fd, buffer, chunk.object_offset).has_value() && sha256(buffer) == chunk.digest;
}

bool StoredObject::verify(std::uint32_t index) {
  if (holds(index, fd())) {
    set_present(index);
    return true;
  }
  {
    MutexLock lock(mu_);
    if (where_ == Where::kPartial) {
      // Unless somebody put it while we looked.
      std::uint8_t unknown = kUnknown;
      states_[index].compare_exchange_strong(unknown, kAbsent);
      return unknown == kPresent;
    }
  }
  lose(index, "its bytes are not the chunk's");
  return false;
}

void StoredObject::set_present(std::uint32_t index) {
  if (states_[index].exchange(kPresent, std::memory_order_acq_rel) == kPresent) return;
  if (missing_.fetch_sub(1, std::memory_order_acq_rel) == 1) finish();
}

// The last missing chunk is there.
void StoredObject::finish() {
  MutexLock lock(mu_);
  if (missing_ != 0 || complete_) return;
  if (where_ == Where::kPartial) {
    ::fchmod(file_.get(), 0444);
    if (auto moved = layout_.move_object(id_, Place::kObjects); !moved) {
      log::warn("store {}: {}", layout_.root().string(), moved.error().message());
      return;
    }
    where_ = Where::kObjects;
  }
  index_.add_complete({id_, size_, trust_domain_});
  complete_.store(true, std::memory_order_release);
}

Status StoredObject::read(std::uint64_t offset, std::span<std::byte> buffer) {
  if (offset > size_ || buffer.size() > size_ - offset) {
    return Error(Errc::kInvalid, "object " + id_.hex() + ": a range beyond its end");
  }
  if (buffer.empty()) return {};
  Status read = fd() < 0 ? Status(Error(Errc::kNotFound, "nothing of it is there"))
                         : pread_all(fd(), buffer, offset);
  if (read) return {};
  // The disk does not give back what was put there: the chunks are to be fetched again.
  for (std::uint32_t i = chunk_at(offset);
       i < chunks_.size() && chunks_[i].object_offset < offset + buffer.size(); ++i) {
    lose(i, read.error().message());
  }
  return read.error().with_context("object " + id_.hex());
}

void StoredObject::reject(std::uint64_t offset) {
  const std::uint32_t index = chunk_at(offset);
  const int file = fd();
  if (file >= 0 && !holds(index, file)) lose(index, "its bytes are not the chunk's");
}

void StoredObject::lose(std::uint32_t index, std::string_view why) {
  MutexLock lock(mu_);
  // The others are hashed before they are believed again. If the file was cut short, writing behind
  // its end would make holes of them.
  for (std::size_t i = 0; i < chunks_.size(); ++i) {
    std::uint8_t present = kPresent;
    if (states_[i].compare_exchange_strong(present, kUnknown)) ++missing_;
  }
  if (states_[index].exchange(kAbsent) == kPresent) ++missing_;
  complete_ = false;
  log::warn("store {}: object {}, chunk {} at offset {} is lost: {}", layout_.root().string(),
            id_.hex(), index, chunks_[index].object_offset, why);
  if (where_ != Where::kObjects) return;
  if (auto left = leave_objects(); !left) {
    // Then it stays where it is, unwritten; put() tries again, and readers are served meanwhile.
    log::warn("store {}: object {} cannot be set aside: {}", layout_.root().string(), id_.hex(),
              left.error().message());
  }
}

Status StoredObject::leave_objects() {
  IMSY_TRY(index_.distrust(id_));
  IMSY_TRY(layout_.move_object(id_, Place::kPartial));
  where_ = Where::kPartial;
  return {};
}

// The descriptor to write to; the file is in partial/ then.
Result<int> StoredObject::writable() {
  if (where_ == Where::kObjects) IMSY_TRY(leave_objects());
  if (where_ == Where::kNowhere) {
    IMSY_TRY_ASSIGN(file_, layout_.create_partial(id_, size_));
    where_ = Where::kPartial;
    may_write_ = true;
    fd_.store(file_.get(), std::memory_order_release);
  }
  if (may_write_) return file_.get();
  if (!writable_) {
    ::fchmod(file_.get(), 0600);
    IMSY_TRY_ASSIGN(writable_, layout_.open_object(Place::kPartial, id_, O_RDWR));
  }
  return writable_.get();
}

Status StoredObject::put(std::uint32_t index, ByteSpan raw, const std::string& trust_domain) {
  if (index >= chunks_.size()) {
    return Error(Errc::kInvalid, "object " + id_.hex() + " has no chunk " + std::to_string(index));
  }
  const cdc::Chunk& chunk = chunks_[index];
  if (raw.size() != chunk.size || sha256(raw) != chunk.digest) {
    return Error(Errc::kCorrupt, "object " + id_.hex() + ", chunk " + std::to_string(index) +
                                     " at offset " + std::to_string(chunk.object_offset) +
                                     ": the bytes are not those of " + chunk.digest.to_string());
  }
  if (has_chunk(index)) return {};
  int file = -1;
  {
    MutexLock lock(mu_);
    // Somebody may have put it meanwhile, and with it completed the object.
    if (states_[index] == kPresent) return {};
    IMSY_TRY_ASSIGN(file, writable());
    const bool mixed = trust_domain_ && *trust_domain_ != trust_domain;
    trust_domain_ = mixed ? std::string(kSharedWithNobody) : trust_domain;
  }
  if (auto written = pwrite_all(file, raw, chunk.object_offset); !written) {
    return written.error().with_context("object " + id_.hex());
  }
  // A small file's chunk needs no row: the object's name follows from it.
  if (chunks_.size() > 1) {
    index_.add_chunk(chunk.digest, {id_, size_, trust_domain}, chunk.object_offset);
  }
  set_present(index);
  return {};
}

Status EmptyObject::read(std::uint64_t offset, std::span<std::byte> buffer) {
  if (offset == 0 && buffer.empty()) return {};
  return Error(Errc::kInvalid, "object " + id_.hex() + ": a range beyond its end");
}

}  // namespace imsy::cas
