// How fast files are cut into chunks, beside what else a byte costs on its way into an image: its
// SHA-256, and being read from memory at all (the limit).
#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstring>
#include <random>

#include "cdc/chunker.h"
#include "common/bytes.h"
#include "common/digest.h"
#include "common/io.h"

namespace imsy {
namespace {

constexpr std::size_t kSize = 64u << 20;  // beyond the caches

const Bytes& random_content() {
  static const Bytes content = [] {
    Bytes bytes(kSize);
    std::mt19937_64 random(1);
    for (std::size_t at = 0; at < kSize; at += 8) {
      const std::uint64_t word = random();
      std::memcpy(&bytes[at], &word, 8);
    }
    return bytes;
  }();
  return content;
}

// A program, as images hold it: this one, repeated.
const Bytes& program_content() {
  static const Bytes content = [] {
    const auto self = read_file("/proc/self/exe", kSize);
    Bytes bytes;
    while (self && bytes.size() < kSize) bytes.insert(bytes.end(), self->begin(), self->end());
    return bytes;
  }();
  return content;
}

const Bytes& zeros() {
  static const Bytes content(kSize);
  return content;
}

void chunk(benchmark::State& state, const Bytes& content) {
  const cdc::Chunker chunker;
  for (auto _ : state) benchmark::DoNotOptimize(cdc::chunk_lengths(chunker, content));
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * content.size()));
}
BENCHMARK_CAPTURE(chunk, random, random_content())->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(chunk, program, program_content())->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(chunk, zeros, zeros())->Unit(benchmark::kMillisecond);

void hash(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(sha256(random_content()));
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * kSize));
}
BENCHMARK(hash)->Unit(benchmark::kMillisecond);

void read_memory(benchmark::State& state) {
  for (auto _ : state) {
    std::uint64_t sum = 0;
    for (std::size_t at = 0; at < kSize; at += 8) {
      std::uint64_t word = 0;
      std::memcpy(&word, &random_content()[at], 8);
      sum += word;
    }
    benchmark::DoNotOptimize(sum);
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * kSize));
}
BENCHMARK(read_memory)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace imsy

BENCHMARK_MAIN();
