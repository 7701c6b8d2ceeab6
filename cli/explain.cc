#include "cli/explain.h"

#include <CLI/CLI.hpp>

#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <ostream>

#include "cli/control.h"
#include "cli/text.h"
#include "common/log.h"

namespace imsy::cli {
namespace {

namespace api = control::v1;
using Json = nlohmann::ordered_json;

std::string how(const api::ExplainedLayer& layer) {
  if (layer.lazy()) return "of an imsy image, read lazily";
  if (!layer.reason().empty()) {
    return "claims to be of an imsy image, unpacked: " + log::printable(layer.reason());
  }
  if (layer.kind() == "committed") return "unpacked; its labels name no imsy image";
  return layer.kind() == "view" ? "read-only" : "written to";
}

std::string state_of(const api::ExplainedImage& image) {
  if (!image.live()) return "not in the lazy tree now";
  if (image.resident()) return "resident: all of it is in the store";
  if (image.shrunk()) return "shrunk: parts were dropped for want of room";
  return image.filling() ? "being fetched in the background" : "fetched as it is read";
}

std::string text_of(const api::ExplainedSnapshot& snapshot) {
  std::string text;
  for (const api::ExplainedLayer& layer : snapshot.layers()) {
    text += fmt::format("{}{}\n    {}, {}\n", text.empty() ? "" : "  on ",
                        log::printable(layer.key()), layer.kind(), how(layer));
    if (!layer.directory().empty()) text += "    " + log::printable(layer.directory()) + "\n";
  }
  if (snapshot.is_volatile()) text += "  volatile: lost with a crash of the machine\n";
  if (!snapshot.has_image()) return text;
  const api::ExplainedImage& image = snapshot.image();
  text += fmt::format("  image {}\n    {}\n    {}, {}\n", image.manifest(),
                      log::printable(image.directory()), state_of(image),
                      image.is_public() ? "public" : "only for those with its credential");
  for (const std::string& place : image.places()) {
    text += "    from " + log::printable(place) + "\n";
  }
  text += fmt::format("    {} in {} requests since it is shown, {} from other files here\n",
                      human_bytes(image.bytes_fetched()), image.requests(),
                      human_bytes(image.bytes_copied()));
  return text;
}

Json json_of(const api::ExplainedSnapshot& snapshot) {
  Json json = {{"layers", Json::array()}, {"volatile", snapshot.is_volatile()}};
  for (const api::ExplainedLayer& layer : snapshot.layers()) {
    json["layers"].push_back({{"key", layer.key()},
                              {"kind", layer.kind()},
                              {"lazy", layer.lazy()},
                              {"reason", layer.reason()},
                              {"directory", layer.directory()}});
  }
  if (!snapshot.has_image()) return json;
  const api::ExplainedImage& image = snapshot.image();
  json["image"] = {
      {"manifest", image.manifest()},
      {"directory", image.directory()},
      {"live", image.live()},
      {"resident", image.resident()},
      {"shrunk", image.shrunk()},
      {"filling", image.filling()},
      {"public", image.is_public()},
      {"places", std::vector<std::string>(image.places().begin(), image.places().end())},
      {"requests", image.requests()},
      {"bytes_fetched", image.bytes_fetched()},
      {"bytes_copied", image.bytes_copied()}};
  return json;
}

struct ExplainOptions {
  std::string name;
  std::string state = kNodeState;
  bool json = false;
};

Status explain(const ExplainOptions& options, std::ostream& out) {
  IMSY_TRY_ASSIGN(ControlClient daemon, ControlClient::connect(options.state));
  IMSY_TRY_ASSIGN(const auto answer, daemon.explain(options.name));
  out << (options.json ? to_json(answer) : to_text(answer));
  return {};
}

}  // namespace

std::string to_text(const api::ExplainResponse& answer) {
  std::string text;
  for (const std::string& fact : answer.facts()) text += log::printable(fact) + "\n";
  for (const api::Advice& advice : answer.advice()) {
    text += "* " + log::printable(advice.what()) + "\n";
    if (!advice.remedy().empty()) text += "  " + log::printable(advice.remedy()) + "\n";
  }
  if (!answer.facts().empty() && answer.advice().empty()) text += "nothing is in the way\n";
  for (const api::ExplainedSnapshot& snapshot : answer.snapshots()) text += text_of(snapshot);
  return text;
}

std::string to_json(const api::ExplainResponse& answer) {
  Json json = {{"facts", std::vector<std::string>(answer.facts().begin(), answer.facts().end())},
               {"advice", Json::array()},
               {"snapshots", Json::array()}};
  for (const api::Advice& advice : answer.advice()) {
    json["advice"].push_back({{"what", advice.what()}, {"remedy", advice.remedy()}});
  }
  for (const auto& snapshot : answer.snapshots()) json["snapshots"].push_back(json_of(snapshot));
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

void add_explain_command(CLI::App& app, std::ostream& out, Status& outcome) {
  const auto options = std::make_shared<ExplainOptions>();
  auto* const command = app.add_subcommand(
      "explain", "Show how a snapshot is mounted and why, or what this machine can do.");
  command->add_option("SNAPSHOT", options->name,
                      "its key, a container's name or a chainID; without it: the machine");
  command->add_option("--state", options->state, "state directory of imsy-snapshotter")
      ->capture_default_str();
  command->add_flag("--json", options->json, "for programs");
  command->callback([options, &out, &outcome] { outcome = explain(*options, out); });
}

}  // namespace imsy::cli
