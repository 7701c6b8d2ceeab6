// KubeletPlugins: credentials from the plugins that the kubelet uses, by its own configuration.
//
// Promises
//   * A plugin is run when one of its patterns matches the image, and when what it answered before
//     does not hold any more. What it answers is kept in memory, for as long as it says.
//   * It is run as oci/helper_program.h says, with 10 s of time. Only a program that nobody but
//     root can change is run.
//   * A plugin answers for the node: with the same user name, its next password is the same user's.
// Threads: all methods from any thread. find() waits for a plugin.
// Source: credentialprovider.kubelet.k8s.io/v1.
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/mutex.h"
#include "oci/credentials.h"
#include "snapshotter/credentials/kubelet_config.h"

namespace imsy::snapshotter {

class KubeletPlugins final : public oci::Credentials {
 public:
  using Clock = std::chrono::steady_clock;
  using Now = std::function<Clock::time_point()>;

  // `config`: the kubelet's CredentialProviderConfig; `directory`: where the programs are. Errors
  // of reading and of parse_kubelet_config.
  static Result<std::shared_ptr<KubeletPlugins>> open(const std::filesystem::path& config,
                                                      std::filesystem::path directory,
                                                      Now now = &Clock::now);

  Result<std::vector<oci::Credential>> find(const oci::CredentialQuery& query) const override;

 private:
  struct Kept {
    std::shared_ptr<const PluginAnswer> answer;
    Clock::time_point until;
  };
  using Answer = std::shared_ptr<const PluginAnswer>;

  KubeletPlugins(std::vector<KubeletPlugin> plugins, std::filesystem::path directory, Now now)
      : plugins_(std::move(plugins)), directory_(std::move(directory)), now_(std::move(now)) {}

  Result<Answer> ask(const KubeletPlugin& plugin, const oci::CredentialQuery& query) const;
  Answer find_kept(const std::vector<std::string>& keys) const;
  void keep(const std::string& key, Answer answer) const;

  const std::vector<KubeletPlugin> plugins_;
  const std::filesystem::path directory_;
  const Now now_;
  mutable Mutex mu_;
  mutable std::map<std::string, Kept> kept_ IMSY_GUARDED_BY(mu_);
};

}  // namespace imsy::snapshotter
