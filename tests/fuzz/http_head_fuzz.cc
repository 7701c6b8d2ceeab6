// Any bytes from a client of the small server: heads come out one by one, within their limits, the
// Range field is kept back, and what it asks for lies in the file.
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>

#include "common/http/connection.h"
#include "common/http/range.h"
#include "common/http/server.h"

namespace imsy::http {
namespace {

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "http_head_fuzz: %s\n", what);
  std::abort();
}

std::string read_head(Connection& connection) {
  std::string head;
  char piece[100];
  for (;;) {
    const ssize_t got = connection.read(piece, sizeof piece);
    if (got <= 0) return head;
    head.append(piece, static_cast<std::size_t>(got));
  }
}

void check_range(std::string_view field) {
  for (const std::uint64_t size : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{1000}}) {
    const RangeAnswer answer = answer_range(field, size);
    require(answer.offset <= size && answer.length <= size - answer.offset, "range too large");
    require(answer.kind != RangeAnswer::Kind::kPart || answer.length > 0, "range of nothing");
    require(answer.kind != RangeAnswer::Kind::kWhole || answer.length == size, "whole is not all");
  }
}

void receive_heads(ByteSpan data) {
  int ends[2];
  require(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0, "no sockets");
  const UniqueFd client(ends[1]);
  const auto stop = StopEvent::create(std::stop_token());
  require(stop.has_value(), "no event");
  UniqueFd server(ends[0]);
  Connection connection(std::move(server), **stop);
  ignore(write_all(client.get(), data), "inputs are smaller than the socket's buffer");
  ::shutdown(client.get(), SHUT_WR);
  while (connection.receive_head()) {
    const std::string head = read_head(connection);
    require(head.size() <= kHeadSizeMax, "head too long");
    require(head.ends_with("\n\r\n"), "head without its end");
    require(head.find("\n\r\n") == head.size() - 3, "two heads at once");
    check_range(connection.range());
  }
}

}  // namespace
}  // namespace imsy::http

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  if (size > 32 << 10) return 0;
  imsy::http::receive_heads(std::as_bytes(std::span(data, size)));
  return 0;
}
