#include "cli/image/commands.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cli/image/check.h"
#include "cli/image/compare.h"
#include "cli/image/diff.h"
#include "cli/image/export.h"
#include "cli/image/inspect.h"
#include "cli/image/place.h"
#include "cli/image/squashed.h"
#include "cli/image/tree_writer.h"
#include "cli/image/unpack.h"
#include "common/log.h"
#include "converter/proved_image.h"
#include "oci/foreign_blob.h"
#include "oci/http.h"

namespace imsy::cli::image {
namespace {

using Json = nlohmann::ordered_json;

const std::map<std::string, LayerCompression> kCompressions = {{"zstd", LayerCompression::kZstd},
                                                               {"gzip", LayerCompression::kGzip},
                                                               {"none", LayerCompression::kNone}};

// What every command has: its options, and what it needs to run.
struct Command {
  Command(const Streams& its_streams, const std::stop_token& its_stop)
      : streams(its_streams), stop(its_stop) {}

  const Streams& streams;
  const std::stop_token& stop;
  bool plain_http = false;
  bool foreign_layers = false;
  bool json = false;
  bool files = false;
  std::string platform;
  std::string temporary;
  std::string against;
  LayerCompression compression = LayerCompression::kZstd;
  std::vector<std::string> places;
};

// Only what reads layers takes long enough for somebody to watch.
enum class Reads { kDocuments, kLayers };

// What a running command opens places with.
class Session {
 public:
  Session(const Command& command, Reads reads)
      : command_(command), progress_(reads == Reads::kLayers && ::isatty(STDERR_FILENO) == 1) {}

  Result<Place> open(const std::string& place) {
    IMSY_TRY_ASSIGN(const auto given, options());
    return Place::open(place, given, watch());
  }
  // How layers of ordinary images are read.
  converter::InputOptions input() {
    converter::InputOptions input;
    if (!command_.foreign_layers) return input;
    input.open_foreign =
        [this](const oci::Descriptor& layer) -> Result<std::unique_ptr<ByteReader>> {
      IMSY_TRY_ASSIGN(auto blob, oci::open_foreign_blob(http_, layer, command_.plain_http));
      return watched(std::move(blob), watch());
    };
    return input;
  }
  Result<std::shared_ptr<oci::ImageTarget>> open_target(const converter::Location& location) {
    IMSY_TRY_ASSIGN(const auto given, options());
    return converter::open_target(location, given);
  }

 private:
  Watch watch() { return {command_.stop, progress_}; }
  Result<converter::OpenOptions> options() {
    IMSY_TRY_ASSIGN(auto temporary, converter::temporary_directory(command_.temporary));
    converter::OpenOptions given{http_, command_.plain_http, std::move(temporary), {}};
    if (command_.platform.empty()) return given;
    IMSY_TRY_ASSIGN(auto platform, converter::parse_platform(command_.platform));
    given.platforms.push_back(std::move(platform));
    return given;
  }

  const Command& command_;
  oci::HttpClient http_;
  converter::Progress progress_;
};

// Bytes of an image that are no UTF-8 are replaced: JSON has no way to carry them.
std::string dump(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

// The image of `place` for the platform of `entry`.
Result<converter::ProvedImage> open_counterpart(const Place& place, const oci::Descriptor& entry) {
  IMSY_TRY_ASSIGN(auto found, place.image_for(converter::platform_name(*entry.platform)));
  auto converted = converter::open_converted(place.source(), std::move(found));
  if (!converted) return converted.error().with_context(place.text());
  return converted;
}

Status run_inspect(const Command& command) {
  Session session(command, Reads::kDocuments);
  std::vector<Place> places;
  for (const std::string& text : command.places) {
    IMSY_TRY_ASSIGN(Place place, session.open(text));
    places.push_back(std::move(place));
  }
  Json images = Json::array();
  std::string text;
  IMSY_TRY(places[0].each_image(
      command.platform, [&](converter::SourceImage found, const oci::Descriptor& entry) -> Status {
        IMSY_TRY_ASSIGN(const auto image,
                        converter::open_converted(places[0].source(), std::move(found)));
        Inspection inspection = inspect(image);
        for (std::size_t i = 1; i < places.size(); ++i) {
          IMSY_TRY_ASSIGN(const auto other, open_counterpart(places[i], entry));
          inspection.shared.push_back(share(image, other, places[i].text()));
        }
        text += to_text(inspection);
        images.push_back(to_json(inspection));
        return {};
      }));
  command.streams.out << (command.json ? dump({{"images", std::move(images)}}) : text);
  return {};
}

Status run_diff(const Command& command) {
  Session session(command, Reads::kDocuments);
  IMSY_TRY_ASSIGN(const Place old, session.open(command.places[0]));
  IMSY_TRY_ASSIGN(const Place place, session.open(command.places[1]));
  Json images = Json::array();
  std::string text;
  IMSY_TRY(place.each_image(
      command.platform, [&](converter::SourceImage found, const oci::Descriptor& entry) -> Status {
        IMSY_TRY_ASSIGN(const auto to, converter::open_converted(place.source(), std::move(found)));
        IMSY_TRY_ASSIGN(const auto from, open_counterpart(old, entry));
        const Diff difference = diff(from, to);
        text += to_text(difference, command.files);
        images.push_back(to_json(difference, command.files));
        return {};
      }));
  command.streams.out << (command.json ? dump({{"images", std::move(images)}}) : text);
  return {};
}

// Shows the first of many lines.
class Lines {
 public:
  explicit Lines(std::ostream& out) : out_(out) {}
  void add(const std::string& subject, const std::string& what) {
    constexpr std::uint64_t kShown = 10;
    if (++count_ <= kShown) out_ << log::printable(subject) << ": " << what << '\n';
  }
  std::uint64_t count() const { return count_; }

 private:
  std::ostream& out_;
  std::uint64_t count_ = 0;
};

std::string describe(const Difference& difference, const Place& original, const Place& place) {
  if (difference.change == Change::kAdded) return "only in " + place.text();
  if (difference.change == Change::kRemoved) return "only in " + original.text();
  return difference.what;
}

// Configuration and tree. Up to ten differences, one line each, and how many there are.
Status compare_with(const Place& original, const Place& place, const converter::ProvedImage& image,
                    const oci::Descriptor& entry, const Command& command, Session& session) {
  IMSY_TRY_ASSIGN(const auto found, original.image_for(converter::platform_name(*entry.platform)));
  IMSY_TRY_ASSIGN(const auto temporary, converter::temporary_directory(command.temporary));
  auto squashed = squash(original.source(), found, session.input(),
                         image.manifest->header().chunker, temporary);
  if (!squashed) return squashed.error().with_context(original.text());
  Lines lines(command.streams.out);
  for (const std::string& path : compare_configs(found.config, image.image.config)) {
    lines.add("configuration", log::printable(path) + " is not the same");
  }
  const std::uint64_t members = lines.count();
  compare_trees(squashed->content(), content_of(*image.manifest),
                [&](const Difference& difference) {
                  if (difference.change == Change::kSame) return;
                  lines.add(difference.path, describe(difference, original, place));
                });
  if (lines.count() == 0) return {};
  return Error(Errc::kCorrupt, "differs from " + original.text() + " in " +
                                   std::to_string(lines.count() - members) + " paths and " +
                                   std::to_string(members) + " members of the configuration");
}

// Images that only the original has would be passed over.
Status check_platforms(const Place& original, const Place& place) {
  IMSY_TRY_ASSIGN(const auto wanted, original.platforms());
  IMSY_TRY_ASSIGN(const auto found, place.platforms());
  std::vector<std::string> missing;
  for (const oci::Platform& platform : wanted) {
    const bool here = std::any_of(found.begin(), found.end(), [&](const oci::Platform& other) {
      return converter::same_platform(platform, other);
    });
    if (!here) missing.push_back(converter::platform_name(platform));
  }
  if (missing.empty()) return {};
  return Error(Errc::kNotFound, place.text() + ": has no image for " + oci::list_names(missing) +
                                    ", as " + original.text() +
                                    " has; choose what to check with --platform");
}

Status run_check(const Command& command) {
  Session session(command, Reads::kLayers);
  IMSY_TRY_ASSIGN(const Place place, session.open(command.places[0]));
  std::optional<Place> original;
  if (!command.against.empty()) {
    IMSY_TRY_ASSIGN(Place opened, session.open(command.against));
    original.emplace(std::move(opened));
    if (command.platform.empty()) IMSY_TRY(check_platforms(*original, place));
  }
  return place.each_image(
      command.platform, [&](converter::SourceImage found, const oci::Descriptor& entry) -> Status {
        IMSY_TRY_ASSIGN(const auto image,
                        converter::open_converted(place.source(), std::move(found)));
        IMSY_TRY(check(place.source(), image));
        if (original) IMSY_TRY(compare_with(*original, place, image, entry, command, session));
        const cdc::Objects& objects = image.manifest->objects();
        command.streams.out << fmt::format(
            "{} {} proved: {} paths, {} chunks, {} frames{}\n",
            image.image.document.digest.to_string(), log::printable(image.platform()),
            image.manifest->tree().entry_count(), objects.total_chunks(), objects.frame_count(),
            original ? "; configuration and tree of " + original->text() : "");
        return {};
      });
}

Status run_unpack(const Command& command) {
  const std::filesystem::path directory = command.places[1];
  IMSY_TRY(TreeWriter::check_target(directory));
  Session session(command, Reads::kLayers);
  IMSY_TRY_ASSIGN(const Place place, session.open(command.places[0]));
  IMSY_TRY_ASSIGN(auto found, place.image_for(command.platform));
  const auto unpack_found = [&]() -> Status {
    if (converter::says_converted(found)) {
      IMSY_TRY_ASSIGN(const auto image,
                      converter::open_converted(place.source(), std::move(found)));
      return unpack(place.source(), image, directory, command.stop);
    }
    IMSY_TRY_ASSIGN(const auto temporary, converter::temporary_directory(command.temporary));
    IMSY_TRY_ASSIGN(const auto squashed,
                    squash(place.source(), found, session.input(), {}, temporary));
    return unpack(squashed, directory, command.stop);
  };
  const Status unpacked = unpack_found();
  return unpacked ? unpacked : unpacked.error().with_context(place.text());
}

Status run_export(const Command& command) {
  IMSY_TRY_ASSIGN(const auto target, converter::Location::parse(command.places[1]));
  IMSY_TRY(target.check_writable());
  Session session(command, Reads::kLayers);
  IMSY_TRY_ASSIGN(const Place place, session.open(command.places[0]));
  IMSY_TRY_ASSIGN(const auto to, session.open_target(target));
  IMSY_TRY_ASSIGN(const Digest digest,
                  export_image(place, *to, target, command.platform, command.compression));
  command.streams.out << digest.to_string() << '\n';
  return {};
}

CLI::App* add(CLI::App& app, const std::string& name, const std::shared_ptr<Command>& command,
              Status& outcome, Status (*run)(const Command&)) {
  CLI::App* const added = app.add_subcommand(name);
  added->add_flag("--plain-http", command->plain_http);
  added->add_option("--platform", command->platform);
  added->add_option("--tmp", command->temporary);
  added->callback([command, &outcome, run] { outcome = run(*command); });
  return added;
}

}  // namespace

void add_commands(CLI::App& app, const Streams& streams, const std::stop_token& stop,
                  Status& outcome) {
  const auto make = [&] { return std::make_shared<Command>(streams, stop); };
  const auto inspected = make();
  CLI::App* const inspect = add(app, "inspect", inspected, outcome, run_inspect);
  inspect->add_option("REF", inspected->places)->required();
  inspect->add_flag("--json", inspected->json);

  const auto checked = make();
  CLI::App* const check = add(app, "check", checked, outcome, run_check);
  check->add_option("REF", checked->places)->required()->expected(1);
  check->add_option("--against", checked->against);
  check->add_flag("--allow-foreign-layers", checked->foreign_layers);

  const auto unpacked = make();
  CLI::App* const unpack = add(app, "unpack", unpacked, outcome, run_unpack);
  unpack->add_option("REF DIR", unpacked->places)->required()->expected(2);
  unpack->add_flag("--allow-foreign-layers", unpacked->foreign_layers);

  const auto exported = make();
  CLI::App* const to_plain = add(app, "export", exported, outcome, run_export);
  to_plain->add_option("SRC DST", exported->places)->required()->expected(2);
  to_plain->add_option("--compress", exported->compression)
      ->transform(CLI::CheckedTransformer(kCompressions));

  const auto compared = make();
  CLI::App* const diff = add(app, "diff", compared, outcome, run_diff);
  diff->add_option("A B", compared->places)->required()->expected(2);
  diff->add_flag("--json", compared->json);
  diff->add_flag("--files", compared->files);
}

}  // namespace imsy::cli::image
