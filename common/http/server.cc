#include "common/http/server.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <ctime>
#include <exception>
#include <utility>

#include "common/http/connection.h"
#include "common/http/listener.h"
#include "common/http/range.h"
#include "common/log.h"
#include "common/stop_event.h"
#include "common/thread_pool.h"

namespace imsy::http {
namespace {

constexpr std::size_t kPieceSize = 64 << 10;
constexpr int kSendBufferSize = 256 << 10;  // in the kernel, which would otherwise take megabytes
constexpr int kRetryAcceptMs = 100;

std::string http_date() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  ::gmtime_r(&now, &utc);
  char text[64];
  return {text, std::strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &utc)};
}

// Whether what follows the head is certain to be the next request.
bool is_bodyless(const httplib::Request& request) {
  const std::string length = request.get_header_value("Content-Length");
  return (request.method == "GET" || request.method == "HEAD") &&
         (length.empty() || length == "0") && !request.has_header("Transfer-Encoding");
}

void set_text(httplib::Response& response, const std::string& text, const std::string& type) {
  response.set_header("Content-Length", std::to_string(text.size()));
  if (text.empty()) return;
  response.set_content_provider(type, [text](std::size_t, httplib::DataSink& sink) {
    const bool sent = sink.write(text.data(), text.size());
    sink.done();
    return sent;
  });
}

// Sends part of a file. A length is announced by a header of ours and not through the library,
// whose own arithmetic on ranges is then out of play.
void set_file(httplib::Response& response, UniqueFd file, const RangeAnswer& part,
              const std::string& type) {
  response.set_header("Content-Length", std::to_string(part.length));
  auto shared = std::make_shared<const UniqueFd>(std::move(file));
  response.set_content_provider(type, [shared, part](std::size_t sent, httplib::DataSink& sink) {
    std::array<std::byte, kPieceSize> piece;
    const std::uint64_t left = part.length - sent;
    if (left == 0) {
      sink.done();
      return true;
    }
    const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(left, piece.size()));
    // A file that shrank cannot be answered as announced: the connection is cut.
    if (!pread_all(shared->get(), std::span(piece).first(size), part.offset + sent)) {
      return false;
    }
    return sink.write(reinterpret_cast<const char*>(piece.data()), size);
  });
}

void set_reply(const httplib::Request& request, httplib::Response& response, Reply reply) {
  response.status = reply.status;
  if (!reply.file) return set_text(response, reply.text, reply.content_type);
  const auto size = file_size(reply.file.get());
  if (!size) {
    response.status = 500;
    return set_text(response, "cannot read\n", "text/plain; charset=utf-8");
  }
  // Ranges are defined for GET only. We give out no validator, so If-Range never holds.
  const bool may_be_part = request.method == "GET" && !request.has_header("If-Range");
  const RangeAnswer part =
      answer_range(may_be_part ? request.get_header_value("Range") : "", *size);
  response.set_header("Accept-Ranges", "bytes");
  const std::string total = "/" + std::to_string(*size);
  switch (part.kind) {
    case RangeAnswer::Kind::kWhole: break;
    case RangeAnswer::Kind::kPart:
      response.status = 206;
      response.set_header("Content-Range", "bytes " + std::to_string(part.offset) + "-" +
                                               std::to_string(part.offset + part.length - 1) +
                                               total);
      break;
    case RangeAnswer::Kind::kUnsatisfiable:
      response.status = 416;
      response.set_header("Content-Range", "bytes *" + total);
      return set_text(response, "no such range\n", "text/plain; charset=utf-8");
  }
  set_file(response, std::move(reply.file), part, reply.content_type);
}

// Speaks HTTP. Sockets, threads and limits are ours; the library parses heads and writes answers.
class Engine : public httplib::Server {
 public:
  Engine(http::Server::Handler handler, http::Server::Observer observer)
      : handler_(std::move(handler)), observer_(std::move(observer)) {
    svr_sock_ = 0;  // any valid value: otherwise the library thinks that it is shutting down
    set_pre_routing_handler([this](const httplib::Request& request, httplib::Response& response) {
      answer(request, response);
      return HandlerResponse::Handled;
    });
    // The library promises a number of requests that it does not hold to.
    set_post_routing_handler([](const httplib::Request&, httplib::Response& response) {
      response.headers.erase("Keep-Alive");
    });
    set_logger([this](const httplib::Request& request, const httplib::Response&) {
      if (observer_) observer_(request.path);
    });
  }

  // Answers requests until one side closes.
  void serve(Connection& connection) {
    bool may_go_on = true;
    while (may_go_on && connection.receive_head()) {
      bool is_reusable = false;
      bool closed = false;
      const auto before_answer = [&](httplib::Request& request) {
        is_reusable = is_bodyless(request);
        request.headers.erase("Accept-Encoding");  // our files are served as they are
        if (!connection.range().empty()) request.set_header("Range", connection.range());
      };
      may_go_on = process_request(connection, /*close_connection=*/false, closed, before_answer) &&
                  is_reusable && !closed;
    }
  }

 private:
  void answer(const httplib::Request& request, httplib::Response& response) {
    response.set_header("Date", http_date());
    if (!is_bodyless(request)) response.set_header("Connection", "close");
    if (request.method != "GET" && request.method != "HEAD") {
      response.status = 405;
      response.set_header("Allow", "GET, HEAD");
      return set_text(response, "only GET and HEAD\n", "text/plain; charset=utf-8");
    }
    set_reply(request, response, handler_(request.path));
  }

  const http::Server::Handler handler_;
  const http::Server::Observer observer_;
};

// A place among those for connections, given back at the end.
class Place {
 public:
  explicit Place(int places) : places_(places) {}
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;
  ~Place() { ::eventfd_write(places_, 1); }

 private:
  const int places_;
};

// Errors of accept(2) that concern one connection, or that pass when others end.
bool is_fatal_for_accept(int err) {
  return err == EBADF || err == EINVAL || err == ENOTSOCK || err == EOPNOTSUPP || err == EFAULT;
}

}  // namespace

struct Server::Impl {
  Impl(Handler handler, Observer observer) : engine(std::move(handler), std::move(observer)) {}

  Engine engine;
  UniqueFd listener;
  unsigned connections_max = kConnectionsMax;
  UniqueFd places;  // an event that counts free places
  std::string address;

  // Accepts until `stop`, handing connections to `pool`.
  Status accept_all(const StopEvent& stop, ThreadPool& pool);
  void start(UniqueFd socket, std::shared_ptr<const Place> place, const StopEvent& stop,
             ThreadPool& pool);
};

void Server::Impl::start(UniqueFd socket, std::shared_ptr<const Place> place, const StopEvent& stop,
                         ThreadPool& pool) {
  const int on = 1;
  ::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  ::setsockopt(socket.get(), SOL_SOCKET, SO_SNDBUF, &kSendBufferSize, sizeof kSendBufferSize);
  auto shared = std::make_shared<UniqueFd>(std::move(socket));
  pool.submit([this, &stop, place = std::move(place), shared] {
    try {
      Connection connection(std::move(*shared), stop);
      engine.serve(connection);
    } catch (const std::exception& e) {
      log::error("a connection ended by an exception: {}", e.what());
    }
  });
}

Status Server::Impl::accept_all(const StopEvent& stop, ThreadPool& pool) {
  bool pausing = false;  // after an error: accept would fail again at once
  while (!stop.requested()) {
    eventfd_t free = 0;
    pollfd fds[2] = {{stop.fd(), POLLIN, 0}, {places.get(), POLLIN, 0}};
    if (::poll(fds, pausing ? 1 : 2, pausing ? kRetryAcceptMs : -1) < 0 && errno != EINTR) {
      return Error::from_errno(errno, "poll");
    }
    pausing = false;
    if (stop.requested() || ::eventfd_read(places.get(), &free) != 0) continue;
    auto place = std::make_shared<const Place>(places.get());
    fds[1].fd = listener.get();
    if (::poll(fds, 2, -1) < 0 || fds[1].revents == 0) continue;
    UniqueFd socket(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (socket) {
      start(std::move(socket), std::move(place), stop, pool);
    } else if (is_fatal_for_accept(errno)) {
      return Error::from_errno(errno, "accept");
    } else {
      pausing = errno != EAGAIN && errno != EINTR && errno != ECONNABORTED;
    }
  }
  return {};
}

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() = default;

Result<std::unique_ptr<Server>> Server::listen(const std::string& address, Handler handler,
                                               Observer observer) {
  IMSY_TRY_ASSIGN(UniqueFd listening, listen_on(address));
  IMSY_TRY_ASSIGN(std::string bound, bound_address(listening.get()));
  IMSY_TRY_ASSIGN(auto server, create(std::move(listening), kConnectionsMax, std::move(handler),
                                      std::move(observer)));
  server->impl_->address = std::move(bound);
  return server;
}

Result<std::unique_ptr<Server>> Server::create(UniqueFd listening, unsigned connections_max,
                                               Handler handler, Observer observer) {
  auto impl = std::make_unique<Impl>(std::move(handler), std::move(observer));
  impl->listener = std::move(listening);
  impl->connections_max = connections_max;
  impl->places = UniqueFd(::eventfd(connections_max, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE));
  if (!impl->places) return Error::from_errno(errno, "eventfd");
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

const std::string& Server::address() const {
  return impl_->address;
}

Status Server::run(const std::stop_token& stop) {
  IMSY_TRY_ASSIGN(const auto event, StopEvent::create(stop));
  ThreadPool pool("serve", impl_->connections_max);  // its end waits for all connections
  const Status outcome = impl_->accept_all(*event, pool);
  impl_->listener.reset();
  return outcome;
}

}  // namespace imsy::http
