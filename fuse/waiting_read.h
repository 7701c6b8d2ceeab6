// WaitingRead: a read request between its arrival and its answer.
//
// Whoever comes first answers it: the fetcher with bytes or an error, the kernel with an interrupt
// (EINTR, at once), or the end of the session (EIO). The others then find nothing to do.
// Threads: any; shared between the request thread, the fetcher's and the closing one.
#pragma once

#include <cstdint>
#include <memory>

#include "common/mutex.h"
#include "fuse/reply.h"

namespace imsy::fuse {

class Server;

class WaitingRead : public std::enable_shared_from_this<WaitingRead> {
 public:
  // Reads for the kernel and answers, now or later. Waits for the disk at most.
  static void start(Server& server, Reply reply, NodeId node, std::uint64_t offset,
                    std::uint32_t length);

  WaitingRead(Server& server, Reply&& reply, NodeId node, std::uint64_t offset)
      : server_(server), node_(node), offset_(offset), reply_(std::move(reply)) {}

  // Answers with `error` and tells the fetcher that nobody waits any more.
  void give_up(const Error& error);

 private:
  // The fetcher's answer.
  void finish(Result<Bytes> bytes);
  // From now on an interrupt may answer. True when one came already: then the caller answers.
  bool listen();
  // The fetcher knows this read as `number`.
  void begun(std::uint64_t number);
  // The kernel's wish.
  void interrupt();
  // The duty to answer; nothing for all but the first.
  Reply take_reply();
  // Sends `answer`, on any thread but the one that libfuse calls interrupt() on.
  template <typename Answer>
  void answer_with(const Answer& answer);

  // constant after construction
  Server& server_;
  const NodeId node_;
  const std::uint64_t offset_;

  Mutex mu_;
  Reply reply_ IMSY_GUARDED_BY(mu_);
  bool listening_ IMSY_GUARDED_BY(mu_) = false;
  bool interrupted_ IMSY_GUARDED_BY(mu_) = false;
  bool given_up_ IMSY_GUARDED_BY(mu_) = false;
  std::uint64_t number_ IMSY_GUARDED_BY(mu_) = 0;  // for ImageFs::cancel; 0: not known yet
};

}  // namespace imsy::fuse
