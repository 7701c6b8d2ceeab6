// How fast the store is with 1 million and with 10 million chunks, and how far an image of 10,000
// new files is from what writing and hashing the same bytes costs anyway.
//
// A store is filled once per run, in the temporary directory; everything is gone at the end. Of
// four objects three are one chunk, as in real images, and one is thirteen; all are owned. Their
// files are there when a benchmark looks at them, but they are holes: 10 million chunks take no
// more than names.
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "cas/index.h"
#include "cas/layout.h"
#include "cas/sqlite.h"
#include "cas/store.h"
#include "common/io.h"
#include "tests/support/image_maker.h"

namespace imsy::cas {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr std::uint32_t kChunkSize = 64u << 10;
constexpr std::uint32_t kLargeChunks = 13;  // of every fourth object
constexpr std::uint64_t kImageObjects = 10'000;
constexpr unsigned kThreads = 2;

template <typename T>
T must(Result<T> result) {
  if (!result) {
    std::fprintf(stderr, "store_bench: %s\n", result.error().message().c_str());
    std::exit(1);
  }
  return std::move(result).value();
}
void must(const Status& status) {
  if (!status) must(Result<bool>(status.error()));
}

class TempDir {
 public:
  TempDir() {
    std::string name = (fs::temp_directory_path() / "imsy-store-bench-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) must(Error::from_errno(errno, "mkdtemp"));
    path_ = name;
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  ~TempDir() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

double processor_seconds() {
  timespec used{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) * 1e-9;
}

// Takes the time of `work`, and of the processors, which a busy machine does not change.
template <typename Work>
void measure(benchmark::State& state, Work work) {
  const auto start = Clock::now();
  const double used = processor_seconds();
  work();
  state.SetIterationTime(std::chrono::duration<double>(Clock::now() - start).count());
  auto& counter = state.counters["cpu_ms"];
  counter.flags = benchmark::Counter::kAvgIterations;
  counter.value += (processor_seconds() - used) * 1e3;
}

std::uint64_t mixed(std::uint64_t value) {
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
  return value ^ (value >> 31);
}

Digest made_up_digest(std::uint64_t a, std::uint64_t b) {
  const std::uint64_t seed = mixed(a) + b;
  const std::array words{mixed(seed), mixed(~seed), mixed(seed << 1 | 1), mixed(seed * 3)};
  return Digest(std::as_bytes(std::span(words)));
}

// --- a store with many chunks

class FilledStore {
 public:
  explicit FilledStore(std::uint64_t chunks) : objects_(chunks / 16 * 4) {
    { const auto made = must(Store::open(root())); }
    fill();
    make_clean(true);
  }

  fs::path root() const { return dir_.path() / "store"; }
  std::uint64_t objects() const { return objects_; }
  static std::uint32_t chunks_of(std::uint64_t object) {
    return object % 4 == 0 ? kLargeChunks : 1;
  }
  static cdc::Chunk chunk(std::uint64_t object, std::uint32_t index) {
    return {.digest = made_up_digest(object, index + 1),
            .size = kChunkSize,
            .object_offset = std::uint64_t{index} * kChunkSize};
  }
  static cdc::ObjectId id(std::uint64_t object) {
    if (chunks_of(object) > 1) return made_up_digest(object, 0);
    const Digest only = made_up_digest(object, 1);
    return cdc::object_id(kChunkSize, std::span(&only, 1));
  }
  // Any chunk, each as likely as the next.
  cdc::Chunk random_chunk(std::mt19937_64& random) const {
    const std::uint64_t of_four = random() % 16;
    const std::uint64_t first = random() % (objects_ / 4) * 4;
    return of_four < kLargeChunks ? chunk(first, static_cast<std::uint32_t>(of_four))
                                  : chunk(first + of_four - kLargeChunks + 1, 0);
  }

  void make_clean(bool clean) {
    must(open_database().run(clean ? "UPDATE meta SET value = 1 WHERE key = 'clean'"
                                   : "UPDATE meta SET value = 0 WHERE key = 'clean'"));
  }
  // The files of the objects, as holes.
  void make_files() {
    if (std::exchange(has_files_, true)) return;
    for (unsigned folder = 0; folder < 256; ++folder) {
      std::array<char, 3> hex{};
      std::snprintf(hex.data(), hex.size(), "%02x", folder);
      fs::create_directories(root() / "objects" / hex.data());
    }
    for (std::uint64_t object = 0; object < objects_; ++object) {
      const std::string hex = id(object).hex();
      const auto file = must(open_file(root() / "objects" / hex.substr(0, 2) / hex,
                                       O_WRONLY | O_CREAT | O_CLOEXEC, 0444));
      if (::ftruncate(file.get(), std::int64_t{kChunkSize} * chunks_of(object)) != 0) {
        must(Error::from_errno(errno, "ftruncate"));
      }
    }
  }

 private:
  struct Row {
    Index::ChunkKey key = 0;
    std::uint32_t object;
    std::uint32_t offset;
  };

  Database open_database() const {
    return must(Database::open(root() / "index.db", Database::Mode::kCreate));
  }

  // In the order of the keys, which is what makes it bearable.
  void fill() {
    Database database = open_database();
    must(
        database.run("PRAGMA synchronous = OFF; PRAGMA cache_size = -2000000;"
                     "PRAGMA wal_autocheckpoint = 100000"));
    auto transaction = must(Transaction::begin(database));
    auto put_object =
        must(database.prepare("INSERT INTO object(row, id, size, state, run, used, trust_domain) "
                              "VALUES(?1, ?2, ?3, 2, 1, unixepoch(), '')"));
    auto put_owner = must(database.prepare("INSERT INTO owner(image, object) VALUES(?1, ?2)"));
    auto put_image = must(database.prepare(
        "INSERT INTO image(row, manifest, anchor, trust_domain, resident, added, objects, bytes, "
        "used, wanted, pinned) VALUES(?1, ?2, '', '', 1, 0, 0, 0, 0, 1, 0)"));
    for (std::uint64_t image = 0; image <= objects_ / kImageObjects; ++image) {
      must(put_image.bind(1, static_cast<std::int64_t>(image + 1))
               .bind(2, made_up_digest(~image, 0))
               .run());
    }
    std::vector<Row> rows;
    for (std::uint64_t object = 0; object < objects_; ++object) {
      const auto row = static_cast<std::int64_t>(object + 1);
      const Digest name = id(object);
      must(put_object.bind(1, row)
               .bind(2, name)
               .bind(3, std::int64_t{kChunkSize} * chunks_of(object))
               .run());
      must(
          put_owner.bind(1, row / static_cast<std::int64_t>(kImageObjects) + 1).bind(2, row).run());
      for (std::uint32_t i = 0; chunks_of(object) > 1 && i < chunks_of(object); ++i) {
        const cdc::Chunk found = chunk(object, i);
        Row& added = rows.emplace_back();
        added.key = Index::key_of(found.digest);
        added.object = static_cast<std::uint32_t>(row);
        added.offset = static_cast<std::uint32_t>(found.object_offset);
      }
    }
    std::sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) { return a.key < b.key; });
    auto put_chunk = must(database.prepare("INSERT INTO chunk VALUES(?1, ?2, ?3)"));
    for (const Row& row : rows) {
      must(put_chunk.bind(1, row.key)
               .bind(2, std::int64_t{row.object})
               .bind(3, std::int64_t{row.offset})
               .run());
    }
    must(transaction.commit());
    must(database.run("PRAGMA wal_checkpoint(TRUNCATE)"));
  }

  const TempDir dir_;
  const std::uint64_t objects_;
  bool has_files_ = false;
};

FilledStore& filled(benchmark::State& state) {
  // One at a time: they are large.
  static std::unique_ptr<FilledStore> store;
  static std::int64_t chunks = 0;
  if (chunks != state.range(0)) {
    store.reset();
    chunks = state.range(0);
    store = std::make_unique<FilledStore>(static_cast<std::uint64_t>(chunks));
  }
  return *store;
}

// --- an image of new files

// 10,000 files of 1 byte to 256 KiB, most of them small: 256 MB.
const test::MadeImage& new_image() {
  static const test::MadeImage image = [] {
    test::ImageMaker maker;
    std::mt19937_64 random(1);
    for (int i = 0; i < 10'000; ++i) {
      const std::size_t size = 1 + random() % (std::size_t{1} << (10 + random() % 9));
      maker.file("d" + std::to_string(i % 100) + "/" + std::to_string(i),
                 test::random_bytes(size, random()));
    }
    return maker.make();
  }();
  return image;
}

std::int64_t new_bytes() {
  std::int64_t bytes = 0;
  for (const auto& [path, content] : new_image().files) {
    bytes += static_cast<std::int64_t>(content.size());
  }
  return bytes;
}

// Calls `each` with every file's path and content, in two threads.
template <typename Each>
void for_each_file(Each each) {
  const auto& files = new_image().files;
  std::vector<std::thread> threads;
  for (unsigned thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      unsigned i = 0;
      for (const auto& [path, content] : files) {
        if (i++ % kThreads == thread) each(path, content);
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

void add_new_image(Store& store) {
  const test::MadeImage& image = new_image();
  must(store.add_image(image.manifest, image.manifest_bytes, image.anchor_text, ""));
  for_each_file([&](const std::string& path, const Bytes& content) {
    const std::uint32_t number = image.object(path);
    const auto object = must(store.open_object(*image.manifest, number, ""));
    std::uint32_t index = 0;
    for (const cdc::Chunk& chunk : image.manifest->objects().chunks_of(number)) {
      must(store.put_chunk(*object, index++,
                           ByteSpan(content).subspan(chunk.object_offset, chunk.size)));
    }
  });
}

void limit_write_and_hash(benchmark::State& state) {
  new_image();
  for (auto _ : state) {
    const TempDir dir;
    measure(state, [&] {
      for_each_file([&](const std::string& path, const Bytes& content) {
        std::string name = path;
        std::replace(name.begin(), name.end(), '/', '-');
        const auto file =
            must(open_file(dir.path() / name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444));
        must(pwrite_all(file.get(), content, 0));
        benchmark::DoNotOptimize(sha256(content));
      });
    });
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations()) * new_bytes());
}
BENCHMARK(limit_write_and_hash)->UseManualTime()->Unit(benchmark::kMillisecond);

// With the image's record before, and all rows of the index written behind.
void put_new_image(benchmark::State& state) {
  new_image();
  for (auto _ : state) {
    const TempDir dir;
    auto store = must(Store::open(dir.path() / "store"));
    measure(state, [&] {
      add_new_image(*store);
      store.reset();
    });
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations()) * new_bytes());
}
BENCHMARK(put_new_image)->UseManualTime()->Unit(benchmark::kMillisecond);

void copy_out(benchmark::State& state) {
  const TempDir dir;
  const auto store = must(Store::open(dir.path() / "store"));
  add_new_image(*store);
  const cdc::Objects& objects = new_image().manifest->objects();
  std::mt19937_64 random(2);
  std::int64_t bytes = 0;
  for (auto _ : state) {
    const auto chunk = static_cast<std::uint32_t>(random() % objects.total_chunks());
    bytes += must(store->find_chunk(objects.chunk(chunk), "")).value().size();
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations()));
  state.SetBytesProcessed(bytes);
}
BENCHMARK(copy_out);

// --- with many chunks

void open_clean(benchmark::State& state) {
  FilledStore& full = filled(state);
  for (auto _ : state) {
    std::unique_ptr<Store> store;
    measure(state, [&] { store = must(Store::open(full.root())); });
  }
}

void open_after_crash(benchmark::State& state) {
  FilledStore& full = filled(state);
  full.make_files();
  for (auto _ : state) {
    full.make_clean(false);
    std::unique_ptr<Store> store;
    measure(state, [&] { store = must(Store::open(full.root())); });
  }
}

// One by one, in one thread and in two.
void look_up(benchmark::State& state) {
  FilledStore& full = filled(state);
  const auto layout = must(Layout::open(full.root(), /*lock=*/true));
  const auto opened = must(Index::open(layout));
  const auto threads = static_cast<unsigned>(state.range(1));
  constexpr int kLookUps = 50'000;
  std::uint64_t seed = 0;
  for (auto _ : state) {
    std::vector<std::vector<cdc::Chunk>> wanted(threads);
    for (auto& of_thread : wanted) {
      std::mt19937_64 random(++seed);
      for (int i = 0; i < kLookUps; ++i) of_thread.push_back(full.random_chunk(random));
    }
    std::atomic<int> missing{0};
    std::vector<std::thread> running;
    measure(state, [&] {
      for (const auto& of_thread : wanted) {
        running.emplace_back([&] {
          for (const auto& chunk : of_thread)
            missing += opened.index->find_chunk(chunk, "").empty();
        });
      }
      for (auto& thread : running) thread.join();
    });
    if (missing > 0) state.SkipWithError("chunks were not found");
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations()) * kLookUps * threads);
}

// The chunks of an image at once.
void look_up_batched(benchmark::State& state) {
  FilledStore& full = filled(state);
  const auto store = must(Store::open(full.root()));
  constexpr int kLookUps = 50'000;
  std::mt19937_64 random(3);
  for (auto _ : state) {
    std::vector<cdc::Chunk> wanted;
    for (int i = 0; i < kLookUps; ++i) wanted.push_back(full.random_chunk(random));
    std::vector<bool> found;
    measure(state, [&] { found = store->likely_chunks(wanted, ""); });
    if (std::count(found.begin(), found.end(), true) != kLookUps) {
      state.SkipWithError("chunks were not found");
    }
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations()) * kLookUps);
}

// What a fill brings in a few seconds, until it is in the database.
void insert(benchmark::State& state) {
  FilledStore& full = filled(state);
  const auto layout = must(Layout::open(full.root(), /*lock=*/true));
  const auto opened = must(Index::open(layout));
  constexpr std::uint32_t kRows = 32'768;
  std::uint64_t object = full.objects();
  for (auto _ : state) {
    const Index::ObjectRow row{made_up_digest(++object, 0), std::uint64_t{kRows} * kChunkSize, ""};
    measure(state, [&] {
      for (std::uint32_t i = 0; i < kRows; ++i) {
        opened.index->add_chunk(made_up_digest(object, i + 1), row, std::uint64_t{i} * kChunkSize);
      }
      must(opened.index->flush());
    });
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations()) * kRows);
}

// 10,000 objects that no image owns any more, beside all the others.
void collect(benchmark::State& state) {
  FilledStore& full = filled(state);
  const auto store = must(Store::open(full.root()));
  for (auto _ : state) {
    add_new_image(*store);
    must(store->remove_image(new_image().manifest->digest()));
    measure(state, [&] { must(store->collect()); });
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations()) * kImageObjects);
}

// All of one size, then all of the next: a store is filled once.
[[maybe_unused]] const bool registered = [] {
  for (const std::int64_t chunks : {1'000'000, 10'000'000}) {
    const auto add = [&](const char* name, void (*run)(benchmark::State&)) {
      return benchmark::RegisterBenchmark(name, run)->UseManualTime()->Unit(
          benchmark::kMillisecond);
    };
    add("open_clean", open_clean)->Arg(chunks);
    add("look_up", look_up)->Args({chunks, 1})->Args({chunks, 2});
    add("look_up_batched", look_up_batched)->Arg(chunks);
    add("insert", insert)->Arg(chunks);
    add("collect", collect)->Arg(chunks);
    add("open_after_crash", open_after_crash)->Arg(chunks)->Iterations(3);
  }
  return true;
}();

}  // namespace
}  // namespace imsy::cas

BENCHMARK_MAIN();
