#include "cas/object_cache.h"

#include <sys/resource.h>

#include <algorithm>
#include <cerrno>

namespace imsy::cas {

std::size_t ObjectCache::default_capacity() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 16;
  return std::clamp<std::size_t>(limit.rlim_cur / 4, 16, 1024);
}

std::shared_ptr<Object> ObjectCache::find(const cdc::ObjectId& id) {
  MutexLock lock(mu_);
  const auto found = places_.find(id);
  if (found == places_.end()) return nullptr;
  recent_.splice(recent_.begin(), recent_, found->second);
  return *found->second;
}

void ObjectCache::keep(const std::shared_ptr<Object>& object) {
  std::shared_ptr<Object> dropped;  // closed without the lock
  MutexLock lock(mu_);
  if (places_.contains(object->id())) return;
  recent_.push_front(object);
  places_[object->id()] = recent_.begin();
  if (recent_.size() <= capacity_) return;
  dropped = std::move(recent_.back());
  places_.erase(dropped->id());
  recent_.pop_back();
}

Result<std::shared_ptr<Object>> ObjectCache::open(const cdc::Manifest& manifest,
                                                  std::uint32_t object) {
  if (auto known = find(manifest.objects().id(object))) return known;
  auto opened = store_.open_object(manifest, object);
  if (!opened && (opened.error().sys_errno() == EMFILE || opened.error().sys_errno() == ENFILE)) {
    clear();
    opened = store_.open_object(manifest, object);
  }
  if (opened) keep(*opened);
  return opened;
}

void ObjectCache::clear() {
  Recent dropped;
  MutexLock lock(mu_);
  places_.clear();
  dropped.swap(recent_);
}

}  // namespace imsy::cas
