// Networks: where a numeric address belongs, and whether one server may lead us to another.
//
// A registry chooses where its redirects, upload locations and token realms point. Without a check
// a registry somewhere on the internet could make a node talk to its own loopback services or to
// the metadata service of its cloud.
// Source: RFC 6890 and its registries of special-purpose addresses.
// Threads: free functions.
#pragma once

#include <string_view>

namespace imsy::oci {

enum class Network {
  kPublic,
  kPrivate,    // RFC 1918, shared address space, unique local addresses
  kLinkLocal,  // also where clouds keep their metadata services
  kLoopback,
  kUnusable,  // multicast, reserved, or no address at all
};

// IPv4 and IPv6 in text form; IPv6 forms that carry an IPv4 address count as that one.
Network network_of(std::string_view address);

// Whether a server in `from` may send us on to one in `to`: outwards always, inwards never, within
// private networks or this machine only for servers that are there themselves.
bool may_lead_to(Network from, Network to);

}  // namespace imsy::oci
