#include "fuse/session.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "common/io.h"
#include "common/log.h"
#include "common/thread_pool.h"
#include "fuse/mount_table.h"
#include "fuse/ops.h"
#include "fuse/server.h"

namespace imsy::fuse {
namespace {

constexpr unsigned kThreadsMax = 64;
constexpr int kRetryDelayMs = 100;  // after a failure of the device that should not happen

void log_for_libfuse(fuse_log_level level, const char* format, std::va_list arguments) {
  char line[512];
  if (std::vsnprintf(line, sizeof line, format, arguments) < 0) return;
  std::string_view text(line);
  while (text.ends_with('\n')) text.remove_suffix(1);
  if (level <= FUSE_LOG_ERR) {
    log::error("libfuse: {}", text);
  } else {
    log::debug("libfuse: {}", text);
  }
}

// The number in a file of /proc/sys; 0 when this kernel has no such setting.
std::uint64_t read_setting(const char* path) {
  const auto bytes = read_file(path, 64);
  if (!bytes) return 0;
  const std::string_view text = as_text(*bytes);
  std::uint64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

Status require_empty_directory(const std::filesystem::path& directory) {
  std::error_code error;
  const auto kind = std::filesystem::symlink_status(directory, error).type();
  if (error) return Error::from_errno(error.value(), "mount at " + directory.string());
  if (kind != std::filesystem::file_type::directory) {
    return Error(Errc::kFailedPrecondition, "mount at " + directory.string() + ": not a directory");
  }
  const bool empty = std::filesystem::is_empty(directory, error);
  if (error) return Error::from_errno(error.value(), "mount at " + directory.string());
  if (!empty) {
    return Error(Errc::kFailedPrecondition,
                 "mount at " + directory.string() + ": the directory is not empty");
  }
  return {};
}

// A receive buffer of libfuse, which allocates it with malloc on first use.
struct RequestBuffer {
  RequestBuffer() = default;
  RequestBuffer(const RequestBuffer&) = delete;
  RequestBuffer& operator=(const RequestBuffer&) = delete;
  ~RequestBuffer() { std::free(buffer.mem); }
  fuse_buf buffer{};
};

class MountedSession final : public Session {
 public:
  MountedSession(ImageFs& fs, std::filesystem::path directory)
      : directory_(std::move(directory)), server_(fs) {}
  ~MountedSession() override;

  Status start(const SessionOptions& options);

  void forget_slot(Slot slot) override;
  bool is_in_place() const override;
  bool is_over() const override { return gone_; }
  SessionStats stats() const override { return server_.stats(); }

 private:
  Status start_libfuse(UniqueFd device);
  Status start_threads(unsigned count);
  void run(int epoll);
  // True when there may be a request; false when the session ends.
  bool wait_for_request(int epoll) const;
  void pause_after_failure() const;
  void gone();
  void unmount();

  // constant after start()
  const std::filesystem::path directory_;
  std::string device_number_;  // of the mount; empty before there is one
  fuse_session* session_ = nullptr;
  UniqueFd stop_event_;
  std::vector<UniqueFd> epolls_;  // one per thread

  // synchronises itself
  Server server_;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> gone_{false};

  std::vector<std::jthread> threads_;
};

Status MountedSession::start(const SessionOptions& options) {
  IMSY_TRY(detach_dead_mounts(directory_));
  IMSY_TRY(require_empty_directory(directory_));
  IMSY_TRY_ASSIGN(auto device, mount_device(directory_));
  IMSY_TRY_ASSIGN(const auto mounts, mounts_at(directory_));
  if (mounts.empty() || mounts.back().type != kMountType) {
    return Error(Errc::kInternal, "mount at " + directory_.string() + ": it is not there");
  }
  device_number_ = mounts.back().device;
  IMSY_TRY(start_libfuse(std::move(device)));
  IMSY_TRY(start_threads(std::clamp(options.threads, 1u, kThreadsMax)));
  // The kernel negotiates with the first request. This is the second: when it is answered, the
  // mount works.
  struct stat st;
  if (::stat(directory_.c_str(), &st) != 0) {
    return Error::from_errno(errno, "look at the new mount at " + directory_.string());
  }
  return {};
}

Status MountedSession::start_libfuse(UniqueFd device) {
  fuse_set_log_func(log_for_libfuse);
  char name[] = "imsy";
  char* arguments[] = {name, nullptr};
  fuse_args args = FUSE_ARGS_INIT(1, arguments);
  session_ = fuse_session_new(&args, &image_ops(), sizeof(fuse_lowlevel_ops), &server_);
  fuse_opt_free_args(&args);
  if (session_ == nullptr) return Error(Errc::kInternal, "libfuse makes no session");
  const std::string descriptor = "/dev/fd/" + std::to_string(device.get());
  if (fuse_session_mount(session_, descriptor.c_str()) != 0) {
    return Error(Errc::kInternal, "libfuse does not take " + descriptor);
  }
  device.release();  // fuse_session_destroy closes it
  return {};
}

Status MountedSession::start_threads(unsigned count) {
  stop_event_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop_event_) return Error::from_errno(errno, "eventfd");
  const auto watch = [](const UniqueFd& epoll, int fd, std::uint32_t events) {
    epoll_event event{};
    event.events = events;
    return ::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd, &event) == 0;
  };
  for (unsigned i = 0; i < count; ++i) {
    UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
    // Exclusive: a request wakes one thread, the end all of them.
    if (!epoll || !watch(epoll, fuse_session_fd(session_), EPOLLIN | EPOLLEXCLUSIVE) ||
        !watch(epoll, stop_event_.get(), EPOLLIN)) {
      return Error::from_errno(errno, "epoll");
    }
    epolls_.push_back(std::move(epoll));
  }
  for (unsigned i = 0; i < count; ++i) {
    threads_.emplace_back([this, i] {
      name_this_thread("fuse-" + std::to_string(i));
      run(epolls_[i].get());
    });
  }
  return {};
}

void MountedSession::run(int epoll) {
  RequestBuffer request;
  while (!stopping_) {
    const int got = fuse_session_receive_buf(session_, &request.buffer);
    if (got > 0) {
      fuse_session_process_buf(session_, &request.buffer);
    } else if (got == 0) {
      return gone();
    } else if (got == -EAGAIN) {
      if (!wait_for_request(epoll)) return;
    } else if (got != -EINTR) {
      log::error("reading from the FUSE device failed directory={} errno={}", directory_.string(),
                 -got);
      pause_after_failure();
    }
  }
}

bool MountedSession::wait_for_request(int epoll) const {
  epoll_event event{};
  while (::epoll_wait(epoll, &event, 1, -1) < 0 && errno == EINTR) {
  }
  return !stopping_;
}

void MountedSession::pause_after_failure() const {
  const UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  epoll_event event{};
  event.events = EPOLLIN;
  ::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, stop_event_.get(), &event);
  ::epoll_wait(epoll.get(), &event, 1, kRetryDelayMs);
}

void MountedSession::gone() {
  if (gone_.exchange(true)) return;
  log::warn("the mount was taken away or aborted directory={}", directory_.string());
}

void MountedSession::unmount() {
  const bool was_gone = gone_.exchange(true);  // from here on it is no news
  if (device_number_.empty()) return;
  if (was_gone) {
    // The kernel may have given its number to the mount of another session.
    ignore(detach_dead_mounts(directory_), "somebody else's mount is there");
    return;
  }
  const auto detached = detach_mount(directory_, device_number_);
  if (!detached) log::warn("{}", detached.error().message());
}

MountedSession::~MountedSession() {
  unmount();
  stopping_ = true;
  if (stop_event_) {
    const std::uint64_t one = 1;
    ignore(write_all(stop_event_.get(), std::as_bytes(std::span(&one, 1))),
           "an eventfd takes a first write always");
  }
  threads_.clear();  // joins
  server_.close();
  if (session_ != nullptr) {
    fuse_session_exit(session_);
    fuse_session_destroy(session_);
  }
}

void MountedSession::forget_slot(Slot slot) {
  const std::string name = std::to_string(slot);
  const int result = fuse_lowlevel_notify_inval_entry(session_, kRootId, name.c_str(), name.size());
  // ENOENT: nothing was cached. ENODEV, ENOTCONN: no kernel is left that could know anything.
  if (result != 0 && result != -ENOENT && result != -ENODEV && result != -ENOTCONN) {
    log::warn("the kernel does not forget slot={} errno={}", slot, -result);
  }
}

bool MountedSession::is_in_place() const {
  struct stat st;
  if (gone_ || ::stat(directory_.c_str(), &st) != 0) return false;
  return device_number_ ==
         std::to_string(major(st.st_dev)) + ":" + std::to_string(minor(st.st_dev));
}

}  // namespace

std::chrono::seconds kernel_request_timeout() {
  const std::uint64_t fallback = read_setting("/proc/sys/fs/fuse/default_request_timeout");
  const std::uint64_t maximum = read_setting("/proc/sys/fs/fuse/max_request_timeout");
  if (fallback == 0 || maximum == 0) return std::chrono::seconds(std::max(fallback, maximum));
  return std::chrono::seconds(std::min(fallback, maximum));
}

Result<std::unique_ptr<Session>> Session::mount(ImageFs& fs, const std::filesystem::path& directory,
                                                const SessionOptions& options) {
  IMSY_TRY_ASSIGN(auto path, mount_path(directory));
  auto session = std::make_unique<MountedSession>(fs, std::move(path));
  IMSY_TRY(session->start(options));
  if (const auto timeout = kernel_request_timeout(); timeout.count() != 0) {
    log::warn("this kernel aborts FUSE mounts when one request takes too long timeout_s={}",
              timeout.count());
  }
  return std::unique_ptr<Session>(std::move(session));
}

}  // namespace imsy::fuse
