// Any bytes as the kubelet's configuration of plugins, as what a plugin answers, and as a pattern:
// no crash, and limits hold.
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "snapshotter/credentials/image_pattern.h"
#include "snapshotter/credentials/kubelet_config.h"
#include "snapshotter/credentials/yaml.h"

namespace imsy::snapshotter {
namespace {

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "kubelet_fuzz: %s\n", what);
  std::abort();
}

void fuzz(std::string_view text) {
  if (const auto json = parse_yaml(text, "fuzz"); !json) {
    require(json.error().code() == Errc::kInvalid, "another error");
  }
  if (const auto plugins = parse_kubelet_config(text, "fuzz")) {
    for (const KubeletPlugin& plugin : *plugins) {
      require(plugin.name.find('/') == std::string::npos, "a program elsewhere");
      require(!plugin.match_images.empty(), "a plugin for nothing");
    }
  }
  KubeletPlugin plugin;
  plugin.name = "plugin";
  plugin.api_version = "credentialprovider.kubelet.k8s.io/v1";
  if (const auto answer = parse_plugin_answer(text, plugin)) {
    require(answer->logins.size() <= kPluginLoginsMax, "too many logins");
    for (const auto& [pattern, login] : answer->logins) require(!login.empty(), "an empty login");
  }
  if (const auto duration = parse_go_duration(text)) require(duration->count() >= 0, "the past");
  const bool evil = matches_image(text, {"registry.example", "team/web"});
  require(!evil || text.find_first_of("r*?") != std::string_view::npos, "matches something else");
}

}  // namespace
}  // namespace imsy::snapshotter

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  imsy::snapshotter::fuzz({reinterpret_cast<const char*>(data), size});
  return 0;
}
