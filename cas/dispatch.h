// Dispatch: which requests go on the wire, and which have to leave it. Pure: does no I/O and, told
// the time, reads no clock.
//
//   wants --next()--> on the wire --ended()--> its bytes are processed --forget()--> gone
//
// Promises
//   * Readers go before the start-up profile, and that before the fill. Within a purpose the image
//     goes first that has been given the fewest bytes.
//   * At most `per_host` requests to a host are on the wire, of which the background (all but
//     readers) uses no more than three quarters.
//   * All requests together bring at most `bytes_max` that are not processed yet; the background
//     leaves a quarter of that to readers. One that is larger goes alone.
//   * While readers wait for a host or are being served by it, no fill begins there, and one that
//     is under way is cut when what it has still to bring takes longer than 100 ms or three round
//     trips, whichever is longer; longer than three round trips when a reader lacks its slot.
//   * The background uses `rate` bytes/s at most, over any second or two. Readers are counted, but
//     do not wait.
// Threads: one at a time; the engine calls it under its lock.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "cas/cost.h"

namespace imsy::cas {

// What bytes are wanted for, the most urgent first.
enum class Purpose { kDemand, kStartup, kFill };

class Dispatch {
 public:
  using Time = std::chrono::steady_clock::time_point;
  using Id = std::uint64_t;

  struct Options {
    unsigned per_host = 16;
    std::uint64_t bytes_max = 32u << 20;
    std::uint64_t rate = 0;  // bytes/s of the background; 0: no limit
  };
  struct Job {
    Purpose purpose = Purpose::kDemand;
    const void* image = nullptr;
    std::string host;
    std::uint64_t bytes = 0;
    Cost cost;
  };
  struct Moves {
    std::vector<Id> send;
    std::vector<Id> cut;
    Time wake_at = Time::max();  // nothing changes of its own accord before
  };

  explicit Dispatch(const Options& options) : options_(options) {}

  // Wants to be sent. Ids begin with 1 and grow.
  Id add(Job job);
  Moves next(Time now);
  // So many more bytes of it have come.
  void came(Id id, std::uint64_t bytes);
  // A reader waits for what the first `bytes` of it bring. True: it should not wait for them here,
  // as they are not asked for yet or would take too long.
  bool outlasts_reader(Id id, std::uint64_t bytes) const;
  // It is not on the wire any more; its bytes are still there.
  void ended(Id id);
  // Nothing of it is left.
  void forget(Id id);
  // Bytes of what is on the wire or not processed.
  std::uint64_t bytes_held() const { return held_; }

 private:
  enum class State { kWaits, kSent, kEnded };
  struct Entry {
    Job job;
    State state = State::kWaits;
    bool cut = false;
    std::uint64_t came = 0;
  };
  struct Host {
    unsigned demand = 0;  // on the wire
    unsigned background = 0;
    unsigned waiting = 0;  // readers that have not been sent
  };
  using Entries = std::map<Id, Entry>;

  void refill(Time now);
  bool may_go(const Entry& entry) const;
  Entries::iterator choose(Purpose purpose);
  void send(Entries::iterator entry);
  void cut_for_readers(Moves& moves);
  static bool outlasts(const Entry& entry, std::uint64_t bytes, std::chrono::microseconds time);
  void leave_wire(Entry& entry);

  const Options options_;
  Id last_ = 0;
  Entries entries_;
  std::map<std::string, Host> hosts_;  // with entries that wait or are sent
  // Bytes given to each image that has an entry. Who comes back begins with what the least served
  // of the others has.
  std::map<const void*, std::uint64_t> served_;
  std::uint64_t held_ = 0;
  double tokens_ = 0;  // bytes that the background may use now
  Time filled_at_{};
};

}  // namespace imsy::cas
