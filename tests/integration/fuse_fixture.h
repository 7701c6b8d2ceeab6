// FuseTest: a directory to mount images at, and a watchdog that ends the mount when a test hangs.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "common/io.h"
#include "common/mutex.h"
#include "fuse/image_fs.h"
#include "fuse/session.h"
#include "tests/unit/fuse/fake_image.h"

namespace imsy::fuse::testing {

// A test that waits for the kernel waits for ever when the server is wrong. After a generous time
// the watchdog aborts the connection, so that everybody gets an error, and fails the test; if that
// does not help it ends the process.
class Watchdog {
 public:
  explicit Watchdog(std::filesystem::path mount);
  ~Watchdog();

 private:
  void watch();
  bool wait_until(std::chrono::steady_clock::time_point deadline);

  const std::filesystem::path mount_;
  Mutex mu_;
  CondVar changed_;
  bool over_ IMSY_GUARDED_BY(mu_) = false;
  std::jthread thread_;
};

class FuseTest : public ::testing::Test {
 protected:
  static constexpr Slot kSlot = 5;

  // Skips the test where FUSE cannot be mounted.
  void SetUp() override;
  void TearDown() override;

  // Mounts fs_ at mount_. The test fails when that fails.
  void start();
  // The same with `image` at /<slot>.
  void start(std::shared_ptr<FakeImage> image, Slot slot = kSlot);
  void stop() { session_.reset(); }
  // A read counts as waiting until shortly after its answer: waits for just so many.
  void wait_for_waiting_reads(std::size_t count) const {
    while (session_->stats().waiting_reads != count) std::this_thread::yield();
  }

  std::string path(const std::string& in_image, Slot slot = kSlot) const {
    return (mount_ / std::to_string(slot) / in_image).string();
  }

  std::filesystem::path base_;   // a temporary directory that everybody may enter
  std::filesystem::path mount_;  // in it
  ImageFs fs_;
  std::unique_ptr<Session> session_;
  std::unique_ptr<Watchdog> watchdog_;
};

// Opens for reading; the test fails when that fails.
UniqueFd open_for_reading(const std::string& path, int flags = 0);
// The whole file; "error <errno>" when it cannot be read.
std::string read_whole(const std::string& path);
// Up to `size` bytes at `offset`; "error <errno>" when that fails.
std::string read_at(int fd, std::size_t size, off_t offset);
std::string error_text(int err);

// A child process without threads and without our descriptors, so that it keeps no connection
// alive. `body` may use system calls only; its value is the exit code.
class Child {
 public:
  explicit Child(const std::function<int()>& body);
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child();
  int pid() const { return pid_; }
  // The status as of waitpid(2).
  int wait();

 private:
  int pid_ = -1;
};

}  // namespace imsy::fuse::testing
