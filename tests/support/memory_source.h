// MemorySource: a BlobSource over blobs in memory that a test can make wait, fail and lie.
//
// Every request is counted and logged, so that a test can say what crossed the wire. Answers are
// given on the source's own thread, in order.
// Threads: all methods from any thread; the destructor not from the source's own.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "cas/blob_source.h"
#include "common/mutex.h"

namespace imsy::test {

class MemorySource : public cas::BlobSource {
 public:
  explicit MemorySource(std::string name = "memory");
  // Requests that are still held are answered with kCancelled.
  ~MemorySource() override;

  // The blob under its digest.
  Digest add(Bytes blob);
  // What a registry holds of an image: all its blobs.
  void add(const std::vector<Bytes>& blobs);

  const std::string& name() const override { return name_; }
  void read(const cas::BlobRange& range, Done done) override;
  Time usable_at() const override;
  void distrust(const Digest& blob) override;

  // Whose the bytes are from now on; at first anybody's.
  void set_trust_domain(std::string trust_domain);
  // What usable_at() says.
  void set_usable_at(Time time);
  unsigned distrusted() const;  // times

  // From now on requests wait until release() lets `count` of them go, oldest first.
  void hold();
  void release(std::size_t count);
  // Lets all go and holds no more.
  void release_all();
  // Waits until at least `count` requests are held.
  void wait_until_held(std::size_t count);
  std::size_t held() const;

  // The next `count` requests fail with `error`; count < 0: all of them until fail_with(0, ...).
  void fail_with(int count, Error error);
  // The next `count` answers that contain byte `offset` of `blob` have that byte flipped; count <
  // 0: all of them until repair().
  void flip(const Digest& blob, std::uint64_t offset, int count);
  void repair();

  std::uint64_t requests() const;
  std::uint64_t bytes() const;  // of successful answers
  std::vector<cas::BlobRange> log() const;

 private:
  struct Request {
    cas::BlobRange range;
    Done done;
  };
  struct Flip {
    Digest blob;
    std::uint64_t offset = 0;
    int count = 0;
  };
  void run();
  Result<cas::Brought> answer(const cas::BlobRange& range) IMSY_REQUIRES(mu_);

  const std::string name_;
  mutable Mutex mu_;
  CondVar changed_;
  std::unordered_map<Digest, Bytes> blobs_ IMSY_GUARDED_BY(mu_);
  std::deque<Request> waiting_ IMSY_GUARDED_BY(mu_);
  std::vector<cas::BlobRange> log_ IMSY_GUARDED_BY(mu_);
  std::vector<Flip> flips_ IMSY_GUARDED_BY(mu_);
  bool holding_ IMSY_GUARDED_BY(mu_) = false;
  std::size_t allowed_ IMSY_GUARDED_BY(mu_) = 0;  // requests that may pass while holding
  int failures_ IMSY_GUARDED_BY(mu_) = 0;
  Error failure_ IMSY_GUARDED_BY(mu_){Errc::kUnavailable, "the test says so"};
  std::uint64_t bytes_ IMSY_GUARDED_BY(mu_) = 0;
  std::string trust_domain_ IMSY_GUARDED_BY(mu_);
  Time usable_at_ IMSY_GUARDED_BY(mu_) = Time::min();
  unsigned distrusted_ IMSY_GUARDED_BY(mu_) = 0;
  bool stopping_ IMSY_GUARDED_BY(mu_) = false;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace imsy::test
