// Engine: what is behind Fetcher: reads, plans, requests, the background fill. Internal to cas.
//
//   read ---present---> answered at once
//     '---missing----> InFlight::join -> plan (worker): present now? copy from another object?
//                        else its frame -> request -> Sources says which place, or to wait
//                        ... Arrival (the place's thread): frames, each as its last byte comes
//                        -> workers: decode, verify, put, answer who waits
//   fill --------------> step (worker, one per image at a time): frames in their order; what lacks
//                        is copied, or requested in large ranges -> the same way
//
// A frame that a request is to bring is claimed in ImageState::frames until it is processed, so
// that no other request asks for it; its chunks are carried in InFlight, so that everybody joins.
// It is shared with the callbacks that sources hold, because those may come after the fetcher is
// gone; stop() cuts everything else.
// Threads: all public methods from any thread; none waits for the network. docs/threads.md,
// docs/locks.md: no mutex is held while another one is taken, a file is touched or a callback runs.
#pragma once

#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "cas/fetch_types.h"
#include "cas/in_flight.h"
#include "cas/object_cache.h"
#include "cas/work_queue.h"
#include "common/thread_pool.h"

namespace imsy::cas {

using ImagePtr = std::shared_ptr<ImageState>;
using RequestPtr = std::shared_ptr<Request>;
using ReadPtr = std::shared_ptr<PendingRead>;

class Engine : public std::enable_shared_from_this<Engine> {
 public:
  Engine(Store& store, const FetcherOptions& options);

  ImagePtr attach(std::shared_ptr<const cdc::Manifest> manifest, const cdc::Anchor& anchor,
                  Places places, const std::string& trust_domain, Locate locate);
  void detach(const ImagePtr& image);

  std::uint64_t read(const ImagePtr& image, std::uint32_t object, std::uint64_t offset,
                     std::uint32_t length, Image::ReadDone done);
  void cancel(std::uint64_t read);
  void fill(const ImagePtr& image, std::function<void(Status)> done);
  void prefetch(const ImagePtr& image, std::vector<std::uint32_t> chunks);

  // Ends the threads, then everything that is open with kCancelled. The store is not used any more
  // then. Not from a thread of the fetcher.
  void stop();

  // What a place sends; on its thread (cas/arrival.h).
  void bytes_came(Dispatch::Id id, const Request& request, std::uint64_t bytes);
  void bytes_were_useless(std::uint64_t between, std::uint64_t unfinished);
  void frame_came(const RequestPtr& request, std::uint32_t frame, Bytes stored);
  void wire_ended(Dispatch::Id id, const RequestPtr& request, std::vector<std::uint32_t> missing,
                  const Status& status);

  FetchStats stats() const { return counters_.read(); }
  bool keeps_nothing() const { return put_failing_; }

 private:
  enum class Got { kPresent, kCopied, kFetched };  // how a chunk's bytes were come by
  struct Missing {  // a part of a read that lies in a chunk that is not present
    std::uint32_t chunk = 0;
    std::size_t from = 0;
    std::size_t to = 0;
    std::size_t length = 0;
  };

  // --- images, reads, chunks: engine.cc
  std::uint32_t domain_number(const std::string& trust_domain);
  void submit(Urgency urgency, void (Engine::*step)(const ImagePtr&), const ImagePtr& image);
  Result<std::shared_ptr<Object>> open_object(const ImageState& image, std::uint32_t object) {
    return objects_.open(*image.manifest, object, image.trust_domain());
  }
  std::vector<Missing> read_present(const ImageState& image, std::uint32_t object,
                                    std::uint64_t offset, Bytes& buffer);
  std::uint64_t wait_for(const ImagePtr& image, Bytes buffer, const std::vector<Missing>& missing,
                         Image::ReadDone done);
  void end_read(const ReadPtr& read, Result<Bytes> result);
  void end_read_later(const ReadPtr& read, const Error& error);
  void settle(const InFlight::Outcome& outcome, const Error& error);
  enum class As { kFirst, kHelper };  // who was the first to want it, or takes it over
  void plan(const ImagePtr& image, const std::vector<std::uint32_t>& chunks, As as);
  bool find_locally(const ImagePtr& image, std::uint32_t chunk);
  // What became of bytes that were taken for a chunk's.
  enum class Fate { kWrong, kKept, kNotKept };
  // Puts the chunk where it belongs and wherever else it is wanted, and answers who waits for it.
  // `trust_domain`: whose bytes they are.
  Fate deliver(const ImagePtr& image, std::uint32_t chunk, ByteSpan raw, Got got,
               const std::string& trust_domain);
  // Into the image's object, for those whose bytes they are and for those who may read the image.
  Status put(ImageState& image, std::uint32_t chunk, ByteSpan raw, const std::string& trust_domain);
  Status put_as(ImageState& image, std::uint32_t chunk, ByteSpan raw,
                const std::string& trust_domain);
  void note_put(const Status& status);
  void count(ImageState& image, Got got, std::size_t bytes);

  // --- requests: engine_requests.cc
  std::vector<RequestPtr> claim(const ImagePtr& image, std::vector<std::uint32_t> frames,
                                std::uint64_t gap, std::uint64_t span, Purpose purpose)
      IMSY_REQUIRES(image->mu);
  void request_chunks(const ImagePtr& image, const std::vector<std::uint32_t>& chunks);
  void enqueue(const RequestPtr& request);
  struct Turn {
    RequestPtr request;  // null: none has its turn
    Sources::Step step;
    std::vector<RequestPtr> waiting;  // from now on
    std::optional<Error> outage;      // has just begun, or goes on
  };
  Turn next_turn(const ImagePtr& image);
  void pump(const ImagePtr& image);
  void wake(const ImagePtr& image);
  void wake_at(const ImagePtr& image, Sources::Time when);
  void let_others_try(const Request& request);
  void on_outage(const ImagePtr& image, const Error& error);
  void locate(const ImagePtr& image);
  bool is_awaited(const ImageState& image, std::uint32_t frame);
  bool is_awaited(const Request& request);
  void carry(const Request& request);
  void ask(const RequestPtr& request);
  void plan_prefetch(const ImagePtr& image, std::vector<std::uint32_t> chunks);
  void ask_for_startup(const RequestPtr& request);

  // --- on the wire: engine_wires.cc
  void want(const RequestPtr& request, const std::shared_ptr<BlobSource>& place);
  void move_wires();
  void wires_changed();
  void transmit(const RequestPtr& request, const std::shared_ptr<BlobSource>& place);
  void hurry(const ImageState& image, const std::vector<std::uint32_t>& chunks);
  bool comes_late(Dispatch::Id id, const Request& request, const WantKeys& keys)
      IMSY_REQUIRES(wires_mu_);
  void forget_wire(const Request& request);
  void cancel_wires(const ImageState* image);

  // --- what comes of them: engine_arrivals.cc
  void on_failure(const RequestPtr& request, const Error& error);
  void on_break(const RequestPtr& request, const std::vector<std::uint32_t>& missing);
  void note_answer(const RequestPtr& request);
  void take_frame(const RequestPtr& request, std::uint32_t frame, ByteSpan stored);
  std::vector<std::uint32_t> lacking(const ImageState& image, std::uint32_t frame);
  void on_wrong_bytes(const RequestPtr& request, std::uint32_t frame,
                      const std::vector<std::uint32_t>& chunks, const std::string& why);
  void drop(const RequestPtr& request);
  void fail(const RequestPtr& request, const Error& error);
  // The frame is not on its way any more. Who still waits for its chunks is served anew or told.
  void release_frame(const ImagePtr& image, std::uint32_t frame, InFlight::Why why,
                     const Error& error);
  void release_frames(const Request& request, InFlight::Why why, const Error& error);
  void frames_over(const RequestPtr& request, std::size_t count);

  // --- the background fill: engine_fill.cc
  void begin_fill(const ImagePtr& image);
  static void look_at_all(ImageState& image);
  void advance_fill(const ImagePtr& image);
  void pump_fill();
  void step_fill(const ImagePtr& image);
  RequestPtr next_request(const ImagePtr& image);
  Status can_keep(const Request& request);
  void ask_for_fill(const RequestPtr& request);
  bool is_held(const ImagePtr& image);
  void repair_for_fill(const RequestPtr& request);
  void drop_for_fill(const RequestPtr& request);
  void fail_for_fill(const RequestPtr& request, const Error& error);
  void fill_request_over(const RequestPtr& request);
  void fill_failed(const ImagePtr& image, std::uint32_t frame, const Error& error);
  void log_fill_failing(ImageState& image, const Error& error);
  void fill_worked(const ImagePtr& image);
  void free_fill_slot();
  void rest_fill(const ImagePtr& image);
  void go_on_after(const ImagePtr& image, std::chrono::milliseconds pause);
  void end_pass(const ImagePtr& image);
  void mark_resident(const ImagePtr& image);
  void end_fill(const ImagePtr& image, const Status& status);

  // --- what need not be fetched: engine_lookup.cc
  bool needs_fetch(const ImagePtr& image, std::uint32_t frame, std::uint64_t& copied);
  std::uint64_t brought_by_others(const ImageState& image) const;
  void look_up_all(ImageState& image);
  std::vector<bool> look_up(const ImageState& image, const std::vector<std::uint32_t>& chunks);
  std::vector<std::uint32_t> fill_lacks(const ImagePtr& image, std::uint32_t frame);
  bool copy_chunks(const ImagePtr& image, const std::vector<std::uint32_t>& chunks,
                   std::uint64_t& copied);
  bool object_complete(const ImagePtr& image, std::uint32_t object);

  // Constant after construction.
  Store& store_;
  const FetcherOptions options_;

  // Synchronise themselves.
  std::atomic<bool> stopped_{false};
  std::atomic<bool> put_failing_{false};  // so that a full disk is logged once
  std::atomic<std::uint64_t> last_read_{0};
  std::atomic<Sources::Time> readers_seen_{};  // that waited for a place
  Counters counters_;
  ObjectCache objects_;
  InFlight in_flight_;

  Mutex images_mu_;
  std::unordered_set<ImagePtr> images_ IMSY_GUARDED_BY(images_mu_);  // attached
  std::map<std::string, std::uint32_t> domains_ IMSY_GUARDED_BY(images_mu_);

  Mutex reads_mu_;
  std::unordered_map<std::uint64_t, ReadPtr> reads_ IMSY_GUARDED_BY(reads_mu_);  // not over

  // A request that waits for its turn on the wire, or that a place has not answered.
  struct Wire {
    // Adds how to cancel it, unless the place has not taken it yet.
    void end(std::vector<BlobSource::Cancel>& cancels) {
      unwanted = true;
      if (cancel) cancels.push_back(std::exchange(cancel, nullptr));
    }
    RequestPtr request;
    std::shared_ptr<BlobSource> place;    // until it has been asked
    BlobSource::Cancel cancel = nullptr;  // once it has been
    bool unwanted = false;
  };
  Mutex wires_mu_;
  Dispatch dispatch_ IMSY_GUARDED_BY(wires_mu_);
  std::unordered_map<Dispatch::Id, Wire> wires_ IMSY_GUARDED_BY(wires_mu_);
  Dispatch::Time wires_wake_at_ IMSY_GUARDED_BY(wires_mu_) = Dispatch::Time::max();

  Mutex fill_mu_;
  std::deque<ImagePtr> fill_line_ IMSY_GUARDED_BY(fill_mu_);  // images whose fill wants a slot
  int fill_slots_ IMSY_GUARDED_BY(fill_mu_);  // free; repairs take more than there are

  std::unique_ptr<ThreadPool> sync_;  // waits for syncs of the disk, so that no worker has to
  WorkQueue work_;                    // last: its threads use all of the above
};

}  // namespace imsy::cas
