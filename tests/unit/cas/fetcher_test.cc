#include "cas/fetcher.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <thread>

#include "common/io.h"
#include "tests/unit/cas/fetcher_fixture.h"

namespace imsy::cas {
namespace {

// Small files that share a frame, and a large one over several frames.
const test::MadeImage& sample() {
  static const test::MadeImage image = [] {
    return test::ImageMaker()
        .file("a/one", test::random_bytes(5'000, 1))
        .file("a/two", test::random_bytes(6'000, 2))
        .file("a/text", "some text")
        .file("b/empty", "")
        .file("c/large", test::random_bytes(1'500'000, 3))
        .file("d/last", test::random_bytes(7'000, 4))
        .make();
  }();
  return image;
}

// sample() with another middle of its large file, and one file more.
const test::MadeImage& next_sample() {
  static const test::MadeImage image = [] {
    Bytes large = sample().files.at("c/large");
    std::fill_n(large.begin() + 700'000, 50, std::byte{1});
    return test::ImageMaker()
        .file("a/one", sample().files.at("a/one"))
        .file("a/two", sample().files.at("a/two"))
        .file("c/large", large)
        .file("e/new", test::random_bytes(8'000, 5))
        .make();
  }();
  return image;
}

// --- what a reader gets

TEST_F(FetcherTest, ReadsEveryFile) {
  source_->add(sample().blobs);
  const auto image = attach(sample());
  expect_content(*image, sample());
}

TEST_F(FetcherTest, ReadsAnyRangeAcrossChunks) {
  source_->add(sample().blobs);
  const auto image = attach(sample());
  const Bytes& content = sample().files.at("c/large");
  const std::uint32_t object = sample().object("c/large");
  for (const auto& [offset, length] : std::vector<std::pair<std::uint64_t, std::uint32_t>>{
           {0, 1}, {1, 131'072}, {70'000, 300'000}, {1'499'999, 1}, {1'400'000, 100'000}}) {
    const auto bytes = start(*image, object, offset, length).get();
    ASSERT_OK(bytes);
    ASSERT_EQ(bytes->size(), length);
    EXPECT_TRUE(std::equal(bytes->begin(), bytes->end(),
                           content.begin() + static_cast<std::ptrdiff_t>(offset)))
        << offset;
  }
}

TEST_F(FetcherTest, CutsAReadAtTheEnd) {
  source_->add(sample().blobs);
  const auto image = attach(sample());
  const std::uint32_t object = sample().object("a/one");
  auto bytes = start(*image, object, 4'990, 100).get();
  ASSERT_OK(bytes);
  EXPECT_EQ(bytes->size(), 10u);
  for (const std::uint64_t offset : {std::uint64_t{5'000}, ~std::uint64_t{0}}) {
    bytes = start(*image, object, offset, 10).get();
    ASSERT_OK(bytes);
    EXPECT_TRUE(bytes->empty());
  }
  bytes = start(*image, sample().object("b/empty"), 0, 10).get();
  ASSERT_OK(bytes);
  EXPECT_TRUE(bytes->empty());
}

TEST_F(FetcherTest, RefusesWhatItCannotRead) {
  const auto image = attach(sample());
  EXPECT_EQ(code_of(start(*image, 99, 0, 1).get()), Errc::kInvalid);
  EXPECT_EQ(code_of(start(*image, sample().object("c/large"), 0, (4u << 20) + 1).get()),
            Errc::kInvalid);
}

TEST_F(FetcherTest, AnswersPresentBytesBeforeItReturns) {
  source_->add(sample().blobs);
  const auto image = attach(sample());
  ASSERT_OK(read(*image, sample(), "c/large"));
  const std::uint64_t before = source_->requests();
  Reading again = start(*image, sample(), "c/large");
  EXPECT_TRUE(again.is_over());
  EXPECT_EQ(again.id, 0u);
  EXPECT_TRUE(again.get().value() == sample().files.at("c/large"));
  EXPECT_EQ(source_->requests(), before);
}

TEST_F(FetcherTest, AFrameBringsItsNeighbours) {
  source_->add(sample().blobs);
  const auto image = attach(sample());
  ASSERT_OK(read(*image, sample(), "a/one"));
  ASSERT_OK(read(*image, sample(), "a/two"));
  ASSERT_OK(read(*image, sample(), "a/text"));
  EXPECT_EQ(source_->requests(), 1u);
}

TEST_F(FetcherTest, ReadsFromSeveralDataLayers) {
  const auto made = test::ImageMaker()
                        .layers(3)
                        .file("a", test::random_bytes(400'000, 1))
                        .file("b", test::random_bytes(400'000, 2))
                        .file("c", test::random_bytes(400'000, 3))
                        .file("d", test::random_bytes(40, 4))
                        .make();
  source_->add(made.blobs);
  const auto image = attach(made);
  expect_content(*image, made);
}

// --- joining

TEST_F(FetcherTest, JoinsEqualReads) {
  source_->add(sample().blobs);
  source_->hold();
  const auto image = attach(sample());
  std::vector<Reading> readings;
  for (int i = 0; i < 64; ++i) readings.push_back(start(*image, sample(), "a/one"));
  source_->wait_until_held(1);
  source_->release_all();
  for (auto& reading : readings) {
    EXPECT_TRUE(reading.get().value() == sample().files.at("a/one"));
  }
  EXPECT_EQ(source_->requests(), 1u);
}

TEST_F(FetcherTest, JoinsReadsOfOtherFilesInTheSameFrame) {
  source_->add(sample().blobs);
  source_->hold();
  const auto image = attach(sample());
  Reading one = start(*image, sample(), "a/one");
  source_->wait_until_held(1);
  Reading two = start(*image, sample(), "a/two");
  source_->release_all();
  EXPECT_TRUE(one.get().value() == sample().files.at("a/one"));
  EXPECT_TRUE(two.get().value() == sample().files.at("a/two"));
  EXPECT_EQ(source_->requests(), 1u);
}

TEST_F(FetcherTest, ManyReadersFetchEachFrameOnce) {
  source_->add(sample().blobs);
  const auto image = attach(sample());
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 16; ++t) {
    threads.emplace_back([&, t] {
      const Bytes& content = sample().files.at("c/large");
      for (unsigned i = 0; i < 12; ++i) {
        const std::uint64_t offset = (t * 7 + i * 5) % 12 * 125'000;
        const auto bytes = start(*image, sample().object("c/large"), offset, 125'000).get();
        ASSERT_OK(bytes);
        EXPECT_TRUE(std::equal(bytes->begin(), bytes->end(),
                               content.begin() + static_cast<std::ptrdiff_t>(offset)));
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_LE(source_->bytes(), frame_bytes(sample()));
}

TEST_F(FetcherTest, JoinsReadsOfTwoImagesAndKeepsTheChunkForBoth) {
  source_->add(sample().blobs);
  const auto first = attach(sample());
  const auto second = attach(next_sample());  // its own blob is nowhere
  source_->hold();
  Reading one = start(*first, sample().object("c/large"), 0, 100);
  source_->wait_until_held(1);
  Reading two = start(*second, next_sample().object("c/large"), 0, 100);
  source_->release_all();
  ASSERT_OK(one.get());
  ASSERT_OK(two.get());
  EXPECT_EQ(source_->requests(), 1u);
  EXPECT_TRUE(start(*second, next_sample().object("c/large"), 0, 100).is_over());
}

TEST_F(FetcherTest, DoesNotJoinAcrossTrustDomains) {
  source_->add(sample().blobs);
  source_->add(next_sample().blobs);
  const auto first = attach(sample(), "registry/alice");
  const auto second = attach(next_sample(), "registry/bob");
  source_->hold();
  Reading one = start(*first, sample().object("c/large"), 0, 100);
  source_->wait_until_held(1);
  Reading two = start(*second, next_sample().object("c/large"), 0, 100);
  source_->wait_until_held(2);
  source_->release_all();
  ASSERT_OK(one.get());
  ASSERT_OK(two.get());
}

TEST_F(FetcherTest, EachOfTwoUsersFetchesWhatTheOtherHasAndKeepsItOnce) {
  const auto twin =
      test::ImageMaker().file("c/large", sample().files.at("c/large")).file("x", "x").make();
  for (const bool swapped : {false, true}) {
    const test::MadeImage& first = swapped ? twin : sample();
    const test::MadeImage& second = swapped ? sample() : twin;
    source_->add(first.blobs);
    const auto hers = attach(first, "registry/alice");
    ASSERT_OK(fill(*hers).get());
    ASSERT_OK(add(*store_, second, "registry/bob"));
    const auto nothing = std::make_shared<test::MemorySource>();  // names her file, and has no blob
    auto his = fetcher_->attach(second.manifest, second.anchor, {nothing}, "registry/bob");
    EXPECT_EQ(code_of(read(*his, second, "c/large")), Errc::kNotFound);
    source_->add(second.blobs);
    his = attach(second, "registry/bob");
    ASSERT_OK(fill(*his).get());
    const std::uint64_t requests = source_->requests();
    expect_content(*his, second);
    expect_content(*hers, first);
    EXPECT_EQ(source_->requests(), requests);
    const auto stats = store_->stats();
    ASSERT_OK(stats);
    EXPECT_EQ(stats->objects, sample().files.size());
    reopen_empty();
  }
}

TEST_F(FetcherTest, WhoJoinedAnImageWhoseSourceFailsGoesOnWithItsOwn) {
  source_->add(next_sample().blobs);
  auto refusing = std::make_shared<test::MemorySource>();  // has no blob
  refusing->hold();
  ASSERT_OK(add(*store_, sample()));
  const auto first = fetcher_->attach(sample().manifest, sample().anchor, {refusing}, "");
  const auto second = attach(next_sample());
  Reading one = start(*first, sample().object("c/large"), 0, 100);
  refusing->wait_until_held(1);
  Reading two = start(*second, next_sample().object("c/large"), 0, 100);
  refusing->release_all();
  EXPECT_OK(two.get());
  ignore(one.get(), "it may have been served by the other image, or not");
}

TEST_F(FetcherTest, WhoJoinedAnImageWhoseSourceIsAwayDoesNotWaitForIt) {
  source_->add(next_sample().blobs);
  auto away = std::make_shared<test::MemorySource>();
  away->fail_with(-1, Error(Errc::kUnavailable, "away"));
  away->hold();
  ASSERT_OK(add(*store_, sample()));
  const auto first = fetcher_->attach(sample().manifest, sample().anchor, {away}, "");
  const auto second = attach(next_sample());
  Reading one = start(*first, sample().object("c/large"), 0, 100);
  away->wait_until_held(1);
  Reading two = start(*second, next_sample().object("c/large"), 0, 100);
  away->release_all();
  EXPECT_OK(two.get());
  EXPECT_OK(one.get());  // and helps who asked first
}

// --- cancelling and deadlines

TEST_F(FetcherTest, CancellingEndsAReadAtOnce) {
  source_->add(sample().blobs);
  source_->hold();
  const auto image = attach(sample());
  Reading reading = start(*image, sample(), "a/one");
  source_->wait_until_held(1);
  image->cancel(reading.id);
  EXPECT_EQ(code_of(reading.get()), Errc::kCancelled);
  image->cancel(reading.id);  // harmless
  image->cancel(12345);
  source_->release_all();
  EXPECT_OK(read(*image, sample(), "a/one"));
  EXPECT_EQ(source_->requests(), 1u);  // what was in flight is kept
}

TEST_F(FetcherTest, ACancelledLeaderDoesNotFailItsFollowers) {
  source_->add(sample().blobs);
  source_->hold();
  const auto image = attach(sample());
  Reading leader = start(*image, sample(), "a/one");
  source_->wait_until_held(1);
  Reading follower = start(*image, sample(), "a/one");
  image->cancel(leader.id);
  EXPECT_EQ(code_of(leader.get()), Errc::kCancelled);
  source_->release_all();
  EXPECT_OK(follower.get());
  EXPECT_EQ(source_->requests(), 1u);
}

TEST_F(FetcherTest, AReadFailsAtItsDeadlineAndItsBytesAreKeptAllTheSame) {
  options_.deadline = std::chrono::milliseconds(20);
  reopen();
  source_->add(sample().blobs);
  source_->hold();
  const auto image = attach(sample());
  Reading late = start(*image, sample(), "a/one");
  EXPECT_EQ(code_of(late.get()), Errc::kTimeout);
  source_->release_all();
  options_.deadline = std::chrono::milliseconds(60'000);
  while (!start(*image, sample(), "a/one").is_over()) std::this_thread::yield();
  EXPECT_EQ(source_->requests(), 1u);
}

TEST_F(FetcherTest, DetachingEndsReadsAndFill) {
  source_->add(sample().blobs);
  source_->hold();
  auto image = attach(sample());
  Reading reading = start(*image, sample(), "a/one");
  auto filled = fill(*image);
  source_->wait_until_held(1);
  image.reset();
  EXPECT_EQ(code_of(reading.get()), Errc::kCancelled);
  EXPECT_EQ(code_of(filled.get()), Errc::kCancelled);
}

TEST_F(FetcherTest, MayEndWhileTheSourceHasRequests) {
  source_->add(sample().blobs);
  source_->hold();
  auto image = attach(sample());
  Reading reading = start(*image, sample(), "a/one");
  auto filled = fill(*image);
  source_->wait_until_held(1);
  close();
  EXPECT_EQ(code_of(reading.get()), Errc::kCancelled);
  EXPECT_EQ(code_of(filled.get()), Errc::kCancelled);
  source_->release_all();
  EXPECT_EQ(code_of(read(*image, sample(), "a/one")), Errc::kCancelled);
  EXPECT_EQ(code_of(fill(*image).get()), Errc::kCancelled);
}

TEST_F(FetcherTest, LetsASourceGoBeforeItHasAnswered) {
  source_->add(sample().blobs);
  source_->hold();
  auto image = attach(sample());
  Reading reading = start(*image, sample(), "a/one");
  source_->wait_until_held(1);
  image.reset();
  // The last holder is us: the source's own thread must not be the one to end the source.
  EXPECT_EQ(code_of(reading.get()), Errc::kCancelled);
  while (source_.use_count() > 1) std::this_thread::yield();
  source_ = std::make_shared<test::MemorySource>();
}

// --- wrong bytes

TEST_F(FetcherTest, FetchesWrongBytesOnceMore) {
  source_->add(sample().blobs);
  source_->flip(sample().anchor.data_layers[0].blob, place_in_blob(sample(), "a/one"), 1);
  const auto image = attach(sample());
  const auto bytes = read(*image, sample(), "a/one");
  ASSERT_OK(bytes);
  EXPECT_TRUE(*bytes == sample().files.at("a/one"));
  EXPECT_EQ(source_->requests(), 2u);
  EXPECT_EQ(image->stats().chunks_corrupt, 1u);
}

TEST_F(FetcherTest, FailsOnlyTheChunkThatIsWrong) {
  source_->add(sample().blobs);
  source_->flip(sample().anchor.data_layers[0].blob, place_in_blob(sample(), "a/one"), -1);
  const auto image = attach(sample());
  EXPECT_EQ(code_of(read(*image, sample(), "a/one")), Errc::kCorrupt);
  EXPECT_OK(read(*image, sample(), "a/two"));  // in the same frame
  EXPECT_OK(read(*image, sample(), "c/large"));
  // Not remembered: once the blob is repaired, the file reads right.
  source_->repair();
  EXPECT_OK(read(*image, sample(), "a/one"));
}

TEST_F(FetcherTest, FailsAFrameThatIsNoFrame) {
  source_->add(sample().blobs);
  source_->flip(sample().anchor.data_layers[0].blob, 0, -1);  // its magic number
  const auto image = attach(sample());
  EXPECT_EQ(code_of(read(*image, sample(), "a/one")), Errc::kCorrupt);
  EXPECT_OK(read(*image, sample(), "d/last"));
  source_->repair();
  EXPECT_OK(read(*image, sample(), "a/one"));
}

// --- sources that fail

TEST_F(FetcherTest, TriesAgainWhileTheSourceIsAway) {
  source_->add(sample().blobs);
  source_->fail_with(3, Error(Errc::kUnavailable, "away"));
  const auto image = attach(sample());
  EXPECT_OK(read(*image, sample(), "a/one"));
  EXPECT_EQ(source_->requests(), 4u);
}

TEST_F(FetcherTest, PassesOnWhatWillNotChangeAndDoesNotRememberIt) {
  source_->add(sample().blobs);
  const auto image = attach(sample());
  for (const Errc code : {Errc::kNotFound, Errc::kDenied, Errc::kInvalid}) {
    source_->fail_with(1, Error(code, "no"));
    EXPECT_EQ(code_of(read(*image, sample(), "a/one")), code);
  }
  EXPECT_OK(read(*image, sample(), "a/one"));
}

TEST_F(FetcherTest, NeedsASourceOnlyForWhatIsMissing) {
  source_->add(sample().blobs);
  {
    const auto image = attach(sample());
    ASSERT_OK(read(*image, sample(), "a/one"));
  }
  const auto image = fetcher_->attach(sample().manifest, sample().anchor, {}, "");
  EXPECT_OK(read(*image, sample(), "a/one"));
  EXPECT_EQ(code_of(read(*image, sample(), "d/last")), Errc::kUnavailable);
}

// --- several places

// A mirror and the registry itself.
class PlacesTest : public FetcherTest {
 protected:
  std::shared_ptr<Image> attach_both(const std::string& domain = "") {
    EXPECT_OK(add(*store_, sample(), domain));
    mirror_->add(sample().blobs);
    source_->add(sample().blobs);
    return fetcher_->attach(sample().manifest, sample().anchor, {mirror_, source_}, domain);
  }
  const Digest blob_ = sample().anchor.data_layers[0].blob;
  const std::shared_ptr<test::MemorySource> mirror_ =
      std::make_shared<test::MemorySource>("mirror");
};

TEST_F(PlacesTest, AFrameThatOneGivesWrongComesFromTheNext) {
  const auto image = attach_both();
  mirror_->flip(blob_, place_in_blob(sample(), "a/one"), -1);
  const auto bytes = read(*image, sample(), "a/one");
  ASSERT_OK(bytes);
  EXPECT_TRUE(*bytes == sample().files.at("a/one"));
  EXPECT_EQ(mirror_->requests(), 1u);
  EXPECT_EQ(source_->requests(), 1u);
  EXPECT_EQ(mirror_->distrusted(), 1u);
  expect_content(*image, sample());
}

TEST_F(PlacesTest, BytesThatWereOfNoUseAreCounted) {
  const auto image = attach_both();
  mirror_->flip(blob_, place_in_blob(sample(), "a/one"), -1);
  ASSERT_OK(read(*image, sample(), "a/one"));
  const FetchStats once = fetcher_->stats();
  EXPECT_EQ(once.bytes_wrong, source_->bytes()) << "the frame that was asked for again";
  EXPECT_LE(once.bytes_wrong + once.bytes_gap, mirror_->bytes());
  ASSERT_OK(fill(*image).get());
  const FetchStats stats = fetcher_->stats();
  EXPECT_EQ(stats.requests, mirror_->requests() + source_->requests());
  EXPECT_EQ(stats.bytes_fetched, mirror_->bytes() + source_->bytes());
  EXPECT_EQ(stats.bytes_broken, 0u);
}

TEST_F(PlacesTest, TheFillRepairsAFrameThatOneGivesWrong) {
  const auto image = attach_both();
  mirror_->flip(blob_, place_in_blob(sample(), "c/large") + 700'000, -1);
  ASSERT_OK(fill(*image).get());
  expect_content(*image, sample());
  EXPECT_EQ(source_->requests(), 1u);
}

TEST_F(PlacesTest, AChunkFailsWhenAllGiveItWrong) {
  const auto image = attach_both();
  mirror_->flip(blob_, place_in_blob(sample(), "a/one"), -1);
  source_->flip(blob_, place_in_blob(sample(), "a/one"), -1);
  const auto bytes = read(*image, sample(), "a/one");
  EXPECT_EQ(code_of(bytes), Errc::kCorrupt);
  EXPECT_NE(bytes.error().message().find("at mirror, memory"), std::string::npos)
      << bytes.error().message();
  EXPECT_EQ(mirror_->requests() + source_->requests(), 2u) << "each is asked once";
  EXPECT_OK(read(*image, sample(), "a/two"));
}

TEST_F(PlacesTest, OneThatRefusesIsNotAskedFirstAgain) {
  for (const Errc code : {Errc::kNotFound, Errc::kDenied, Errc::kInvalid}) {
    reopen_empty();
    const auto image = attach_both();
    mirror_->fail_with(-1, Error(code, "no"));
    const std::uint64_t before = mirror_->requests();
    EXPECT_OK(read(*image, sample(), "a/one"));
    EXPECT_OK(read(*image, sample(), "c/large"));
    EXPECT_EQ(mirror_->requests(), before + 1);
  }
}

TEST_F(PlacesTest, OneThatIsAwayCostsNobodyAnError) {
  const auto image = attach_both();
  mirror_->fail_with(-1, Error(Errc::kUnavailable, "away"));
  expect_content(*image, sample());
  mirror_->fail_with(0, Error(Errc::kUnavailable, ""));
}

TEST_F(PlacesTest, OneThatWantsToBeLeftAloneIsPassedOver) {
  const auto image = attach_both();
  mirror_->set_usable_at(BlobSource::Time::max());
  expect_content(*image, sample());
  EXPECT_EQ(mirror_->requests(), 0u);
}

TEST_F(PlacesTest, ReadsWaitUntilTheImageIsLocated) {
  ASSERT_OK(add(*store_, sample()));
  source_->add(sample().blobs);
  std::promise<Located> asked;
  const auto image =
      fetcher_->attach(sample().manifest, sample().anchor, {}, "",
                       [&](Located located) { asked.set_value(std::move(located)); });
  Reading one = start(*image, sample(), "a/one");
  auto filled = fill(*image);
  Reading last = start(*image, sample(), "d/last");
  const Located located = asked.get_future().get();
  EXPECT_FALSE(one.is_over() || last.is_over());
  located(Places{source_});
  EXPECT_OK(one.get());
  EXPECT_OK(last.get());
  EXPECT_OK(filled.get());
}

TEST_F(PlacesTest, WhereAllRefuseTheImageIsLocatedAnew) {
  ASSERT_OK(add(*store_, sample()));
  source_->add(sample().blobs);
  const auto image = fetcher_->attach(sample().manifest, sample().anchor, {mirror_}, "",
                                      [&](const Located& located) { located(Places{source_}); });
  EXPECT_OK(read(*image, sample(), "a/one"));
  EXPECT_EQ(mirror_->requests(), 1u);
}

TEST_F(PlacesTest, ARefusalIsTheAnswerWhenTheImageCannotBeLocated) {
  ASSERT_OK(add(*store_, sample()));
  const auto image = fetcher_->attach(
      sample().manifest, sample().anchor, {mirror_}, "",
      [](const Located& located) { located(Error(Errc::kUnavailable, "nowhere")); });
  EXPECT_EQ(code_of(read(*image, sample(), "a/one")), Errc::kNotFound);
}

TEST_F(PlacesTest, AnOutageCostsFewRequestsHoweverManyWait) {
  options_.retry_first = std::chrono::milliseconds(20);
  options_.retry_longest = std::chrono::milliseconds(20);
  options_.plan.demand_run = 1;  // a request for each frame
  reopen();
  const auto image = attach_both();
  const std::uint32_t frames = sample().manifest->objects().frame_count();
  mirror_->fail_with(-1, Error(Errc::kUnavailable, "away"));
  source_->fail_with(-1, Error(Errc::kTimeout, "away"));
  std::vector<Reading> readings;
  for (int i = 0; i < 50; ++i) {
    for (const auto& [path, content] : sample().files) {
      readings.push_back(start(*image, sample(), path));
    }
  }
  auto filled = fill(*image);
  const std::uint64_t first = 2 * (frames + options_.background_requests);
  // Some rounds later each has cost one request to each place.
  while (mirror_->requests() < frames + options_.background_requests + 20) {
    std::this_thread::yield();
  }
  const auto rounds = mirror_->requests();
  EXPECT_LE(source_->requests(), rounds);
  EXPECT_LE(mirror_->held() + source_->held(), 1u);
  EXPECT_LE(source_->requests() + mirror_->requests(), first + 2 * rounds);
  mirror_->fail_with(0, Error(Errc::kUnavailable, ""));
  for (Reading& reading : readings) EXPECT_OK(reading.get());
  EXPECT_OK(filled.get());
}

// --- whose the bytes are

TEST_F(PlacesTest, APublicImageThatIsReadWithACredentialMakesNothingPublic) {
  const auto image = attach_both();
  ASSERT_OK(read(*image, sample(), "a/one"));  // in public
  mirror_->set_trust_domain("registry/alice");
  ASSERT_OK(read(*image, sample(), "c/large"));
  EXPECT_EQ(image->trust_domain(), "registry/alice");
  EXPECT_TRUE(start(*image, sample(), "c/large").is_over());
  EXPECT_TRUE(start(*image, sample(), "a/one").is_over());
  ASSERT_OK(fill(*image).get());
  const auto nothing = std::make_shared<test::MemorySource>();
  const auto hers =
      fetcher_->attach(sample().manifest, sample().anchor, {nothing}, "registry/alice");
  EXPECT_OK(read(*hers, sample(), "c/large"));
  for (const char* other : {"", "registry/bob"}) {
    const auto his = fetcher_->attach(sample().manifest, sample().anchor, {nothing}, other);
    EXPECT_OK(read(*his, sample(), "a/one"));
    EXPECT_EQ(code_of(read(*his, sample(), "c/large")), Errc::kNotFound) << other;
  }
}

TEST_F(PlacesTest, WhoHasJoinedDoesNotGetWhatNeededACredential) {
  const auto hers = attach_both();
  mirror_->set_trust_domain("registry/alice");
  mirror_->hold();
  const auto nothing = std::make_shared<test::MemorySource>();
  const auto open = fetcher_->attach(sample().manifest, sample().anchor, {nothing}, "");
  Reading one = start(*hers, sample(), "a/one");
  mirror_->wait_until_held(1);
  Reading two = start(*open, sample(), "a/one");
  mirror_->release_all();
  EXPECT_OK(one.get());
  EXPECT_EQ(code_of(two.get()), Errc::kNotFound);
}

TEST_F(PlacesTest, WhatAnotherPlaceBringsIsTheImagesToo) {
  source_->set_trust_domain("registry/alice");
  mirror_->set_trust_domain("mirror/node");
  const auto image = attach_both("registry/alice");
  ASSERT_OK(read(*image, sample(), "a/one"));
  mirror_->fail_with(-1, Error(Errc::kNotFound, "no"));
  ASSERT_OK(fill(*image).get());
  EXPECT_EQ(image->trust_domain(), "registry/alice");
  const std::uint64_t before = source_->requests();
  expect_content(*image, sample());
  EXPECT_EQ(source_->requests(), before);
}

// --- a disk that fails

TEST_F(FetcherTest, ServesFromMemoryWhatTheStoreCannotKeep) {
  source_->add(sample().blobs);
  const auto image = attach(sample());
  faulty_->fail_put(Error(Errc::kNoSpace, "full"));
  expect_content(*image, sample());
  EXPECT_GT(faulty_->failed(), 0u);
  faulty_->fail_put(std::nullopt);
  expect_content(*image, sample());
  EXPECT_TRUE(start(*image, sample(), "c/large").is_over());
}

TEST_F(FetcherTest, ChecksBytesThatTheStoreCannotKeep) {
  source_->add(sample().blobs);
  source_->flip(sample().anchor.data_layers[0].blob, place_in_blob(sample(), "a/one"), -1);
  const auto image = attach(sample());
  faulty_->fail_put(Error(Errc::kNoSpace, "full"));
  EXPECT_EQ(code_of(read(*image, sample(), "a/one")), Errc::kCorrupt);
  EXPECT_OK(read(*image, sample(), "a/two"));
}

TEST_F(FetcherTest, ServesWithoutADescriptorForTheObject) {
  source_->add(sample().blobs);
  const auto image = attach(sample());
  faulty_->fail_open(Error::from_errno(EMFILE, "open"));
  expect_content(*image, sample());
}

TEST_F(FetcherTest, FetchesAgainWhatTheDiskDoesNotGiveBack) {
  source_->add(sample().blobs);
  const auto image = attach(sample());
  ASSERT_OK(read(*image, sample(), "c/large"));
  const auto path = object_path(dir_.path() / "store", "objects",
                                sample().manifest->objects().id(sample().object("c/large")));
  std::filesystem::resize_file(path, 500'000);
  const auto bytes = read(*image, sample(), "c/large");
  ASSERT_OK(bytes);
  EXPECT_TRUE(*bytes == sample().files.at("c/large"));
  EXPECT_TRUE(start(*image, sample(), "c/large").is_over());
}

// --- how it asks

TEST_F(FetcherTest, JoinsNeighbouringFramesIntoOneRequest) {
  source_->add(sample().blobs);
  const auto image = attach(sample());
  ASSERT_OK(start(*image, sample().object("c/large"), 0, 700'000).get());
  EXPECT_EQ(source_->requests(), 1u);
}

TEST_F(FetcherTest, ARequestStaysBelowItsSpan) {
  options_.plan.demand_run = 300'000;  // one frame of random bytes is about 256 KiB
  reopen();
  source_->add(sample().blobs);
  const auto image = attach(sample());
  ASSERT_OK(read(*image, sample(), "c/large"));
  EXPECT_GT(source_->requests(), 4u);
  for (const BlobRange& range : source_->log()) EXPECT_LE(range.length, 300'000u);
}

TEST_F(FetcherTest, KeepsALimitOnRequestsInFlight) {
  options_.plan.demand_run = 300'000;
  options_.requests_per_host = 2;
  reopen();
  source_->add(sample().blobs);
  source_->hold();
  const auto image = attach(sample());
  Reading reading = start(*image, sample(), "c/large");
  std::size_t most = 0;
  while (!reading.is_over()) {
    most = std::max(most, source_->held());
    source_->release(1);
    std::this_thread::yield();
  }
  ASSERT_OK(reading.get());
  EXPECT_LE(most, 2u);
  EXPECT_GT(source_->requests(), 4u);
}

TEST_F(FetcherTest, CopiesFromOtherObjectsInsteadOfFetching) {
  source_->add(sample().blobs);
  source_->add(next_sample().blobs);
  const auto first = attach(sample());
  ASSERT_OK(read(*first, sample(), "c/large"));
  const std::uint64_t before = source_->requests();
  const auto second = attach(next_sample());
  ASSERT_OK(start(*second, next_sample().object("c/large"), 0, 100'000).get());
  EXPECT_EQ(source_->requests(), before);
  EXPECT_GE(second->stats().chunks_copied, 1u);
  expect_content(*second, next_sample());
}

TEST_F(FetcherTest, CountsWhatItDoes) {
  source_->add(sample().blobs);
  const auto image = attach(sample());
  expect_content(*image, sample());
  const std::uint64_t chunks = sample().manifest->objects().total_chunks();
  // The last reader is answered before the last frame's neighbours are kept.
  while (image->stats().chunks_fetched < chunks) std::this_thread::yield();
  const FetchStats stats = image->stats();
  EXPECT_EQ(stats.requests, source_->requests());
  EXPECT_EQ(stats.bytes_fetched, source_->bytes());
  EXPECT_EQ(stats.chunks_fetched, chunks);
  EXPECT_EQ(stats.chunks_copied, 0u);
  EXPECT_EQ(stats.chunks_corrupt, 0u);
  EXPECT_EQ(fetcher_->stats().bytes_fetched, stats.bytes_fetched);
}

TEST_F(FetcherTest, KnowsWhatAnEarlierRunFetched) {
  source_->add(sample().blobs);
  {
    const auto image = attach(sample());
    ASSERT_OK(read(*image, sample(), "c/large"));
  }
  const std::uint64_t before = source_->requests();
  reopen();
  const auto image = attach(sample());
  EXPECT_OK(read(*image, sample(), "c/large"));
  EXPECT_EQ(source_->requests(), before);
}

}  // namespace
}  // namespace imsy::cas
