// Reads: present, cold, failing, interrupted.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <latch>
#include <random>
#include <thread>

#include "tests/integration/fuse_fixture.h"

namespace imsy::fuse::testing {
namespace {

constexpr std::size_t kPage = 4096;

std::string noise(std::size_t size, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::string text(size, '\0');
  for (char& c : text) c = static_cast<char>(random());
  return text;
}

struct FreeDeleter {
  void operator()(char* memory) const { std::free(memory); }
};

// A buffer that O_DIRECT accepts.
std::unique_ptr<char, FreeDeleter> aligned_buffer(std::size_t size) {
  return std::unique_ptr<char, FreeDeleter>(static_cast<char*>(std::aligned_alloc(kPage, size)));
}

class FuseReadTest : public FuseTest {
 protected:
  void start_with_files() {
    warm_ = noise(700'000, 1);
    cold_ = noise(3 * kPage, 2);
    ImageBuilder builder;
    builder.file(ImageBuilder::kRoot, "warm", warm_);
    builder.file(ImageBuilder::kRoot, "cold", cold_);
    image_ = builder.build();
    cold_object_ = object_at(*image_, "cold");
    image_->hold(cold_object_);
    start(image_);
  }

  std::string warm_;
  std::string cold_;
  std::shared_ptr<FakeImage> image_;
  std::uint32_t cold_object_ = 0;
};

TEST_F(FuseReadTest, ManyReadersAtRandomPlaces) {
  start_with_files();
  std::vector<std::thread> readers;
  std::atomic<int> wrong{0};
  for (unsigned reader = 0; reader < 8; ++reader) {
    readers.emplace_back([&, reader] {
      std::mt19937_64 random(reader);
      const UniqueFd fd = open_for_reading(path("warm"));
      for (int i = 0; i < 200; ++i) {
        const auto offset = random() % (warm_.size() + 1000);
        const auto size = random() % 100'000;
        const auto expected = offset < warm_.size() ? warm_.substr(offset, size) : "";
        if (read_at(fd.get(), size, static_cast<off_t>(offset)) != expected) ++wrong;
      }
    });
  }
  for (auto& reader : readers) reader.join();
  EXPECT_EQ(wrong, 0);
}

TEST_F(FuseReadTest, MappedFilesShowTheContent) {
  start_with_files();
  const UniqueFd fd = open_for_reading(path("warm"));
  void* map = ::mmap(nullptr, warm_.size(), PROT_READ, MAP_PRIVATE, fd.get(), 0);
  ASSERT_NE(map, MAP_FAILED);
  EXPECT_EQ(std::string_view(static_cast<char*>(map), warm_.size()), warm_);
  ::munmap(map, warm_.size());
}

TEST_F(FuseReadTest, DirectReadsShowTheContent) {
  start_with_files();
  const UniqueFd fd = open_for_reading(path("warm"), O_DIRECT);
  const std::size_t size = warm_.size() / kPage * kPage + kPage;
  const auto buffer = aligned_buffer(size);
  ASSERT_EQ(::pread(fd.get(), buffer.get(), size, 0), static_cast<ssize_t>(warm_.size()));
  EXPECT_EQ(std::string_view(buffer.get(), warm_.size()), warm_);
}

TEST_F(FuseReadTest, AColdReadWaitsForItsContent) {
  start_with_files();
  std::string got;
  std::thread reader([&] { got = read_whole(path("cold")); });
  image_->wait_for_waiting(1);
  EXPECT_EQ(read_whole(path("warm")), warm_) << "present content does not wait";
  EXPECT_GE(session_->stats().waiting_reads, 1u);
  image_->let_go(cold_object_);
  reader.join();
  EXPECT_EQ(got, cold_);
}

TEST_F(FuseReadTest, AFailedReadIsAnErrorAndMaySucceedLater) {
  start_with_files();
  image_->let_go(cold_object_);
  image_->fail(cold_object_, Error(Errc::kCorrupt, "wrong digest"));
  EXPECT_EQ(read_whole(path("cold")), error_text(EIO));
  EXPECT_GE(session_->stats().eio, 1u);
  EXPECT_EQ(read_whole(path("warm")), warm_) << "other files are unaffected";
  image_->fail(cold_object_, std::nullopt);
  EXPECT_EQ(read_whole(path("cold")), cold_) << "the failure is not remembered";
}

TEST_F(FuseReadTest, AFailedReadOfMappedMemoryIsABusError) {
  start_with_files();
  image_->let_go(cold_object_);
  image_->fail(cold_object_, Error(Errc::kTimeout, "registry"));
  Child child([file = path("cold")] {
    const int fd = ::open(file.c_str(), O_RDONLY);
    const void* map = ::mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED) return 250;
    return int{*static_cast<const volatile char*>(map)};
  });
  const int status = child.wait();
  ASSERT_TRUE(WIFSIGNALED(status)) << status;
  EXPECT_EQ(WTERMSIG(status), SIGBUS);
}

// A child that reads a cold file, in the given way.
std::unique_ptr<Child> blocked_reader(const std::string& file, int flags) {
  static char buffer[kPage] __attribute__((aligned(4096)));
  return std::make_unique<Child>([file, flags] {
    const int fd = ::open(file.c_str(), O_RDONLY | flags);
    return ::pread(fd, buffer, sizeof buffer, 0) >= 0 ? 0 : errno;
  });
}

TEST_F(FuseReadTest, AKilledReaderLeavesAtOnce) {
  start_with_files();
  for (const int flags : {0, O_DIRECT}) {
    const auto child = blocked_reader(path("cold"), flags);
    image_->wait_for_waiting(1);
    ::kill(child->pid(), SIGKILL);
    const int status = child->wait();
    EXPECT_TRUE(WIFSIGNALED(status)) << status;
    // A read for the page cache goes on without its reader; one without ends with it.
    if (flags == O_DIRECT) {
      image_->wait_for_cancels(1);
    } else {
      image_->fail_waiting(cold_object_, Error(Errc::kTimeout, "deadline"));
      image_->hold(cold_object_);
    }
  }
}

TEST_F(FuseReadTest, AnInterruptedReaderGetsEintr) {
  start_with_files();
  image_->ignore_cancel();  // the answer must not depend on the fetcher
  struct sigaction action {};
  action.sa_handler = [](int) {};
  ASSERT_EQ(::sigaction(SIGUSR1, &action, nullptr), 0);
  int error = 0;
  const UniqueFd fd = open_for_reading(path("cold"), O_DIRECT);
  std::thread reader([&] {
    const auto buffer = aligned_buffer(kPage);
    error = ::pread(fd.get(), buffer.get(), kPage, 0) >= 0 ? 0 : errno;
  });
  image_->wait_for_waiting(1);
  ::pthread_kill(reader.native_handle(), SIGUSR1);
  reader.join();
  EXPECT_EQ(error, EINTR);
  image_->wait_for_cancels(1);
  image_->let_go(cold_object_);
  EXPECT_EQ(read_whole(path("cold")), cold_);
}

// More waiting readers than the server has threads, and than the kernel grants by default.
TEST_F(FuseReadTest, WaitingReadersDoNotBlockOthers) {
  constexpr std::size_t kReaders = 300;
  ImageBuilder builder;
  const std::string warm = noise(300'000, 3);
  builder.file(ImageBuilder::kRoot, "warm", warm);
  for (std::size_t i = 0; i < kReaders; ++i) {
    builder.file(ImageBuilder::kRoot, "cold" + std::to_string(i), noise(kPage, 100 + i));
  }
  const auto image = builder.build();
  for (std::size_t i = 0; i < kReaders; ++i) {
    image->hold(object_at(*image, "cold" + std::to_string(i)));
  }
  start(image);
  std::atomic<std::size_t> right{0};
  std::vector<std::thread> readers;
  for (std::size_t i = 0; i < kReaders; ++i) {
    readers.emplace_back([&, i] {
      if (read_whole(path("cold" + std::to_string(i))) == noise(kPage, 100 + i)) ++right;
    });
  }
  image->wait_for_waiting(kReaders);
  EXPECT_EQ(read_whole(path("warm")), warm);
  wait_for_waiting_reads(kReaders);
  for (std::size_t i = 0; i < kReaders; ++i) {
    image->let_go(object_at(*image, "cold" + std::to_string(i)));
  }
  for (auto& reader : readers) reader.join();
  EXPECT_EQ(right, kReaders);
  wait_for_waiting_reads(0);
}

TEST_F(FuseReadTest, AnOpenFileOutlivesItsImageAsFarAsItIsCached) {
  start_with_files();
  image_->let_go(cold_object_);
  const UniqueFd cached = open_for_reading(path("warm"));
  const UniqueFd uncached = open_for_reading(path("cold"));
  EXPECT_EQ(read_at(cached.get(), kPage, 0), warm_.substr(0, kPage));
  fs_.remove(kSlot);
  session_->forget_slot(kSlot);
  EXPECT_EQ(read_at(cached.get(), kPage, 0), warm_.substr(0, kPage));
  EXPECT_EQ(read_at(uncached.get(), kPage, 0), error_text(ENOENT));
  EXPECT_EQ(read_whole(path("warm")), error_text(ENOENT));
}

TEST_F(FuseReadTest, RemovalLetsReadsInProgressFinish) {
  start_with_files();
  std::string got;
  const UniqueFd fd = open_for_reading(path("cold"));
  std::thread reader([&] { got = read_at(fd.get(), kPage, 0); });
  image_->wait_for_waiting(1);
  fs_.remove(kSlot);
  session_->forget_slot(kSlot);
  image_->let_go(cold_object_);
  reader.join();
  EXPECT_EQ(got, cold_.substr(0, kPage));
}

TEST_F(FuseReadTest, UnmountingEndsReadsThatWait) {
  start_with_files();
  image_->ignore_cancel();
  constexpr int kReaders = 12;
  std::vector<std::string> got(kReaders);
  std::vector<std::thread> readers;
  std::latch open(kReaders);
  for (int i = 0; i < kReaders; ++i) {
    readers.emplace_back([&, i] {
      const UniqueFd fd = open_for_reading(path("cold"), i % 2 == 0 ? O_DIRECT : 0);
      open.count_down();
      const auto buffer = aligned_buffer(kPage);
      const ssize_t size = ::pread(fd.get(), buffer.get(), kPage, 0);
      got[i] = size >= 0 ? "data" : error_text(errno);
    });
  }
  open.wait();
  image_->wait_for_waiting(kReaders / 2);  // the others may share a page
  stop();
  for (auto& reader : readers) reader.join();
  for (const std::string& error : got) {
    EXPECT_TRUE(error == error_text(EIO) || error == error_text(ENOTCONN) ||
                error == error_text(ECONNABORTED))
        << error;
  }
  image_->let_go(cold_object_);  // the late answers find nobody
}

TEST_F(FuseReadTest, AfterUnmountingOpenFilesAreDisconnected) {
  start_with_files();
  const UniqueFd fd = open_for_reading(path("cold"));
  stop();
  EXPECT_EQ(read_at(fd.get(), kPage, 0), error_text(ENOTCONN));
}

}  // namespace
}  // namespace imsy::fuse::testing
