#include "snapshotter/containerd.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "snapshotter/socket.h"
#include "tests/unit/snapshotter/fake_containerd.h"
#include "tests/unit/snapshotter/temporary_directory.h"

namespace imsy::snapshotter {
namespace {

using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

class ContainerdTest : public ::testing::Test {
 protected:
  static Containerd::Deadline soon() {
    return std::chrono::steady_clock::now() + std::chrono::seconds(30);
  }
  test::TemporaryDirectory directory_;
  test::FakeContainerd fake_{directory_ / "s"};
  std::unique_ptr<Containerd> client_ = connect_containerd((directory_ / "s").string());
};

template <typename T>
void expect_code(const Result<T>& result, Errc code) {
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), code) << result.error().message();
}

TEST_F(ContainerdTest, ReadsLabelsAndContentOfTheRightNamespace) {
  const std::string bytes(1000, 'x');
  const Digest digest = fake_.add_blob("default", bytes, {{"key", "value"}});
  EXPECT_EQ(*client_->content_labels("default", digest, soon()), (Labels{{"key", "value"}}));
  EXPECT_EQ(*client_->read_content("default", digest, 1000, soon()), bytes);
  expect_code(client_->content_labels("other", digest, soon()), Errc::kNotFound);
  expect_code(client_->read_content("other", digest, 1000, soon()), Errc::kNotFound);
}

TEST_F(ContainerdTest, ContentIsLimitedAndVerified) {
  const Digest digest = fake_.add_blob("default", std::string(1000, 'x'));
  expect_code(client_->read_content("default", digest, 999, soon()), Errc::kInvalid);
  fake_.set_blob("default", digest, std::string(1000, 'y'));
  expect_code(client_->read_content("default", digest, 1000, soon()), Errc::kCorrupt);
}

TEST_F(ContainerdTest, FindsTheNamesOfAnImageByItsConfiguration) {
  const Digest config = fake_.add_blob("default", "config");
  const Digest manifest = fake_.add_blob(
      "default", "manifest", {{"containerd.io/gc.ref.content.config", config.to_string()}});
  const Digest index = fake_.add_blob("default", "index",
                                      {{"containerd.io/gc.ref.content.m.3", manifest.to_string()}});
  fake_.add_image("default", "r.example:5000/one:1", manifest);
  fake_.add_image("default", "r.example:5000/two:1", index);
  fake_.add_image("default", "r.example:5000/three:1", config);
  EXPECT_THAT(*client_->image_names("default", config, soon()),
              UnorderedElementsAre("r.example:5000/one:1", "r.example:5000/two:1"));
  EXPECT_THAT(*client_->image_names("default", sha256("other"), soon()), IsEmpty())
      << "without a manifest nothing is asked, least of all for all images";
  EXPECT_THAT(*client_->image_names("other", config, soon()), IsEmpty());
}

TEST_F(ContainerdTest, NobodyAnswers) {
  const auto absent = connect_containerd((directory_ / "absent").string());
  expect_code(absent->content_labels("default", sha256("x"), soon()), Errc::kTimeout);
  const auto unwanted = connect_containerd("");
  expect_code(unwanted->content_labels("default", sha256("x"), soon()), Errc::kUnavailable);
  expect_code(unwanted->read_content("default", sha256("x"), 1, soon()), Errc::kUnavailable);
  expect_code(unwanted->image_names("default", sha256("x"), soon()), Errc::kUnavailable);
  const auto over = std::chrono::steady_clock::now() - std::chrono::seconds(1);
  expect_code(client_->content_labels("default", sha256("x"), over), Errc::kTimeout);
}

TEST_F(ContainerdTest, OneThatStartsLaterIsReached) {
  const auto socket = directory_ / "later";
  const auto client = connect_containerd(socket.string());
  const auto at_once = std::chrono::steady_clock::now() + std::chrono::milliseconds(50);
  expect_code(client->content_labels("default", sha256("x"), at_once), Errc::kTimeout);
  test::FakeContainerd later(socket);
  const Digest digest = later.add_blob("default", "bytes", {{"a", "b"}});
  const auto labels = client->content_labels("default", digest, soon());
  ASSERT_TRUE(labels) << labels.error().message();
  EXPECT_EQ(*labels, (Labels{{"a", "b"}}));
}

TEST_F(ContainerdTest, OneThatHangsIsLeftAfterTwoSeconds) {
  const auto socket = directory_ / "hangs";
  const auto listening = listen_at(socket);  // nobody accepts
  ASSERT_TRUE(listening);
  const auto client = connect_containerd(socket.string());
  const auto hour = std::chrono::steady_clock::now() + std::chrono::hours(1);
  expect_code(client->content_labels("default", sha256("x"), hour), Errc::kTimeout);
}

}  // namespace
}  // namespace imsy::snapshotter
