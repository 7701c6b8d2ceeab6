// Frames are what progress is made of: they are used as they come, and a break costs no more than
// the one that it cut.
#include <thread>

#include "cas/frame_stream.h"
#include "tests/unit/cas/fetcher_fixture.h"

namespace imsy::cas {
namespace {

const cdc::Objects& objects() {
  return many_frames().manifest->objects();
}
const Digest& blob() {
  return many_frames().anchor.data_layers[0].blob;
}
std::uint64_t end_of(std::uint32_t frame) {
  return objects().frame(frame).stored_offset + objects().frame(frame).stored_size;
}

// --- the stream

TEST(FrameStream, CutsFramesWhateverThePieces) {
  const Bytes& bytes = many_frames().blobs[0];
  const std::vector<std::uint32_t> wanted = {1, 2, 5};
  const std::uint64_t start = objects().frame(1).stored_offset;
  const BlobRange range{blob(), bytes.size(), start, bytes.size() - start};  // more than they need
  for (const std::size_t size :
       {std::size_t{1}, std::size_t{7}, std::size_t{4'096}, bytes.size()}) {
    FrameStream stream(objects(), wanted, range);
    std::vector<std::uint32_t> whole;
    for (std::size_t at = start; at < bytes.size(); at += size) {
      const auto piece = ByteSpan(bytes).subspan(at, std::min(size, bytes.size() - at));
      stream.take(piece, [&](std::uint32_t index, const Bytes& stored) {
        whole.push_back(index);
        const cdc::Frame& frame = objects().frame(index);
        const auto expected = ByteSpan(bytes).subspan(frame.stored_offset, frame.stored_size);
        EXPECT_TRUE(std::equal(stored.begin(), stored.end(), expected.begin(), expected.end()));
        EXPECT_GE(at + piece.size(), end_of(index)) << "not before its last byte";
      });
    }
    EXPECT_EQ(whole, wanted) << size;
    EXPECT_TRUE(stream.missing().empty());
  }
}

TEST(FrameStream, SaysWhatIsMissing) {
  const Bytes& bytes = many_frames().blobs[0];
  FrameStream stream(objects(), {0, 1, 2}, {blob(), bytes.size(), 0, bytes.size()});
  const FrameStream::Whole ignore_it = [](std::uint32_t, const Bytes&) {};
  stream.take(ByteSpan(bytes).first(end_of(0)), ignore_it);
  EXPECT_EQ(std::vector(stream.missing().begin(), stream.missing().end()),
            (std::vector<std::uint32_t>{1, 2}));
  stream.take(ByteSpan(bytes).subspan(end_of(0), objects().frame(1).stored_size - 1), ignore_it);
  EXPECT_EQ(stream.missing().size(), 2u);
  EXPECT_EQ(stream.unfinished(), objects().frame(1).stored_size - 1);
}

TEST(FrameStream, CountsWhatIsOfNoFrame) {
  const Bytes& bytes = many_frames().blobs[0];
  FrameStream stream(objects(), {0, 2}, {blob(), bytes.size(), 0, bytes.size()});
  stream.take(bytes, [](std::uint32_t, const Bytes&) {});
  EXPECT_TRUE(stream.missing().empty());
  EXPECT_EQ(stream.between(),
            bytes.size() - objects().frame(0).stored_size - objects().frame(2).stored_size);
}

// --- the fetcher

class StreamTest : public FetcherTest {};

TEST_F(StreamTest, AfterABreakOnlyFramesThatLackAreAskedForAgain) {
  source_->add(many_frames().blobs);
  const std::uint64_t end = end_of(objects().frame_count() - 1);
  for (std::uint64_t cut = 0; cut < end; cut += 397) {
    reopen_empty();
    source_->cut(cut, 1);
    const std::size_t before = source_->log().size();
    const auto image = attach(many_frames());
    ASSERT_OK(fill(*image).get());
    const auto log = source_->log();
    ASSERT_EQ(log.size(), before + 2) << cut;
    std::uint32_t cut_frame = 0;
    while (end_of(cut_frame) <= cut) ++cut_frame;
    if (cut_frame > 0) {
      EXPECT_EQ(log.back().offset, objects().frame(cut_frame).stored_offset) << cut;
    }
    expect_content(*image, many_frames());
    EXPECT_EQ(source_->log().size(), before + 2);
  }
}

TEST_F(StreamTest, AnyNumberOfBreaksIsNoFailureWhileFramesCome) {
  source_->add(many_frames().blobs);
  source_->cut(4'000, 1'000);  // a frame and a part of the next
  auto image = attach(many_frames());
  ASSERT_OK(fill(*image).get());
  EXPECT_EQ(source_->requests(), objects().frame_count());
  reopen_empty();
  image = attach(many_frames());
  expect_content(*image, many_frames());
}

TEST_F(StreamTest, AFrameIsServedBeforeTheRestOfTheRangeComes) {
  source_->add(many_frames().blobs);
  source_->stall(end_of(1));
  const auto image = attach(many_frames());
  auto filled = fill(*image);
  EXPECT_OK(read(*image, many_frames(), "file10"));
  while (source_->bytes() < end_of(1)) std::this_thread::yield();
  Reading late = start(*image, many_frames(), "file19");
  EXPECT_FALSE(late.is_over());
  source_->go_on();
  EXPECT_OK(late.get());
  EXPECT_OK(filled.get());
  EXPECT_LE(source_->bytes(), many_frames().stored_size()) << "nothing came twice";
}

TEST_F(StreamTest, AnAnswerThatIsTooShortIsNonsense) {
  const auto liar = std::make_shared<test::MemorySource>("liar");
  liar->add(many_frames().blobs);
  liar->shorten(10);
  source_->add(many_frames().blobs);
  ASSERT_OK(add(*store_, many_frames()));
  const auto image =
      fetcher_->attach(many_frames().manifest, many_frames().anchor, {liar, source_}, "");
  expect_content(*image, many_frames());
  EXPECT_EQ(liar->requests(), 1u) << "asked last from then on";
}

TEST_F(StreamTest, WhatIsOnTheWireIsCancelledWithItsImage) {
  source_->add(many_frames().blobs);
  source_->stall(100);
  auto image = attach(many_frames());
  auto filled = fill(*image);
  while (source_->bytes() < 100) std::this_thread::yield();
  image.reset();
  EXPECT_EQ(code_of(filled.get()), Errc::kCancelled);
  while (source_->cancelled() == 0) std::this_thread::yield();
  source_->go_on();
}

}  // namespace
}  // namespace imsy::cas
