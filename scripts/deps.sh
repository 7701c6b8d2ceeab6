#!/bin/bash
# Installs the Debian packages that building and testing need; quick when they are all there.
#
#     scripts/deps.sh [clang]      clang: the compiler of the fuzz targets, and clang-tidy, too
#
# Servers (registry, containerd, runc ...) are not installed: scripts/tools.py unpacks them
# into .cache, so that no service gets started and nothing of the machine changes.
set -euo pipefail

build=(
  build-essential cmake ninja-build pkg-config
  libgrpc++-dev libprotobuf-dev protobuf-compiler protobuf-compiler-grpc
  libfuse3-dev fuse3 libssl-dev libzstd-dev zlib1g-dev libisal-dev libcurl4-openssl-dev
  libsqlite3-dev libyaml-dev
  nlohmann-json3-dev libfmt-dev libspdlog-dev libcli11-dev libtomlplusplus-dev
  libcpp-httplib-dev libre2-dev prometheus-cpp-dev libcap-ng-dev
  libseccomp-dev
  libgtest-dev libgmock-dev libbenchmark-dev
)
tests=(ca-certificates git python3 zstd mmdebstrap)
style=(clang-format)
[[ ${1:-} != clang ]] || style+=(clang libclang-rt-14-dev clang-tidy)

missing=()
for package in "${build[@]}" "${tests[@]}" "${style[@]}"; do
  state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [[ $state == installed ]] || missing+=("$package")
done
[[ ${#missing[@]} -gt 0 ]] || exit 0

as_root=()
if [[ $(id -u) != 0 ]]; then
  command -v sudo >/dev/null || { echo "deps: run as root, or install sudo" >&2; exit 1; }
  as_root=(sudo)
fi
echo "deps: installing ${missing[*]}"
apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q -o Dpkg::Use-Pty=0 -o Acquire::Retries=3)
"${as_root[@]}" "${apt[@]}" update
"${as_root[@]}" "${apt[@]}" install -y --no-install-recommends "${missing[@]}"
