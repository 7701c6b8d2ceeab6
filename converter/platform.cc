#include "converter/platform.h"

#include <sys/utsname.h>

#include <algorithm>
#include <array>
#include <utility>

namespace imsy::converter {
namespace {

struct Spelling {
  std::string_view architecture, variant;  // as somebody may write them
  std::string_view usual_architecture, usual_variant;
};

constexpr std::array<Spelling, 18> kSpellings = {{{"x86_64", "", "amd64", ""},
                                                  {"x86-64", "", "amd64", ""},
                                                  {"amd64", "v1", "amd64", ""},
                                                  {"i386", "", "386", ""},
                                                  {"i686", "", "386", ""},
                                                  {"aarch64", "", "arm64", ""},
                                                  {"aarch64", "v8", "arm64", ""},
                                                  {"arm64", "v8", "arm64", ""},
                                                  {"arm64", "8", "arm64", ""},
                                                  {"armhf", "", "arm", "v7"},
                                                  {"armv7l", "", "arm", "v7"},
                                                  {"armel", "", "arm", "v6"},
                                                  {"armv6l", "", "arm", "v6"},
                                                  {"loongarch64", "", "loong64", ""},
                                                  {"arm", "", "arm", "v7"},
                                                  {"arm", "7", "arm", "v7"},
                                                  {"arm", "6", "arm", "v6"},
                                                  {"arm", "5", "arm", "v5"}}};

oci::Platform normalised(oci::Platform platform) {
  if (platform.os.empty()) platform.os = "linux";  // very old images do not say
  for (const Spelling& spelling : kSpellings) {
    if (platform.architecture != spelling.architecture || platform.variant != spelling.variant) {
      continue;
    }
    platform.architecture = spelling.usual_architecture;
    platform.variant = spelling.usual_variant;
    break;
  }
  return platform;
}

}  // namespace

Result<oci::Platform> parse_platform(std::string_view text) {
  const std::size_t first = std::min(text.find('/'), text.size());
  const std::size_t second = std::min(text.find('/', first + 1), text.size());
  oci::Platform platform;
  platform.os = text.substr(0, first);
  if (first < text.size()) platform.architecture = text.substr(first + 1, second - first - 1);
  if (second < text.size()) platform.variant = text.substr(second + 1);
  const bool more = platform.variant.find('/') != std::string::npos;
  const bool cut = second < text.size() && platform.variant.empty();
  if (platform.os.empty() || platform.architecture.empty() || more || cut) {
    return Error(Errc::kInvalid, "platform \"" + std::string(text) +
                                     "\": must be OS/ARCH[/VARIANT], as linux/arm64");
  }
  return normalised(std::move(platform));
}

oci::Platform machine_platform() {
  struct utsname machine {};
  ::uname(&machine);
  return normalised({"linux", machine.machine, "", ""});
}

std::string platform_name(const oci::Platform& platform) {
  const std::string name = platform.os + "/" + platform.architecture;
  return platform.variant.empty() ? name : name + "/" + platform.variant;
}

bool same_platform(const oci::Platform& a, const oci::Platform& b) {
  return platform_name(normalised(a)) == platform_name(normalised(b));
}

}  // namespace imsy::converter
