// Platforms as "os/arch[/variant]", compared as containerd compares them.
//
// Names that other systems have for an architecture mean the same ("x86_64" is amd64, "aarch64" is
// arm64), and so does a variant that is understood when none is named (amd64/v1, arm64/v8, arm/v7).
// Threads: free functions.
#pragma once

#include <string>
#include <string_view>

#include "oci/descriptor.h"

namespace imsy::converter {

// In the one spelling that images use. kInvalid: not of this form.
Result<oci::Platform> parse_platform(std::string_view text);

// Of images for the machine this runs on.
oci::Platform machine_platform();

std::string platform_name(const oci::Platform& platform);

// Whether both mean the same os, architecture and variant.
bool same_platform(const oci::Platform& a, const oci::Platform& b);

}  // namespace imsy::converter
