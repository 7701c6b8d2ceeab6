// What the tests of the fetcher share.
#pragma once

#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cas/fetcher.h"
#include "tests/support/memory_source.h"
#include "tests/unit/cas/faulty_store.h"
#include "tests/unit/cas/fixture.h"

namespace imsy::cas {

// The outcome of a read, also when it comes later.
class Reading {
 public:
  Image::ReadDone done() {
    return [state = state_](Result<Bytes> result) {
      ++state->calls;
      state->promise.set_value(std::move(result));
    };
  }
  Result<Bytes> get() { return future_.get(); }
  bool is_over() const { return state_->calls > 0; }
  std::uint64_t id = 0;

 private:
  struct State {
    std::promise<Result<Bytes>> promise;
    std::atomic<int> calls{0};
  };
  std::shared_ptr<State> state_ = std::make_shared<State>();
  std::future<Result<Bytes>> future_ = state_->promise.get_future();
};

// A file in each of many small frames.
inline const test::MadeImage& many_frames() {
  static const test::MadeImage image = [] {
    test::ImageMaker maker;
    maker.frame_target(3'000);
    for (unsigned i = 0; i < 12; ++i) {
      maker.file("file" + std::to_string(10 + i), test::random_bytes(3'000 + i, i));
    }
    return maker.make();
  }();
  return image;
}

class FetcherTest : public ::testing::Test {
 protected:
  FetcherTest() {
    options_.retry_first = std::chrono::milliseconds(1);
    options_.retry_longest = std::chrono::milliseconds(2);
    options_.background_retry_longest = std::chrono::milliseconds(2);
    options_.locate_interval = std::chrono::milliseconds(1);
    open();
  }
  ~FetcherTest() override { close(); }

  void open() {
    store_ = open_store(dir_.path() / "store");
    faulty_ = std::make_unique<FaultyStore>(*store_);
    fetcher_ = Fetcher::create(*faulty_, options_);
  }
  void close() {
    fetcher_.reset();
    faulty_.reset();
    store_.reset();
  }
  void reopen() {
    close();
    open();
  }
  // Without what was stored.
  void reopen_empty() {
    close();
    std::filesystem::remove_all(dir_.path() / "store");
    open();
  }
  // With other options.
  void reopen(const FetcherOptions& options) {
    options_ = options;
    reopen();
  }

  std::shared_ptr<Image> attach(const test::MadeImage& image, const std::string& domain = "") {
    EXPECT_OK(add(*store_, image, domain));
    source_->set_trust_domain(domain);
    return fetcher_->attach(image.manifest, image.anchor, {source_}, domain);
  }

  static Reading start(Image& image, std::uint32_t object, std::uint64_t offset,
                       std::uint32_t length) {
    Reading reading;
    reading.id = image.read(object, offset, length, reading.done());
    return reading;
  }
  static Reading start(Image& image, const test::MadeImage& made, const std::string& path) {
    return start(image, made.object(path), 0,
                 static_cast<std::uint32_t>(made.files.at(path).size()));
  }
  static Result<Bytes> read(Image& image, const test::MadeImage& made, const std::string& path) {
    return start(image, made, path).get();
  }
  // Every file of the image reads as it was made.
  static void expect_content(Image& image, const test::MadeImage& made) {
    for (const auto& [path, content] : made.files) {
      const auto bytes = read(image, made, path);
      ASSERT_OK(bytes);
      EXPECT_TRUE(*bytes == content) << path;
    }
  }
  static std::future<Status> fill(Image& image) {
    auto promise = std::make_shared<std::promise<Status>>();
    image.fill([promise](Status status) { promise->set_value(std::move(status)); });
    return promise->get_future();
  }
  // Stored bytes of the image's frames.
  static std::uint64_t frame_bytes(const test::MadeImage& made) {
    std::uint64_t bytes = 0;
    for (std::uint32_t i = 0; i < made.manifest->objects().frame_count(); ++i) {
      bytes += made.manifest->objects().frame(i).stored_size;
    }
    return bytes;
  }
  // Where the file's first chunk begins in its blob, when its frame is stored raw.
  static std::uint64_t place_in_blob(const test::MadeImage& made, const std::string& path) {
    const Bytes& content = made.files.at(path);
    const Bytes& blob = made.blobs.at(0);
    const auto found =
        std::search(blob.begin(), blob.end(), content.begin(),
                    content.begin() +
                        std::min<std::ptrdiff_t>(64, static_cast<std::ptrdiff_t>(content.size())));
    EXPECT_NE(found, blob.end());
    return static_cast<std::uint64_t>(found - blob.begin());
  }

  TempDir dir_{TempDir::On::kMemory};
  FetcherOptions options_;
  std::shared_ptr<test::MemorySource> source_ = std::make_shared<test::MemorySource>();
  std::unique_ptr<Store> store_;
  std::unique_ptr<FaultyStore> faulty_;
  std::unique_ptr<Fetcher> fetcher_;
};

}  // namespace imsy::cas
