// The program `imsy`: signals and standard streams for run().

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include "cli/run.h"
#include "common/io.h"
#include "common/log.h"
#include "common/program.h"
#include "common/stop_event.h"

namespace {

using imsy::Errc;
using imsy::Error;
using imsy::Result;

// Standard input, until it ends or a stop is requested.
class StandardInput : public imsy::ByteReader {
 public:
  explicit StandardInput(const imsy::StopEvent& stop) : stop_(stop) {}

  Result<std::size_t> read(std::span<std::byte> buffer) override {
    for (;;) {
      pollfd fds[2] = {{STDIN_FILENO, POLLIN, 0}, {stop_.fd(), POLLIN, 0}};
      if (::poll(fds, 2, -1) < 0 && errno != EINTR) return Error::from_errno(errno, "poll");
      if (stop_.requested()) return Error(Errc::kCancelled, "interrupted");
      if (fds[0].revents != 0) return imsy::read_some(STDIN_FILENO, buffer);
    }
  }

 private:
  const imsy::StopEvent& stop_;
};

// Turns the first SIGINT or SIGTERM into a stop request; the second one ends the process at once,
// for somebody who does not want to wait. Made before all other threads, which inherit the blocked
// signals.
class SignalWatch {
 public:
  SignalWatch() {
    ::sigemptyset(&signals_);
    ::sigaddset(&signals_, SIGINT);
    ::sigaddset(&signals_, SIGTERM);
    ::pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
    thread_ = std::thread([this] { watch(); });
  }
  ~SignalWatch() {
    ending_ = true;
    ::pthread_kill(thread_.native_handle(), SIGTERM);
    thread_.join();
  }
  SignalWatch(const SignalWatch&) = delete;
  SignalWatch& operator=(const SignalWatch&) = delete;

  std::stop_token stop() const { return stop_.get_token(); }

 private:
  void watch() {
    int number = 0;
    ::sigwait(&signals_, &number);
    stop_.request_stop();
    if (ending_) return;
    ::sigwait(&signals_, &number);
    if (ending_) return;
    ::pthread_sigmask(SIG_UNBLOCK, &signals_, nullptr);
    ::raise(number);
  }

  sigset_t signals_{};
  std::stop_source stop_;
  std::atomic<bool> ending_{false};
  std::thread thread_;
};

int run(int argc, char** argv) {
  imsy::ignore(imsy::log::configure("warn"), "the level is a constant");
  const std::vector<std::string> args(argv + std::min(argc, 1), argv + argc);
  const SignalWatch signals;
  const auto event = imsy::StopEvent::create(signals.stop());
  if (!event) {
    std::cerr << "imsy: " << event.error().message() << '\n';
    return imsy::cli::kExitFailed;
  }
  StandardInput input(**event);
  return imsy::cli::run(args, {input, std::cout, std::cerr}, signals.stop());
}

}  // namespace

int main(int argc, char** argv) {
  return imsy::run_program("imsy", [&] { return run(argc, argv); });
}
