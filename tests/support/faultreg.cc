// faultreg: a registry as a program, told over HTTP what to do wrong and when.
//
//   faultreg [--address A] [--tls] [--subject NAME] [--expired] [--client-certificate FILE]
//
// It prints "<endpoint> <file with the certificate, or ->" when it listens, and ends with SIGTERM.
// It is a FakeRegistry, filled by uploads like any other registry. Beside the API there are:
//   PUT    /_faults    a fault, see below; tried in the order they were put, the first that fits is
//                      used
//   GET    /_faults    how many requests are held
//   DELETE /_faults    all of them
//   PUT    /_settings  {"basic": [USER, PASSWORD]} or {"bearer": [USER, PASSWORD]},
//                      {"token_lifetime": SECONDS}: tokens are refused after that;
//                      {"expire_tokens": true}: those given so far are refused from now on
//   GET    /_log       requests with method, path, query, headers, status, sent (bytes), began and
//                      ended (seconds)
//   DELETE /_log       forgets them
//   GET    /_connections
//
// A fault says which requests it concerns: "method", "path" (a part of it), "times" (all, if it
// does not say), and what becomes of the right answer, in this order:
//   "delay": SECONDS       it comes later
//   "hold": true           it comes when all faults are deleted
//   "expires": SECONDS     it is a redirect to a signed URL, good for so long, then 403
//   "redirect": URL        it is a redirect there, "{path}" being the request's
//   "status": N, "body": TEXT
//   "headers": {NAME: VALUE or null}
//   "wrong": a wrong answer to a range: "whole" (200), "start", "total", "no-range", "multipart",
//            "short", "long", "encoded", "flip" (one bit in the middle), "endless"
//   "flip_at": OFFSET      one bit of this byte of the blob, where the answer has it
//   "cut": BYTES           no more of the body than these, then "end": "close", "reset", "stall"
//   "drip": MILLISECONDS   between two bytes of the body
// Numbers may be fractions where they are times.
#include <signal.h>

#include <charconv>
#include <fstream>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <thread>

#include "common/mutex.h"
#include "common/program.h"
#include "tests/support/fake_registry.h"

namespace imsy::test {
namespace {

using Json = nlohmann::json;
using Clock = FakeRequest::Clock;

Clock::duration seconds(const Json& number) {
  return std::chrono::duration_cast<Clock::duration>(
      std::chrono::duration<double>(number.get<double>()));
}

double in_seconds(Clock::time_point time) {
  return std::chrono::duration<double>(time.time_since_epoch()).count();
}

// Where requests wait for the end of all faults.
class Hold {
 public:
  void wait() {
    const MutexLock lock(mu_);
    ++waiting_;
    for (const unsigned round = round_; round == round_;) ended_.wait(mu_);
    --waiting_;
  }
  void end() {
    const MutexLock lock(mu_);
    ++round_;
    ended_.notify_all();
  }
  unsigned waiting() {
    const MutexLock lock(mu_);
    return waiting_;
  }

 private:
  Mutex mu_;
  CondVar ended_;
  unsigned round_ IMSY_GUARDED_BY(mu_) = 0;
  unsigned waiting_ IMSY_GUARDED_BY(mu_) = 0;
};

// A registry that is told what to do.
struct Faulty {
  FakeRegistry& registry;
  Hold hold;
};

FakeResponse answer_of(int status, const std::string& body = "") {
  FakeResponse response;
  response.status = status;
  response.body = body;
  return response;
}

struct Range {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  std::uint64_t total = 0;
  std::string text() const {
    return "bytes " + std::to_string(first) + "-" + std::to_string(last) + "/" +
           std::to_string(total);
  }
};

// Which bytes of a blob the answer has.
Range range_of(const FakeResponse& response) {
  Range range{0, response.body.size() - 1, response.body.size()};
  for (const auto& [name, value] : response.headers) {
    if (name != "Content-Range") continue;
    const char* end = value.data() + value.size();
    auto at = std::from_chars(value.data() + 6, end, range.first).ptr;
    at = std::from_chars(at + 1, end, range.last).ptr;
    std::from_chars(at + 1, end, range.total);
  }
  return range;
}

void flip(std::string& body, std::uint64_t at) {
  if (at < body.size()) body[at] = static_cast<char>(body[at] ^ 1);
}

void answer_wrongly(const FakeRegistry& registry, const std::string& kind,
                    const FakeRequest& request, FakeResponse& response) {
  Range range = range_of(response);
  if (kind == "whole") {
    const auto digest = Digest::parse(request.path.substr(request.path.rfind('/') + 1));
    response.status = 200;
    response.remove("Content-Range");
    if (digest) response.body = registry.blob(*digest).value_or("");
  } else if (kind == "start") {
    ++range.first;
    ++range.last;
    response.set("Content-Range", range.text());
  } else if (kind == "total") {
    ++range.total;
    response.set("Content-Range", range.text());
  } else if (kind == "no-range") {
    response.remove("Content-Range");
  } else if (kind == "multipart") {
    response.set("Content-Type", "multipart/byteranges; boundary=next");
    response.body = "--next\r\nContent-Range: " + range.text() + "\r\n\r\n" + response.body +
                    "\r\n--next--\r\n";
    response.remove("Content-Range");
  } else if (kind == "short") {
    response.body.pop_back();
  } else if (kind == "long") {
    response.body += 'x';
  } else if (kind == "encoded") {
    response.set("Content-Encoding", "gzip");
  } else if (kind == "flip") {
    flip(response.body, response.body.size() / 2);
  } else if (kind == "endless") {
    response.endless = true;
  } else {
    response = answer_of(500, "faultreg: no such wrong answer: " + kind);
  }
}

// True when the request has come by a signed URL that is still good.
bool sign(const FakeRequest& request, Clock::duration lifetime, FakeResponse& response) {
  const auto now = Clock::now().time_since_epoch().count();
  const std::string until = request.parameter("until");
  if (until.empty()) {
    response =
        FakeResponse::redirect(request.path + "?until=" + std::to_string(now + lifetime.count()));
    return false;
  }
  if (std::strtoll(until.c_str(), nullptr, 10) >= now) return true;
  response = answer_of(403, "the signature has expired");
  return false;
}

FakeResponse::End end_of(const std::string& name) {
  if (name == "reset") return FakeResponse::End::kReset;
  if (name == "stall") return FakeResponse::End::kStall;
  return FakeResponse::End::kClose;
}

void replace(const Json& fault, const FakeRequest& request, FakeResponse& response) {
  if (fault.contains("redirect")) {
    std::string url = fault["redirect"];
    if (const std::size_t at = url.find("{path}"); at != std::string::npos) {
      url.replace(at, 6, request.path);
    }
    response = FakeResponse::redirect(url);
  }
  if (fault.contains("status")) response = answer_of(fault["status"], fault.value("body", ""));
  const Json headers = fault.value("headers", Json::object());
  for (const auto& [name, value] : headers.items()) {
    if (value.is_null()) {
      response.remove(name);
    } else {
      response.set(name, value);
    }
  }
}

void damage(const FakeRegistry& registry, const Json& fault, const FakeRequest& request,
            FakeResponse& response) {
  if (fault.contains("wrong")) answer_wrongly(registry, fault["wrong"], request, response);
  if (fault.contains("flip_at")) {
    flip(response.body, fault["flip_at"].get<std::uint64_t>() - range_of(response).first);
  }
  if (fault.contains("cut")) {
    response.send_at_most = fault["cut"];
    response.end = end_of(fault.value("end", "close"));
  }
  if (fault.contains("drip")) response.drip = std::chrono::milliseconds(fault["drip"]);
}

void change(Faulty& faulty, const Json& fault, const FakeRequest& request, FakeResponse& response) {
  if (fault.contains("delay")) std::this_thread::sleep_for(seconds(fault["delay"]));
  if (fault.contains("hold")) faulty.hold.wait();
  if (fault.contains("expires") && !sign(request, seconds(fault["expires"]), response)) return;
  replace(fault, request, response);
  damage(faulty.registry, fault, request, response);
}

void add_fault(Faulty& faulty, const Json& fault) {
  faulty.registry.fault(fault.value("method", ""), fault.value("path", ""),
                        fault.value("times", FakeRegistry::kAlways),
                        [&faulty, fault](const FakeRequest& request, FakeResponse& response) {
                          change(faulty, fault, request, response);
                        });
}

void set(FakeRegistry& registry, const Json& settings) {
  if (settings.contains("basic"))
    registry.require_basic(settings["basic"][0], settings["basic"][1]);
  if (settings.contains("bearer")) {
    registry.require_bearer(settings["bearer"][0], settings["bearer"][1]);
  }
  if (settings.contains("expire_tokens")) registry.expire_tokens();
  if (settings.contains("token_lifetime")) {
    registry.set_token_lifetime(settings["token_lifetime"]);
    registry.enforce_token_lifetime();
  }
}

std::string log_of(const FakeRegistry& registry) {
  Json log = Json::array();
  for (const FakeRequest& request : registry.log()) {
    log.push_back({{"method", request.method},
                   {"path", request.path},
                   {"query", request.query},
                   {"headers", request.headers},
                   {"status", request.status},
                   {"sent", request.sent},
                   {"began", in_seconds(request.began)},
                   {"ended", in_seconds(request.ended)}});
  }
  return log.dump();
}

FakeResponse control_faults(Faulty& faulty, const FakeRequest& request) {
  if (request.method == "GET") return answer_of(200, std::to_string(faulty.hold.waiting()));
  if (request.method == "DELETE") {
    faulty.registry.clear_faults();
    faulty.hold.end();
  } else {
    add_fault(faulty, Json::parse(request.body));
  }
  return answer_of(200);
}

FakeResponse control_log(FakeRegistry& registry, const FakeRequest& request) {
  if (request.method != "DELETE") return answer_of(200, log_of(registry));
  registry.clear_log();
  return answer_of(200);
}

void offer_control(Faulty& faulty) {
  FakeRegistry& registry = faulty.registry;
  registry.answer_at("/_faults", [&faulty](const FakeRequest& request) {
    return control_faults(faulty, request);
  });
  registry.answer_at(
      "/_log", [&registry](const FakeRequest& request) { return control_log(registry, request); });
  registry.answer_at("/_settings", [&registry](const FakeRequest& request) {
    set(registry, Json::parse(request.body));
    return answer_of(200);
  });
  registry.answer_at("/_connections", [&registry](const FakeRequest&) {
    return answer_of(200, std::to_string(registry.connections()));
  });
}

// Nothing when an argument is wrong.
std::optional<FakeRegistryOptions> parse_arguments(int argc, char** argv) {
  FakeRegistryOptions options;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--tls") {
      options.tls = true;
    } else if (name == "--expired") {
      options.certificate_expired = true;
    } else if (i + 1 == argc) {
      return {};
    } else if (name == "--address") {
      options.address = argv[++i];
    } else if (name == "--subject") {
      options.certificate_subject = argv[++i];
    } else if (name == "--client-certificate") {
      std::ifstream file(argv[++i]);
      options.client_certificate.assign(std::istreambuf_iterator<char>(file), {});
    } else {
      return {};
    }
  }
  return options;
}

int run(int argc, char** argv) {
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &ends, nullptr);
  const auto options = parse_arguments(argc, argv);
  if (!options) {
    std::cerr << "faultreg: wrong arguments\n";
    return 2;
  }
  FakeRegistry registry(*options);
  Faulty faulty{registry, {}};
  offer_control(faulty);
  std::cout << registry.endpoint() << ' ' << (options->tls ? registry.ca_file() : "-") << std::endl;
  int signal = 0;
  sigwait(&ends, &signal);
  // Connections may be in the middle of a fault, for as long as that takes.
  std::_Exit(0);
}

}  // namespace
}  // namespace imsy::test

int main(int argc, char** argv) {
  return imsy::run_program("faultreg", [&] { return imsy::test::run(argc, argv); });
}
