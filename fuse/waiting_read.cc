#include "fuse/waiting_read.h"

#include <cerrno>
#include <string>
#include <utility>

#include "fuse/server.h"

namespace imsy::fuse {

// libfuse runs the interrupt callback with the request's own lock held, either when the interrupt
// arrives or, when that was earlier, while the callback is being set. In the second case the
// callback must not answer: that would free the request under libfuse's hands. So answering from
// it is allowed only after listen().
void WaitingRead::start(Server& server, Reply reply, NodeId node, std::uint64_t offset,
                        std::uint32_t length) {
  const fuse_req_t request = reply.request();
  const auto read = std::make_shared<WaitingRead>(server, std::move(reply), node, offset);
  server.enter(read);
  fuse_req_interrupt_func(
      request,
      [](fuse_req_t, void* interrupted) { static_cast<WaitingRead*>(interrupted)->interrupt(); },
      read.get());
  if (read->listen()) {
    read->give_up(Error(Errc::kCancelled, "interrupted"));
    return;
  }
  std::uint64_t number = 0;
  try {
    number = server.fs().read(node, offset, length,
                              [read](Result<Bytes> bytes) { read->finish(std::move(bytes)); });
  } catch (...) {
    read->finish(Error(Errc::kInternal, "out of memory"));
  }
  if (number != 0) read->begun(number);
}

bool WaitingRead::listen() {
  MutexLock lock(mu_);
  listening_ = true;
  return interrupted_;
}

void WaitingRead::begun(std::uint64_t number) {
  {
    MutexLock lock(mu_);
    number_ = number;
    if (!given_up_) return;
  }
  server_.fs().cancel(node_, number);
}

Reply WaitingRead::take_reply() {
  MutexLock lock(mu_);
  return std::move(reply_);
}

template <typename Answer>
void WaitingRead::answer_with(const Answer& answer) {
  Reply reply = take_reply();
  if (!reply) return;
  // Waits for an interrupt() in progress, which finds nothing to do and so needs nothing of ours.
  // After it, nobody but us knows this read by its address.
  fuse_req_interrupt_func(reply.request(), nullptr, nullptr);
  answer(reply);
  server_.leave(shared_from_this());
}

void WaitingRead::finish(Result<Bytes> bytes) {
  answer_with([&](Reply& reply) {
    if (bytes) {
      server_.count_read(bytes->size());
      reply.data(*bytes);
    } else {
      reply.error(bytes.error().with_context("read at " + std::to_string(offset_)));
    }
  });
}

void WaitingRead::give_up(const Error& error) {
  answer_with([&](Reply& reply) { reply.error(error); });
  std::uint64_t number = 0;
  {
    MutexLock lock(mu_);
    given_up_ = true;
    number = number_;
  }
  if (number != 0) server_.fs().cancel(node_, number);
}

void WaitingRead::interrupt() {
  const auto self = shared_from_this();
  std::uint64_t number = 0;
  {
    MutexLock lock(mu_);
    if (!listening_) {
      interrupted_ = true;
      return;
    }
    if (!reply_) return;
    given_up_ = true;
    number = number_;
  }
  Reply reply = take_reply();
  if (!reply) return;
  reply.refuse(EINTR);
  server_.leave(self);
  if (number != 0) server_.fs().cancel(node_, number);
}

}  // namespace imsy::fuse
