// The function is described in docs/format/chunker.md; a change of a single cut is a new algorithm.
#include "cdc/chunker.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <string>

#include "common/digest.h"

namespace imsy::cdc {
namespace {

// The gear hash of a position covers this many bytes before it: older ones are shifted out.
constexpr std::size_t kWindow = 64;
constexpr std::uint32_t kSizeLimit = 16u << 20;
constexpr int kNormalisation = 2;

struct Gear {
  std::array<std::uint64_t, 256> once;
  std::array<std::uint64_t, 256> twice;  // the same, shifted left by one
};

// Derived from SHA-256, so that nobody has to copy or trust a table.
Gear make_gear() {
  Gear gear{};
  for (std::size_t byte = 0; byte < gear.once.size(); ++byte) {
    std::string text = "imsy gear v1";
    text.push_back(static_cast<char>(byte));
    gear.once[byte] = load_le<std::uint64_t>(sha256(text).bytes().data());
    gear.twice[byte] = gear.once[byte] << 1;
  }
  return gear;
}

const Gear& gear() {
  static const Gear table = make_gear();
  return table;
}

// `bits` bits below the topmost one. The topmost stays free, so that a mask can be shifted left:
// that is how scan() tests the first byte of a pair.
std::uint64_t high_mask(int bits) {
  return ((std::uint64_t{1} << bits) - 1) << (63 - bits);
}

std::uint64_t value_of(std::byte byte) {
  return std::to_integer<std::uint64_t>(byte);
}

// Moves `hash` over data[from, to). Returns the length of the chunk that ends at the first byte
// after which the masked bits are zero, or 0. Two bytes per step: `first` is the hash after the
// first byte, shifted left by one; testing it with the shifted mask gives the same answer as the
// plain recurrence, and takes one addition less off the chain of dependent operations.
std::size_t scan(ByteSpan data, std::size_t from, std::size_t to, std::uint64_t mask,
                 std::uint64_t& hash) {
  const Gear& table = gear();
  const std::uint64_t mask_twice = mask << 1;
  std::uint64_t h = hash;
  std::size_t i = from;
  for (; i + 2 <= to; i += 2) {
    const std::uint64_t a = table.twice[value_of(data[i])];
    const std::uint64_t b = table.once[value_of(data[i + 1])];
    const std::uint64_t first = (h << 2) + a;
    h = (h << 2) + (a + b);
    if ((first & mask_twice) == 0) return i + 1;
    if ((h & mask) == 0) return i + 2;
  }
  if (i < to) {
    h = (h << 1) + table.once[value_of(data[i])];
    if ((h & mask) == 0) return i + 1;
  }
  hash = h;
  return 0;
}

}  // namespace

Status validate(const ChunkerParameters& p) {
  if (p.algorithm != ChunkerAlgorithm::kFastCdc1) {
    return Error(Errc::kInvalid, "chunker algorithm " +
                                     std::to_string(static_cast<unsigned>(p.algorithm)) +
                                     " is unknown: this program knows 1 (FastCDC)");
  }
  if (p.size_min < kWindow || p.size_min > p.size_avg || p.size_avg > p.size_max ||
      p.size_max > kSizeLimit || !std::has_single_bit(p.size_avg)) {
    return Error(Errc::kInvalid,
                 "chunk sizes " + std::to_string(p.size_min) + "/" + std::to_string(p.size_avg) +
                     "/" + std::to_string(p.size_max) +
                     " are not possible: 64 <= min <= avg <= max <= 16777216 must hold, and avg "
                     "must be a power of two");
  }
  return {};
}

Chunker::Chunker(const ChunkerParameters& parameters) : parameters_(parameters) {
  assert(validate(parameters));
  const int bits = std::bit_width(parameters.size_avg) - 1;
  mask_early_ = high_mask(bits + kNormalisation);
  mask_late_ = high_mask(bits - kNormalisation);
}

std::size_t Chunker::next(ByteSpan data) const {
  if (data.size() <= parameters_.size_min) return data.size();
  const std::size_t end = std::min<std::size_t>(data.size(), parameters_.size_max);
  const std::size_t middle = std::min<std::size_t>(end, parameters_.size_avg);
  const Gear& table = gear();
  std::uint64_t hash = 0;
  std::size_t i = parameters_.size_min - kWindow;
  for (; i + 1 < parameters_.size_min; ++i) hash = (hash << 1) + table.once[value_of(data[i])];
  if (const std::size_t cut = scan(data, i, middle, mask_early_, hash); cut != 0) return cut;
  if (const std::size_t cut = scan(data, middle, end, mask_late_, hash); cut != 0) return cut;
  return end;
}

std::vector<std::uint32_t> chunk_lengths(const Chunker& chunker, ByteSpan file) {
  std::vector<std::uint32_t> lengths;
  while (!file.empty()) {
    const std::size_t length = chunker.next(file);
    lengths.push_back(static_cast<std::uint32_t>(length));
    file = file.subspan(length);
  }
  return lengths;
}

}  // namespace imsy::cdc
