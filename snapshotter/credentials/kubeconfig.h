// How to reach a Kubernetes API server: what kubectl's and the kubelet's configuration files say.
//
// Understood are server, certificate authority, and a token or a client certificate, inline or as
// files. Whatever else would log in (exec, auth-provider, a password) or weaken TLS is refused.
// Threads: pure but for load_kubeconfig, which reads files.
// Errors: kInvalid; messages name the field and quote no value.
// Source: k8s.io client-go tools/clientcmd/api/v1.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "common/result.h"
#include "oci/tls.h"

namespace imsy::snapshotter {

// A value, or the file that has it.
struct InlineOrFile {
  std::string value;
  std::filesystem::path file;  // as it stands in the configuration
};

struct Kubeconfig {
  std::string server;  // "https://host:6443/path", without a slash at its end
  InlineOrFile authority;
  InlineOrFile certificate;
  InlineOrFile key;
  InlineOrFile token;
};

// Of the current context. `name`: the file's.
Result<Kubeconfig> parse_kubeconfig(std::string_view text, std::string_view name);

// With all files read.
struct KubernetesServer {
  std::string address;  // as Kubeconfig::server
  oci::Tls tls;
  std::string token;  // "": none
};
// Errors of reading too. Files are looked for from the directory of the configuration.
Result<KubernetesServer> load_kubeconfig(const std::filesystem::path& path);

}  // namespace imsy::snapshotter
