#include "common/http/connection.h"

#include <poll.h>
#include <strings.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <string_view>
#include <utility>

#include "common/http/server.h"

namespace imsy::http {
namespace {

constexpr std::string_view kHeadTooLarge =
    "HTTP/1.1 431 Request Header Fields Too Large\r\n"
    "Connection: close\r\nContent-Length: 0\r\n\r\n";

}  // namespace

Connection::Connection(UniqueFd socket, const StopEvent& stop)
    : socket_(std::move(socket)), stop_(stop) {}

Connection::Clock::time_point Connection::deadline() const {
  return stop_deadline_ ? std::min(deadline_, *stop_deadline_) : deadline_;
}

void Connection::note_stop() {
  if (!stop_deadline_ && stop_.requested()) stop_deadline_ = Clock::now() + kStopGrace;
}

bool Connection::wait_for(short events) {
  for (;;) {
    note_stop();
    if (stop_deadline_ && !answering_) return false;
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline() - Clock::now());
    if (left.count() <= 0) return false;
    pollfd fds[2] = {{socket_.get(), events, 0}, {stop_deadline_ ? -1 : stop_.fd(), POLLIN, 0}};
    const int ready = ::poll(fds, 2, static_cast<int>(left.count()) + 1);
    if (ready < 0 && errno != EINTR) return false;
    if (ready > 0 && fds[0].revents != 0) return true;
  }
}

bool Connection::receive_head() {
  buffer_.erase(0, head_size_);
  head_size_ = 0;
  handed_out_ = 0;
  answering_ = false;
  if (!collect_head()) return false;
  keep_back_range();
  answering_ = true;
  answer_begin_ = Clock::now();
  answer_size_ = 0;
  deadline_ = answer_begin_ + kAnswerTimeout;
  return true;
}

bool Connection::collect_head() {
  bool begun = !buffer_.empty();
  deadline_ = Clock::now() + (begun ? kHeadTimeout : kIdleTimeout);
  for (;;) {
    // An empty line before a request is harmless and to be ignored.
    while (buffer_.starts_with("\r\n")) buffer_.erase(0, 2);
    // The same end that cpp-httplib sees: an empty line after any line.
    if (const auto end = buffer_.find("\n\r\n"); end != std::string::npos) {
      head_size_ = end + 3;
      return true;
    }
    if (buffer_.size() >= kHeadSizeMax) {
      ::send(socket_.get(), kHeadTooLarge.data(), kHeadTooLarge.size(),
             MSG_NOSIGNAL | MSG_DONTWAIT);
      return false;
    }
    if (!wait_for(POLLIN)) return false;
    char piece[4096];
    const std::size_t room = std::min(sizeof piece, kHeadSizeMax - buffer_.size());
    const ssize_t got = ::recv(socket_.get(), piece, room, MSG_DONTWAIT);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (got <= 0) return false;
    if (!begun) deadline_ = Clock::now() + kHeadTimeout;
    begun = true;
    buffer_.append(piece, static_cast<std::size_t>(got));
  }
}

void Connection::keep_back_range() {
  constexpr std::string_view kName = "range:";
  range_.clear();
  std::size_t line = buffer_.find('\n') + 1;  // behind the request line
  while (line < head_size_) {
    const std::size_t next = buffer_.find('\n', line) + 1;
    if (next - line > kName.size() &&
        ::strncasecmp(buffer_.data() + line, kName.data(), kName.size()) == 0) {
      std::string value = buffer_.substr(line + kName.size(), next - line - kName.size());
      while (!value.empty() && (value.back() == '\n' || value.back() == '\r')) value.pop_back();
      range_ += range_.empty() ? value : "," + value;
      buffer_.erase(line, next - line);
      head_size_ -= next - line;
    } else {
      line = next;
    }
  }
}

ssize_t Connection::read(char* to, size_t size) {
  const std::size_t taken = std::min(size, head_size_ - handed_out_);
  std::copy_n(buffer_.data() + handed_out_, taken, to);
  handed_out_ += taken;
  return static_cast<ssize_t>(taken);
}

ssize_t Connection::write(const char* from, size_t size) {
  for (;;) {
    note_stop();
    if (Clock::now() >= deadline()) return -1;
    const ssize_t sent = ::send(socket_.get(), from, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) {
      answer_size_ += static_cast<std::size_t>(sent);
      deadline_ = answer_begin_ + kAnswerTimeout + std::chrono::seconds(answer_size_ / kRateMin);
      return sent;
    }
    if (sent < 0 && errno != EAGAIN && errno != EINTR) return -1;
    if (!wait_for(POLLOUT)) return -1;
  }
}

}  // namespace imsy::http
