// ObjectCache: keeps the objects that were used last open, so that few reads open a file and many
// images do not exhaust the process's descriptors.
//
// Threads: all methods from any thread. open() may wait for the disk; no lock is held meanwhile.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include "cas/store.h"
#include "common/mutex.h"

namespace imsy::cas {

class ObjectCache {
 public:
  // At most `capacity` objects stay open without a user.
  ObjectCache(Store& store, std::size_t capacity) : store_(store), capacity_(capacity) {}

  // As Store::open_object(). When the process has no descriptor left, the cache makes room and
  // tries once more.
  Result<std::shared_ptr<Object>> open(const cdc::Manifest& manifest, std::uint32_t object,
                                       const std::string& trust_domain);
  void clear();

  // A quarter of the descriptors that this process may have, at most 1024.
  static std::size_t default_capacity();

 private:
  struct Entry {
    std::string trust_domain;
    std::shared_ptr<Object> object;
  };
  using Recent = std::list<Entry>;  // last used first
  struct Key {
    cdc::ObjectId id;
    std::string_view trust_domain;  // that of the entry
    bool operator==(const Key&) const = default;
  };
  struct KeyHash {
    std::size_t operator()(const Key& key) const {
      return std::hash<Digest>()(key.id) ^ std::hash<std::string_view>()(key.trust_domain);
    }
  };

  std::shared_ptr<Object> find(const Key& key);
  void keep(const std::shared_ptr<Object>& object, const std::string& trust_domain);

  Store& store_;
  const std::size_t capacity_;
  Mutex mu_;
  Recent recent_ IMSY_GUARDED_BY(mu_);
  std::unordered_map<Key, Recent::iterator, KeyHash> places_ IMSY_GUARDED_BY(mu_);
};

}  // namespace imsy::cas
