// ReadAhead: a reader that is read by a thread of its own, a few blocks ahead, so that download and
// inflation of a layer overlap with what is done to its content.
//
// Threads: read() from one thread; `input` is used by the inner thread until destruction.
#pragma once

#include <deque>
#include <optional>
#include <thread>

#include "common/mutex.h"
#include "common/stream.h"

namespace imsy::converter {

class ReadAhead : public ByteReader {
 public:
  // `input` must outlive this object.
  explicit ReadAhead(ByteReader& input);
  ~ReadAhead() override;

  // Waits for the inner thread. The end and errors of `input` come through in their place.
  Result<std::size_t> read(std::span<std::byte> buffer) override;

 private:
  void run();

  static constexpr std::size_t kBlock = 1u << 20;
  static constexpr std::size_t kBlocks = 8;

  ByteReader& input_;
  Mutex mu_;
  CondVar changed_;
  std::deque<Bytes> ready_ IMSY_GUARDED_BY(mu_);
  std::optional<Error> failure_ IMSY_GUARDED_BY(mu_);
  bool ended_ IMSY_GUARDED_BY(mu_) = false;
  bool stopping_ IMSY_GUARDED_BY(mu_) = false;
  Bytes current_;  // being handed out, from `used_` on
  std::size_t used_ = 0;
  std::jthread thread_;  // last: uses all of the above
};

}  // namespace imsy::converter
