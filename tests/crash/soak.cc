// soak: a store and a fetcher under random traffic of a node, in one process, so that it also runs
// under ThreadSanitizer.
//
//     soak [--seconds N | --operations N] [--seed N] [--readers N] [--dir PATH]
//
// Eight images that share content are pulled, removed, detached, attached and filled in a random
// order, the store is collected, checked and opened anew, while readers read from whichever image
// is there. What must hold, or the program says what did not and ends with 1:
//   * every read of an image that is there succeeds, with the right bytes;
//   * a check of the store finds nothing;
//   * an image that is resident asks its source for nothing, if it is pinned, as half of them are,
//     or if there is room for all;
//   * of images that are pulled together each chunk is fetched once, if there is room for all;
//   * at the end nothing is left: no file, no descriptor, no memory.

#include <malloc.h>

#include <atomic>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <future>
#include <iostream>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <shared_mutex>
#include <string>
#include <thread>
#include <vector>

#include "cas/fetcher.h"
#include "cas/store.h"
#include "common/log.h"
#include "tests/support/image_maker.h"
#include "tests/support/memory_source.h"

namespace imsy {
namespace {

namespace fs = std::filesystem;
using Random = std::mt19937_64;

constexpr unsigned kImages = 8;
// All images fit, and unowned content gives way by itself, too; or images have to be shrunk.
constexpr std::uint64_t kRoomy = 16u << 20;
constexpr std::uint64_t kTight = 10u << 20;
constexpr std::uint32_t kReadMax = 128u << 10;
// Longer than anything takes; who waits so long hangs.
constexpr std::chrono::minutes kHang{5};
constexpr std::size_t kMemoryLeft = 8u << 20;

struct Options {
  std::uint64_t seconds = 0;
  std::uint64_t operations = 60;
  std::uint64_t seed = std::random_device()();
  unsigned readers = 64;
  fs::path directory = fs::temp_directory_path();
};

std::uint64_t seed_for_messages = 0;

[[noreturn]] void fail(const std::string& what) {
  std::cerr << "soak: " << what << "\nsoak: the seed was " << seed_for_messages << std::endl;
  std::_Exit(1);
}

void expect(const Status& done, const std::string& what) {
  if (!done) fail(what + ": " + done.error().message());
}

template <typename T>
T get(std::future<T> future, const std::string& what) {
  if (future.wait_for(kHang) != std::future_status::ready) fail(what + " hangs");
  return future.get();
}

std::uint64_t pick(Random& random, std::uint64_t below) {
  return std::uniform_int_distribution<std::uint64_t>(0, below - 1)(random);
}

// Waits for the end of one request.
class LastReceiver final : public cas::BlobReceiver {
 public:
  void begin(const std::string&) override {}
  void take(ByteSpan) override {}
  void end(const Status&) override { ended_.set_value(); }
  std::future<void> ended() { return ended_.get_future(); }

 private:
  std::promise<void> ended_;
};

// An image that a registry has, and what the node has of it.
struct Slot {
  test::MadeImage made;
  std::vector<std::string> paths;
  test::MemorySource source;
  std::string trust_domain;

  std::shared_mutex use;              // readers share it
  std::atomic<bool> wanted{false};    // by the operator, for itself
  std::shared_ptr<cas::Image> image;  // null: not attached
  bool added = false;                 // the store has it
  bool pinned = false;                // whenever it has it
  std::shared_ptr<std::atomic<bool>> resident = std::make_shared<std::atomic<bool>>(false);
  std::optional<std::uint64_t> requests;  // of the source, when it was resident and nobody read
};

// Readers do not begin on the slot while one exists.
class Alone {
 public:
  explicit Alone(Slot& slot) : slot_(slot) {
    slot_.wanted = true;
    slot_.use.lock();
  }
  ~Alone() {
    slot_.wanted = false;
    slot_.use.unlock();
  }
  Alone(const Alone&) = delete;
  Alone& operator=(const Alone&) = delete;

 private:
  Slot& slot_;
};

// All share some files, neighbours share others with one another, and each has its own.
void make_image(Slot& slot, unsigned number) {
  test::ImageMaker maker;
  for (unsigned i = 0; i < 20; ++i) {
    maker.file("common/" + std::to_string(i), test::random_bytes(1'000 + 3'000 * i, i));
  }
  maker.file("pair", test::random_bytes(700'000, 100 + number / 2));
  maker.file("own", test::random_bytes(900'000, 200 + number));
  // The same but for a few bytes: most of its chunks are shared.
  Bytes version = test::random_bytes(1'500'000, 300);
  std::copy_n(test::random_bytes(64, 400 + number).begin(), 64, version.begin() + 700'000);
  maker.file("version", std::move(version));
  slot.made = maker.make();
  slot.source.add(slot.made.blobs);
  for (const auto& [path, content] : slot.made.files) slot.paths.push_back(path);
  if (number >= 6) slot.trust_domain = "registry.example user";
  slot.source.set_trust_domain(slot.trust_domain);
}

class Soak {
 public:
  explicit Soak(const Options& options) : options_(options), random_(options.seed) {
    std::string name = options.directory / "imsy-soak-XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) fail("cannot make " + name);
    directory_ = name;
    for (unsigned i = 0; i < kImages; ++i) {
      slots_.push_back(std::make_unique<Slot>());
      make_image(*slots_.back(), i);
      slots_.back()->pinned = i % 2 == 0;
    }
  }
  ~Soak() { fs::remove_all(directory_); }

  void run() {
    const std::size_t files_before = descriptors();
    open();
    pull_all_at_once();  // what is made once and stays, such as caches of threads, is made
    close();
    ::malloc_trim(0);
    const std::size_t memory_before = ::mallinfo2().uordblks;
    open();
    traffic();
    expect_nothing_left();
    close();
    if (descriptors() != files_before) {
      fail(std::to_string(descriptors()) + " descriptors instead of " +
           std::to_string(files_before));
    }
    const std::size_t memory = ::mallinfo2().uordblks;
    if (memory > memory_before + kMemoryLeft) {
      fail("memory in use grew from " + std::to_string(memory_before) + " to " +
           std::to_string(memory) + " bytes");
    }
  }

 private:
  static std::size_t descriptors() {
    return static_cast<std::size_t>(
        std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator()));
  }
  fs::path root() const { return directory_ / "store"; }
  Slot& any() { return *slots_[pick(random_, kImages)]; }

  void open() {
    quota_ = pick(random_, 3) == 0 ? kTight : kRoomy;
    auto store = cas::Store::open(root(), {.quota_bytes = quota_});
    if (!store) fail("open the store: " + store.error().message());
    store_ = std::move(*store);
    fetcher_ = cas::Fetcher::create(*store_);
  }
  // Nobody reads.
  void close() {
    for (const auto& slot : slots_) detach(*slot);
    fetcher_.reset();
    store_.reset();
  }

  void traffic() {
    std::atomic<bool> over{false};
    std::vector<std::jthread> readers;
    for (unsigned i = 0; i < options_.readers; ++i) {
      readers.emplace_back([this, &over, seed = options_.seed + 1 + i] {
        Random random(seed);
        while (!over) read(random);
      });
    }
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(options_.seconds);
    const auto goes_on = [&] {
      return options_.seconds > 0 ? std::chrono::steady_clock::now() < end
                                  : operations_ < options_.operations;
    };
    for (; goes_on(); ++operations_) operate();
    pull_all_at_once();
    over = true;
    readers.clear();
    std::cout << operations_ << " operations, " << reads_ << " reads of " << bytes_read_
              << " bytes, " << pulls_ << " pulls, " << checks_ << " checks\n";
  }

  // --- readers

  void read(Random& random) {
    Slot& slot = *slots_[pick(random, kImages)];
    if (slot.wanted) {
      std::this_thread::yield();
      return;
    }
    const std::shared_lock lock(slot.use);
    if (slot.image == nullptr) {
      std::this_thread::yield();
      return;
    }
    const std::string& path = slot.paths[pick(random, slot.paths.size())];
    const Bytes& content = slot.made.files.at(path);
    const std::uint64_t offset = pick(random, content.size());
    const auto length = static_cast<std::uint32_t>(1 + pick(random, kReadMax));
    const auto promise = std::make_shared<std::promise<Result<Bytes>>>();
    auto future = promise->get_future();
    slot.image->read(slot.made.object(path), offset, length,
                     [promise](Result<Bytes> result) { promise->set_value(std::move(result)); });
    const Result<Bytes> bytes = get(std::move(future), "a read of " + path);
    if (!bytes) fail("a read of " + path + ": " + bytes.error().message());
    const ByteSpan expected =
        ByteSpan(content).subspan(offset, std::min<std::uint64_t>(length, content.size() - offset));
    if (!std::ranges::equal(*bytes, expected)) fail("a read of " + path + " has wrong bytes");
    ++reads_;
    bytes_read_ += bytes->size();
  }

  // --- the operator

  void operate() {
    const std::uint64_t choice = pick(random_, 100);
    if (choice < 30) {
      pull(any(), pick(random_, 2) == 0);
    } else if (choice < 50) {
      remove(any());
    } else if (choice < 65) {
      if (auto done = store_->collect(); !done) fail("collect: " + done.error().message());
    } else if (choice < 75) {
      attach_anew(any());
    } else if (choice < 85) {
      check();
    } else if (choice < 97) {
      expect_no_requests(any());
    } else if (choice < 99) {
      reopen();
    } else {
      pull_all_at_once();
    }
  }

  // As the daemon does for Prepare, and at the end of the pull.
  void pull(Slot& slot, bool wait) {
    ++pulls_;
    std::future<Status> filled;
    {
      const Alone alone(slot);
      if (!slot.added) {
        expect(store_->add_image(slot.made.manifest, slot.made.manifest_bytes,
                                 slot.made.anchor_text, slot.trust_domain),
               "add an image");
        if (slot.pinned) expect(store_->pin(slot.made.manifest->digest(), true), "pin an image");
        slot.added = true;
      }
      if (slot.image == nullptr) attach(slot);
      filled = fill(slot);
    }
    if (wait) expect(get(std::move(filled), "a fill"), "a fill");
  }

  void attach(Slot& slot) {
    // The source belongs to the slot, which outlives every image.
    std::shared_ptr<cas::BlobSource> place(std::shared_ptr<void>(), &slot.source);
    slot.image = fetcher_->attach(slot.made.manifest, slot.made.anchor, {std::move(place)},
                                  slot.trust_domain);
  }

  static std::future<Status> fill(Slot& slot) {
    const auto promise = std::make_shared<std::promise<Status>>();
    slot.image->fill([promise, resident = slot.resident](const Status& done) {
      if (done) *resident = true;
      promise->set_value(done);
    });
    return promise->get_future();
  }

  // Reads that are under way end first.
  static void detach(Slot& slot) {
    slot.image.reset();
    // The callback of a fill that was cut off has the old one.
    slot.resident = std::make_shared<std::atomic<bool>>(false);
    slot.requests.reset();
  }

  void remove(Slot& slot) {
    const Alone alone(slot);
    if (!slot.added) return;
    detach(slot);
    expect(store_->remove_image(slot.made.manifest->digest()), "remove an image");
    slot.added = false;
  }

  void attach_anew(Slot& slot) {
    const Alone alone(slot);
    if (slot.image == nullptr) return;
    detach(slot);
    attach(slot);
    fill(slot);
  }

  void check() {
    ++checks_;
    const auto summary =
        store_->check({.read_data = true, .repair = pick(random_, 2) == 0},
                      {.finding =
                           [](const cas::Finding& finding) {
                             fail("a check found " + finding.where + ": " + finding.what);
                           },
                       .progress = nullptr},
                      {});
    if (!summary) fail("check: " + summary.error().message());
  }

  // Of an image that is resident, and stays so.
  void expect_no_requests(Slot& slot) {
    const Alone alone(slot);
    const bool stays = slot.pinned || quota_ == kRoomy;
    if (!stays || slot.image == nullptr || !*slot.resident) return;
    // What was asked before is answered when this is.
    const auto last = std::make_shared<LastReceiver>();
    const auto& layer = slot.made.anchor.data_layers[0];
    slot.source.read({.blob = layer.blob, .blob_size = layer.size, .offset = 0, .length = 1}, last);
    get(last->ended(), "the source");
    const std::uint64_t requests = slot.source.requests();
    if (slot.requests && requests != *slot.requests + 1) {
      fail("a resident image asked its source " + std::to_string(requests - *slot.requests - 1) +
           " times");
    }
    slot.requests = requests;
  }

  // As a restart of the daemon.
  void reopen() {
    std::vector<std::unique_ptr<Alone>> alone;
    for (const auto& slot : slots_) alone.push_back(std::make_unique<Alone>(*slot));
    close();
    open();
    for (const auto& slot : slots_) {
      if (!slot->added) continue;
      attach(*slot);
      fill(*slot);
    }
  }

  // Into an empty store, beside the readers: each chunk is fetched at most once for each of those
  // who may not have it from one another.
  void pull_all_at_once() {
    for (const auto& slot : slots_) remove(*slot);
    if (auto done = store_->collect(); !done) fail("collect: " + done.error().message());
    const std::uint64_t before = fetcher_->stats().chunks_fetched;
    std::set<std::pair<std::string, Digest>> chunks;
    std::vector<std::future<Status>> fills;
    for (const auto& slot : slots_) {
      pull(*slot, false);
      const cdc::Objects& objects = slot->made.manifest->objects();
      for (std::uint32_t i = 0; i < objects.total_chunks(); ++i) {
        chunks.emplace(slot->trust_domain, objects.chunk(i).digest);
      }
      const Alone alone(*slot);
      fills.push_back(fill(*slot));
    }
    for (auto& future : fills) expect(get(std::move(future), "a fill"), "a fill");
    const std::uint64_t fetched = fetcher_->stats().chunks_fetched - before;
    if (quota_ == kRoomy && fetched > chunks.size()) {
      fail("of " + std::to_string(chunks.size()) + " chunks " + std::to_string(fetched) +
           " were fetched");
    }
  }

  void expect_nothing_left() {
    check();
    for (const auto& slot : slots_) remove(*slot);
    if (auto done = store_->collect(); !done) fail("collect: " + done.error().message());
    check();
    for (const char* folder : {"objects", "partial", "trash", "manifests"}) {
      for (const auto& entry : fs::recursive_directory_iterator(root() / folder)) {
        if (!entry.is_directory()) fail(entry.path().string() + " is left");
      }
    }
  }

  const Options options_;
  Random random_;
  std::uint64_t quota_ = 0;  // of the store that is open
  fs::path directory_;
  std::vector<std::unique_ptr<Slot>> slots_;
  std::unique_ptr<cas::Store> store_;
  std::unique_ptr<cas::Fetcher> fetcher_;
  std::uint64_t operations_ = 0;
  std::uint64_t pulls_ = 0;
  std::uint64_t checks_ = 0;
  std::atomic<std::uint64_t> reads_{0};
  std::atomic<std::uint64_t> bytes_read_{0};
};

Options parse(int argc, char** argv) {
  Options options;
  const std::vector<std::string> args(argv + 1, argv + argc);
  if (args.size() % 2 != 0) fail("every flag has a value");
  for (std::size_t i = 0; i < args.size(); i += 2) {
    if (args[i] == "--dir") {
      options.directory = args[i + 1];
      continue;
    }
    const std::uint64_t number = std::stoull(args[i + 1]);
    if (args[i] == "--seconds") options.seconds = number;
    if (args[i] == "--operations") options.operations = number;
    if (args[i] == "--seed") options.seed = number;
    if (args[i] == "--readers") options.readers = static_cast<unsigned>(number);
  }
  return options;
}

}  // namespace
}  // namespace imsy

int main(int argc, char** argv) {
  const imsy::Options options = imsy::parse(argc, argv);
  imsy::seed_for_messages = options.seed;
  std::cout << "soak: seed " << options.seed << std::endl;
  imsy::ignore(imsy::log::configure("error"), "the level is a constant");
  imsy::Soak(options).run();
  return 0;
}
