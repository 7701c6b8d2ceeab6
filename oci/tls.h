// Tls: what differs from the system's settings when one server is spoken to by https.
//
// Threads: plain values.
#pragma once

#include <string>

namespace imsy::oci {

struct Tls {
  std::string authorities;  // certificates (PEM) that are trusted beside the system's
  std::string certificate;  // our own, with its chain (PEM); "": none is shown
  std::string key;          // of our certificate (PEM)
  bool verify = true;       // false: whoever answers is taken for the server

  bool operator==(const Tls&) const = default;
};

}  // namespace imsy::oci
