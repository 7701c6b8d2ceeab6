#include "oci/address.h"

#include <gtest/gtest.h>

namespace imsy::oci {
namespace {

TEST(Address, KnowsTheSpecialNetworks) {
  struct Case {
    const char* address;
    Network network;
  };
  const Case cases[] = {
      {"8.8.8.8", Network::kPublic},
      {"172.15.255.255", Network::kPublic},
      {"172.32.0.0", Network::kPublic},
      {"2606:4700::1", Network::kPublic},
      {"::ffff:8.8.8.8", Network::kPublic},
      {"10.0.0.1", Network::kPrivate},
      {"172.16.0.1", Network::kPrivate},
      {"172.31.255.255", Network::kPrivate},
      {"192.168.1.1", Network::kPrivate},
      {"100.64.0.1", Network::kPrivate},
      {"fd00::1", Network::kPrivate},
      {"fec0::1", Network::kPrivate},
      {"::ffff:10.0.0.1", Network::kPrivate},
      {"64:ff9b::a00:1", Network::kPrivate},
      {"2002:a00:1::", Network::kPrivate},
      {"169.254.169.254", Network::kLinkLocal},
      {"fe80::1%eth0", Network::kLinkLocal},
      {"::ffff:169.254.169.254", Network::kLinkLocal},
      {"127.0.0.1", Network::kLoopback},
      {"127.255.255.255", Network::kLoopback},
      {"0.0.0.0", Network::kLoopback},
      {"::1", Network::kLoopback},
      {"::", Network::kLoopback},
      {"::ffff:127.0.0.1", Network::kLoopback},
      {"224.0.0.1", Network::kUnusable},
      {"255.255.255.255", Network::kUnusable},
      {"ff02::1", Network::kUnusable},
      {"registry.example", Network::kUnusable},
      {"127.1", Network::kUnusable},
      {"", Network::kUnusable},
  };
  for (const Case& one : cases) EXPECT_EQ(network_of(one.address), one.network) << one.address;
}

TEST(Address, LeadsOutwardsButNotInwards) {
  const Network all[] = {Network::kPublic, Network::kPrivate, Network::kLinkLocal,
                         Network::kLoopback, Network::kUnusable};
  const bool expected[5][5] = {
      // to public, private, link-local, loopback, unusable; from:
      {true, false, false, false, false},  // public
      {true, true, false, false, false},   // private
      {true, false, true, false, false},   // link-local
      {true, true, false, true, false},    // loopback
      {true, false, false, false, false},  // unusable
  };
  for (int from = 0; from < 5; ++from) {
    for (int to = 0; to < 5; ++to) {
      EXPECT_EQ(may_lead_to(all[from], all[to]), expected[from][to]) << from << " to " << to;
    }
  }
}

}  // namespace
}  // namespace imsy::oci
