// The words of containerd's snapshots API as plain values, without gRPC.
//
// Source: containerd's snapshots service, api/services/snapshots/v1 and core/snapshots.
// Threads: plain values.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace imsy::snapshotter {

using Labels = std::map<std::string, std::string>;

// Numbered as in the database and on the wire.
enum class Kind : std::uint8_t { kView = 1, kActive = 2, kCommitted = 3 };
std::string_view to_string(Kind kind);

struct Info {
  std::string name;
  std::string parent;  // "" when there is none
  Kind kind = Kind::kActive;
  std::int64_t created_ns = 0;  // since 1970, UTC
  std::int64_t updated_ns = 0;
  Labels labels;
  bool operator==(const Info&) const = default;
};

struct Usage {
  std::int64_t size = 0;  // allocated bytes
  std::int64_t inodes = 0;
  bool operator==(const Usage&) const = default;
};

// One mount(2) that containerd will do. `options` are joined with commas.
struct Mount {
  std::string type;
  std::string source;
  std::vector<std::string> options;
  bool operator==(const Mount&) const = default;
};

// Labels that decide something here. All of them may have been written by an image's author.
namespace label {
// The chainID under which the client will commit what it prepares.
inline constexpr std::string_view kRef = "containerd.io/snapshot.ref";
inline constexpr std::string_view kAnchor = "containerd.io/snapshot/imsy.anchor";
inline constexpr std::string_view kRole = "containerd.io/snapshot/imsy.role";
inline constexpr std::string_view kConfig = "containerd.io/snapshot/imsy.config";
inline constexpr std::string_view kImageRef = "containerd.io/snapshot/cri.image-ref";
// User and group ids of a container's user namespace: "container:host:size", several by commas.
inline constexpr std::string_view kUidMapping = "containerd.io/snapshot/uidmapping";
inline constexpr std::string_view kGidMapping = "containerd.io/snapshot/gidmapping";
// What the container writes need not survive a crash of the machine; "false" is as if it were
// absent.
inline constexpr std::string_view kVolatile = "containerd.io/snapshot/overlay.volatile";
}  // namespace label

// The label's value, or "" when it is absent; containerd treats the two alike.
std::string_view find_label(const Labels& labels, std::string_view key);

// The id on the host that a mapping label gives to id 0 of the container; nullopt: it gives none.
std::optional<std::uint32_t> mapped_root(std::string_view mapping);

}  // namespace imsy::snapshotter
