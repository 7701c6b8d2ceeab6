#include "converter/location.h"

#include <array>

#include "converter/rootfs_source.h"
#include "oci/docker_archive.h"
#include "oci/layout.h"
#include "oci/oci_archive.h"
#include "oci/reference.h"
#include "oci/registry.h"

namespace imsy::converter {

using Source = Result<std::shared_ptr<oci::ImageSource>>;
using Target = Result<std::shared_ptr<oci::ImageTarget>>;

struct Transport {
  std::string_view prefix;
  std::string_view form;  // for messages
  // Takes apart what stands behind the prefix.
  Status (*parse)(std::string_view rest, Location& location);
  Source (*open_source)(const Location& location, const OpenOptions& options);
  Target (*open_target)(const Location& location, const OpenOptions& options);  // or nullptr
};

namespace {

// --- names ---

// PATH[:tag|@digest]: a colon before the last slash belongs to the path.
Status parse_path_and_tag(std::string_view rest, Location& location) {
  if (const std::size_t at = rest.rfind("@sha256:"); at != std::string_view::npos) {
    location.path = rest.substr(0, at);
    location.object = rest.substr(at + 1);
    const auto digest = Digest::parse(location.object);
    return digest ? Status() : Status(digest.error().with_context(location.text));
  }
  const std::size_t slash = rest.rfind('/');
  const std::size_t colon = rest.rfind(':');
  if (colon != std::string_view::npos && (slash == std::string_view::npos || colon > slash)) {
    location.object = rest.substr(colon + 1);
    rest = rest.substr(0, colon);
  }
  location.path = rest;
  return {};
}

// FILE[:reference]: a reference has slashes and colons itself, so the file has no colon.
Status parse_path_and_reference(std::string_view rest, Location& location) {
  const std::size_t colon = rest.find(':');
  location.path = rest.substr(0, colon);
  if (colon == std::string_view::npos) return {};
  location.object = rest.substr(colon + 1);
  const auto reference = oci::Reference::parse(location.object);
  return reference ? Status() : Status(reference.error());
}

Status parse_path(std::string_view rest, Location& location) {
  location.path = rest;
  return {};
}

Status parse_registry(std::string_view rest, Location& location) {
  IMSY_TRY_ASSIGN(const auto reference, oci::Reference::parse(rest));
  location.host = reference.host;
  location.repository = reference.repository;
  location.object = reference.object();
  return {};
}

// --- places ---

// The same object, known only as what it is used for.
template <typename To, typename From>
Result<std::shared_ptr<To>> shared(Result<From> opened) {
  if (!opened) return opened.error();
  return std::shared_ptr<To>(std::move(*opened));
}

Result<std::shared_ptr<oci::Registry>> open_registry(const Location& location,
                                                     const OpenOptions& options, bool push) {
  oci::RegistryOptions registry;
  registry.host = oci::host_of(location.host, options.plain_http);
  registry.repository = location.repository;
  registry.push = push;
  return oci::Registry::open(options.http, std::move(registry));
}

Source registry_source(const Location& location, const OpenOptions& options) {
  return shared<oci::ImageSource>(open_registry(location, options, false));
}
Target registry_target(const Location& location, const OpenOptions& options) {
  return shared<oci::ImageTarget>(open_registry(location, options, true));
}

Source layout_source(const Location& location, const OpenOptions& /*options*/) {
  return shared<oci::ImageSource>(oci::Layout::open(location.path));
}
Target layout_target(const Location& location, const OpenOptions& /*options*/) {
  return shared<oci::ImageTarget>(oci::Layout::open_or_create(location.path));
}

Source oci_archive_source(const Location& location, const OpenOptions& options) {
  return shared<oci::ImageSource>(oci::open_oci_archive(location.path, options.temporary));
}
Target oci_archive_target(const Location& location, const OpenOptions& options) {
  return shared<oci::ImageTarget>(oci::create_oci_archive(location.path, options.temporary));
}

Source docker_archive_source(const Location& location, const OpenOptions& options) {
  return shared<oci::ImageSource>(oci::open_docker_archive(location.path, options.temporary));
}

Target docker_archive_target(const Location& location, const OpenOptions& options) {
  return shared<oci::ImageTarget>(
      oci::create_docker_archive(location.path, location.object, options.temporary));
}

Source tar_source(const Location& location, const OpenOptions& options) {
  return shared<oci::ImageSource>(open_tar(location.path, options.platforms, options.temporary));
}

Source directory_source(const Location& location, const OpenOptions& options) {
  return shared<oci::ImageSource>(open_directory(location.path, options.platforms));
}

// The last one takes what has no prefix.
constexpr std::array<Transport, 6> kTransports = {{
    {"oci:", "oci:DIR[:tag|@digest]", parse_path_and_tag, layout_source, layout_target},
    {"oci-archive:", "oci-archive:FILE[:tag|@digest]", parse_path_and_tag, oci_archive_source,
     oci_archive_target},
    {"docker-archive:", "docker-archive:FILE[:reference]", parse_path_and_reference,
     docker_archive_source, docker_archive_target},
    {"tar:", "tar:FILE", parse_path, tar_source, nullptr},
    {"dir:", "dir:PATH", parse_path, directory_source, nullptr},
    {"", "registry/repository:tag", parse_registry, registry_source, registry_target},
}};

std::string forms(bool to_write) {
  std::string text;
  for (const Transport& transport : kTransports) {
    if (to_write && transport.open_target == nullptr) continue;
    if (!text.empty()) text += ", ";
    text += transport.form;
  }
  return text;
}

}  // namespace

Result<Location> Location::parse(std::string_view text) {
  for (const std::string_view other : {"docker://", "http://", "https://"}) {
    if (!text.starts_with(other)) continue;
    return Error(Errc::kInvalid, "\"" + std::string(text) + "\" begins with " + std::string(other) +
                                     "; give one of " + forms(false));
  }
  Location location;
  location.text = text;
  for (const Transport& transport : kTransports) {
    if (!text.starts_with(transport.prefix)) continue;
    location.transport = &transport;
    IMSY_TRY(transport.parse(text.substr(transport.prefix.size()), location));
    if (!transport.prefix.empty() && location.path.empty()) {
      return Error(Errc::kInvalid, "\"" + location.text + "\" names no file or directory: " +
                                       std::string(transport.form));
    }
    break;
  }
  return location;
}

Result<std::shared_ptr<oci::ImageSource>> open_source(const Location& location,
                                                      const OpenOptions& options) {
  return location.transport->open_source(location, options);
}

Status Location::check_writable() const {
  if (transport->open_target == nullptr) {
    return Error(Errc::kInvalid, text + ": can only be read; write to one of " + forms(true));
  }
  if (path == "-") {
    return Error(Errc::kInvalid, text + ": the standard input cannot be written to; name a file");
  }
  if (object.find("sha256:") != std::string::npos) {
    return Error(Errc::kInvalid, text + ": the target needs a tag, not a digest");
  }
  return {};
}

Result<std::shared_ptr<oci::ImageTarget>> open_target(const Location& location,
                                                      const OpenOptions& options) {
  IMSY_TRY(location.check_writable());
  return location.transport->open_target(location, options);
}

Result<std::filesystem::path> temporary_directory(const std::string& given) {
  if (!given.empty()) return std::filesystem::path(given);
  std::error_code problem;
  auto found = std::filesystem::temp_directory_path(problem);
  if (problem) {
    return Error(Errc::kInvalid,
                 "$TMPDIR names no directory: " + problem.message() + "; name one with --tmp");
  }
  return found;
}

}  // namespace imsy::converter
