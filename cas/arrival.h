// Arrival: what a place sends for one request, on its way to the workers. Internal to cas.
//
// Threads: as BlobReceiver.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "cas/engine.h"
#include "cas/frame_stream.h"

namespace imsy::cas {

class Arrival final : public BlobReceiver {
 public:
  // `wire`: its number there.
  Arrival(std::shared_ptr<Engine> engine, RequestPtr request, std::uint64_t wire)
      : engine_(std::move(engine)),
        request_(std::move(request)),
        wire_(wire),
        stream_(request_->image->manifest->objects(), request_->frames, request_->range()) {}

  void begin(const std::string& trust_domain) override;
  void take(ByteSpan piece) override;
  void end(const Status& status) override;

 private:
  const std::shared_ptr<Engine> engine_;
  const RequestPtr request_;
  const std::uint64_t wire_;
  FrameStream stream_;
};

}  // namespace imsy::cas
