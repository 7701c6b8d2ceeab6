#include "oci/helper_program.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string_view>

#include "common/io.h"

extern char** environ;

namespace imsy::oci {
namespace {

using Clock = std::chrono::steady_clock;

// Waits until `fd` can be read, or its other end is closed.
Status wait_readable(int fd, Clock::time_point deadline) {
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
    pollfd waiting{fd, POLLIN, 0};
    const int ready = ::poll(&waiting, 1, static_cast<int>(std::max<long>(0, left.count())));
    if (ready > 0) return {};
    if (ready == 0) return Error(Errc::kTimeout, "no answer within its time");
    if (errno != EINTR) return Error::from_errno(errno, "poll");
  }
}

// A child process that leads a group of its own. The group is killed, and the child reaped, when
// this goes out of scope.
class Child {
 public:
  explicit Child(pid_t pid) : pid_(pid) {}
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() {
    if (pid_ > 0) end();
  }
  // Its exit status, or -1 when it ended by a signal. kTimeout when it has not ended by then.
  Result<int> wait(Clock::time_point deadline) {
    const UniqueFd handle(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
    if (!handle) return Error::from_errno(errno, "pidfd_open");
    IMSY_TRY(wait_readable(handle.get(), deadline));
    return end();
  }

 private:
  // Before it is reaped its number is nobody else's, so that the group is still its own.
  int end() {
    const pid_t pid = std::exchange(pid_, -1);
    ::kill(-pid, SIGKILL);
    ::kill(pid, SIGKILL);  // it may have left its group
    int status = 0;
    pid_t ended = -1;
    do {
      ended = ::waitpid(pid, &status, 0);
    } while (ended < 0 && errno == EINTR);
    return ended == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

  pid_t pid_;
};

Result<std::string> read_until(int fd, std::size_t limit, Clock::time_point deadline) {
  std::string answer;
  for (;;) {
    IMSY_TRY(wait_readable(fd, deadline));
    std::byte buffer[4096];
    IMSY_TRY_ASSIGN(const std::size_t got, read_some(fd, buffer));
    if (got == 0) return answer;
    answer += as_text(ByteSpan(buffer).first(got));
    if (answer.size() > limit) return Error(Errc::kInvalid, "answer too large");
  }
}

// A file in memory with `text`, at its beginning. Unlike a pipe it cannot break.
Result<UniqueFd> memory_file(std::string_view text) {
  UniqueFd file(::memfd_create("credential-question", MFD_CLOEXEC));
  if (!file) return Error::from_errno(errno, "memfd_create");
  IMSY_TRY(pwrite_all(file.get(), as_bytes(text), 0));
  return file;
}

// Pointers to the strings, and a null pointer at the end.
std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> list;
  for (std::string& one : strings) list.push_back(one.data());
  list.push_back(nullptr);
  return list;
}

std::vector<std::string> environment_of(const HelperProgram& helper) {
  std::vector<std::string> all;
  for (const auto& [name, value] : helper.environment) all.push_back(name + "=" + value);
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const auto same = [&](const auto& own) { return text.starts_with(own.first + "="); };
    if (std::ranges::none_of(helper.environment, same)) all.emplace_back(text);
  }
  return all;
}

Result<pid_t> spawn(const HelperProgram& helper, int input, int output) {
  std::vector<std::string> arguments = {helper.program};
  arguments.insert(arguments.end(), helper.arguments.begin(), helper.arguments.end());
  std::vector<std::string> environment = environment_of(helper);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
  ::posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  ::posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  sigset_t ignored;
  sigemptyset(&ignored);
  sigaddset(&ignored, SIGPIPE);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setsigdefault(&attributes, &ignored);
  ::posix_spawnattr_setpgroup(&attributes, 0);
  ::posix_spawnattr_setflags(
      &attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
  pid_t pid = 0;
  const int problem = ::posix_spawnp(&pid, helper.program.c_str(), &actions, &attributes,
                                     pointers(arguments).data(), pointers(environment).data());
  ::posix_spawnattr_destroy(&attributes);
  ::posix_spawn_file_actions_destroy(&actions);
  if (problem != 0) return Error::from_errno(problem, "start " + helper.program);
  return pid;
}

}  // namespace

Result<HelperAnswer> run_helper(const HelperProgram& helper) {
  const auto deadline = Clock::now() + helper.time;
  IMSY_TRY_ASSIGN(const UniqueFd input, memory_file(helper.input));
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return Error::from_errno(errno, "pipe");
  const UniqueFd output(ends[0]);
  UniqueFd output_of_child(ends[1]);
  IMSY_TRY_ASSIGN(const pid_t pid, spawn(helper, input.get(), output_of_child.get()));
  Child child(pid);
  output_of_child.reset();
  HelperAnswer answer;
  IMSY_TRY_ASSIGN(answer.output, read_until(output.get(), helper.answer_limit, deadline));
  IMSY_TRY_ASSIGN(answer.status, child.wait(deadline));
  return answer;
}

}  // namespace imsy::oci
