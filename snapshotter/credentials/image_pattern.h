// Which images a pattern of the kubelet means: "registry.example", "*.dkr.example:5000/team".
//
// Host and port before the first slash: as many labels as the pattern has, each matched by itself
// ("*" any characters of a label, "?" one); the same port, or none in both. Behind it a prefix of
// the repository's name; "/v1/" and "/v2/", as docker writes them, mean all. A scheme is ignored.
// All names of Docker Hub are one.
// Threads: pure functions.
// Source: the kubelet's matching of images and credentials (URLsMatch).
#pragma once

#include <string_view>

#include "oci/credentials.h"

namespace imsy::snapshotter {

// What it says behind the host: "/team", "" for all. The longest says most.
std::string_view path_of_pattern(std::string_view pattern);

bool matches_image(std::string_view pattern, const oci::CredentialQuery& image);

}  // namespace imsy::snapshotter
