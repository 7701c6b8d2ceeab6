#include "tests/support/tls_identity.h"

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <cstdlib>

namespace imsy::test {
namespace {

void check(bool ok) {
  if (!ok) std::abort();
}

void add_extension(X509* certificate, int id, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, certificate, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, id, value.c_str());
  check(extension != nullptr && X509_add_ext(certificate, extension, -1) == 1);
  X509_EXTENSION_free(extension);
}

X509* make_certificate(EVP_PKEY* key, const std::string& subject, bool expired) {
  constexpr long kDay = 24L * 3600;
  X509* certificate = X509_new();
  check(certificate != nullptr);
  check(X509_set_version(certificate, 2) == 1);
  check(ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1) == 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate), -2 * kDay);
  X509_gmtime_adj(X509_getm_notAfter(certificate), expired ? -kDay : kDay);
  check(X509_set_pubkey(certificate, key) == 1);
  X509_NAME* name = X509_get_subject_name(certificate);
  const auto* common_name = reinterpret_cast<const unsigned char*>("imsy test");
  check(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, common_name, -1, -1, 0) == 1);
  check(X509_set_issuer_name(certificate, name) == 1);
  add_extension(certificate, NID_basic_constraints, "critical,CA:TRUE");
  add_extension(certificate, NID_subject_key_identifier, "hash");
  add_extension(certificate, NID_subject_alt_name, subject);
  check(X509_sign(certificate, key, EVP_sha256()) != 0);
  return certificate;
}

// What `write` has put into a buffer.
template <typename Write>
std::string to_pem(Write write) {
  BIO* memory = BIO_new(BIO_s_mem());
  check(memory != nullptr && write(memory) == 1);
  char* data = nullptr;
  const long size = BIO_get_mem_data(memory, &data);
  std::string pem(data, static_cast<std::size_t>(size));
  BIO_free(memory);
  return pem;
}

}  // namespace

TlsIdentity make_tls_identity(const std::string& subject, bool expired) {
  EVP_PKEY* key = EVP_EC_gen("P-256");
  check(key != nullptr);
  X509* certificate = make_certificate(key, subject, expired);
  TlsIdentity identity;
  identity.context.reset(SSL_CTX_new(TLS_server_method()));
  check(identity.context != nullptr);
  check(SSL_CTX_use_certificate(identity.context.get(), certificate) == 1);
  check(SSL_CTX_use_PrivateKey(identity.context.get(), key) == 1);
  identity.certificate_pem =
      to_pem([&](BIO* memory) { return PEM_write_bio_X509(memory, certificate); });
  identity.key_pem = to_pem([&](BIO* memory) {
    return PEM_write_bio_PrivateKey(memory, key, nullptr, nullptr, 0, nullptr, nullptr);
  });
  X509_free(certificate);
  EVP_PKEY_free(key);
  return identity;
}

void require_certificate(SSL_CTX* server, const std::string& certificate_pem) {
  BIO* memory = BIO_new_mem_buf(certificate_pem.data(), static_cast<int>(certificate_pem.size()));
  X509* certificate = PEM_read_bio_X509(memory, nullptr, nullptr, nullptr);
  check(certificate != nullptr);
  check(X509_STORE_add_cert(SSL_CTX_get_cert_store(server), certificate) == 1);
  X509_free(certificate);
  BIO_free(memory);
  SSL_CTX_set_verify(server, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  // Sessions that are taken up again would not be asked.
  SSL_CTX_set_session_cache_mode(server, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_options(server, SSL_OP_NO_TICKET);
}

}  // namespace imsy::test
