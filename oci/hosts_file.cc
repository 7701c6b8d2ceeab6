#include "oci/hosts_file.h"

#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>

#include <strings.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include "common/io.h"
#include "common/log.h"
#include "oci/url.h"

namespace imsy::oci {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;

constexpr std::uint64_t kFileLimit = 1u << 20;  // of a hosts.toml, and of every PEM file
constexpr std::size_t kLoggedMax = 1024;
constexpr milliseconds kConnectTimeoutMax{600'000};

// Headers that frame a request or belong to the client; containerd does not send them either.
constexpr std::array<std::string_view, 7> kReservedHeaders = {
    "host",  "content-length", "transfer-encoding", "trailer", "connection", "accept-encoding",
    "expect"};

Error fail(const toml::node& node, std::string_view key, std::string_view what) {
  return Error(Errc::kInvalid, "line " + std::to_string(node.source().begin.line) + ": " +
                                   std::string(key) + " " + std::string(what));
}

// As Go's path.Clean: no empty or dotted segments, no slash at the end.
std::string cleaned(const std::string& path) {
  std::string clean = fs::path(path).lexically_normal().generic_string();
  while (clean.ends_with('/')) clean.pop_back();
  return clean;
}

Result<std::string> root_of(std::string server, bool override_path) {
  if (server.find("://") == std::string::npos) server = "https://" + server;
  IMSY_TRY_ASSIGN(const Url url, parse_url(server));
  Host host;
  host.root = url.text.substr(0, url.text.find_first_of("?#"));
  std::string path = cleaned(url.path);
  if (!override_path && !path.ends_with("/v2")) path += "/v2";
  return url.scheme + "://" + host.authority() + path;
}

// What Go's ParseDuration takes: "300ms", "1.5s", "1m30s".
std::optional<milliseconds> parse_duration(std::string_view text) {
  struct Unit {
    std::string_view name;
    double milliseconds;
  };
  constexpr std::array<Unit, 6> kUnits = {
      {{"ms", 1}, {"ns", 1e-6}, {"us", 1e-3}, {"s", 1e3}, {"m", 60e3}, {"h", 3600e3}}};
  double sum = 0;
  if (text.empty()) return std::nullopt;
  while (!text.empty()) {
    double number = 0;
    const auto [at, problem] =
        std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
    if (problem != std::errc() || !(number >= 0)) return std::nullopt;
    text.remove_prefix(static_cast<std::size_t>(at - text.data()));
    const auto unit =
        std::ranges::find_if(kUnits, [&](const Unit& one) { return text.starts_with(one.name); });
    if (unit == kUnits.end()) return std::nullopt;
    text.remove_prefix(unit->name.size());
    sum += number * unit->milliseconds;
  }
  const auto most = static_cast<double>(kConnectTimeoutMax.count());
  return milliseconds(static_cast<milliseconds::rep>(std::clamp(sum, 1.0, most)));
}

// Reads the table of one host.
class EntryReader {
 public:
  EntryReader(const toml::table& table, const fs::path& directory, HostsFile& file)
      : table_(table), directory_(directory), file_(file) {}

  // `server` is where the host is; "": the registry itself.
  Result<HostEntry> read(const toml::node& place, const std::string& server) {
    IMSY_TRY(read_capabilities());
    IMSY_TRY(read_tls());
    IMSY_TRY(read_client());
    IMSY_TRY(read_headers());
    IMSY_TRY(read_connect_timeout());
    bool override_path = false;
    IMSY_TRY(read_flag("override_path", override_path));
    if (server.empty()) {
      entry_.pull = true;
      return std::move(entry_);
    }
    auto root = root_of(server, override_path);
    if (!root) return fail(place, server, "is no host to ask: " + root.error().message());
    entry_.host.root = std::move(*root);
    return std::move(entry_);
  }

  // Of the table; `also` are keys that somebody else reads.
  void note_unknown(std::initializer_list<std::string_view> also) {
    constexpr std::array<std::string_view, 7> kKnown = {
        "capabilities", "ca", "client", "skip_verify", "header", "override_path", "dial_timeout"};
    for (const auto& [key, node] : table_) {
      const auto is_key = [name = key.str()](std::string_view known) { return known == name; };
      if (std::ranges::any_of(kKnown, is_key) || std::ranges::any_of(also, is_key)) continue;
      file_.notes.push_back(fail(node, key.str(), "is not a known key").message());
    }
  }

 private:
  Status read_flag(std::string_view key, bool& to) {
    const toml::node* node = table_.get(key);
    if (node == nullptr) return {};
    const auto value = node->value_exact<bool>();
    if (!value) return fail(*node, key, "must be true or false");
    to = *value;
    return {};
  }

  // A string, or a list of strings.
  static Result<std::vector<std::string>> texts(const toml::node& node, std::string_view key) {
    std::vector<std::string> found;
    if (const auto one = node.value_exact<std::string>()) return std::vector{*one};
    if (!node.is_array()) return fail(node, key, "must be a string or a list of strings");
    for (const toml::node& element : *node.as_array()) {
      const auto value = element.value_exact<std::string>();
      if (!value) return fail(element, key, "must be a string or a list of strings");
      found.push_back(*value);
    }
    return found;
  }

  Status read_capabilities() {
    const toml::node* node = table_.get("capabilities");
    if (node == nullptr) return {};
    if (!node->is_array()) return fail(*node, "capabilities", "must be a list of strings");
    IMSY_TRY_ASSIGN(const auto names, texts(*node, "capabilities"));
    if (names.empty()) return {};  // means all of them
    entry_.pull = false;
    for (const std::string& name : names) {
      const auto is = [&](const char* one) { return ::strcasecmp(name.c_str(), one) == 0; };
      if (is("pull")) {
        entry_.pull = true;
      } else if (!is("resolve") && !is("push") && !is("referrers")) {
        return fail(*node, "capabilities", "must be of pull, resolve, push and referrers");
      }
    }
    return {};
  }

  Status read_tls() {
    bool skip_verify = false;
    IMSY_TRY(read_flag("skip_verify", skip_verify));
    entry_.host.tls.verify = !skip_verify;
    const toml::node* node = table_.get("ca");
    if (node == nullptr) return {};
    IMSY_TRY_ASSIGN(const auto paths, texts(*node, "ca"));
    for (const std::string& path : paths) entry_.authorities.push_back(directory_ / path);
    return {};
  }

  // A file with certificate and key, a list of them, or a list of pairs of files. Go picks the one
  // that the server wants; libcurl can be given one.
  Status read_client() {
    constexpr std::string_view kWanted = "must be a file, a list of files or a list of pairs";
    const toml::node* node = table_.get("client");
    if (node == nullptr) return {};
    if (const auto path = node->value_exact<std::string>()) {
      entry_.certificate = directory_ / *path;
      return {};
    }
    if (!node->is_array()) return fail(*node, "client", kWanted);
    const toml::array& list = *node->as_array();
    if (list.empty()) return {};
    if (list.size() > 1) {
      file_.notes.push_back(
          fail(*node, "client", "has several certificates; the first is used").message());
    }
    for (std::size_t i = list.size(); i-- > 0;) {
      IMSY_TRY_ASSIGN(const auto pair, texts(*list.get(i), "client"));
      const bool lone = list.get(i)->is_string();
      if (!lone && pair.size() != 2) return fail(*list.get(i), "client", kWanted);
      entry_.certificate = directory_ / pair[0];
      entry_.key = lone || pair[1].empty() ? fs::path() : directory_ / pair[1];
    }
    return {};
  }

  Status read_headers() {
    const toml::node* node = table_.get("header");
    if (node == nullptr) return {};
    if (!node->is_table()) return fail(*node, "header", "must be a table");
    for (const auto& [key, value] : *node->as_table()) {
      const std::string name(key.str());
      IMSY_TRY_ASSIGN(const auto values, texts(value, name));
      const bool reserved = std::ranges::any_of(kReservedHeaders, [&](std::string_view one) {
        return ::strcasecmp(name.c_str(), std::string(one).c_str()) == 0;
      });
      if (reserved) {
        file_.notes.push_back(fail(value, name, "is a header that cannot be set").message());
        continue;
      }
      for (const std::string& one : values) entry_.host.headers.emplace_back(name, one);
    }
    return {};
  }

  Status read_connect_timeout() {
    const toml::node* node = table_.get("dial_timeout");
    if (node == nullptr) return {};
    const auto text = node->value_exact<std::string>();
    const auto duration = text ? parse_duration(*text) : std::nullopt;
    if (!duration) return fail(*node, "dial_timeout", "must be a duration such as \"3s\"");
    entry_.host.connect_timeout = *duration;
    return {};
  }

  const toml::table& table_;
  const fs::path& directory_;
  HostsFile& file_;
  HostEntry entry_;
};

// Hosts, headers and keys are ASCII. What is not belongs into comments, and need not be decoded
// there: toml++ 3.3 is not safe against every character beyond it.
std::string ascii_only(std::string_view text) {
  std::string ascii(text);
  std::ranges::replace_if(
      ascii, [](char c) { return static_cast<unsigned char>(c) > 0x7E; }, '?');
  return ascii;
}

struct NamedTable {
  std::string name;
  const toml::table* table;
  toml::source_position begin;
};

// Where a table begins in the text; one that only its subtables imply begins where they do.
toml::source_position begin_of(const toml::table& table) {
  toml::source_position begin = table.source().begin;
  for (const auto& [key, node] : table) {
    const toml::source_position other =
        node.is_table() ? begin_of(*node.as_table()) : key.source().begin;
    if (other && (!begin || other < begin)) begin = other;
  }
  return begin;
}

// The tables [host."..."] in the order of the file, which is the order that the operator means.
Result<std::vector<NamedTable>> tables_in_order(const toml::table& file) {
  std::vector<NamedTable> tables;
  const toml::node* hosts = file.get("host");
  if (hosts == nullptr) return tables;
  if (!hosts->is_table()) return fail(*hosts, "host", "must be a table");
  for (const auto& [key, node] : *hosts->as_table()) {
    if (!node.is_table()) return fail(node, key.str(), "must be a table");
    tables.push_back({std::string(key.str()), node.as_table(), begin_of(*node.as_table())});
  }
  std::ranges::stable_sort(tables, {}, &NamedTable::begin);
  return tables;
}

Result<std::string> read_pem(const fs::path& path, std::string_view holds) {
  IMSY_TRY_ASSIGN(const Bytes bytes, read_file(path, kFileLimit));
  std::string text(as_text(bytes));
  if (text.find("-----BEGIN ") == std::string::npos) {
    return Error(Errc::kInvalid, path.string() + " holds no " + std::string(holds) + " in PEM");
  }
  if (!text.ends_with('\n')) text += '\n';
  return text;
}

// The host of an entry in the directory of the registry `name`.
Result<Host> complete(HostEntry entry, const std::string& name) {
  Host host = std::move(entry.host);
  for (const fs::path& path : entry.authorities) {
    IMSY_TRY_ASSIGN(const std::string pem, read_pem(path, "certificate"));
    host.tls.authorities += pem;
  }
  if (!entry.certificate.empty()) {
    const fs::path& key = entry.key.empty() ? entry.certificate : entry.key;
    IMSY_TRY_ASSIGN(host.tls.certificate, read_pem(entry.certificate, "certificate"));
    IMSY_TRY_ASSIGN(host.tls.key, read_pem(key, "key"));
  }
  if (host.root.empty()) host.root = host_of(name, is_loopback(name) && host.tls == Tls()).root;
  if (host.authority() != name && host.name() != name) host.name_space = name;
  return host;
}

// What docker's layout of certificates means; without any, it is one host without settings.
Result<std::vector<HostEntry>> entries_of_certificates(const fs::path& directory) {
  std::vector<fs::path> paths;
  std::error_code problem;
  for (fs::directory_iterator at(directory, problem), end; !problem && at != end;
       at.increment(problem)) {
    paths.push_back(at->path());
  }
  if (problem && problem != std::errc::not_a_directory) {
    return Error::from_errno(problem.value(), "read " + directory.string());
  }
  std::ranges::sort(paths);
  HostEntry entry;
  for (const fs::path& path : paths) {
    if (path.extension() == ".crt") entry.authorities.push_back(path);
    if (path.extension() != ".cert" || !entry.certificate.empty()) continue;
    entry.certificate = path;
    const fs::path key = fs::path(path).replace_extension(".key");
    if (std::ranges::find(paths, key) != paths.end()) entry.key = key;
  }
  return std::vector{std::move(entry)};
}

// What may be the name of a directory; references and containerd's labels are not ours.
bool is_directory_name(std::string_view name) {
  return !name.empty() && name.front() != '.' && name != "_default" &&
         name.find_first_of(std::string_view("/\0", 2)) == std::string_view::npos;
}

}  // namespace

Result<HostsFile> parse_hosts_file(std::string_view text, const fs::path& directory) {
  const toml::parse_result parsed = toml::parse(ascii_only(text));
  if (!parsed) {
    return Error(Errc::kInvalid, "line " + std::to_string(parsed.error().source().begin.line) +
                                     ": " + std::string(parsed.error().description()));
  }
  const toml::table& table = parsed.table();
  HostsFile file;
  IMSY_TRY_ASSIGN(const auto hosts, tables_in_order(table));
  for (const NamedTable& host : hosts) {
    EntryReader reader(*host.table, directory, file);
    IMSY_TRY_ASSIGN(HostEntry entry, reader.read(*host.table, host.name));
    file.entries.push_back(std::move(entry));
    reader.note_unknown({});
  }
  const toml::node* server = table.get("server");
  const auto name = server == nullptr ? std::string() : server->value_exact<std::string>();
  if (!name) return fail(*server, "server", "must be a string");
  EntryReader reader(table, directory, file);
  IMSY_TRY_ASSIGN(HostEntry entry, reader.read(table, *name));
  file.entries.push_back(std::move(entry));
  reader.note_unknown({"server", "host"});
  return file;
}

Result<fs::path> HostsDirectory::directory_of(const std::string& name) const {
  if (!root_.empty() && is_directory_name(name)) {
    std::vector<std::string> names = {name, "_default"};
    if (const std::size_t colon = name.rfind(':'); colon != std::string::npos && colon > 0) {
      names.insert(names.begin(), name.substr(0, colon) + "_" + name.substr(colon + 1) + "_");
    }
    for (const std::string& one : names) {
      std::error_code problem;
      const bool there = fs::exists(root_ / one, problem);
      if (problem) return Error::from_errno(problem.value(), (root_ / one).string());
      if (there) return root_ / one;
    }
  }
  return Error(Errc::kNotFound, root_.string() + " has nothing about " + name);
}

Result<std::vector<HostEntry>> HostsDirectory::entries_in(const fs::path& directory) const {
  const fs::path path = directory / "hosts.toml";
  const auto bytes = read_file(path, kFileLimit);
  if (!bytes && bytes.error().code() != Errc::kNotFound) return bytes.error();
  if (!bytes || bytes->empty()) return entries_of_certificates(directory);
  auto file = parse_hosts_file(as_text(*bytes), directory);
  if (!file) {
    log_once(path.string() + " is ignored: " + file.error().message());
    return entries_of_certificates(directory);
  }
  for (const std::string& note : file->notes) log_once(path.string() + " " + note);
  for (const HostEntry& entry : file->entries) {
    if (entry.host.tls.verify) continue;
    log_once(path.string() + ": with skip_verify, whoever answers is taken for " +
             (entry.host.root.empty() ? directory.filename().string() : entry.host.root) +
             "; content is checked as ever, but credentials are not safe there");
  }
  return std::move(file->entries);
}

Result<std::vector<Host>> HostsDirectory::hosts_for(const std::string& name) const {
  IMSY_TRY_ASSIGN(const fs::path directory, directory_of(name));
  IMSY_TRY_ASSIGN(std::vector<HostEntry> entries, entries_in(directory));
  std::vector<Host> hosts;
  for (HostEntry& entry : entries) {
    if (!entry.pull) continue;
    auto host = complete(std::move(entry), name);
    if (!host) return Error(Errc::kInvalid, directory.string() + ": " + host.error().message());
    hosts.push_back(std::move(*host));
  }
  return hosts;
}

std::vector<std::string> HostsDirectory::names_with_port(std::string_view name) const {
  const std::string host = host_of(name, false).authority();
  std::vector<std::string> names;
  std::error_code problem;
  for (fs::directory_iterator at(root_, problem), end; !problem && at != end;
       at.increment(problem)) {
    const std::string directory = at->path().filename().string();
    if (!directory.starts_with(host + "_") || directory.size() < host.size() + 3) continue;
    const std::string port = directory.substr(host.size() + 1, directory.size() - host.size() - 2);
    const bool digits = std::ranges::all_of(port, [](char c) { return c >= '0' && c <= '9'; });
    if (digits && directory.ends_with('_')) names.push_back(host + ":" + port);
  }
  std::ranges::sort(names);
  return names;
}

void HostsDirectory::log_once(const std::string& message) const {
  const MutexLock lock(mu_);
  if (logged_.size() >= kLoggedMax) logged_.clear();
  if (logged_.insert(message).second) log::warn("{}", message);
}

}  // namespace imsy::oci
