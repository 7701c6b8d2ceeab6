// ObjectView: a StoredObject as one trust domain sees it. Internal to cas/store.cc.
//
// Threads: all methods from any thread.
#pragma once

#include <memory>
#include <string>

#include "cas/object.h"

namespace imsy::cas {

class ObjectView final : public Object {
 public:
  ObjectView(std::shared_ptr<StoredObject> object, const std::string& trust_domain,
             DedupScope scope)
      : object_(std::move(object)),
        trust_domain_(trust_domain),
        sees_all_(scope == DedupScope::kNode),
        own_(object_->rights_of(trust_domain)),
        everybody_(object_->rights_of("")) {}

  const cdc::ObjectId& id() const override { return object_->id(); }
  bool complete() const override {
    if (!object_->complete()) return false;
    if (sees_all_ || own_.sees_all() || everybody_.sees_all()) return true;
    for (std::uint32_t i = 0; i < object_->chunk_count(); ++i) {
      if (!sees(i)) return false;
    }
    // It has brought what anybody may not have.
    object_->earn(trust_domain_, own_);
    return true;
  }
  bool has_chunk(std::uint32_t index) override { return sees(index) && object_->has_chunk(index); }
  Status read(std::uint64_t offset, std::span<std::byte> buffer) override {
    return object_->read(offset, buffer);
  }
  int fd() const override { return object_->fd(); }

  Status put(std::uint32_t index, ByteSpan raw) {
    return object_->put(index, raw, trust_domain_, own_);
  }

 private:
  bool sees(std::uint32_t index) const {
    return sees_all_ || own_.sees(index) || everybody_.sees(index);
  }

  const std::shared_ptr<StoredObject> object_;
  const std::string trust_domain_;
  const bool sees_all_;
  // Live as long as the object.
  Rights& own_;
  const Rights& everybody_;
};

// The object without bytes: complete, without a file.
class EmptyObject final : public Object {
 public:
  explicit EmptyObject(const cdc::ObjectId& id) : id_(id) {}
  const cdc::ObjectId& id() const override { return id_; }
  bool complete() const override { return true; }
  bool has_chunk(std::uint32_t) override { return false; }
  Status read(std::uint64_t offset, std::span<std::byte> buffer) override {
    if (offset == 0 && buffer.empty()) return {};
    return Error(Errc::kInvalid, "object " + id_.hex() + ": a range beyond its end");
  }
  int fd() const override { return -1; }

 private:
  const cdc::ObjectId id_;
};

}  // namespace imsy::cas
