#include "cli/seed/serve.h"

#include <utility>

#include "common/http/server.h"

namespace imsy::cli::seed {
namespace {

using http::Reply;
using http::Server;

Reply plain_text(int status, std::string text) {
  Reply reply;
  reply.status = status;
  reply.content_type = "text/plain; charset=utf-8";
  reply.text = std::move(text);
  return reply;
}

Reply answer(const Directory& directory, const std::string& path) {
  // The original answers the bare root with nothing, and there are clients that ask it for life.
  if (path == "/") return plain_text(200, "");
  const auto digest = Digest::parse_hex(path.starts_with('/') ? path.substr(1) : path);
  if (!digest) return plain_text(404, "not found\n");
  auto file = directory.open_entry(*digest);
  if (!file && file.error().code() == Errc::kNotFound) return plain_text(404, "not found\n");
  if (!file) return plain_text(500, "cannot read\n");
  Reply reply;
  reply.content_type = "application/octet-stream";
  reply.file = std::move(*file);
  return reply;
}

}  // namespace

Status serve(const Directory& directory, const std::string& address, EventLog& log,
             const std::stop_token& stop) {
  const auto handler = [&](const std::string& path) { return answer(directory, path); };
  const auto observer = [&](const std::string& path) {
    log.line("fetched " + quote(path.substr(path.starts_with('/') ? 1 : 0)));
  };
  IMSY_TRY_ASSIGN(const auto server, Server::listen(address, handler, observer));
  log.line("serving on " + server->address());
  return server->run(stop);
}

}  // namespace imsy::cli::seed
