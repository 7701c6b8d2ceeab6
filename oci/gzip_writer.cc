#include "oci/gzip_writer.h"

#define ZLIB_CONST  // input is not to be changed
#include <zlib.h>

#include <algorithm>
#include <cstdlib>
#include <limits>

namespace imsy::oci {

struct GzipWriter::Impl {
  // Compresses what `stream` has been given.
  Status run(int flush) {
    for (;;) {
      stream.next_out = reinterpret_cast<Bytef*>(buffer.data());
      stream.avail_out = static_cast<uInt>(buffer.size());
      const int state = deflate(&stream, flush);
      const std::size_t made = buffer.size() - stream.avail_out;
      if (made > 0) IMSY_TRY(output.write(ByteSpan(buffer).first(made)));
      if (state == Z_STREAM_END || (flush == Z_NO_FLUSH && stream.avail_out > 0)) return {};
    }
  }

  ByteWriter& output;
  z_stream stream{};
  Bytes buffer = Bytes(256u << 10);
};

GzipWriter::GzipWriter(ByteWriter& output) : impl_(std::make_unique<Impl>(Impl{output})) {
  constexpr int kGzip = 16;  // added to the bits of the window: a gzip header, without time or name
  const int made = deflateInit2(&impl_->stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED,
                                MAX_WBITS + kGzip, MAX_MEM_LEVEL, Z_DEFAULT_STRATEGY);
  if (made != Z_OK) std::abort();  // without memory nothing can go on
}

GzipWriter::~GzipWriter() {
  deflateEnd(&impl_->stream);
}

Status GzipWriter::write(ByteSpan data) {
  while (!data.empty()) {
    const auto piece =
        data.first(std::min<std::size_t>(data.size(), std::numeric_limits<uInt>::max()));
    impl_->stream.next_in = reinterpret_cast<const Bytef*>(piece.data());
    impl_->stream.avail_in = static_cast<uInt>(piece.size());
    IMSY_TRY(impl_->run(Z_NO_FLUSH));
    data = data.subspan(piece.size());
  }
  return {};
}

Status GzipWriter::finish() {
  return impl_->run(Z_FINISH);
}

}  // namespace imsy::oci
