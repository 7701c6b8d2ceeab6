// What the tests of oci share.
#pragma once

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>

#include "common/mutex.h"
#include "oci/registry.h"
#include "tests/support/fake_registry.h"

namespace imsy::oci {

// A directory that is gone at the end of the test.
class TempDir {
 public:
  TempDir() {
    std::string name = (std::filesystem::temp_directory_path() / "imsy-oci-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    path_ = name;
  }
  ~TempDir() {
    std::error_code problem;
    std::filesystem::remove_all(path_, problem);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path write(const std::string& name, std::string_view text) const {
    std::ofstream(path_ / name) << text;
    return path_ / name;
  }

 private:
  std::filesystem::path path_;
};

// A gate that a fault waits at until the test opens it.
class Gate {
 public:
  void open() {
    const MutexLock lock(mu_);
    open_ = true;
    changed_.notify_all();
  }
  void pass() {
    const MutexLock lock(mu_);
    ++arrived_;
    changed_.notify_all();
    while (!open_) changed_.wait(mu_);
  }
  void wait_for(int count) {
    const MutexLock lock(mu_);
    while (arrived_ < count) changed_.wait(mu_);
  }

 private:
  Mutex mu_;
  CondVar changed_;
  bool open_ IMSY_GUARDED_BY(mu_) = false;
  int arrived_ IMSY_GUARDED_BY(mu_) = 0;
};

// Bytes that look random, the same in every run.
inline std::string noise(std::size_t size, std::uint32_t seed = 1) {
  std::string text(size, '\0');
  for (char& c : text) {
    seed = seed * 1664525 + 1013904223;
    c = static_cast<char>(seed >> 24);
  }
  return text;
}

inline Descriptor descriptor_of(std::string_view content) {
  Descriptor descriptor;
  descriptor.media_type = "application/octet-stream";
  descriptor.digest = sha256(content);
  descriptor.size = content.size();
  return descriptor;
}

// Reads to the end, in pieces of an odd size.
inline Result<std::string> read_all(ByteReader& reader) {
  std::string text;
  Bytes buffer(70'001);
  for (;;) {
    IMSY_TRY_ASSIGN(const std::size_t got, reader.read(buffer));
    if (got == 0) return text;
    text += as_text(ByteSpan(buffer).first(got));
  }
}

inline RegistryOptions options_for(const test::FakeRegistry& server,
                                   const std::filesystem::path& docker_config = "/nonexistent") {
  RegistryOptions options;
  options.host = host_at(server.endpoint());
  options.repository = "library/web";
  options.credentials = docker_credentials(docker_config);
  options.first_retry_delay = std::chrono::milliseconds(1);
  return options;
}

}  // namespace imsy::oci
