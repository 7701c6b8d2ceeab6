// Server: a small read-only HTTP server for files and short texts, with bounded threads and memory.
//
// Promises
//   * GET and HEAD; one byte range per request. A request with a body, or of another method, ends
//     its connection.
//   * At most so many connections are open (kConnectionsMax unless it is told otherwise); more wait
//     in the kernel's queue. Each has one thread, a head of at most kHeadSizeMax bytes, and one
//     piece of a file in memory.
//   * A client that is silent, trickles its request, or does not take its answer loses its
//     connection after a while; until then it takes nothing from the others but its place.
//   * A stop request ends run(): no new connections, answers under way get kStopGrace.
// Threads: run() from one thread; the handler is called from many at a time.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>

#include "common/io.h"
#include "common/result.h"

namespace imsy::http {

inline constexpr unsigned kConnectionsMax = 256;
inline constexpr std::size_t kHeadSizeMax = 16 << 10;
inline constexpr std::chrono::seconds kIdleTimeout{15};    // between two requests
inline constexpr std::chrono::seconds kHeadTimeout{10};    // from a head's first byte to its last
inline constexpr std::chrono::seconds kAnswerTimeout{30};  // plus a second per kRateMin bytes taken
inline constexpr std::size_t kRateMin = 4 << 10;
inline constexpr std::chrono::seconds kStopGrace{5};

struct Reply {
  int status = 200;
  std::string content_type;
  std::string text;  // the body, unless there is a file
  UniqueFd file;     // a regular file; the server sends it, or the range asked for
};

class Server {
 public:
  // Makes the answer to a GET or HEAD for this path, which begins with "/", percent-decoded,
  // without query.
  using Handler = std::function<Reply(const std::string& path)>;
  // Called after every request, answered or refused.
  using Observer = std::function<void(const std::string& path)>;

  // Listens on "host:port", "[v6]:port" or ":port" (all addresses); port 0 takes a free one.
  // kInvalid: not such a text; other errors are the system's, e.g. address in use.
  static Result<std::unique_ptr<Server>> listen(const std::string& address, Handler handler,
                                                Observer observer);
  // Serves who connects to `listening`, a TCP or unix socket that does not block.
  static Result<std::unique_ptr<Server>> create(UniqueFd listening, unsigned connections_max,
                                                Handler handler, Observer observer = nullptr);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Where it listens, when listen() made it: "127.0.0.1:8080", "[::]:8080".
  const std::string& address() const;

  // Serves until `stop`. Returns an error only when no connection can be accepted any more.
  Status run(const std::stop_token& stop);

 private:
  struct Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace imsy::http
