// RecordedImage: an image as the lazy tree reads it, which writes down what is read first.
//
// Promises
//   * Each chunk that a read touches is written down once, in the order of first accesses, before
//     the read is answered: a crash of the daemon loses nothing.
//   * Recording begins with the first read. It ends kRecordingTime later, after kRecordedAccesses
//     chunks, when the file cannot be written (one log line), or by stop(); for ever.
//   * A read never fails because of it, and waits for nothing but such writes to the page cache.
//   * While it records, it holds one bit per chunk of the image; before and afterwards nothing.
// Threads: all methods from any thread.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "cas/fetcher.h"
#include "common/io.h"
#include "common/mutex.h"

namespace imsy::snapshotter {

class RecordedImage final : public cas::Image {
 public:
  // Gives the file to append to. kAlreadyExists: the image was recorded before, and is not again.
  using Create = std::function<Result<UniqueFd>()>;
  using Now = std::function<std::chrono::steady_clock::time_point()>;

  // What belongs to a start has been read by then; what follows would only dilute it.
  static constexpr std::chrono::seconds kRecordingTime{60};
  static constexpr std::uint32_t kRecordedAccesses = 20'000;

  RecordedImage(std::shared_ptr<cas::Image> image, Create create,
                Now now = &std::chrono::steady_clock::now)
      : image_(std::move(image)), create_(std::move(create)), now_(std::move(now)) {}

  // The image's own, but that read() is written down.
  const std::shared_ptr<const cdc::Manifest>& manifest() const override {
    return image_->manifest();
  }
  std::uint64_t read(std::uint32_t object, std::uint64_t offset, std::uint32_t length,
                     ReadDone done) override;
  void cancel(std::uint64_t read) override { image_->cancel(read); }
  void fill(std::function<void(Status)> done) override { image_->fill(std::move(done)); }
  cas::FetchStats stats() const override { return image_->stats(); }

  // Ends the recording if its time is over; to be called now and then, since reads may stay away.
  void end_when_due();
  // Nothing is written any more, and no file is made, once this has returned.
  void stop();

 private:
  void note(std::uint32_t object, std::uint64_t offset, std::uint32_t length);
  bool begin() IMSY_REQUIRES(mu_);
  bool is_due() const IMSY_REQUIRES(mu_) { return now_() >= began_ + kRecordingTime; }
  void finish() IMSY_REQUIRES(mu_);
  void end() IMSY_REQUIRES(mu_);

  // Constant after construction.
  const std::shared_ptr<cas::Image> image_;
  const Create create_;
  const Now now_;

  std::atomic<bool> over_{false};  // set under mu_

  Mutex mu_;  // held over the writes, so that the file has the order of the accesses
  UniqueFd file_ IMSY_GUARDED_BY(mu_);  // open while it records
  std::chrono::steady_clock::time_point began_ IMSY_GUARDED_BY(mu_);
  std::vector<bool> seen_ IMSY_GUARDED_BY(mu_);  // by chunk
  std::uint32_t count_ IMSY_GUARDED_BY(mu_) = 0;
};

}  // namespace imsy::snapshotter
