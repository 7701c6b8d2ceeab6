// A key and a self-signed certificate for a server or client inside a test, made when they are
// needed.
#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <string>

namespace imsy::test {

struct SslContextDeleter {
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};

struct TlsIdentity {
  std::unique_ptr<SSL_CTX, SslContextDeleter> context;
  std::string certificate_pem;
  std::string key_pem;
};

// `subject` as in a subjectAltName: "IP:127.0.0.1" or "DNS:registry.example". Ends the test program
// when OpenSSL fails.
TlsIdentity make_tls_identity(const std::string& subject, bool expired);

// Makes a server refuse clients that do not show this certificate.
void require_certificate(SSL_CTX* server, const std::string& certificate_pem);

}  // namespace imsy::test
