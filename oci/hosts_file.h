// HostsDirectory: which hosts to ask for a registry's content, as containerd is told the same.
//
//   <root>/<registry>/hosts.toml       mirrors in the order of the file, the registry itself last
//   <root>/<registry>/*.crt, *.cert, *.key        without a hosts.toml: certificates, as docker's
//
// <registry> is "<host>_<port>_" or "<host>", else "_default", which stands for all others; the
// first of these directories that exists decides. docs/hosts.md says what a hosts.toml may hold,
// and where this reading of it is narrower than containerd's.
// Promises
//   * The directory is read anew for every question, so that a change is seen by the next one.
//   * A hosts.toml that cannot be understood counts as absent. That, a host whose certificate is
//     not checked, and all that is ignored are warnings in the log, once for each cause.
// Source: containerd's docs/hosts.md.
// Threads: all methods from any thread; they wait for the disk.
#pragma once

#include <filesystem>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/mutex.h"
#include "common/result.h"
#include "oci/host.h"

namespace imsy::oci {

// One host of a hosts.toml; the files that it names have not been read yet.
struct HostEntry {
  Host host;                                       // root "": the registry itself
  bool pull = true;                                // it may be asked for content
  std::vector<std::filesystem::path> authorities;  // absolute, as all paths here
  std::filesystem::path certificate;
  std::filesystem::path key;  // "": in the file of the certificate
};

struct HostsFile {
  std::vector<HostEntry> entries;  // in the order in which they are asked; never empty
  std::vector<std::string> notes;  // what was ignored, and why
};

// Relative paths begin at `directory`. kInvalid, with the line: no TOML, a value of a wrong type,
// an unknown capability, a host that is no http or https URL.
Result<HostsFile> parse_hosts_file(std::string_view text, const std::filesystem::path& directory);

class HostsDirectory {
 public:
  // `root` need not exist; "": there is none.
  explicit HostsDirectory(std::filesystem::path root) : root_(std::move(root)) {}

  // The hosts to ask for content of the registry that references call `name`, in order; there may
  // be none. kNotFound: nothing is said about it. kInvalid: a certificate or key cannot be read or
  // used. kDenied, kUnavailable: the directory or its hosts.toml cannot be read.
  Result<std::vector<Host>> hosts_for(const std::string& name) const;

  // The names with a port for which there is a directory, of the host that is `name` without one.
  std::vector<std::string> names_with_port(std::string_view name) const;

 private:
  Result<std::filesystem::path> directory_of(const std::string& name) const;
  Result<std::vector<HostEntry>> entries_in(const std::filesystem::path& directory) const;
  void log_once(const std::string& message) const;

  const std::filesystem::path root_;
  mutable Mutex mu_;
  mutable std::set<std::string> logged_ IMSY_GUARDED_BY(mu_);
};

}  // namespace imsy::oci
