#include "common/digest.h"

#include <openssl/evp.h>

#include <cstdlib>

namespace imsy {
namespace {

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

// OpenSSL fails here only without memory or without its default provider: nothing can go on then.
void check(int ok) {
  if (ok != 1) std::abort();
}

const EVP_MD* sha256_method() {
  static const EVP_MD* method = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  if (method == nullptr) std::abort();
  return method;
}

}  // namespace

Result<Digest> Digest::parse(std::string_view text) {
  constexpr std::string_view kPrefix = "sha256:";
  if (!text.starts_with(kPrefix)) {
    return Error(Errc::kInvalid, "digest must begin with \"sha256:\"");
  }
  return parse_hex(text.substr(kPrefix.size()));
}

Result<Digest> Digest::parse_hex(std::string_view hex) {
  if (hex.size() != 2 * kSize) {
    return Error(Errc::kInvalid, "digest must have 64 lower-case hexadecimal digits");
  }
  Digest digest;
  for (std::size_t i = 0; i < kSize; ++i) {
    const int high = hex_value(hex[2 * i]);
    const int low = hex_value(hex[2 * i + 1]);
    if (high < 0 || low < 0) {
      return Error(Errc::kInvalid, "digest must have 64 lower-case hexadecimal digits");
    }
    digest.bytes_[i] = static_cast<std::byte>(high * 16 + low);
  }
  return digest;
}

std::string Digest::hex() const {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text(2 * kSize, '0');
  for (std::size_t i = 0; i < kSize; ++i) {
    const auto value = std::to_integer<unsigned>(bytes_[i]);
    text[2 * i] = kDigits[value >> 4];
    text[2 * i + 1] = kDigits[value & 15];
  }
  return text;
}

std::string Digest::to_string() const {
  return "sha256:" + hex();
}

struct Hasher::Impl {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  Impl() {
    if (context == nullptr) std::abort();
    start();
  }
  ~Impl() { EVP_MD_CTX_free(context); }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  void start() { check(EVP_DigestInit_ex2(context, sha256_method(), nullptr)); }
};

Hasher::Hasher() : impl_(std::make_unique<Impl>()) {}
Hasher::~Hasher() = default;
Hasher::Hasher(Hasher&&) noexcept = default;
Hasher& Hasher::operator=(Hasher&&) noexcept = default;

void Hasher::update(std::span<const std::byte> data) {
  check(EVP_DigestUpdate(impl_->context, data.data(), data.size()));
}

void Hasher::update(std::string_view data) {
  update(std::as_bytes(std::span(data)));
}

Digest Hasher::finish() {
  Digest digest;
  unsigned size = 0;
  check(EVP_DigestFinal_ex(impl_->context,
                           reinterpret_cast<unsigned char*>(digest.mutable_bytes().data()), &size));
  impl_->start();
  return digest;
}

Digest sha256(std::span<const std::byte> data) {
  thread_local Hasher hasher;
  hasher.update(data);
  return hasher.finish();
}

Digest sha256(std::string_view data) {
  return sha256(std::as_bytes(std::span(data)));
}

}  // namespace imsy
