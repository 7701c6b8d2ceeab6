// What the tests of imsy's commands share: a folder of their own, bytes to chunk, a run of the
// program in this process, and a server on a free port.
#pragma once

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <iterator>
#include <mutex>
#include <set>
#include <sstream>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "cli/run.h"
#include "common/bytes.h"
#include "common/digest.h"
#include "common/stream.h"

namespace imsy::cli {

// A folder that goes with the test. In memory where possible, because `prepare` ends with a sync of
// the whole file system.
class TempDir {
 public:
  TempDir() {
    const bool has_memory = ::access("/dev/shm", W_OK) == 0;
    const std::filesystem::path base =
        has_memory ? "/dev/shm" : std::filesystem::temp_directory_path();
    std::string name = base / "imsy-cli-XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    path_ = name;
  }
  ~TempDir() { std::filesystem::remove_all(path_); }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

inline void write_file(const std::filesystem::path& path, std::string_view data) {
  std::ofstream(path, std::ios::binary) << data;
}

inline std::string read_all(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline std::set<std::string> names_in(const std::filesystem::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    names.insert(entry.path().filename());
  }
  return names;
}

inline std::string make_random_text() {
  std::string text;
  std::uint64_t state = 1;
  const auto append_word = [&](unsigned shift) {
    const auto word = static_cast<std::uint32_t>(state >> shift);
    text.append(reinterpret_cast<const char*>(&word), sizeof word);
  };
  for (int i = 0; i < 1 << 20; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    append_word(32);
    append_word(16);
  }
  return text;
}

// 8 MiB that have 11 different chunks.
inline const std::string& random_text() {
  static const std::string text = make_random_text();
  return text;
}

// Hands out a text, at most `piece` bytes at a time; fails at its end when told so.
class TextReader : public ByteReader {
 public:
  explicit TextReader(std::string text, std::size_t piece = SIZE_MAX, bool fails = false)
      : text_(std::move(text)), piece_(piece), fails_(fails) {}
  Result<std::size_t> read(std::span<std::byte> buffer) override {
    const std::size_t size = std::min({buffer.size(), piece_, text_.size() - at_});
    if (size == 0 && fails_) return Error(Errc::kInternal, "the pipe broke");
    std::memcpy(buffer.data(), text_.data() + at_, size);
    at_ += size;
    return size;
  }

 private:
  std::string text_;
  std::size_t piece_;
  bool fails_;
  std::size_t at_ = 0;
};

struct Ran {
  int code = -1;
  std::string out;
  std::string err;
};

inline Ran run_imsy(const std::vector<std::string>& args, const std::string& input = "",
                    const std::stop_token& stop = {}) {
  TextReader in(input);
  std::ostringstream out;
  std::ostringstream err;
  Ran ran;
  ran.code = run(args, {in, out, err}, stop);
  ran.out = out.str();
  ran.err = err.str();
  return ran;
}

// The digest that `prepare` prints; "" when it fails.
inline std::string prepare_in(const std::filesystem::path& dir, const std::string& input) {
  const Ran ran = run_imsy({"-dir", dir, "prepare"}, input);
  return ran.code == 0 ? ran.out.substr(0, 64) : "";
}

// `imsy serve` on a thread of its own, until the end of the scope.
class ServeThread {
 public:
  explicit ServeThread(const std::filesystem::path& dir) {
    thread_ = std::thread([this, dir] {
      TextReader in("");
      std::ostringstream out;
      std::ostream err(&log_);
      const std::vector<std::string> args = {"-dir", dir, "-listen", "127.0.0.1:0", "serve"};
      code_ = run(args, {in, out, err}, stop_.get_token());
      log_.close();
    });
    log_.wait_for_line();
  }
  ~ServeThread() {
    if (thread_.joinable()) end();
  }
  ServeThread(const ServeThread&) = delete;
  ServeThread& operator=(const ServeThread&) = delete;

  int port() { return std::stoi(log_.text().substr(log_.text().rfind("127.0.0.1:") + 10)); }
  std::string url() { return "http://127.0.0.1:" + std::to_string(port()); }

  // Asks it to stop and returns its exit code. After that the log is complete.
  int end() {
    stop_.request_stop();
    thread_.join();
    return code_;
  }
  std::string log() { return log_.text(); }
  // Lines that tell of a request.
  std::size_t requests() {
    std::size_t count = 0;
    std::istringstream lines(log());
    for (std::string line; std::getline(lines, line);) {
      count += line.find(" fetched \"") != std::string::npos ? 1 : 0;
    }
    return count;
  }

 private:
  // A stream buffer that can be read while it is written.
  class Log : public std::streambuf {
   public:
    std::string text() {
      const std::lock_guard lock(mu_);
      return text_;
    }
    void wait_for_line() {
      std::unique_lock lock(mu_);
      changed_.wait(lock, [&] { return closed_ || text_.find('\n') != std::string::npos; });
      if (closed_) throw std::runtime_error("serve ended: " + text_);
    }
    void close() {
      const std::lock_guard lock(mu_);
      closed_ = true;
      changed_.notify_all();
    }

   protected:
    std::streamsize xsputn(const char* from, std::streamsize size) override {
      const std::lock_guard lock(mu_);
      text_.append(from, static_cast<std::size_t>(size));
      changed_.notify_all();
      return size;
    }
    int_type overflow(int_type c) override {
      const char byte = traits_type::to_char_type(c);
      xsputn(&byte, 1);
      return c;
    }

   private:
    std::mutex mu_;
    std::condition_variable changed_;
    std::string text_;
    bool closed_ = false;
  };

  Log log_;
  std::stop_source stop_;
  int code_ = -1;
  std::thread thread_;
};

}  // namespace imsy::cli
