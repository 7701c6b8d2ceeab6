#include "cli/profile.h"

#include <CLI/CLI.hpp>
#include <memory>
#include <vector>

#include "cas/store.h"
#include "cdc/recording.h"
#include "cli/stat.h"
#include "common/io.h"

namespace imsy::cli {
namespace {

struct Arguments {
  std::string root = kNodeRoot;
  std::string manifest;
  std::vector<std::string> files;
};

Status print(const Result<cdc::Profile>& profile, std::ostream& out) {
  if (!profile) return profile.error();
  out << profile->to_text();
  return {};
}

Result<cdc::Profile> recorded(const Arguments& arguments) {
  const auto manifest = Digest::parse(arguments.manifest);
  if (!manifest) {
    return Error(Errc::kInvalid,
                 arguments.manifest + " is no digest of a CDC manifest; imsy stat shows them");
  }
  return read_recorded(arguments.root, *manifest);
}

Result<cdc::Profile> read_profile(const std::string& file) {
  IMSY_TRY_ASSIGN(const Bytes text, read_file(file, cdc::Profile::kTextLimit));
  auto profile = cdc::Profile::parse(as_text(text));
  if (!profile) return profile.error().with_context(file);
  return profile;
}

}  // namespace

Result<cdc::Profile> read_recorded(const std::filesystem::path& root, const Digest& manifest) {
  const auto file = root / "profiles" / manifest.hex();
  const auto recording = read_file(file, cdc::Profile::kTextLimit);
  if (!recording && recording.error().code() == Errc::kNotFound) {
    return Error(Errc::kNotFound, "no start of image " + manifest.to_string() + " is recorded in " +
                                      root.string() + "; run a container of it there first");
  }
  if (!recording) return recording.error();
  IMSY_TRY_ASSIGN(const auto store, cas::Store::open(root / "store", {.read_only = true}));
  IMSY_TRY_ASSIGN(const auto image, store->load_image(manifest));
  auto profile = cdc::profile_of(as_text(*recording), *image);
  if (!profile) {
    return Error(profile.error().code(), file.string() + ": " + profile.error().message() +
                                             "; delete it and start imsy-snapshotter anew, then "
                                             "the image is recorded again");
  }
  return profile;
}

Result<cdc::Profile> merge_files(std::span<const std::string> files) {
  std::vector<cdc::Profile> profiles;
  for (const std::string& file : files) {
    IMSY_TRY_ASSIGN(auto profile, read_profile(file));
    profiles.push_back(std::move(profile));
  }
  return cdc::Profile::merge(profiles);
}

void add_profile_command(CLI::App& app, std::ostream& out, Status& outcome) {
  const auto arguments = std::make_shared<Arguments>();
  CLI::App* const profile = app.add_subcommand("profile", "Print or merge access profiles.");
  profile->require_subcommand(1);

  CLI::App* const show = profile->add_subcommand(
      "recorded", "Print what an imsy-snapshotter has recorded of an image's start.");
  show->add_option("--root", arguments->root, "root directory of imsy-snapshotter")
      ->capture_default_str();
  show->add_option("MANIFEST-DIGEST", arguments->manifest, "of the image's CDC manifest")
      ->required();
  show->callback([arguments, &out, &outcome] { outcome = print(recorded(*arguments), out); });

  CLI::App* const merge = profile->add_subcommand("merge", "Print the merge of profiles.");
  merge->add_option("FILE", arguments->files, "a profile")->required();
  merge->callback(
      [arguments, &out, &outcome] { outcome = print(merge_files(arguments->files), out); });
}

}  // namespace imsy::cli
