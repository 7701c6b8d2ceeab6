#include "cli/seed/pull.h"

#include <algorithm>
#include <cstdio>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "cli/seed/fetcher.h"
#include "cli/seed/list.h"
#include "common/output.h"

namespace imsy::cli::seed {
namespace {

void count(Hits& hits, bool is_remote) {
  ++(is_remote ? hits.remote : hits.local);
}

Result<std::vector<Digest>> pull_list(const Digest& list, Fetcher& fetcher, Hits& hits) {
  const auto fetch = fetcher.start(list, kListSizeMax);
  IMSY_TRY_ASSIGN(const ByteSpan text, fetcher.take(fetch));
  count(hits, fetcher.is_remote(*fetch));
  auto chunks = parse_list(text);
  if (!chunks) return chunks.error().with_context(list.hex());
  return chunks;
}

// The chunks of a file in order, fetched a window ahead of the place where it is written.
class Window {
 public:
  Window(const std::vector<Digest>& chunks, Fetcher& fetcher)
      : chunks_(chunks), fetcher_(fetcher) {}

  bool at_end() const { return slots_.empty() && next_ == chunks_.size(); }

  // Starts what fits in. A chunk that is in the window already is not fetched twice.
  void fill() {
    while (slots_.size() < kChunksInFlight && next_ < chunks_.size()) {
      const Digest& chunk = chunks_[next_++];
      const auto same = std::find_if(slots_.begin(), slots_.end(),
                                     [&](const Slot& slot) { return slot.fetch->digest == chunk; });
      slots_.push_back(same != slots_.end() ? Slot{same->fetch, true}
                                            : Slot{fetcher_.start(chunk, kPulledChunkSizeMax)});
    }
  }

  Status write_first(ByteWriter& output, Hits& hits) {
    const Slot slot = std::move(slots_.front());
    slots_.pop_front();
    IMSY_TRY_ASSIGN(const ByteSpan data, fetcher_.take(slot.fetch));
    count(hits, !slot.is_repeated && fetcher_.is_remote(*slot.fetch));
    return output.write(data);
  }

 private:
  struct Slot {
    std::shared_ptr<Fetch> fetch;
    bool is_repeated = false;
  };
  const std::vector<Digest>& chunks_;
  Fetcher& fetcher_;
  std::size_t next_ = 0;
  std::deque<Slot> slots_;
};

}  // namespace

std::string to_string(const Hits& hits) {
  const double total = std::max(1.0, static_cast<double>(hits.local + hits.remote));
  char text[64];
  std::snprintf(text, sizeof text, "hits: %.2f%% %.2f%%",
                100 * static_cast<double>(hits.local) / total,
                100 * static_cast<double>(hits.remote) / total);
  return text;
}

Result<Hits> pull(const Digest& list, const std::string& output_path, const Directory& directory,
                  const std::string& address, EventLog& log, const std::stop_token& stop) {
  Hits hits;
  Fetcher fetcher(directory, address, log, stop);
  IMSY_TRY_ASSIGN(const auto chunks, pull_list(list, fetcher, hits));
  IMSY_TRY_ASSIGN(auto output, Output::open(output_path));
  Window window(chunks, fetcher);
  for (window.fill(); !window.at_end(); window.fill()) {
    IMSY_TRY(window.write_first(output, hits));
  }
  IMSY_TRY(output.commit());
  return hits;
}

}  // namespace imsy::cli::seed
