// What a conversion did, for programs and for people.
//
// Threads: free functions.
#pragma once

#include <string>

#include "converter/convert.h"

namespace imsy::converter {

// The document of --report. docs/cli.md.
oci::Json to_json(const ConvertReport& report);

// One line per image, one for what else the index holds, and up to ten about what was strange.
std::string to_text(const ConvertReport& report);

}  // namespace imsy::converter
