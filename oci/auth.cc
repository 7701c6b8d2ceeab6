#include "oci/auth.h"

#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <utility>

#include "common/io.h"
#include "oci/ascii.h"
#include "oci/base64.h"
#include "oci/json.h"

extern char** environ;

namespace imsy::oci {
namespace {

constexpr std::uint64_t kConfigLimit = 4u << 20;
constexpr std::size_t kHelperAnswerLimit = 64u << 10;
using Clock = std::chrono::steady_clock;

constexpr auto kHelperTime = std::chrono::seconds(10);
constexpr std::string_view kDockerHubKey = "https://index.docker.io/v1/";

bool is_letter_or_digit(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// Waits until `fd` can be read, or its other end is closed.
Status wait_readable(int fd, Clock::time_point deadline) {
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
    pollfd waiting{fd, POLLIN, 0};
    const int ready = ::poll(&waiting, 1, static_cast<int>(std::max<long>(0, left.count())));
    if (ready > 0) return {};
    if (ready == 0) return Error(Errc::kTimeout, "no answer within 10 s");
    if (errno != EINTR) return Error::from_errno(errno, "poll");
  }
}

bool is_docker_hub(std::string_view host) {
  return host == "docker.io" || host == "index.docker.io" || host == "registry-1.docker.io";
}

// Keys of "auths" and "credHelpers" are host, host:port, or a URL.
// A key with another path, as podman writes them, is for a part of that registry only.
bool same_host(std::string_view key, std::string_view host) {
  for (const std::string_view scheme : {"https://", "http://"}) {
    if (key.starts_with(scheme)) key.remove_prefix(scheme.size());
  }
  const std::size_t slash = std::min(key.find('/'), key.size());
  const std::string_view named = key.substr(0, slash);
  const std::string_view path = key.substr(slash);
  const bool whole = path.empty() || path == "/" || path == "/v1" || path == "/v1/" ||
                     path == "/v2" || path == "/v2/";
  return whole && (named == host || (is_docker_hub(host) && is_docker_hub(named)));
}

std::string text_of(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

Result<Credential> credential_of(const Json& entry) {
  Credential credential;
  credential.identity_token = text_of(entry, "identitytoken");
  credential.username = text_of(entry, "username");
  credential.password = text_of(entry, "password");
  if (const std::string encoded = text_of(entry, "auth"); !encoded.empty()) {
    IMSY_TRY_ASSIGN(const std::string plain, base64_decode(encoded));
    const auto colon = plain.find(':');
    if (colon == std::string::npos) {
      return Error(Errc::kInvalid, "an \"auth\" value is not user:password in base64");
    }
    credential.username = plain.substr(0, colon);
    credential.password = plain.substr(colon + 1);
    // Docker drops zero bytes at the ends, which old logins have left there.
    while (credential.password.ends_with('\0')) credential.password.pop_back();
  }
  return credential;
}

// A child process that is killed and reaped when it goes out of scope.
class Child {
 public:
  explicit Child(pid_t pid) : pid_(pid) {}
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    reap();
  }
  // Its exit status, or -1 when it ended by a signal. kTimeout when it has not ended by then.
  Result<int> wait(Clock::time_point deadline) {
    const UniqueFd handle(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
    if (!handle) return Error::from_errno(errno, "pidfd_open");
    IMSY_TRY(wait_readable(handle.get(), deadline));
    return reap();
  }

 private:
  int reap() {
    int status = 0;
    while (::waitpid(std::exchange(pid_, -1), &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

  pid_t pid_;
};

Result<std::string> read_until(int fd, Clock::time_point deadline) {
  std::string answer;
  for (;;) {
    IMSY_TRY(wait_readable(fd, deadline));
    std::byte buffer[4096];
    IMSY_TRY_ASSIGN(const std::size_t got, read_some(fd, buffer));
    if (got == 0) return answer;
    answer += as_text(ByteSpan(buffer).first(got));
    if (answer.size() > kHelperAnswerLimit) return Error(Errc::kInvalid, "answer too large");
  }
}

// A file in memory with `text`, at its beginning. Unlike a pipe it cannot break.
Result<UniqueFd> memory_file(std::string_view text) {
  UniqueFd file(::memfd_create("credential-server", MFD_CLOEXEC));
  if (!file) return Error::from_errno(errno, "memfd_create");
  IMSY_TRY(pwrite_all(file.get(), as_bytes(text), 0));
  return file;
}

Result<pid_t> spawn(const std::string& program, int input, int output) {
  std::string name = program;
  std::string verb = "get";
  char* arguments[] = {name.data(), verb.data(), nullptr};
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
  ::posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  ::posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
  pid_t pid = 0;
  const int problem = ::posix_spawnp(&pid, program.c_str(), &actions, nullptr, arguments, environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (problem != 0) return Error::from_errno(problem, "start " + program);
  return pid;
}

struct HelperAnswer {
  int status = 0;
  std::string output;
};

// Runs "docker-credential-<helper> get" with `server` on its standard input.
Result<HelperAnswer> run_helper(const std::string& program, const std::string& server) {
  const auto deadline = Clock::now() + kHelperTime;
  IMSY_TRY_ASSIGN(const UniqueFd input, memory_file(server));
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return Error::from_errno(errno, "pipe");
  const UniqueFd output(ends[0]);
  UniqueFd output_of_child(ends[1]);
  IMSY_TRY_ASSIGN(const pid_t pid, spawn(program, input.get(), output_of_child.get()));
  Child child(pid);
  output_of_child.reset();
  HelperAnswer answer;
  IMSY_TRY_ASSIGN(answer.output, read_until(output.get(), deadline));
  IMSY_TRY_ASSIGN(answer.status, child.wait(deadline));
  return answer;
}

bool is_plain_name(std::string_view name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return is_letter_or_digit(c) || c == '-' || c == '_' || c == '.';
  });
}

// No credential when the helper has none. No message shows what it printed.
Result<std::optional<Credential>> ask_helper(const std::string& helper, std::string_view host) {
  if (!is_plain_name(helper)) {
    return Error(Errc::kInvalid,
                 "the name of a credential helper has other characters than "
                 "letters, digits, '-', '_' and '.'");
  }
  const std::string program = "docker-credential-" + helper;
  auto answer = run_helper(program, std::string(is_docker_hub(host) ? kDockerHubKey : host));
  if (!answer) return answer.error().with_context(program);
  if (answer->status != 0) {
    if (answer->output.find("credentials not found") != std::string::npos) {
      return std::optional<Credential>();
    }
    return Error(Errc::kDenied, program + " failed with status " + std::to_string(answer->status));
  }
  IMSY_TRY_ASSIGN(const Json json, parse_json(answer->output, "the answer of " + program));
  IMSY_TRY(check_object(json, {}, "the answer of " + program));
  Credential credential;
  credential.username = text_of(json, "Username");
  credential.password = text_of(json, "Secret");
  if (credential.username == "<token>") {
    credential.username.clear();
    credential.identity_token = std::exchange(credential.password, "");
  }
  return std::optional(std::move(credential));
}

Result<std::optional<Credential>> find_in(const Json& config, std::string_view host) {
  if (const auto helpers = config.find("credHelpers");
      helpers != config.end() && helpers->is_object()) {
    for (const auto& [key, helper] : helpers->items()) {
      if (same_host(key, host) && helper.is_string()) {
        return ask_helper(helper.get<std::string>(), host);
      }
    }
  }
  if (const std::string store = text_of(config, "credsStore"); !store.empty()) {
    IMSY_TRY_ASSIGN(auto credential, ask_helper(store, host));
    if (credential && !credential->empty()) return credential;
  }
  const auto auths = config.find("auths");
  if (auths == config.end() || !auths->is_object()) return std::optional<Credential>();
  for (const auto& [key, entry] : auths->items()) {
    if (!same_host(key, host) || !entry.is_object()) continue;
    IMSY_TRY_ASSIGN(auto credential, credential_of(entry));
    if (!credential.empty()) return std::optional(std::move(credential));
  }
  return std::optional<Credential>();
}

bool is_token_char(char c) {
  return is_letter_or_digit(c) ||
         std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
}

void skip_blank(std::string_view& text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
}

std::string take_token(std::string_view& text) {
  std::size_t n = 0;
  while (n < text.size() && is_token_char(text[n])) ++n;
  std::string token(text.substr(0, n));
  text.remove_prefix(n);
  return token;
}

// System services have no $HOME.
std::filesystem::path home_directory() {
  if (const char* home = std::getenv("HOME"); home != nullptr && *home != '\0') return home;
  std::array<char, 4096> buffer;
  passwd entry{};
  passwd* found = nullptr;
  if (::getpwuid_r(::geteuid(), &entry, buffer.data(), buffer.size(), &found) == 0 &&
      found != nullptr) {
    return entry.pw_dir;
  }
  return "/";
}

// A token or a quoted string; nullopt when it is neither.
std::optional<std::string> take_value(std::string_view& text) {
  if (text.empty() || text.front() != '"') {
    std::string token = take_token(text);
    return token.empty() ? std::nullopt : std::optional(std::move(token));
  }
  text.remove_prefix(1);
  std::string value;
  while (!text.empty() && text.front() != '"') {
    if (text.front() == '\\') text.remove_prefix(1);
    if (text.empty()) return std::nullopt;
    value += text.front();
    text.remove_prefix(1);
  }
  if (text.empty()) return std::nullopt;
  text.remove_prefix(1);
  return value;
}

}  // namespace

std::filesystem::path DockerConfig::default_path() {
  if (const char* directory = std::getenv("DOCKER_CONFIG"); directory && *directory) {
    return std::filesystem::path(directory) / "config.json";
  }
  return home_directory() / ".docker/config.json";
}

DockerConfig::DockerConfig(std::filesystem::path path) : path_(std::move(path)) {}

Result<std::optional<Credential>> DockerConfig::find(std::string_view host) const {
  auto bytes = read_file(path_, kConfigLimit);
  if (!bytes && bytes.error().code() == Errc::kNotFound) return std::optional<Credential>();
  if (!bytes) return bytes.error();
  auto config = parse_json(as_text(*bytes), path_.string());
  if (!config) return config.error();
  if (!config->is_object()) return Error(Errc::kInvalid, path_.string() + ": not an object");
  auto found = find_in(*config, host);
  if (!found) return found.error().with_context(path_.string());
  return found;
}

std::vector<Challenge> parse_challenges(std::string_view header) {
  std::vector<Challenge> challenges;
  while (!header.empty()) {
    skip_blank(header);
    if (!header.empty() && header.front() == ',') {
      header.remove_prefix(1);
      continue;
    }
    std::string token = take_token(header);
    if (token.empty()) return challenges;
    skip_blank(header);
    if (header.empty() || header.front() != '=') {
      challenges.push_back({lowered(token), {}});
      continue;
    }
    header.remove_prefix(1);
    // Base64 text that some schemes have instead of parameters ends like this.
    while (header.starts_with('=')) header.remove_prefix(1);
    skip_blank(header);
    if (header.empty() || header.front() == ',') continue;
    auto value = take_value(header);
    if (!value || challenges.empty()) return challenges;
    challenges.back().parameters.emplace(lowered(token), std::move(*value));
  }
  return challenges;
}

}  // namespace imsy::oci
