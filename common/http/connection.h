// Connection: one client of Server, as cpp-httplib's Stream, with limits on what it may cost.
//
// cpp-httplib 0.11 by itself limits neither the number of header lines nor the time that a request
// or an answer may take in all, and computes ranges without looking at the size. So the head of a
// request is collected and bounded here before the library reads it, and its Range field is kept
// back (docs/format/seed.md says what is honoured).
// Threads: one thread.
#pragma once

#include <httplib.h>

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>

#include "common/io.h"
#include "common/stop_event.h"

namespace imsy::http {

class Connection : public httplib::Stream {
 public:
  // `stop` outlives this.
  Connection(UniqueFd socket, const StopEvent& stop);

  // Waits for the next request and collects its head, for read() to hand out. False: the connection
  // is to be closed, because the client closed it, was silent or too slow, sent too long a head (it
  // was told so), or the server ends.
  bool receive_head();
  // The Range field of the head, "" when it had none. Several are joined with commas.
  const std::string& range() const { return range_; }

  // What cpp-httplib calls. read() ends where the head ends: bodies are not read.
  bool is_readable() const override { return handed_out_ < head_size_; }
  bool is_writable() const override { return true; }
  ssize_t read(char* to, size_t size) override;
  ssize_t write(const char* from, size_t size) override;
  void get_remote_ip_and_port(std::string& /*ip*/, int& /*port*/) const override {}
  void get_local_ip_and_port(std::string& /*ip*/, int& /*port*/) const override {}
  socket_t socket() const override { return socket_.get(); }

 private:
  using Clock = std::chrono::steady_clock;

  // Waits until the socket is ready for `events`. False: the time is up, or the server ends and no
  // answer is under way.
  bool wait_for(short events);
  void note_stop();
  bool collect_head();
  void keep_back_range();
  Clock::time_point deadline() const;

  const UniqueFd socket_;
  const StopEvent& stop_;
  std::string buffer_;  // the head under way, then what came behind it
  std::size_t head_size_ = 0;
  std::size_t handed_out_ = 0;
  std::string range_;
  bool answering_ = false;
  Clock::time_point deadline_;
  Clock::time_point answer_begin_;
  std::size_t answer_size_ = 0;
  std::optional<Clock::time_point> stop_deadline_;
};

}  // namespace imsy::http
