// Sources: the places of one image, and the one decision where and when a request goes.
//
// Promises
//   * The places are asked in their order, each once for a request, until one gives the right
//     bytes. One that is known to be of no use now is passed over; one that has refused a blob, or
//     given wrong bytes of it, is asked for that blob after all others for a minute.
//   * A place that gave wrong bytes for a request is not asked for it again, but where it is the
//     only one, once: what it redirects to may be another server the next time.
//   * When all have refused, failed or given wrong bytes, the image is located anew, not more often
//     than every `locate_interval`.
//   * When that does not help, and a failure may pass, there is an outage. Then one request at a
//     time finds out whether it is over, after pauses that double and of which half is random. So
//     an outage costs the same few requests, however many wait for its end.
//   * Told the time, it reads no clock.
// Threads: one at a time; the engine calls it under the image's mutex.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "cas/blob_source.h"
#include "cas/fetcher.h"
#include "cas/work_queue.h"

namespace imsy::cas {

// Errors that the next attempt may not meet.
bool may_pass(const Error& error);

// Pauses that double, from the first to the longest. Half of each is random, so that many who
// failed together do not come back together.
class Pauses {
 public:
  using Length = std::chrono::milliseconds;
  Pauses(Length first, Length longest)
      : first_(first), longest_(longest), random_(std::random_device{}()) {}
  // After so many pauses before.
  Length length(unsigned before);

 private:
  Length first_;
  Length longest_;
  std::minstd_rand random_;
};

class Sources {
 public:
  using Clock = std::chrono::steady_clock;
  using Time = Clock::time_point;

  // One request on its way from place to place. Only Sources looks inside.
  struct Attempt {
    std::vector<std::string> asked;  // since the last pause
    std::vector<std::string> wrong;  // have given wrong bytes
    std::optional<Error> failure;    // since the last pause; one that may pass before others
    bool probing = false;            // finds out whether the outage is over
    unsigned round = 0;              // of the image, in which it was asked for
  };

  enum class Move {
    kAsk,     // `place`; then say what came of it
    kWait,    // until `until`, or until some other answer or location comes
    kLocate,  // the image; then located(). The request waits
    kFail,    // with `error`; kCorrupt when all that is wrong are the bytes that came
  };
  struct Step {
    Move move = Move::kWait;
    std::shared_ptr<BlobSource> place = nullptr;
    Time until = Time::max();
    std::optional<Error> error = std::nullopt;  // also of a wait, when an outage begins or goes on
  };

  Sources(const FetcherOptions& options, Places places, bool can_locate);

  // What to do for a request that somebody waits for, or that the background wants.
  Step next(Attempt& attempt, const Digest& blob, Urgency urgency, Time now);
  // Its turn on the wire has come. False: an outage has begun since next() has sent it to a place,
  // or all is over; it is as if it had not been sent.
  bool may_still_ask(Attempt& attempt) const;
  // Nobody waits for it any more. True: others have waited for what it would find out.
  bool abandon(Attempt& attempt);
  // What the place that was asked last answered.
  // True: an outage is over.
  bool succeeded(Attempt& attempt);
  void failed(Attempt& attempt, const Digest& blob, const Error& error, Time now);
  // The bytes it gave turned out to be wrong.
  void gave_wrong(Attempt& attempt, const std::string& place, const Digest& blob, Time now);
  void located(Result<Places> places, Time now);
  // Until when next() says no more than to wait; a time that has passed when it may say more.
  Time held_until(Urgency urgency) const;

  // Of the place that is asked first.
  Cost cost() const { return places_.empty() ? Cost() : places_.front()->cost(); }

  // Nothing is asked any more. What it held is to be dropped without a lock.
  Places close();

 private:
  struct Outage {
    unsigned rounds = 0;  // in which all places have failed
    Time demand_until{};
    Time background_until{};
    bool probing = false;
  };
  Places in_order(const Digest& blob, Time now);
  Step none_left(Attempt& attempt, Time usable_at, Urgency urgency, Time now);
  void suffer(Attempt& attempt, Time usable_at, Time now);
  bool end_probe(Attempt& attempt);

  const std::chrono::milliseconds locate_interval_;
  Pauses demand_pauses_;
  Pauses background_pauses_;
  Places places_;
  const bool can_locate_;
  bool closed_ = false;
  std::optional<Outage> outage_;
  // Which place is to be asked for which blob last, until when.
  std::map<std::pair<std::string, Digest>, Time> demoted_;
  bool locating_ = false;
  Time locate_at_{};  // not before
  // Begins anew when an outage is over or places were found: then all may be asked again.
  unsigned round_ = 0;
  std::optional<Error> location_failure_;
};

}  // namespace imsy::cas
