// Where the node's credentials come from, by its configuration, in the order in which they are
// tried: the kubelet's pulls, docker's configuration, the kubelet's plugins, Kubernetes' secrets.
//
// Threads: a free function; waits for the disk.
// Errors: a file that the configuration names cannot be used; the message says which and why.
#pragma once

#include <memory>

#include "oci/credentials.h"
#include "snapshotter/config.h"
#include "snapshotter/credentials/cri_logins.h"

namespace imsy::snapshotter {

Result<std::shared_ptr<const oci::CredentialPlaces>> open_credentials(
    const Config& config, const std::shared_ptr<CriLogins>& cri_logins);

}  // namespace imsy::snapshotter
