#include "cli/image/commands.h"

#include <fmt/format.h>
#include <unistd.h>
#include <CLI/CLI.hpp>

#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cli/image/background.h"
#include "cli/image/carried.h"
#include "cli/image/check.h"
#include "cli/image/compare.h"
#include "cli/image/diff.h"
#include "cli/image/export.h"
#include "cli/image/inspect.h"
#include "cli/image/mount.h"
#include "cli/image/pairing.h"
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
  std::string compression = "zstd";
  std::string store;
  bool foreground = false;
  bool lazily = false;
  int ready_fd = -1;  // told when the tree can be read
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

// The image of `place` for `platform`. Nothing, and a line about that, when there is none.
Result<std::optional<converter::ProvedImage>> open_counterpart(const Place& place,
                                                               const std::string& platform,
                                                               std::ostream& err) {
  IMSY_TRY_ASSIGN(auto found, place.find_image_for(platform));
  if (!found) {
    err << "imsy: " << log::printable(platform) << " is passed over: " << place.text()
        << " holds no image for it\n";
    return std::optional<converter::ProvedImage>();
  }
  auto converted = converter::open_converted(place.source(), std::move(*found));
  if (!converted) return converted.error().with_context(place.text());
  return std::optional(std::move(*converted));
}

std::string platform_of(const converter::SourceImage& image, const oci::Descriptor& entry) {
  return converter::platform_name(introduce(image, entry).platform);
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
        const std::string platform = platform_of(found, entry);
        IMSY_TRY_ASSIGN(const auto image,
                        converter::open_converted(places[0].source(), std::move(found)));
        Inspection inspection = inspect(image);
        for (std::size_t i = 1; i < places.size(); ++i) {
          IMSY_TRY_ASSIGN(const auto other,
                          open_counterpart(places[i], platform, command.streams.err));
          if (other) inspection.shared.push_back(share(image, *other, places[i].text()));
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
        const std::string platform = platform_of(found, entry);
        IMSY_TRY_ASSIGN(const auto to, converter::open_converted(place.source(), std::move(found)));
        IMSY_TRY_ASSIGN(const auto from, open_counterpart(old, platform, command.streams.err));
        if (!from) return {};
        const Diff difference = diff(*from, to);
        text += to_text(difference, command.files);
        images.push_back(to_json(difference, command.files));
        return {};
      }));
  if (images.empty()) {
    return Error(Errc::kNotFound,
                 old.text() + " and " + place.text() + " have no platform in common");
  }
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

// Configuration and tree of `image` and of the original with the manifest `made_from`. Up to ten
// differences, one line each, and how many there are.
Status compare_with(const Place& original, const Digest& made_from, const Place& place,
                    const converter::ProvedImage& image, const Command& command, Session& session) {
  IMSY_TRY_ASSIGN(const auto found, original.image_with(made_from));
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

// The place that --against names, and what it holds.
struct Original {
  Place place;
  std::vector<Listed> images;

  Result<Digest> find(const Listed& converted) const {
    auto found = find_original(images, converted);
    return found ? found : found.error().with_context(place.text());
  }
};

Result<std::optional<Original>> open_original(const Place& place, const Command& command,
                                              Session& session) {
  if (command.against.empty()) return std::optional<Original>();
  IMSY_TRY_ASSIGN(Place opened, session.open(command.against));
  IMSY_TRY_ASSIGN(auto images, opened.list());
  Original original{std::move(opened), std::move(images)};
  if (!command.platform.empty()) return std::optional(std::move(original));
  // Images that only the original has would be passed over.
  IMSY_TRY_ASSIGN(const auto converted, place.list());
  const Status complete = check_complete(original.images, converted);
  if (complete) return std::optional(std::move(original));
  return Error(complete.error().code(), original.place.text() + ": " + complete.error().message() +
                                            "; compared with " + place.text() +
                                            ", choose what to check with --platform");
}

Status check_others(const Place& place, std::ostream& out) {
  IMSY_TRY_ASSIGN(const auto others, place.others());
  for (const oci::Descriptor& entry : others) {
    const auto blobs = check_carried(place.source(), entry);
    if (!blobs) return blobs.error().with_context(place.text());
    out << fmt::format("{} is whole, as it was carried through: {} blobs\n",
                       entry.digest.to_string(), *blobs);
  }
  return {};
}

Status run_check(const Command& command) {
  Session session(command, Reads::kLayers);
  IMSY_TRY_ASSIGN(const Place place, session.open(command.places[0]));
  IMSY_TRY_ASSIGN(const auto original, open_original(place, command, session));
  IMSY_TRY(place.each_image(
      command.platform, [&](converter::SourceImage found, const oci::Descriptor& entry) -> Status {
        const Listed listed = introduce(found, entry);
        IMSY_TRY_ASSIGN(const auto image,
                        converter::open_converted(place.source(), std::move(found)));
        IMSY_TRY(check(place.source(), image));
        if (original) {
          IMSY_TRY_ASSIGN(const Digest made_from, original->find(listed));
          IMSY_TRY(compare_with(original->place, made_from, place, image, command, session));
        }
        const cdc::Objects& objects = image.manifest->objects();
        command.streams.out << fmt::format(
            "{} {} proved: {} paths, {} chunks, {} frames{}\n",
            image.image.document.digest.to_string(), log::printable(image.platform()),
            image.manifest->tree().entry_count(), objects.total_chunks(), objects.frame_count(),
            original ? "; configuration and tree of " + original->place.text() : "");
        return {};
      }));
  return command.platform.empty() ? check_others(place, command.streams.out) : Status();
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

Status serve_mount(const Command& command, Announcement* announcement) {
  // That its mount is taken away is no reason for a warning: so it ends.
  IMSY_TRY(log::configure("error"));
  Session session(command, Reads::kDocuments);
  IMSY_TRY_ASSIGN(const Place place, session.open(command.places[0]));
  IMSY_TRY_ASSIGN(auto found, place.image_for(command.platform));
  if (!converter::says_converted(found)) {
    return Error(Errc::kFailedPrecondition,
                 place.text() +
                     ": an ordinary image; convert it with imsy-convert, or write its "
                     "tree with imsy unpack");
  }
  IMSY_TRY_ASSIGN(const auto image, converter::open_converted(place.source(), std::move(found)));
  MountOptions options;
  options.directory = command.places[1];
  options.store = command.store;
  IMSY_TRY_ASSIGN(options.temporary, converter::temporary_directory(command.temporary));
  if (announcement != nullptr) options.mounted = [announcement] { announcement->ready(); };
  return mount_image(place.source(), image, options, command.stop);
}

Status run_mount(const Command& command) {
  if (command.foreground) return serve_mount(command, nullptr);
  if (command.ready_fd >= 0) {
    Announcement announcement{UniqueFd(command.ready_fd)};
    return announcement.end(serve_mount(command, &announcement));
  }
  std::vector<std::string> words = {"mount"};
  const auto add = [&words](const char* option, const std::string& value) {
    if (!value.empty()) words.insert(words.end(), {option, value});
  };
  add("--tmp", command.temporary);
  add("--store", command.store);
  add("--platform", command.platform);
  if (command.plain_http) words.emplace_back("--plain-http");
  words.insert(words.end(), {"--", command.places[0], command.places[1]});
  return run_in_background(std::move(words));
}

Status run_umount(const Command& command) {
  return unmount_image(command.places[0], command.lazily);
}

// Attestations are about the images as they are, so they would not be true of plain ones.
Status tell_left_out(const Place& place, std::ostream& err) {
  IMSY_TRY_ASSIGN(const auto others, place.others());
  if (others.empty()) return {};
  std::vector<std::string> names;
  for (const oci::Descriptor& entry : others) names.push_back(entry.digest.to_string());
  err << "imsy: left out, because they are no images for linux: " << oci::list_names(names) << '\n';
  return {};
}

Status run_export(const Command& command) {
  IMSY_TRY_ASSIGN(const auto target, converter::Location::parse(command.places[1]));
  IMSY_TRY(target.check_writable());
  Session session(command, Reads::kLayers);
  IMSY_TRY_ASSIGN(const Place place, session.open(command.places[0]));
  IMSY_TRY_ASSIGN(const auto to, session.open_target(target));
  IMSY_TRY_ASSIGN(const Digest digest, export_image(place, *to, target, command.platform,
                                                    kCompressions.at(command.compression)));
  command.streams.out << digest.to_string() << '\n';
  return tell_left_out(place, command.streams.err);
}

struct Verb {
  const char* name;
  const char* meaning;
  Status (*run)(const Command&);
};

CLI::App* add(CLI::App& app, const Verb& verb, const std::shared_ptr<Command>& command,
              Status& outcome) {
  CLI::App* const added = app.add_subcommand(verb.name, verb.meaning);
  added->add_flag("--plain-http", command->plain_http, "http, not https, to registries");
  added->add_option("--platform", command->platform,
                    "OS/ARCH[/VARIANT]: only this image of an index");
  added->add_option("--tmp", command->temporary,
                    "directory for unnamed temporary files (default: $TMPDIR)");
  added->callback([command, &outcome, run = verb.run] { outcome = run(*command); });
  return added;
}

struct Positional {
  const char* name;
  const char* meaning;
};

void add_two(CLI::App& app, Command& command, const Positional& first, const Positional& second) {
  command.places.resize(2);
  app.add_option(first.name, command.places[0], first.meaning)->required();
  app.add_option(second.name, command.places[1], second.meaning)->required();
}

void add_foreign_layers(CLI::App& app, Command& command) {
  app.add_flag("--allow-foreign-layers", command.foreign_layers,
               "fetch layers of ordinary images from where their manifests say");
}

}  // namespace

void add_commands(CLI::App& app, const Streams& streams, const std::stop_token& stop,
                  Status& outcome) {
  const auto make = [&] { return std::make_shared<Command>(streams, stop); };
  const auto inspected = make();
  CLI::App* const inspect = add(
      app,
      {"inspect", "Show what a converted image consists of, and shares with others.", run_inspect},
      inspected, outcome);
  inspect->add_option("REF", inspected->places, "the image, then others to compare it with")
      ->required();
  inspect->add_flag("--json", inspected->json, "for programs");

  const auto checked = make();
  CLI::App* const check =
      add(app, {"check", "Read a converted image completely and prove what it says.", run_check},
          checked, outcome);
  check->add_option("REF", checked->places, "the image")->required()->expected(1);
  check->add_option("--against", checked->against,
                    "the image that it was made from: prove that it is the same");
  add_foreign_layers(*check, *checked);

  const auto unpacked = make();
  CLI::App* const unpack =
      add(app, {"unpack", "Write an image's tree into a new or empty directory.", run_unpack},
          unpacked, outcome);
  add_two(*unpack, *unpacked, {"REF", "the image"}, {"DIR", "the directory"});
  add_foreign_layers(*unpack, *unpacked);

  const auto mounted = make();
  CLI::App* const mount =
      add(app,
          {"mount", "Show an image's tree in a directory, fetching what is read of it.", run_mount},
          mounted, outcome);
  add_two(*mount, *mounted, {"REF", "the image"}, {"DIR", "the directory"});
  mount->add_option("--store", mounted->store,
                    "directory to keep in what is fetched (default: a temporary one)");
  mount->add_flag("--foreground", mounted->foreground, "stay, until interrupted or unmounted");
  mount->add_option("--ready-fd", mounted->ready_fd)->group("");

  const auto unmounted = make();
  CLI::App* const umount = app.add_subcommand("umount", "Take away what imsy mount shows.");
  unmounted->places.resize(1);
  umount->add_option("DIR", unmounted->places[0], "the directory")->required();
  umount->add_flag("--lazy", unmounted->lazily, "who uses it keeps it");
  umount->callback([unmounted, &outcome] { outcome = run_umount(*unmounted); });

  const auto exported = make();
  CLI::App* const to_plain = add(
      app, {"export", "Write a converted image as a plain one.", run_export}, exported, outcome);
  add_two(*to_plain, *exported, {"SRC", "the image"}, {"DST", "where to write it"});
  to_plain->add_option("--compress", exported->compression, "of the layer: zstd, gzip or none")
      ->check(CLI::IsMember({"zstd", "gzip", "none"}).description(""))
      ->capture_default_str();

  const auto compared = make();
  CLI::App* const diff = add(
      app, {"diff", "Show what a node that holds A fetches for B.", run_diff}, compared, outcome);
  add_two(*diff, *compared, {"A", "the image that the node holds"}, {"B", "the new one"});
  diff->add_flag("--json", compared->json, "for programs");
  diff->add_flag("--files", compared->files, "with a line for each path that is not the same");
}

}  // namespace imsy::cli::image
