#include "oci/auth.h"

#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <utility>

#include "common/io.h"
#include "oci/ascii.h"
#include "oci/base64.h"
#include "oci/helper_program.h"
#include "oci/json.h"

namespace imsy::oci {
namespace {

constexpr std::uint64_t kConfigLimit = 4u << 20;
constexpr std::string_view kDockerHubKey = "https://index.docker.io/v1/";

bool is_letter_or_digit(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

std::string text_of(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
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
  HelperProgram question;
  question.program = program;
  question.arguments = {"get"};
  question.input = is_docker_hub(host) ? kDockerHubKey : host;
  auto answer = run_helper(question);
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
      if (names_host(key, host) && helper.is_string()) {
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
    if (!names_host(key, host) || !entry.is_object()) continue;
    IMSY_TRY_ASSIGN(auto credential, parse_login(entry));
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

bool is_docker_hub(std::string_view host) {
  return host == "docker.io" || host == "index.docker.io" || host == "registry-1.docker.io";
}

// A key with another path, as podman writes them, is for a part of that registry only.
bool names_host(std::string_view key, std::string_view host) {
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

Result<Credential> decode_login(std::string_view encoded) {
  IMSY_TRY_ASSIGN(const std::string plain, base64_decode(encoded));
  const auto colon = plain.find(':');
  if (colon == std::string::npos) {
    return Error(Errc::kInvalid, "an \"auth\" value is not user:password in base64");
  }
  Credential credential;
  credential.username = plain.substr(0, colon);
  credential.password = plain.substr(colon + 1);
  // Docker drops zero bytes at the ends, which old logins have left there.
  while (credential.password.ends_with('\0')) credential.password.pop_back();
  return credential;
}

Result<Credential> parse_login(const Json& entry) {
  Credential credential;
  credential.username = text_of(entry, "username");
  credential.password = text_of(entry, "password");
  if (const std::string encoded = text_of(entry, "auth"); !encoded.empty()) {
    IMSY_TRY_ASSIGN(credential, decode_login(encoded));
  }
  credential.identity_token = text_of(entry, "identitytoken");
  credential.registry_token = text_of(entry, "registrytoken");
  return credential;
}

std::filesystem::path DockerConfig::default_path() {
  if (const char* directory = std::getenv("DOCKER_CONFIG"); directory && *directory) {
    return std::filesystem::path(directory) / "config.json";
  }
  return home_directory() / ".docker/config.json";
}

DockerConfig::DockerConfig(std::filesystem::path path) : path_(std::move(path)) {}

std::shared_ptr<const CredentialPlaces> docker_credentials(std::filesystem::path path) {
  return std::make_shared<CredentialPlaces>(
      std::vector<CredentialPlaces::Place>{std::make_shared<DockerConfig>(std::move(path))});
}

Result<std::vector<Credential>> DockerConfig::find(const CredentialQuery& query) const {
  auto bytes = read_file(path_, kConfigLimit);
  if (!bytes && bytes.error().code() == Errc::kNotFound) return std::vector<Credential>();
  if (!bytes) return bytes.error();
  auto config = parse_json(as_text(*bytes), path_.string());
  if (!config) return config.error();
  if (!config->is_object()) return Error(Errc::kInvalid, path_.string() + ": not an object");
  auto found = find_in(*config, query.host);
  if (!found) return found.error().with_context(path_.string());
  std::vector<Credential> all;
  if (*found && !(*found)->empty()) all.push_back(std::move(**found));
  return all;
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
