#include "snapshotter/open_credentials.h"

#include "oci/auth.h"
#include "snapshotter/credentials/kubelet_plugins.h"
#include "snapshotter/credentials/kubernetes_secrets.h"

namespace imsy::snapshotter {

Result<std::shared_ptr<const oci::CredentialPlaces>> open_credentials(
    const Config& config, const std::shared_ptr<CriLogins>& cri_logins) {
  std::vector<oci::CredentialPlaces::Place> places;
  if (config.cri_image_service) places.push_back(cri_logins);
  places.push_back(std::make_shared<oci::DockerConfig>(
      config.docker_config.empty() ? oci::DockerConfig::default_path() : config.docker_config));
  if (!config.kubelet_config.empty()) {
    IMSY_TRY_ASSIGN(auto plugins,
                    KubeletPlugins::open(config.kubelet_config, config.kubelet_bin_dir));
    places.push_back(std::move(plugins));
  }
  if (!config.kubeconfig.empty()) {
    IMSY_TRY_ASSIGN(auto secrets, KubernetesSecrets::open(config.kubeconfig));
    places.push_back(std::move(secrets));
  }
  return std::make_shared<const oci::CredentialPlaces>(std::move(places));
}

}  // namespace imsy::snapshotter
