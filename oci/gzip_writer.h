// GzipWriter: what is written to it, compressed by gzip.
//
// zlib and not ISA-L, which reads gzip here: what ISA-L writes depends on the processor, and the
// same layer must have the same digest everywhere.
// Threads: belongs to one thread; waits as its output does.
// Source: RFC 1952.
#pragma once

#include <memory>

#include "common/stream.h"

namespace imsy::oci {

class GzipWriter : public ByteWriter {
 public:
  // `output` must outlive the writer.
  explicit GzipWriter(ByteWriter& output);
  ~GzipWriter() override;

  Status write(ByteSpan data) override;
  // The end of the stream, without which it is cut short. Nothing may be written after it.
  Status finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace imsy::oci
