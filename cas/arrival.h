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
  // `id`: that of the request on the wire.
  Arrival(std::shared_ptr<Engine> engine, RequestPtr request, Dispatch::Id id)
      : engine_(std::move(engine)),
        request_(std::move(request)),
        id_(id),
        stream_(request_->image->manifest->objects(), request_->frames, request_->range()) {}

  void begin(const std::string& trust_domain) override;
  void take(ByteSpan piece) override;
  void end(const Status& status) override;

 private:
  const std::shared_ptr<Engine> engine_;
  const RequestPtr request_;
  const Dispatch::Id id_;
  FrameStream stream_;
};

}  // namespace imsy::cas
