#include "cas/object_cache.h"

#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <iterator>

namespace imsy::cas {

std::size_t ObjectCache::default_capacity() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 16;
  return std::clamp<std::size_t>(limit.rlim_cur / 4, 16, 1024);
}

std::shared_ptr<Object> ObjectCache::find(const Key& key) {
  MutexLock lock(mu_);
  const auto found = places_.find(key);
  if (found == places_.end()) return nullptr;
  recent_.splice(recent_.begin(), recent_, found->second);
  return found->second->object;
}

void ObjectCache::keep(const std::shared_ptr<Object>& object, const std::string& trust_domain) {
  Recent dropped;  // closed without the lock
  MutexLock lock(mu_);
  if (places_.contains({object->id(), trust_domain})) return;
  recent_.push_front({trust_domain, object});
  places_[{object->id(), recent_.front().trust_domain}] = recent_.begin();
  if (recent_.size() <= capacity_) return;
  const Entry& last = recent_.back();
  places_.erase({last.object->id(), last.trust_domain});
  dropped.splice(dropped.begin(), recent_, std::prev(recent_.end()));
}

Result<std::shared_ptr<Object>> ObjectCache::open(const cdc::Manifest& manifest,
                                                  std::uint32_t object,
                                                  const std::string& trust_domain) {
  if (auto known = find({manifest.objects().id(object), trust_domain})) return known;
  auto opened = store_.open_object(manifest, object, trust_domain);
  if (!opened && (opened.error().sys_errno() == EMFILE || opened.error().sys_errno() == ENFILE)) {
    clear();
    opened = store_.open_object(manifest, object, trust_domain);
  }
  if (opened) keep(*opened, trust_domain);
  return opened;
}

void ObjectCache::clear() {
  Recent dropped;
  MutexLock lock(mu_);
  places_.clear();
  dropped.swap(recent_);
}

}  // namespace imsy::cas
