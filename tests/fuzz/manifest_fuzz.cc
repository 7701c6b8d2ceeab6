// CDC manifests: whatever is accepted is safe to use; whatever is not is refused with a kind that
// read() promises. All digests and sizes are made right, so that the parsers behind them are
// reached; compressed sections are given uncompressed, so that changes mean something.
//
// Input: a header's fields, then sections, each as kind, flags, sizes, columns and plain bytes.
// When libFuzzer begins with nothing, it gets the sample image of the unit tests.
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "cdc/column.h"
#include "tests/unit/cdc/raw_manifest.h"
#include "tests/unit/cdc/sample.h"
#include "tests/unit/cdc/walk.h"

namespace {

using namespace imsy;
using test::RawManifest;

const test::MadeImage& sample() {
  static const test::MadeImage image = test::make_sample();
  return image;
}

Bytes freeze(const RawManifest& raw) {
  Bytes frozen;
  for (const std::uint32_t field :
       {raw.version, raw.algorithm, raw.size_min, raw.size_avg, raw.size_max}) {
    append_le(frozen, field);
  }
  append_le(frozen, raw.content_size);
  for (const test::RawSection& section : raw.sections) {
    Bytes columns;
    for (const Bytes& column : section.columns) cdc::put_column(columns, column);
    append_le(frozen, section.kind);
    append_le(frozen, section.flags);
    append_le(frozen, static_cast<std::uint32_t>(columns.size()));
    append_le(frozen, static_cast<std::uint32_t>(section.plain.size()));
    append(frozen, columns);
    append(frozen, section.plain);
  }
  return frozen;
}

// Takes what is there; zeros behind the end.
class Reader {
 public:
  explicit Reader(ByteSpan data) : data_(data) {}
  template <typename T>
  T number() {
    std::byte raw[sizeof(T)] = {};
    const Bytes some = take(sizeof(T));
    std::copy(some.begin(), some.end(), raw);
    return load_le<T>(raw);
  }
  Bytes take(std::size_t size) {
    const ByteSpan taken = data_.first(std::min(size, data_.size()));
    data_ = data_.subspan(taken.size());
    return {taken.begin(), taken.end()};
  }
  bool empty() const { return data_.empty(); }

 private:
  ByteSpan data_;
};

RawManifest thaw(ByteSpan data) {
  Reader reader(data);
  RawManifest raw;
  raw.version = reader.number<std::uint32_t>();
  raw.algorithm = reader.number<std::uint32_t>();
  raw.size_min = reader.number<std::uint32_t>();
  raw.size_avg = reader.number<std::uint32_t>();
  raw.size_max = reader.number<std::uint32_t>();
  raw.content_size = reader.number<std::uint64_t>();
  while (!reader.empty() && raw.sections.size() < 10) {
    test::RawSection section;
    section.kind = reader.number<std::uint32_t>();
    section.flags = reader.number<std::uint32_t>();
    const auto columns = reader.number<std::uint32_t>();
    const auto plain = reader.number<std::uint32_t>();
    section.tail = reader.take(columns);  // all of the columns at once
    section.plain = reader.take(plain);
    raw.sections.push_back(std::move(section));
  }
  return raw;
}

}  // namespace

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t size_max);

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t size_max, unsigned /*seed*/) {
  static const Bytes seed = freeze(test::take_apart(sample().manifest_bytes));
  if (size < 28 && seed.size() <= size_max) {
    std::memcpy(data, seed.data(), seed.size());
    return seed.size();
  }
  return LLVMFuzzerMutate(data, size, size_max);
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const RawManifest raw = thaw(std::as_bytes(std::span(data, size)));
  const test::PutTogether image = test::put_together(raw, sample().anchor);
  cdc::ManifestLimits limits;
  limits.entries = 100'000;
  limits.chunks = 100'000;
  const auto manifest = cdc::Manifest::read(image.bytes, image.anchor, limits);
  if (!manifest) {
    const Errc code = manifest.error().code();
    if (code != Errc::kCorrupt && code != Errc::kInvalid) __builtin_trap();
  } else if (!test::walk(**manifest).empty()) {
    __builtin_trap();
  }
  return 0;
}
