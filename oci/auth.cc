#include "oci/auth.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <chrono>
#include <cstdlib>

#include "common/io.h"
#include "oci/base64.h"
#include "oci/descriptor.h"

extern char** environ;

namespace imsy::oci {
namespace {

constexpr std::uint64_t kConfigLimit = 4u << 20;
constexpr std::size_t kHelperAnswerLimit = 64u << 10;
constexpr auto kHelperTime = std::chrono::seconds(10);
constexpr std::string_view kDockerHubKey = "https://index.docker.io/v1/";

bool is_docker_hub(std::string_view host) {
  return host == "docker.io" || host == "index.docker.io" || host == "registry-1.docker.io";
}

// Keys of "auths" are host, host:port, or a URL.
std::string_view host_of_key(std::string_view key) {
  for (const std::string_view scheme : {"https://", "http://"}) {
    if (key.starts_with(scheme)) key.remove_prefix(scheme.size());
  }
  return key.substr(0, key.find('/'));
}

bool same_host(std::string_view key, std::string_view host) {
  const std::string_view named = host_of_key(key);
  return named == host || (is_docker_hub(host) && is_docker_hub(named));
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
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ignore(wait(), "it was killed");
    }
  }
  // Its exit status, or -1 when it ended by a signal.
  Result<int> wait() {
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0) {
      if (errno != EINTR) return Error::from_errno(errno, "waitpid");
    }
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

 private:
  pid_t pid_;
};

struct Pipe {
  UniqueFd read_end;
  UniqueFd write_end;
};

Result<Pipe> make_pipe() {
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) != 0) return Error::from_errno(errno, "pipe");
  return Pipe{UniqueFd(fds[0]), UniqueFd(fds[1])};
}

Result<std::string> read_within(int fd, std::chrono::steady_clock::time_point deadline) {
  std::string answer;
  for (;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    pollfd waiting{fd, POLLIN, 0};
    const int ready = ::poll(&waiting, 1, static_cast<int>(std::max<long>(0, left.count())));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return Error(Errc::kTimeout, "no answer within 10 s");
    std::byte buffer[4096];
    IMSY_TRY_ASSIGN(const std::size_t got, read_some(fd, buffer));
    if (got == 0) return answer;
    answer += as_text(ByteSpan(buffer).first(got));
    if (answer.size() > kHelperAnswerLimit) return Error(Errc::kInvalid, "answer too large");
  }
}

// Runs "docker-credential-<helper> get" with `server` on its standard input.
Result<std::string> run_helper(const std::string& helper, const std::string& server) {
  if (helper.empty() || helper.find('/') != std::string::npos) {
    return Error(Errc::kInvalid, "the name of the credential helper is not a plain name");
  }
  IMSY_TRY_ASSIGN(Pipe input, make_pipe());
  IMSY_TRY_ASSIGN(Pipe output, make_pipe());
  std::string program = "docker-credential-" + helper;
  std::string verb = "get";
  char* argv[] = {program.data(), verb.data(), nullptr};
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, input.read_end.get(), STDIN_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, output.write_end.get(), STDOUT_FILENO);
  ::posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  pid_t pid = 0;
  const int failed = ::posix_spawnp(&pid, program.c_str(), &actions, nullptr, argv, environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (failed != 0) return Error::from_errno(failed, "start " + program);
  Child child(pid);
  input.read_end.reset();
  output.write_end.reset();
  ignore(write_all(input.write_end.get(), as_bytes(server)), "its exit status tells");
  input.write_end.reset();
  auto answer = read_within(output.read_end.get(), std::chrono::steady_clock::now() + kHelperTime);
  if (!answer) return answer.error().with_context(program);
  IMSY_TRY_ASSIGN(const int status, child.wait());
  if (status != 0) {
    const bool absent = answer->find("credentials not found") != std::string::npos;
    return Error(absent ? Errc::kNotFound : Errc::kDenied,
                 program + " failed with status " + std::to_string(status));
  }
  return answer;
}

Result<std::optional<Credential>> ask_helper(const std::string& helper, std::string_view host) {
  const std::string server(is_docker_hub(host) ? kDockerHubKey : host);
  auto answer = run_helper(helper, server);
  if (!answer && answer.error().code() == Errc::kNotFound && answer.error().sys_errno() == 0) {
    return std::optional<Credential>();
  }
  if (!answer) return answer.error();
  IMSY_TRY_ASSIGN(const Json json,
                  parse_json(*answer, "the answer of docker-credential-" + helper));
  Credential credential;
  credential.username = text_of(json, "Username");
  credential.password = text_of(json, "Secret");
  if (credential.username == "<token>") {
    credential.username.clear();
    credential.identity_token = std::exchange(credential.password, "");
  }
  return std::optional(credential);
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
  return std::isalnum(static_cast<unsigned char>(c)) != 0 ||
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

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
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
  const char* home = std::getenv("HOME");
  return std::filesystem::path(home && *home ? home : "/root") / ".docker/config.json";
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
      challenges.push_back({lower(std::move(token)), {}});
      continue;
    }
    header.remove_prefix(1);
    skip_blank(header);
    auto value = take_value(header);
    if (!value || challenges.empty()) return challenges;
    challenges.back().parameters.emplace(lower(std::move(token)), std::move(*value));
  }
  return challenges;
}

}  // namespace imsy::oci
