// The kubelet's CredentialProviderConfig, and the answers of the plugins that it names.
//
// Threads: pure functions. Errors: kInvalid; messages name the field and quote no value.
// Source: kubelet.config.k8s.io/v1 (the configuration), credentialprovider.kubelet.k8s.io/v1.
#pragma once

#include <chrono>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/result.h"
#include "oci/credentials.h"

namespace imsy::snapshotter {

struct KubeletPlugin {
  std::string name;  // of its program
  std::vector<std::string> match_images;
  std::chrono::seconds cache_duration{0};  // when an answer does not say another
  std::string api_version;
  std::vector<std::string> arguments;
  std::vector<std::pair<std::string, std::string>> environment;
};

// YAML or JSON. `name`: the file's. Plugins that want a pod's service account token are refused: we
// pull for no pod.
Result<std::vector<KubeletPlugin>> parse_kubelet_config(std::string_view text,
                                                        std::string_view name);

// What a plugin answers.
struct PluginAnswer {
  enum class For { kImage, kRegistry, kGlobal };
  For cached_for = For::kImage;
  std::chrono::seconds cache_duration{0};
  std::map<std::string, oci::Credential> logins;  // by pattern, see image_pattern.h
};
inline constexpr std::size_t kPluginLoginsMax = 256;

Result<PluginAnswer> parse_plugin_answer(std::string_view text, const KubeletPlugin& plugin);

// "1h30m", "90s", "0s": whole numbers of h, m, s, ms; parts of a second are dropped.
Result<std::chrono::seconds> parse_go_duration(std::string_view text);

}  // namespace imsy::snapshotter
