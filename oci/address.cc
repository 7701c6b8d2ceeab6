#include "oci/address.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <string>

namespace imsy::oci {
namespace {

using V6 = std::array<std::uint8_t, 16>;

struct Block {
  std::uint32_t first;
  unsigned bits;
  Network network;
};

constexpr std::uint32_t v4(unsigned a, unsigned b, unsigned c, unsigned d) {
  return a << 24 | b << 16 | c << 8 | d;
}

constexpr Block kBlocks[] = {
    {v4(0, 0, 0, 0), 8, Network::kLoopback},  // Linux connects 0.0.0.0 to this machine
    {v4(10, 0, 0, 0), 8, Network::kPrivate},     {v4(100, 64, 0, 0), 10, Network::kPrivate},
    {v4(127, 0, 0, 0), 8, Network::kLoopback},   {v4(169, 254, 0, 0), 16, Network::kLinkLocal},
    {v4(172, 16, 0, 0), 12, Network::kPrivate},  {v4(192, 0, 0, 0), 24, Network::kPrivate},
    {v4(192, 168, 0, 0), 16, Network::kPrivate}, {v4(198, 18, 0, 0), 15, Network::kPrivate},
    {v4(224, 0, 0, 0), 3, Network::kUnusable},
};

Network network_of_v4(std::uint32_t address) {
  for (const Block& block : kBlocks) {
    if ((address ^ block.first) >> (32 - block.bits) == 0) return block.network;
  }
  return Network::kPublic;
}

std::uint32_t v4_at(const V6& address, std::size_t at) {
  return v4(address[at], address[at + 1], address[at + 2], address[at + 3]);
}

bool has_prefix(const V6& address, std::initializer_list<std::uint8_t> prefix) {
  return std::equal(prefix.begin(), prefix.end(), address.begin());
}

Network network_of_v6(const V6& address) {
  if (has_prefix(address, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff})) {  // IPv4-mapped
    return network_of_v4(v4_at(address, 12));
  }
  if (has_prefix(address, {0, 0x64, 0xff, 0x9b}))
    return network_of_v4(v4_at(address, 12));                                      // NAT64
  if (has_prefix(address, {0x20, 0x02})) return network_of_v4(v4_at(address, 2));  // 6to4
  if (has_prefix(address, {0, 0, 0, 0, 0, 0, 0, 0}))
    return Network::kLoopback;  // ::, ::1, ::a.b.c.d
  if ((address[0] & 0xfe) == 0xfc) return Network::kPrivate;
  if (address[0] == 0xfe && (address[1] & 0xc0) == 0x80) return Network::kLinkLocal;
  if (address[0] == 0xfe && (address[1] & 0xc0) == 0xc0) return Network::kPrivate;  // site-local
  if (address[0] == 0xff) return Network::kUnusable;
  return Network::kPublic;
}

}  // namespace

Network network_of(std::string_view address) {
  const std::string text(address.substr(0, address.find('%')));  // without a scope
  in_addr four{};
  if (inet_pton(AF_INET, text.c_str(), &four) == 1) return network_of_v4(ntohl(four.s_addr));
  V6 six{};
  if (inet_pton(AF_INET6, text.c_str(), six.data()) == 1) return network_of_v6(six);
  return Network::kUnusable;
}

bool may_lead_to(Network from, Network to) {
  switch (to) {
    case Network::kPublic: return true;
    case Network::kPrivate: return from == Network::kPrivate || from == Network::kLoopback;
    case Network::kLinkLocal: return from == Network::kLinkLocal;
    case Network::kLoopback: return from == Network::kLoopback;
    case Network::kUnusable: return false;
  }
  return false;
}

}  // namespace imsy::oci
