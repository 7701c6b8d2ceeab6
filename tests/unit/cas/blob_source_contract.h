// What every BlobSource must do, run over each of them: include this in one test program, and
// instantiate BlobSourceContract with one factory for each kind.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "cas/blob_source.h"
#include "tests/support/image_maker.h"

namespace imsy::cas {

// A source with what it needs to work, which lives as long.
class SourceUnderTest {
 public:
  virtual ~SourceUnderTest() = default;
  virtual BlobSource& source() = 0;
  virtual void add(const Bytes& blob) = 0;
};

struct SourceKind {
  std::string name;
  std::function<std::unique_ptr<SourceUnderTest>()> make;
};

// What a place has given, once all of it is here.
struct Brought {
  Bytes bytes;
  std::string trust_domain;
};

// Collects what comes, and sees that the calls come as promised.
class Collector final : public BlobReceiver {
 public:
  using Done = std::function<void(Result<Brought>)>;
  explicit Collector(Done done) : done_(std::move(done)) {}

  void begin(const std::string& trust_domain) override {
    EXPECT_FALSE(std::exchange(began_, true));
    brought_.trust_domain = trust_domain;
  }
  void take(ByteSpan piece) override {
    EXPECT_TRUE(began_ && !ended_ && !piece.empty());
    append(brought_.bytes, piece);
    came_ = brought_.bytes.size();
  }
  void end(const Status& status) override {
    EXPECT_FALSE(std::exchange(ended_, true));
    done_(status ? Result<Brought>(std::move(brought_)) : status.error());
  }
  std::size_t came() const { return came_; }

 private:
  const Done done_;
  Brought brought_;
  bool began_ = false;
  bool ended_ = false;
  std::atomic<std::size_t> came_{0};
};

inline BlobSource::Cancel read(BlobSource& source, const BlobRange& range, Collector::Done done) {
  return source.read(range, std::make_shared<Collector>(std::move(done)));
}

// Waits for it.
inline Result<Brought> read(BlobSource& source, const BlobRange& range) {
  std::promise<Result<Brought>> promise;
  auto future = promise.get_future();
  read(source, range, [&](Result<Brought> brought) { promise.set_value(std::move(brought)); });
  return future.get();
}

class BlobSourceContract : public ::testing::TestWithParam<SourceKind> {
 protected:
  Result<Bytes> read(const BlobRange& range) {
    IMSY_TRY_ASSIGN(Brought brought, cas::read(under_test_->source(), range));
    return std::move(brought.bytes);
  }
  BlobRange range(std::uint64_t offset, std::uint64_t length) const {
    return {digest_, blob_.size(), offset, length};
  }
  void SetUp() override { under_test_->add(blob_); }

  const Bytes blob_ = test::random_bytes(300'000, 7);
  const Digest digest_ = sha256(blob_);
  const std::unique_ptr<SourceUnderTest> under_test_ = GetParam().make();
};

TEST_P(BlobSourceContract, GivesExactlyTheBytesAskedFor) {
  for (const auto& [offset, length] : std::vector<std::pair<std::uint64_t, std::uint64_t>>{
           {0, 1}, {0, 300'000}, {299'999, 1}, {1'000, 65'536}}) {
    const auto bytes = read(range(offset, length));
    ASSERT_TRUE(bytes) << bytes.error().message();
    ASSERT_EQ(bytes->size(), length);
    EXPECT_TRUE(std::equal(bytes->begin(), bytes->end(),
                           blob_.begin() + static_cast<std::ptrdiff_t>(offset)))
        << offset;
  }
}

TEST_P(BlobSourceContract, HasANameAndMayBeAsked) {
  EXPECT_FALSE(under_test_->source().name().empty());
  EXPECT_LE(under_test_->source().usable_at(), std::chrono::steady_clock::now());
  under_test_->source().distrust(digest_);  // harmless
  EXPECT_TRUE(read(range(0, 1)));
}

TEST_P(BlobSourceContract, SaysThatItHasNoSuchBlob) {
  BlobRange other = range(0, 10);
  other.blob = sha256("another blob");
  const auto bytes = read(other);
  ASSERT_FALSE(bytes);
  EXPECT_EQ(bytes.error().code(), Errc::kNotFound) << bytes.error().message();
}

TEST_P(BlobSourceContract, RefusesABlobOfAnotherSize) {
  BlobRange longer = range(10, 10);
  longer.blob_size += 1;
  const auto bytes = read(longer);
  ASSERT_FALSE(bytes);
  EXPECT_EQ(bytes.error().code(), Errc::kInvalid) << bytes.error().message();
}

TEST_P(BlobSourceContract, AnswersEachOfManyRequestsOnce) {
  constexpr unsigned kThreads = 4;
  constexpr unsigned kEach = 25;
  std::vector<std::atomic<int>> answers(kThreads * kEach);
  std::atomic<unsigned> left{kThreads * kEach};
  std::promise<void> all;
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (unsigned i = 0; i < kEach; ++i) {
        const unsigned number = t * kEach + i;
        const auto done = [&, number](Result<Brought> brought) {
          const bool right = brought && std::equal(brought->bytes.begin(), brought->bytes.end(),
                                                   blob_.begin() + number * 100);
          answers[number] += right ? 1 : 1000;
          if (--left == 0) all.set_value();
        };
        cas::read(under_test_->source(), range(number * 100, 100), done);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  all.get_future().wait();
  for (const auto& count : answers) EXPECT_EQ(count, 1);
}

TEST_P(BlobSourceContract, MayBeAskedFromItsOwnThread) {
  std::promise<Result<Brought>> answer;
  cas::read(under_test_->source(), range(0, 5), [&](const Result<Brought>& first) {
    EXPECT_TRUE(first);
    cas::read(under_test_->source(), range(5, 5),
              [&](Result<Brought> second) { answer.set_value(std::move(second)); });
  });
  const auto brought = answer.get_future().get();
  ASSERT_TRUE(brought) << brought.error().message();
  EXPECT_TRUE(std::equal(brought->bytes.begin(), brought->bytes.end(), blob_.begin() + 5));
}

TEST_P(BlobSourceContract, EndsOnceHoweverOftenItIsCancelled) {
  for (int i = 0; i < 20; ++i) {
    std::promise<Result<Brought>> answer;
    const auto cancel =
        cas::read(under_test_->source(), range(0, 300'000),
                  [&](Result<Brought> brought) { answer.set_value(std::move(brought)); });
    cancel();
    cancel();
    const auto brought = answer.get_future().get();
    cancel();
    if (brought) {
      EXPECT_TRUE(brought->bytes == blob_);
    } else {
      EXPECT_EQ(brought.error().code(), Errc::kCancelled) << brought.error().message();
    }
  }
}

}  // namespace imsy::cas
