// MemorySource: a BlobSource over blobs in memory that a test can make wait, fail and lie.
//
// Every request is counted and logged, so that a test can say what crossed the wire. Answers are
// given on the source's own thread, piece by piece, those of several requests in turns.
// Threads: all methods from any thread; the destructor not from the source's own.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
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
  const std::string& host() const override { return name_; }
  cas::Cost cost() const override;
  Cancel read(const cas::BlobRange& range, std::shared_ptr<cas::BlobReceiver> receiver) override;
  Time usable_at() const override;
  void distrust(const Digest& blob) override;

  // Whose the bytes are from now on; at first anybody's.
  void set_trust_domain(std::string trust_domain);
  // What cost() says.
  void set_cost(const cas::Cost& cost);
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
  // The next `count` answers break off after `bytes` bytes, if they are longer.
  void cut(std::uint64_t bytes, int count);
  // All answers end, with success, so many bytes too early.
  void shorten(std::uint64_t bytes);
  // Answers stop when they have given `bytes` bytes, until go_on(), or until they are cancelled.
  void stall(std::uint64_t bytes);
  void go_on();
  unsigned cancelled() const;  // requests
  // The next `count` answers that contain byte `offset` of `blob` have that byte flipped; count <
  // 0: all of them until repair().
  void flip(const Digest& blob, std::uint64_t offset, int count);
  void repair();

  std::uint64_t requests() const;
  std::uint64_t bytes() const;  // given
  std::vector<cas::BlobRange> log() const;

 private:
  struct Request {
    std::uint64_t number = 0;
    cas::BlobRange range;
    std::shared_ptr<cas::BlobReceiver> receiver;
    // Once its turn has come:
    Bytes answer;
    std::size_t given = 0;
    Status end;  // after these bytes
  };
  using RequestPtr = std::shared_ptr<Request>;
  // What the thread does next, without the lock.
  struct Step {
    RequestPtr request;
    bool begins = false;
    ByteSpan piece;
    std::optional<Status> end;
  };
  struct Flip {
    Digest blob;
    std::uint64_t offset = 0;
    int count = 0;
  };
  void run();
  void cancel(std::uint64_t number);
  Step next_step() IMSY_REQUIRES(mu_);
  void begin(Request& request) IMSY_REQUIRES(mu_);
  bool may_go_on(const Request& request) const IMSY_REQUIRES(mu_);
  Result<Bytes> answer(const cas::BlobRange& range) IMSY_REQUIRES(mu_);

  const std::string name_;
  mutable Mutex mu_;
  CondVar changed_;
  std::unordered_map<Digest, Bytes> blobs_ IMSY_GUARDED_BY(mu_);
  std::uint64_t last_number_ IMSY_GUARDED_BY(mu_) = 0;
  std::deque<RequestPtr> waiting_ IMSY_GUARDED_BY(mu_);
  std::deque<RequestPtr> open_ IMSY_GUARDED_BY(mu_);  // whose turn has come
  std::vector<cas::BlobRange> log_ IMSY_GUARDED_BY(mu_);
  std::vector<Flip> flips_ IMSY_GUARDED_BY(mu_);
  bool holding_ IMSY_GUARDED_BY(mu_) = false;
  std::size_t allowed_ IMSY_GUARDED_BY(mu_) = 0;  // requests that may pass while holding
  int failures_ IMSY_GUARDED_BY(mu_) = 0;
  Error failure_ IMSY_GUARDED_BY(mu_){Errc::kUnavailable, "the test says so"};
  std::uint64_t stall_ IMSY_GUARDED_BY(mu_) = ~std::uint64_t{0};
  unsigned cancelled_ IMSY_GUARDED_BY(mu_) = 0;
  std::uint64_t shorten_ IMSY_GUARDED_BY(mu_) = 0;
  std::uint64_t cut_ IMSY_GUARDED_BY(mu_) = 0;
  int cuts_ IMSY_GUARDED_BY(mu_) = 0;
  std::uint64_t bytes_ IMSY_GUARDED_BY(mu_) = 0;
  std::string trust_domain_ IMSY_GUARDED_BY(mu_);
  cas::Cost cost_ IMSY_GUARDED_BY(mu_);
  Time usable_at_ IMSY_GUARDED_BY(mu_) = Time::min();
  unsigned distrusted_ IMSY_GUARDED_BY(mu_) = 0;
  bool stopping_ IMSY_GUARDED_BY(mu_) = false;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace imsy::test
