#include "snapshotter/scrubber.h"

#include <charconv>
#include <utility>

#include "common/io.h"
#include "common/log.h"
#include "common/thread_pool.h"
#include "snapshotter/manifest_fetch.h"

namespace imsy::snapshotter {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::hours kPassEvery{7 * 24};
constexpr std::chrono::minutes kSaveEvery{1};
constexpr std::chrono::hours kTryAgain{1};  // after an error
constexpr std::uint64_t kFileLimit = 256;
constexpr std::string_view kDone = "done";

std::int64_t seconds_now() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

void log_finding(const cas::Finding& finding) {
  log::warn("store: {}: {}; {}", finding.where, finding.what, finding.remedy);
}

}  // namespace

std::string ScrubState::to_text() const {
  return std::to_string(begun) + " " + (done ? std::string(kDone) : at.to_text()) + "\n";
}

ScrubState ScrubState::parse(std::string_view text) {
  ScrubState state;
  if (!text.ends_with('\n')) return {};
  text.remove_suffix(1);
  const char* const end = text.data() + text.size();
  const auto number = std::from_chars(text.data(), end, state.begun);
  if (number.ec != std::errc() || number.ptr == end || *number.ptr != ' ') return {};
  const std::string_view rest(number.ptr + 1, end);
  if (rest == kDone) return state;
  const auto position = cas::CheckPosition::parse(rest);
  if (!position) return {};
  state.done = false;
  state.at = *position;
  return state;
}

Scrubber::Scrubber(cas::Store& store, NodeImages& images, std::filesystem::path file,
                   std::uint64_t bytes_per_second)
    : store_(store),
      images_(images),
      file_(std::move(file)),
      bytes_per_second_(bytes_per_second),
      thread_([this](const std::stop_token& stop) { run(stop); }) {}

Scrubber::~Scrubber() {
  thread_.request_stop();
  thread_.join();
}

void Scrubber::run(const std::stop_token& stop) {
  name_this_thread("scrub");
  yield_disk_to_others();
  if (const auto text = read_file(file_, kFileLimit)) state_ = ScrubState::parse(as_text(*text));
  while (!stop.stop_requested()) {
    // A clock that was set back must not put it off for ever.
    const std::int64_t now = seconds_now();
    const std::int64_t next = std::min(state_.begun, now) +
                              std::chrono::duration_cast<std::chrono::seconds>(kPassEvery).count();
    if (state_.done && next > now) {
      wait_until(Clock::now() + std::chrono::seconds(next - now), stop);
      continue;
    }
    if (state_.done) state_ = {.begun = now, .done = false, .at = {}};
    if (pass(stop) || stop.stop_requested()) continue;
    wait_until(Clock::now() + kTryAgain, stop);
  }
}

Status Scrubber::pass(const std::stop_token& stop) {
  saved_ = Clock::now();
  const auto summary = store_.check(
      {.read_data = true,
       .repair = true,
       .bytes_per_second = bytes_per_second_,
       .fetch_manifest = [this](const Digest& image) { return images_.repair_manifest(image); },
       .from = state_.at},
      {.finding = log_finding,
       .progress =
           [this](const cas::CheckPosition& at, const cas::CheckSummary&) {
             state_.at = at;
             if (Clock::now() >= saved_ + kSaveEvery) save();
           }},
      stop);
  if (summary) {
    state_.done = true;
    log::info("the store was read through: {} objects, {} bytes, {} findings, {} of them mended",
              summary->objects, summary->bytes, summary->findings, summary->mended);
  } else if (summary.error().code() != Errc::kCancelled) {
    log::warn("the store is not read through now: {}", summary.error().message());
  }
  save();
  return summary ? Status() : Status(summary.error());
}

void Scrubber::save() {
  saved_ = Clock::now();
  const std::string text = state_.to_text();
  const auto write = [&]() -> Status {
    IMSY_TRY_ASSIGN(AtomicFile file, AtomicFile::create(file_, 0600));
    IMSY_TRY(write_all(file.fd(), as_bytes(text)));
    return file.commit(/*durable=*/false);
  };
  if (const Status written = write(); !written) {
    log::warn("how far the store was read through is not written down: {}",
              written.error().message());
  }
}

}  // namespace imsy::snapshotter
