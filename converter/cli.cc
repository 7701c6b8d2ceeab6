#include "converter/cli.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <optional>
#include <ostream>
#include <thread>

#include "common/log.h"
#include "common/output.h"
#include "converter/base_images.h"
#include "converter/convert.h"
#include "converter/platform.h"
#include "converter/report.h"
#include "oci/foreign_blob.h"
#include "oci/http.h"

#ifndef IMSY_VERSION
#define IMSY_VERSION "unknown"
#endif

namespace imsy::converter {
namespace {

struct Arguments {
  std::string source;
  std::string target;
  std::vector<std::string> platforms;
  std::string report;
  std::string profile;
  std::vector<std::string> bases;
  std::string temporary;
  int level = DataLayerOptions{}.level;
  unsigned jobs = std::max(1u, std::thread::hardware_concurrency());
  bool force = false;
  bool plain_http = false;
  bool foreign_layers = false;
  bool quiet = false;
};

// Somebody looks on; a pipe gets nothing but the result.
bool is_watched(const Arguments& arguments) {
  return !arguments.quiet && ::isatty(STDERR_FILENO) == 1;
}

Result<cdc::Profile> read_profile(const std::string& path) {
  if (path.empty()) return cdc::Profile();
  IMSY_TRY_ASSIGN(const Bytes text, read_file(path, cdc::Profile::kTextLimit));
  auto profile = cdc::Profile::parse(as_text(text));
  if (!profile) return profile.error().with_context(path);
  return profile;
}

Result<std::shared_ptr<const BaseImages>> read_bases(const std::vector<std::string>& texts,
                                                     const OpenOptions& open) {
  if (texts.empty()) return std::shared_ptr<const BaseImages>();
  const auto bases = std::make_shared<BaseImages>();
  for (const auto& text : texts) {
    IMSY_TRY_ASSIGN(const auto location, Location::parse(text));
    IMSY_TRY_ASSIGN(const auto source, open_source(location, open));
    if (auto added = bases->add(source, location.object); !added) {
      return added.error().with_context("base " + text);
    }
  }
  return std::shared_ptr<const BaseImages>(bases);
}

// Bytes that are no UTF-8 are replaced: JSON has no way to carry them.
std::string json_text(const ConvertReport& report) {
  return to_json(report).dump(2, ' ', false, oci::Json::error_handler_t::replace) + "\n";
}

Result<ConvertReport> run_conversion(const Arguments& arguments) {
  IMSY_TRY_ASSIGN(const auto source, Location::parse(arguments.source));
  IMSY_TRY_ASSIGN(const auto target, Location::parse(arguments.target));
  IMSY_TRY(target.check_writable());
  oci::HttpClient http;  // outlives the registries in the options
  ConvertOptions options;
  options.data_layer.level = arguments.level;
  options.data_layer.jobs = arguments.jobs;
  for (const auto& text : arguments.platforms) {
    IMSY_TRY_ASSIGN(auto platform, parse_platform(text));
    options.platforms.push_back(std::move(platform));
  }
  options.force = arguments.force;
  IMSY_TRY_ASSIGN(options.profile, read_profile(arguments.profile));
  IMSY_TRY_ASSIGN(options.temporary, temporary_directory(arguments.temporary));
  if (arguments.foreign_layers) {
    options.input.open_foreign = [&](const oci::Descriptor& layer) {
      return oci::open_foreign_blob(http, layer, arguments.plain_http);
    };
  }
  const OpenOptions open{http, arguments.plain_http, options.temporary, options.platforms};
  IMSY_TRY_ASSIGN(options.data_layer.bases, read_bases(arguments.bases, open));
  IMSY_TRY_ASSIGN(const auto from, open_source(source, open));
  IMSY_TRY_ASSIGN(const auto to, open_target(target, open));
  Progress progress(is_watched(arguments));
  return convert(*from, source, *to, target, options, progress);
}

// Where the report is going to be, so that it is known to be possible before anything is published.
Result<std::optional<Output>> open_report(const std::string& path) {
  if (path.empty()) return std::optional<Output>();
  auto file = Output::open(path);
  if (!file) return file.error().with_context("--report " + path);
  return std::optional(std::move(*file));
}

void warn_of_useless_profile(const Arguments& arguments, const ConvertReport& report) {
  for (const ImageReport& image : report.images) {
    if (image.reused || image.front_files > 0 || arguments.profile.empty()) continue;
    log::warn("{}: no path of the profile {} is a file of this image; was it recorded of another?",
              image.platform, arguments.profile);
  }
}

Status write_report(Output& file, const ConvertReport& report) {
  IMSY_TRY(file.write(as_bytes(json_text(report))));
  return file.commit();
}

// The digest is lost to nobody: what is published is told even if the report cannot be written.
Status run_and_tell(const Arguments& arguments, std::ostream& out, std::ostream& err) {
  IMSY_TRY_ASSIGN(auto file, open_report(arguments.report));
  IMSY_TRY_ASSIGN(const auto report, run_conversion(arguments));
  warn_of_useless_profile(arguments, report);
  if (is_watched(arguments)) err << to_text(report);
  const std::string published = arguments.target + " is " + report.digest.to_string() + " now";
  if (!(out << report.digest.to_string() << '\n').flush()) {
    return Error(Errc::kInternal, "cannot write to standard output; " + published);
  }
  const Status written = file ? write_report(*file, report) : Status();
  if (written) return {};
  return Error(written.error().code(),
               "report " + arguments.report + ": " + written.error().message() + "; " + published);
}

void define(CLI::App& app, Arguments& arguments) {
  app.add_option("SRC", arguments.source,
                 "image to read: registry/repository:tag, oci:DIR[:tag], oci-archive:FILE[:tag],\n"
                 "docker-archive:FILE[:reference], tar:FILE or dir:PATH (a root filesystem);\n"
                 "FILE may be -, the standard input")
      ->required();
  app.add_option(
         "DST", arguments.target,
         "where to write it: registry/repository:tag, oci:DIR[:tag], oci-archive:FILE[:tag]\n"
         "or docker-archive:FILE[:reference]; without a tag: latest")
      ->required();
  app.add_option("--level", arguments.level, "zstd level")
      ->check(CLI::Range(1, 22))
      ->capture_default_str();
  app.add_option(
         "--jobs", arguments.jobs,
         "compressing threads (default: one for each processor); the result does not depend on\n"
         "it")
      ->check(CLI::Range(1, 1024));
  app.add_option("--platform", arguments.platforms,
                 "linux/arch[/variant]: convert only this image of an index; may be given several\n"
                 "times, or as a list with commas (default: all images for linux). For tar: and\n"
                 "dir: what the image is for (default: this machine)")
      ->delimiter(',')
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_option("--base", arguments.bases,
                 "a converted image that the nodes hold already, such as the previous version:\n"
                 "upgrades from it fetch less (may be given more than once)")
      ->allow_extra_args(false);
  app.add_option("--profile", arguments.profile,
                 "put the files that this access profile names in front, for a faster start");
  app.add_option("--report", arguments.report, "write figures and digests to this file, as JSON");
  app.add_option(
      "--tmp", arguments.temporary,
      "directory for temporary files: at most the image's inflated size, and as much again\n"
      "for each archive that is written, compressed, or a pipe (default: $TMPDIR)");
  app.add_flag("--force", arguments.force, "convert also what DST has from an earlier conversion");
  app.add_flag("--plain-http", arguments.plain_http, "speak http, not https, to registries");
  app.add_flag("--allow-foreign-layers", arguments.foreign_layers,
               "fetch layers that the source does not hold from where its manifest says, over\n"
               "https and without credentials, and make them part of the converted image");
  app.add_flag("--quiet", arguments.quiet, "no progress, no summary; only the digest");
  app.set_version_flag("--version", "imsy-convert " IMSY_VERSION);
}

}  // namespace

int run(int argc, const char* const* argv, std::ostream& out, std::ostream& err) {
  Arguments arguments;
  CLI::App app{"Convert a container image so that nodes fetch only the chunks they lack.",
               "imsy-convert"};
  define(app, arguments);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error, out, err) == 0 ? 0 : 2;
  }
  ignore(log::configure("warn"), "the level is a constant");
  const Status done = run_and_tell(arguments, out, err);
  if (done) return 0;
  err << "imsy-convert: " << log::printable(done.error().message()) << '\n';
  return 1;
}

}  // namespace imsy::converter
