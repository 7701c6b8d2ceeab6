// InFlight: the chunks that somebody waits for or that are on their way: the one target where equal
// work is joined.
//
// A chunk is known by its digest and the trust domain it is fetched for. It has waiters (parts of
// reads), targets (objects that want its bytes) and carriers: the images whose plan or request is
// to bring it. The first who asks becomes the carrier, the others join. When a carrier gives up, an
// image that waits and was not tried takes over; only when there is none do the waiters fail.
//
// Threads: all methods from any thread; none waits. Nothing else is locked under its mutex.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "cas/fetch_types.h"
#include "common/mutex.h"

namespace imsy::cas {

class InFlight {
 public:
  // A read waits for the chunk. True: nobody is on it, and the caller must plan for waiter.target.
  bool join(const WantKey& key, Waiter waiter);
  // The chunk's bytes are wanted for `target`, too, where nobody waits. False: nobody is on it.
  bool add_target(const WantKey& key, const Target& target);
  // The read gives up.
  void leave(const WantKey& key, const PendingRead* read);

  // A request of `image` is going to bring the chunk, wanted or not.
  void carry(const WantKey& key, const ImageState* image);
  // Whether another image is on it, too: then `image` is no more.
  bool leave_to_others(const WantKey& key, const ImageState* image);
  // Whether a read waits for the chunk.
  bool is_awaited(const WantKey& key);
  // Whether anybody wants its bytes: a read, or an object.
  bool is_wanted(const WantKey& key);

  // The chunk is here. While there are targets, gives those and expects another call when they have
  // it; then gives the waiters and forgets the chunk. So whoever finds no entry finds the chunk.
  struct Delivery {
    std::vector<Target> targets;
    std::vector<Waiter> waiters;
    bool over = false;
  };
  // With `only`, all this is for what that image wants of it: the bytes are not for the others,
  // whom give_up() serves.
  Delivery take(const WantKey& key, const ImageState* only = nullptr);

  // `image` does not bring the chunk after all.
  enum class Why {
    kDone,    // its request is over; whoever still waits may ask it again
    kFailed,  // asking it again is no use to those who wait now
    kTrying,  // it goes on trying; others who wait should try, too
  };
  struct Outcome {
    std::vector<Waiter> failed;   // have nobody left to wait for
    std::vector<Target> restart;  // images that have become carriers: plan for them
  };
  Outcome give_up(const WantKey& key, const ImageState* image, Why why);

  // Forgets all.
  void clear();
  std::size_t size();

 private:
  struct Want {
    std::vector<Waiter> waiters;
    std::vector<Target> targets;
    std::vector<const ImageState*> carriers;
    std::vector<const ImageState*> failed;
  };
  using Table = std::unordered_map<WantKey, Want, WantKeyHash>;
  void find_help(Want& want, Outcome& outcome) IMSY_REQUIRES(mu_);

  Mutex mu_;
  Table table_ IMSY_GUARDED_BY(mu_);
};

}  // namespace imsy::cas
