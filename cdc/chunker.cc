// The function is described in docs/format/chunker.md; a change of a single cut is a new algorithm.
#include "cdc/chunker.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <string>

#include "common/digest.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace imsy::cdc {
namespace {

// Whether a position is a cut depends on this many bytes before it.
constexpr std::size_t kWindow = 32;
constexpr std::size_t kSizeMinLimit = 64;
constexpr std::uint32_t kSizeLimit = 16u << 20;
constexpr int kNormalisation = 2;

// The filter takes the last four bytes as two numbers of 16 bits, nearest first. Odd multipliers,
// so that every value is as likely as any other; and no run of one byte passes.
constexpr std::uint16_t kNear = 0xB5AD;
constexpr std::uint16_t kFar = 0x4F1D;
constexpr int kFilterBitsMax = 10;

// Derived from SHA-256, so that nobody has to trust a choice.
std::array<std::uint64_t, 5> make_keys() {
  std::array<std::uint64_t, 5> keys{};
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const std::string text = std::string("imsy chunker v1") + static_cast<char>(i);
    keys[i] = load_le<std::uint64_t>(sha256(text).bytes().data());
  }
  keys[4] |= 1;
  return keys;
}

// Both halves of the product, one over the other.
std::uint64_t fold(std::uint64_t a, std::uint64_t b) {
  __extension__ using Wide = unsigned __int128;
  const Wide product = static_cast<Wide>(a) * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

// The judge: a hash of the 32 bytes before `end`, good in its upper bits.
std::uint64_t mix(const std::byte* end) {
  static const auto keys = make_keys();
  const auto word = [end](std::size_t back) { return load_le<std::uint64_t>(end - back); };
  return (fold(word(8) ^ keys[0], word(16) ^ keys[1]) ^
          fold(word(24) ^ keys[2], word(32) ^ keys[3])) *
         keys[4];
}

// The filter: `limit` of 65,536 positions pass, judged by the four bytes before `end`.
bool passes(const std::byte* end, std::uint16_t limit) {
  const unsigned sum = load_le<std::uint16_t>(end - 2) * unsigned{kNear} +
                       load_le<std::uint16_t>(end - 4) * unsigned{kFar};
  return static_cast<std::uint16_t>(sum - 0x8000) < limit;
}

#ifdef __SSE2__
// The same for 64 positions at once: bit i stands for the position at data + i.
class Filter64 {
 public:
  explicit Filter64(std::uint16_t limit)
      : limit_(_mm_set1_epi16(static_cast<std::int16_t>(0x8000 + limit))) {}

  std::uint64_t operator()(const std::byte* data) const {
    __m128i even[4];
    __m128i odd[4];
    __m128i any = _mm_setzero_si128();
    for (int i = 0; i < 4; ++i) {
      even[i] = passing(data + 16 * i);
      odd[i] = passing(data + 16 * i + 1);
      any = _mm_or_si128(any, _mm_or_si128(even[i], odd[i]));
    }
    if (_mm_movemask_epi8(any) == 0) return 0;  // nearly always
    const __m128i low = _mm_set1_epi16(0xFF);
    std::uint64_t bits = 0;
    for (int i = 0; i < 4; ++i) {
      const __m128i both = _mm_or_si128(_mm_and_si128(low, even[i]), _mm_andnot_si128(low, odd[i]));
      bits |= static_cast<std::uint64_t>(_mm_movemask_epi8(both)) << (16 * i);
    }
    return bits;
  }

 private:
  static __m128i load(const std::byte* from) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  }
  // Eight positions, every other one from `data` on: all ones where it passes.
  __m128i passing(const std::byte* data) const {
    const __m128i near = _mm_mullo_epi16(load(data - 2), _mm_set1_epi16(std::int16_t(kNear)));
    const __m128i far = _mm_mullo_epi16(load(data - 4), _mm_set1_epi16(std::int16_t(kFar)));
    return _mm_cmplt_epi16(_mm_add_epi16(near, far), limit_);
  }

  __m128i limit_;
};
#endif

// The first position of [from, to) that is a cut, or 0.
std::size_t scan(const std::byte* data, std::size_t from, std::size_t to, std::uint16_t limit,
                 std::uint64_t mask) {
  std::size_t length = from;
#ifdef __SSE2__
  const Filter64 filter(limit);
  for (; length + 64 <= to; length += 64) {
    for (std::uint64_t bits = filter(data + length); bits != 0; bits &= bits - 1) {
      const std::size_t candidate = length + static_cast<std::size_t>(std::countr_zero(bits));
      if ((mix(data + candidate) & mask) == 0) return candidate;
    }
  }
#endif
  for (; length < to; ++length) {
    if (passes(data + length, limit) && (mix(data + length) & mask) == 0) return length;
  }
  return 0;
}

// The `bits` topmost bits.
std::uint64_t high_mask(int bits) {
  return bits == 0 ? 0 : ~std::uint64_t{0} << (64 - bits);
}

}  // namespace

Status validate(const ChunkerParameters& p) {
  if (p.algorithm != ChunkerAlgorithm::kTwoStage) {
    return Error(Errc::kInvalid, "chunker algorithm " +
                                     std::to_string(static_cast<unsigned>(p.algorithm)) +
                                     " is unknown: this program knows 1");
  }
  if (p.size_min < kSizeMinLimit || p.size_min > p.size_avg || p.size_avg > p.size_max ||
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
  static_assert(kWindow <= kSizeMinLimit);
  const int bits = std::bit_width(parameters.size_avg) - 1;
  const int filter_bits = std::min(kFilterBitsMax, bits - kNormalisation);
  limit_ = static_cast<std::uint16_t>(0x10000 >> filter_bits);
  mask_early_ = high_mask(bits + kNormalisation - filter_bits);
  mask_late_ = high_mask(bits - kNormalisation - filter_bits);
}

std::size_t Chunker::next(ByteSpan data) const {
  if (data.size() <= parameters_.size_min) return data.size();
  const std::size_t end = std::min<std::size_t>(data.size(), parameters_.size_max);
  const std::size_t middle = std::min<std::size_t>(end, parameters_.size_avg + std::size_t{1});
  if (const auto cut = scan(data.data(), parameters_.size_min, middle, limit_, mask_early_)) {
    return cut;
  }
  if (const auto cut = scan(data.data(), middle, end, limit_, mask_late_)) return cut;
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
