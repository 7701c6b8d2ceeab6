// RecordedImage: an image as the lazy tree reads it, which writes down what is read first.
//
// Promises
//   * Each chunk that a read touches is noted once, in the order of first accesses, before the read
//     is answered. write() puts what was noted into the file; a crash loses what came after it.
//   * Recording begins with the first read. It ends kRecordingTime later, after kRecordedAccesses
//     chunks, when the file cannot be written (one log line), or by stop(); for ever.
//   * A read never fails because of it, and never waits for the disk because of it.
//   * While it records, it holds one bit per chunk of the image, and what is to be written; before
//     and afterwards nothing.
// Threads: all methods from any thread; write() and stop() wait for the disk and for each other.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
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
  std::string trust_domain() const override { return image_->trust_domain(); }
  void prefetch(std::vector<std::uint32_t> chunks) override { image_->prefetch(std::move(chunks)); }
  cas::FetchStats stats() const override { return image_->stats(); }

  // Puts what was noted into the file, which the first call with something to write makes; ends the
  // recording if its time is over. To be called about once a second.
  void write();
  // Nothing is written any more, and no file is made, once this has returned.
  void stop();

 private:
  // What was noted since it was last taken.
  struct Noted {
    std::string lines;
    std::uint32_t count = 0;  // since the beginning
    bool over = false;        // nothing will follow
  };
  void note(std::uint32_t object, std::uint64_t offset, std::uint32_t length);
  Noted take_noted();
  void end() IMSY_REQUIRES(mu_);
  Status append(const std::string& lines) IMSY_REQUIRES(file_mu_);
  void close() IMSY_REQUIRES(file_mu_);

  // Constant after construction.
  const std::shared_ptr<cas::Image> image_;
  const Create create_;
  const Now now_;

  std::atomic<bool> over_{false};  // nothing more is noted; set under mu_

  Mutex file_mu_;  // held over the writes; no read takes it
  UniqueFd file_ IMSY_GUARDED_BY(file_mu_);
  bool closed_ IMSY_GUARDED_BY(file_mu_) = false;  // nothing more is written

  Mutex mu_;
  std::string lines_ IMSY_GUARDED_BY(mu_);  // to be written
  std::chrono::steady_clock::time_point began_ IMSY_GUARDED_BY(mu_);
  std::vector<bool> seen_ IMSY_GUARDED_BY(mu_);  // by chunk; empty unless it records
  std::uint32_t count_ IMSY_GUARDED_BY(mu_) = 0;
};

}  // namespace imsy::snapshotter
