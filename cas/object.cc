#include "cas/object.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "common/log.h"
#include "common/sys.h"

namespace imsy::cas {
namespace {

// How exact the record of an object's last use is.
constexpr std::chrono::hours kUsedEvery{1};

Result<mode_t> file_mode(int fd) {
  struct stat st {};
  if (sys::fstat(fd, &st) != 0) return Error::from_errno(errno, "stat an object");
  return st.st_mode;
}

}  // namespace

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
  if (index_.take_new(id_)) return {};
  MutexLock lock(mu_);
  const Index::Standing standing = index_.standing_of(id_);
  auto complete = layout_.open_object(Place::kObjects, id_, O_RDONLY);
  if (!complete && complete.error().code() != Errc::kNotFound) return complete.error();
  if (complete) {
    IMSY_TRY_ASSIGN(const std::uint64_t size, file_size(complete->get()));
    if (size == size_) {
      where_ = Where::kObjects;
      file_ = std::move(*complete);
      fd_ = file_.get();
      const bool trusted = standing.trust == Index::Trust::kVerified;
      set_all(trusted ? kPresent : kUnknown);
      missing_ = trusted ? 0 : static_cast<std::uint32_t>(chunks_.size());
      complete_ = trusted;
      if (standing.unused > kUsedEvery) index_.touch(id_);
      return learn_origin(standing);
    }
    log::warn("store {}: object {} has {} bytes instead of {}; what is left of it will be checked",
              layout_.root().string(), id_.hex(), size, size_);
  }
  // What was on record is gone: say so before anything new is written under this name.
  if (standing.trust != Index::Trust::kIncomplete) IMSY_TRY(index_.distrust(id_));
  if (complete) IMSY_TRY(layout_.move_object(id_, Place::kPartial));
  auto partial = layout_.open_object(Place::kPartial, id_, O_RDWR);
  if (!partial && partial.error().code() == Errc::kDenied) {
    // It was complete once, and its mode says so.
    IMSY_TRY_ASSIGN(const auto readable, layout_.open_object(Place::kPartial, id_, O_RDONLY));
    IMSY_TRY_ASSIGN(const mode_t mode, file_mode(readable.get()));
    sys::fchmod(readable.get(), object_mode(Place::kPartial, cas::is_public(mode)));
    partial = layout_.open_object(Place::kPartial, id_, O_RDWR);
  }
  if (!partial && partial.error().code() != Errc::kNotFound) return partial.error();
  if (partial) IMSY_TRY(use_partial(std::move(*partial)));
  return learn_origin(standing);
}

Status StoredObject::use_partial(UniqueFd file) {
  IMSY_TRY_ASSIGN(const std::uint64_t size, file_size(file.get()));
  if (size != size_ && sys::ftruncate(file.get(), static_cast<off_t>(size_)) != 0) {
    return Error::from_errno(errno, "set the size of object " + id_.hex());
  }
  where_ = Where::kPartial;
  file_ = std::move(file);
  may_write_ = true;
  fd_ = file_.get();
  set_all(kUnknown);
  return {};
}

// Whose bytes the file has, and who may see them.
Status StoredObject::learn_origin(const Index::Standing& standing) {
  trust_domain_ = standing.trust_domain;
  if (where_ != Where::kNowhere) {
    IMSY_TRY_ASSIGN(const mode_t mode, file_mode(file_.get()));
    // What the mode says is true also when the index is lost, or behind.
    if (cas::is_public(mode)) {
      trust_domain_ = "";
    } else if (!trust_domain_ || trust_domain_->empty()) {
      trust_domain_ = kSharedWithNobody;
    }
  }
  for (const std::string& domain : standing.others) find_rights(domain).earn();
  if (!trust_domain_ || *trust_domain_ == kSharedWithNobody) return {};
  Rights& rights = find_rights(*trust_domain_);
  if (where_ == Where::kObjects) rights.earn();
  rights.grant();
  return {};
}

Rights& StoredObject::find_rights(const std::string& trust_domain) {
  return rights_.try_emplace(trust_domain, static_cast<std::uint32_t>(chunks_.size()))
      .first->second;
}

Rights& StoredObject::rights_of(const std::string& trust_domain) {
  MutexLock lock(mu_);
  return find_rights(trust_domain);
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
  if (state == kPresent && missing_ == 0) ignore(finish(), "then the next one tries");
  return state == kPresent;
}

// Whether the file holds the chunk's bytes.
bool StoredObject::holds(std::uint32_t index, int fd) const {
  const cdc::Chunk& chunk = chunks_[index];
  // A hole is the common case in a partial object, and cheap to find. No SEEK_DATA, no hint.
  const off_t data = sys::lseek(fd, static_cast<off_t>(chunk.object_offset), SEEK_DATA);
  if (data < 0 && errno == ENXIO) return false;
  if (data >= static_cast<off_t>(chunk.object_offset + chunk.size)) return false;
  thread_local Bytes buffer;
  buffer.resize(chunk.size);
  return pread_all(fd, buffer, chunk.object_offset).has_value() && sha256(buffer) == chunk.digest;
}

bool StoredObject::verify(std::uint32_t index) {
  const int file = fd();
  if (holds(index, file)) {
    bool last = false;
    {
      MutexLock lock(mu_);
      if (!is_current(file)) return false;
      last = set_present(index);
    }
    if (last) ignore(finish(), "has_chunk() tries again");
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

// True: it was the last missing one.
bool StoredObject::set_present(std::uint32_t index) {
  if (states_[index].exchange(kPresent, std::memory_order_acq_rel) == kPresent) return false;
  return missing_.fetch_sub(1, std::memory_order_acq_rel) == 1;
}

// The last missing chunk is there.
Status StoredObject::finish() {
  MutexLock lock(mu_);
  if (missing_ != 0 || complete_) return {};
  if (where_ == Where::kPartial) {
    if (sys::fchmod(file_.get(), object_mode(Place::kObjects, is_public())) != 0) {
      return Error::from_errno(errno, "set the mode of object " + id_.hex());
    }
    IMSY_TRY(index_.settle(id_));
    IMSY_TRY(layout_.move_object(id_, Place::kObjects));
    where_ = Where::kObjects;
  }
  if (trust_domain_ && trust_domain_ != kSharedWithNobody) find_rights(*trust_domain_).earn();
  index_.add_complete({id_, size_, trust_domain_});
  complete_.store(true, std::memory_order_release);
  return {};
}

Status StoredObject::read(std::uint64_t offset, std::span<std::byte> buffer) {
  if (offset > size_ || buffer.size() > size_ - offset) {
    return Error(Errc::kInvalid, "object " + id_.hex() + ": a range beyond its end");
  }
  if (buffer.empty()) return {};
  const int file = fd();
  if (file < 0 || lacks(offset, buffer.size())) {
    return Error(Errc::kNotFound, "object " + id_.hex() + ": it was lost meanwhile");
  }
  const Status read = pread_all(file, buffer, offset);
  // Without memory nothing is known of the disk.
  if (read || read.error().code() == Errc::kUnavailable) return read;
  // The disk does not give back what was put there: the chunks are to be fetched again.
  for (std::uint32_t i = chunk_at(offset);
       i < chunks_.size() && chunks_[i].object_offset < offset + buffer.size(); ++i) {
    lose(i, read.error().message());
  }
  return read.error().with_context("object " + id_.hex());
}

// Whether a chunk of the range is absent. A file that is new has the holes of a new one only after
// its chunks were set so.
bool StoredObject::lacks(std::uint64_t offset, std::uint64_t size) const {
  for (std::uint32_t i = chunk_at(offset);
       i < chunks_.size() && chunks_[i].object_offset < offset + size; ++i) {
    if (states_[i].load(std::memory_order_acquire) == kAbsent) return true;
  }
  return false;
}

void StoredObject::reject(std::uint64_t offset) {
  const std::uint32_t index = chunk_at(offset);
  // What is known to be missing is not lost: then only the hint was old.
  if (!has_chunk(index)) return;
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

Status StoredObject::take_off(std::span<const std::uint32_t> bad, std::string_view why) {
  {
    MutexLock lock(mu_);
    if (where_ == Where::kNowhere) return {};
    if (where_ == Where::kObjects) {
      IMSY_TRY_ASSIGN(const bool is_there, has_its_name());
      if (!is_there) return begin_anew();
    }
  }
  for (const std::uint32_t index : bad) lose(index, why);
  return {};
}

Result<bool> StoredObject::has_its_name() const {
  const auto found = layout_.look_at(Place::kObjects, id_);
  if (!found && found.error().code() == Errc::kNotFound) return false;
  if (!found) return found.error();
  struct stat st {};
  if (sys::fstat(file_.get(), &st) != 0) return Error::from_errno(errno, "stat an object");
  return found->device == st.st_dev && found->inode == st.st_ino && found->size == size_;
}

Status StoredObject::begin_anew() {
  log::warn("store {}: object {} is lost: its file is gone, or another one stands in its place",
            layout_.root().string(), id_.hex());
  for (std::size_t i = 0; i < chunks_.size(); ++i) {
    if (states_[i].exchange(kAbsent) == kPresent) ++missing_;
  }
  complete_ = false;
  IMSY_TRY(index_.distrust(id_));
  IMSY_TRY(layout_.remove_object(Place::kObjects, id_));
  where_ = Where::kNowhere;
  may_write_ = false;
  fd_ = -1;
  retired_.push_back(std::move(file_));
  if (writable_) retired_.push_back(std::move(writable_));
  return {};
}

Status StoredObject::leave_objects() {
  IMSY_TRY(index_.distrust(id_));
  IMSY_TRY(layout_.move_object(id_, Place::kPartial));
  where_ = Where::kPartial;
  return {};
}

// The descriptor to write to; the file is in partial/ then.
Result<int> StoredObject::writable() {
  if (where_ == Where::kNowhere) {
    // One chunk makes it whole, and finish() says whom it is for.
    IMSY_TRY_ASSIGN(file_, chunks_.size() == 1 ? layout_.create_empty(id_)
                                               : layout_.create_partial(id_, size_, is_public()));
    where_ = Where::kPartial;
    may_write_ = true;
    fd_.store(file_.get(), std::memory_order_release);
  }
  if (may_write_) return file_.get();
  if (!writable_) {
    sys::fchmod(file_.get(), object_mode(Place::kPartial, is_public()));
    IMSY_TRY_ASSIGN(writable_, layout_.open_object(Place::kPartial, id_, O_RDWR));
  }
  return writable_.get();
}

// Before a byte of the trust domain is written.
Status StoredObject::claim(const std::string& trust_domain) {
  if (trust_domain_ == trust_domain) return {};
  if (where_ != Where::kNowhere || trust_domain_) return mix();
  trust_domain_ = trust_domain;
  find_rights(trust_domain).grant();
  return {};
}

// A second domain comes. The first keeps what it has brought.
Status StoredObject::mix() {
  if (trust_domain_ == kSharedWithNobody) return {};
  if (is_public() && where_ != Where::kNowhere &&
      sys::fchmod(file_.get(), object_mode(Place::kPartial, false)) != 0) {
    return Error::from_errno(errno, "take object " + id_.hex() + " from the public ones");
  }
  IMSY_TRY(index_.set_mixed(id_));
  Rights& rights = find_rights(*trust_domain_);
  for (std::uint32_t i = 0; i < chunks_.size(); ++i) {
    if (states_[i] == kPresent) rights.bring(i);
  }
  if (rights.earned()) {
    index_.add_access({id_, size_, std::nullopt}, *trust_domain_);
  } else {
    rights.end_grant();
  }
  trust_domain_ = kSharedWithNobody;
  return {};
}

void StoredObject::bring(std::uint32_t index, const std::string& trust_domain, Rights& rights) {
  if (!rights.bring(index)) return;
  MutexLock lock(mu_);
  rights.grant();
  if (trust_domain_ != trust_domain) index_.add_access({id_, size_, std::nullopt}, trust_domain);
}

void StoredObject::earn(const std::string& trust_domain, Rights& rights) {
  for (std::uint32_t i = 0; i < chunks_.size(); ++i) bring(i, trust_domain, rights);
}

Status StoredObject::put(std::uint32_t index, ByteSpan raw, const std::string& trust_domain,
                         Rights& rights) {
  if (index >= chunks_.size()) {
    return Error(Errc::kInvalid, "object " + id_.hex() + " has no chunk " + std::to_string(index));
  }
  const cdc::Chunk& chunk = chunks_[index];
  if (raw.size() != chunk.size || sha256(raw) != chunk.digest) {
    return Error(Errc::kCorrupt, "object " + id_.hex() + ", chunk " + std::to_string(index) +
                                     " at offset " + std::to_string(chunk.object_offset) +
                                     ": the bytes are not those of " + chunk.digest.to_string());
  }
  if (!has_chunk(index)) IMSY_TRY(write(index, raw, trust_domain));
  // Also when the file could not be moved before.
  if (missing_ == 0 && !complete()) IMSY_TRY(finish());
  bring(index, trust_domain, rights);
  return {};
}

Status StoredObject::write(std::uint32_t index, ByteSpan raw, const std::string& trust_domain) {
  const cdc::Chunk& chunk = chunks_[index];
  int file = -1;
  Index::ObjectRow row{id_, size_, std::nullopt};
  {
    MutexLock lock(mu_);
    // Somebody may have put it meanwhile, and with it completed the object.
    if (states_[index] == kPresent) return {};
    if (where_ == Where::kObjects) IMSY_TRY(leave_objects());
    IMSY_TRY(claim(trust_domain));
    IMSY_TRY_ASSIGN(file, writable());
    row.trust_domain = trust_domain_;
  }
  if (auto written = pwrite_all(file, raw, chunk.object_offset); !written) {
    return written.error().with_context("object " + id_.hex());
  }
  // A small file's chunk needs no row: the object's name follows from it.
  if (chunks_.size() > 1) index_.add_chunk(chunk.digest, row, chunk.object_offset);
  bool last = false;
  {
    MutexLock lock(mu_);
    if (!is_current(file)) {
      return Error(Errc::kUnavailable, "object " + id_.hex() + ": its file was lost meanwhile");
    }
    last = set_present(index);
  }
  return last ? finish() : Status();
}

}  // namespace imsy::cas
