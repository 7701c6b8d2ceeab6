// Rights: which chunks of one open object a trust domain may see.
//
// A right is earned by bringing the bytes: a domain sees the chunks that it has brought while the
// object was open, and all of them when it has brought every one. A domain also sees all of an
// object as long as nobody else has brought a byte of it (that right ends), or when it is on record
// that it once brought all, or all that was not for everybody.
// Threads: sees() and bring() from any thread. The others are called under the object's mutex.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

namespace imsy::cas {

class Rights {
 public:
  explicit Rights(std::uint32_t chunks)
      : chunks_(chunks), left_(chunks), brought_(new std::atomic<bool>[chunks]) {
    for (std::uint32_t i = 0; i < chunks; ++i) brought_[i] = false;
  }

  bool sees_all() const { return all_.load(std::memory_order_acquire); }
  bool sees(std::uint32_t chunk) const {
    return sees_all() || (chunk < chunks_ && brought_[chunk].load(std::memory_order_acquire));
  }
  // The domain has brought the chunk. True: it was the last one that lacked.
  bool bring(std::uint32_t chunk) { return !brought_[chunk].exchange(true) && --left_ == 0; }

  bool earned() const { return left_ == 0; }
  // From now on, for ever.
  void earn() {
    for (std::uint32_t i = 0; i < chunks_; ++i) bring(i);
    grant();
  }
  void grant() { all_.store(true, std::memory_order_release); }
  // Back to what was brought.
  void end_grant() { all_.store(false, std::memory_order_release); }

 private:
  const std::uint32_t chunks_;
  std::atomic<bool> all_{false};
  std::atomic<std::uint32_t> left_;
  const std::unique_ptr<std::atomic<bool>[]> brought_;
};

}  // namespace imsy::cas
