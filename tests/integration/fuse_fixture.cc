#include "tests/integration/fuse_fixture.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "fuse/mount_table.h"

namespace imsy::fuse::testing {
namespace {

constexpr std::chrono::seconds kPatience{60};
constexpr std::chrono::seconds kLastPatience{20};

}  // namespace

Watchdog::Watchdog(std::filesystem::path mount)
    : mount_(std::move(mount)), thread_([this] { watch(); }) {}

Watchdog::~Watchdog() {
  MutexLock lock(mu_);
  over_ = true;
  changed_.notify_all();
}

bool Watchdog::wait_until(std::chrono::steady_clock::time_point deadline) {
  MutexLock lock(mu_);
  while (!over_) {
    if (!changed_.wait_until(mu_, deadline)) break;
  }
  return over_;
}

void Watchdog::watch() {
  const auto begin = std::chrono::steady_clock::now();
  if (wait_until(begin + kPatience)) return;
  ADD_FAILURE() << "the test hangs; aborting the FUSE connection";
  // Aborts the connection first and then fails to unmount what is in use.
  ::umount2(mount_.c_str(), MNT_FORCE);
  if (wait_until(begin + kPatience + kLastPatience)) return;
  std::fprintf(stderr, "the test hangs without the FUSE connection too\n");
  ::umount2(mount_.c_str(), MNT_DETACH);
  std::_Exit(1);
}

void FuseTest::SetUp() {
  if (::geteuid() != 0) GTEST_SKIP() << "mounting needs root";
  if (!open_file("/dev/fuse", O_RDWR)) GTEST_SKIP() << "there is no /dev/fuse here";
  std::string name = (std::filesystem::temp_directory_path() / "imsy-fuse-XXXXXX").string();
  ASSERT_NE(::mkdtemp(name.data()), nullptr);
  base_ = std::filesystem::canonical(name);
  ASSERT_EQ(::chmod(base_.c_str(), 0755), 0);
  mount_ = base_ / "mnt";
  std::filesystem::create_directory(mount_);
  watchdog_ = std::make_unique<Watchdog>(mount_);
}

void FuseTest::TearDown() {
  session_.reset();
  watchdog_.reset();
  if (base_.empty()) return;
  const auto left = mounts_at(mount_);
  ASSERT_TRUE(left);
  EXPECT_TRUE(left->empty()) << "the mount is still there";
  if (!left->empty()) ::umount2(mount_.c_str(), MNT_DETACH);
  std::error_code error;
  std::filesystem::remove_all(base_, error);
  EXPECT_FALSE(error) << error.message();
}

void FuseTest::start() {
  auto session = Session::mount(fs_, mount_);
  ASSERT_TRUE(session) << session.error().message();
  session_ = std::move(*session);
}

void FuseTest::start(std::shared_ptr<FakeImage> image, Slot slot) {
  ASSERT_TRUE(fs_.add(slot, std::move(image)));
  start();
}

std::string error_text(int err) {
  return "error " + std::to_string(err);
}

UniqueFd open_for_reading(const std::string& path, int flags) {
  auto fd = open_file(path, O_RDONLY | flags);
  EXPECT_TRUE(fd) << fd.error().message();
  return fd ? std::move(*fd) : UniqueFd();
}

std::string read_at(int fd, std::size_t size, off_t offset) {
  std::string text(size, '\0');
  const ssize_t got = ::pread(fd, text.data(), size, offset);
  if (got < 0) return error_text(errno);
  text.resize(static_cast<std::size_t>(got));
  return text;
}

std::string read_whole(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return error_text(errno);
  std::string text;
  char buffer[64 << 10];
  for (;;) {
    const ssize_t got = ::read(fd.get(), buffer, sizeof buffer);
    if (got < 0) return error_text(errno);
    if (got == 0) return text;
    text.append(buffer, static_cast<std::size_t>(got));
  }
}

Child::Child(const std::function<int()>& body) : pid_(::fork()) {
  if (pid_ != 0) return;
  ::close_range(3, ~0u, 0);
  ::_exit(body());
}

Child::~Child() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

int Child::wait() {
  int status = -1;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  return status;
}

}  // namespace imsy::fuse::testing
