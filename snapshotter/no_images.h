// NoImages: Images of a node that cannot mount lazy trees. imsy images are then unpacked like
// others, and snapshots of lazy ones, made when it could, say why they cannot be mounted.
//
// Threads: any.
#pragma once

#include <utility>

#include "snapshotter/images.h"

namespace imsy::snapshotter {

class NoImages : public Images {
 public:
  explicit NoImages(Error reason) : reason_(std::move(reason)) {}

  Result<std::unique_ptr<Admission>> admit(const Claim&, const std::string&, Deadline) override {
    return refusal();
  }
  // Nothing of it can be mounted.
  Status may_give(const ImageRecord&, const PulledFrom&, Deadline) override { return {}; }
  Status make_live(std::int64_t) override { return refusal(); }
  Result<Owner> root_owner(std::int64_t) override { return refusal(); }
  void complete(std::int64_t) override {}
  void use(std::int64_t) override {}
  bool make_room() override { return false; }
  // The store's record goes when lazy trees work again: it compares with the database at start.
  void release(const ImageRecord&) override {}

 private:
  Error refusal() const {
    return Error(Errc::kUnavailable, "lazy images cannot be mounted: " + reason_.message());
  }
  const Error reason_;
};

}  // namespace imsy::snapshotter
