#include "cli/image/background.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <span>
#include <string_view>

#include "common/io.h"

namespace imsy::cli::image {
namespace {

constexpr int kReadyFd = 3;
constexpr char kReady = 1;  // no message begins with it
constexpr std::size_t kMessageLimit = 64u << 10;

class SpawnSettings {
 public:
  // `ready` becomes kReadyFd of the new process; the rest is closed on exec.
  explicit SpawnSettings(int ready) {
    ::posix_spawn_file_actions_init(&actions_);
    ::posix_spawnattr_init(&attributes_);
    ::posix_spawn_file_actions_addopen(&actions_, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    ::posix_spawn_file_actions_addopen(&actions_, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    ::posix_spawn_file_actions_addopen(&actions_, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    ::posix_spawn_file_actions_adddup2(&actions_, ready, kReadyFd);
    // Ours are blocked: a thread waits for them.
    sigset_t none;
    ::sigemptyset(&none);
    ::posix_spawnattr_setsigmask(&attributes_, &none);
    ::posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK);
  }
  ~SpawnSettings() {
    ::posix_spawnattr_destroy(&attributes_);
    ::posix_spawn_file_actions_destroy(&actions_);
  }
  SpawnSettings(const SpawnSettings&) = delete;
  SpawnSettings& operator=(const SpawnSettings&) = delete;

  const posix_spawn_file_actions_t* actions() const { return &actions_; }
  const posix_spawnattr_t* attributes() const { return &attributes_; }

 private:
  posix_spawn_file_actions_t actions_{};
  posix_spawnattr_t attributes_{};
};

}  // namespace

Status run_in_background(std::vector<std::string> words) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return Error::from_errno(errno, "make a pipe");
  const UniqueFd ready(ends[0]);
  UniqueFd theirs(ends[1]);
  words.insert(words.begin() + 1, {"--ready-fd", std::to_string(kReadyFd)});
  std::string self = "imsy";
  std::vector<char*> arguments = {self.data()};
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  pid_t pid = -1;
  const SpawnSettings settings(theirs.get());
  const int failed = ::posix_spawn(&pid, "/proc/self/exe", settings.actions(),
                                   settings.attributes(), arguments.data(), environ);
  if (failed != 0) return Error::from_errno(failed, "start imsy in the background");
  theirs.reset();
  std::string said;
  std::array<std::byte, 1024> piece;
  while (said.size() < kMessageLimit) {
    IMSY_TRY_ASSIGN(const std::size_t got, read_some(ready.get(), piece));
    if (got == 0) break;
    said += as_text(std::span(piece).first(got));
    if (said.front() == kReady) return {};
  }
  ::waitpid(pid, nullptr, 0);
  if (said.empty()) said = "imsy ended in the background before it was ready";
  return Error(Errc::kUnavailable, std::move(said));
}

void Announcement::ready() {
  if (!to_) return;
  ignore(write_all(to_.get(), as_bytes(std::string_view(&kReady, 1))), "who waited is gone");
  to_.reset();
}

Status Announcement::end(Status outcome) {
  if (to_ && !outcome) {
    ignore(write_all(to_.get(), as_bytes(outcome.error().message())), "who waited is gone");
  }
  to_.reset();
  return outcome;
}

}  // namespace imsy::cli::image
