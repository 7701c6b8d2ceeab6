#include "cli/fsck.h"

#include <fmt/format.h>
#include <unistd.h>
#include <CLI/CLI.hpp>

#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/stat.h"
#include "cli/text.h"
#include "common/log.h"

namespace imsy::cli {
namespace {

namespace api = control::v1;
using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kShowEvery{200};

// Writes what a check reports, for people or for programs.
class Report {
 public:
  Report(const FsckOptions& options, std::ostream& out, std::ostream* progress)
      : options_(options), out_(out), progress_(progress) {
    if (options_.json) out_ << "{\"findings\": [";
  }

  void finding(const cas::Finding& found) {
    clear_line();
    if (!options_.json) {
      out_ << log::printable(found.where + ": " + found.what + "; " + found.remedy) << '\n';
      return;
    }
    nlohmann::ordered_json json = {{"where", found.where},
                                   {"what", log::printable(found.what)},
                                   {"remedy", log::printable(found.remedy)},
                                   {"repaired", found.mended},
                                   {"images", nlohmann::ordered_json::array()}};
    for (const Digest& image : found.images) json["images"].push_back(image.to_string());
    out_ << (first_ ? "\n" : ",\n") << "  " << json.dump();
    first_ = false;
  }

  void progress(std::uint64_t objects, std::uint64_t bytes, unsigned to_fill) {
    if (progress_ == nullptr || Clock::now() < next_) return;
    next_ = Clock::now() + kShowEvery;
    std::string line = fmt::format("checked {} objects, {}", objects, human_bytes(bytes));
    if (to_fill > 0) {
      line = fmt::format("waiting for {} images to be whole again (the daemon goes on without us)",
                         to_fill);
    }
    *progress_ << '\r' << line << "\x1b[K" << std::flush;
    line_open_ = true;
  }

  // `left`: what is still to be fetched, and when that happens; or "".
  Status end(const cas::CheckSummary& summary, const std::string& left) {
    clear_line();
    if (options_.json) {
      const nlohmann::ordered_json sums = {{"images", summary.images},
                                           {"objects", summary.objects},
                                           {"bytes_read", summary.bytes},
                                           {"found", summary.findings},
                                           {"repaired", summary.mended}};
      out_ << (first_ ? "" : "\n") << "], " << sums.dump().substr(1) << '\n';
    } else {
      out_ << fmt::format("checked {} images and {} objects, read {}: {} findings, {} repaired\n",
                          summary.images, summary.objects, human_bytes(summary.bytes),
                          summary.findings, summary.mended);
      if (!left.empty()) out_ << left << '\n';
    }
    if (summary.findings == summary.mended) return {};
    return Error(Errc::kCorrupt,
                 fmt::format("{} of {} findings are not repaired{}",
                             summary.findings - summary.mended, summary.findings,
                             options_.repair ? "" : "; imsy fsck --repair mends what can be"));
  }

 private:
  void clear_line() {
    if (line_open_) *progress_ << "\r\x1b[K" << std::flush;
    line_open_ = false;
  }

  const FsckOptions& options_;
  std::ostream& out_;
  std::ostream* const progress_;
  Clock::time_point next_ = Clock::time_point::min();
  bool first_ = true;
  bool line_open_ = false;
};

Status check_directly(cas::Store& store, const FsckOptions& options, Report& report,
                      const std::stop_token& stop) {
  IMSY_TRY_ASSIGN(
      const auto summary,
      store.check(
          {.read_data = options.read_data,
           .repair = options.repair,
           // The next start of imsy-snapshotter finds it damaged, and does it.
           .fetch_manifest = [](const Digest&) { return Status(); }},
          {.finding = [&](const cas::Finding& finding) { report.finding(finding); },
           .progress = [&](const auto&,
                           const auto& done) { report.progress(done.objects, done.bytes, 0); }},
          stop));
  return report.end(summary, summary.mended == 0 ? ""
                                                 : "imsy-snapshotter is not running: what is "
                                                   "missing now is fetched after its next start");
}

cas::Finding finding_of(const api::Finding& from) {
  cas::Finding finding{.where = from.where(),
                       .what = from.what(),
                       .remedy = from.remedy(),
                       .mended = from.repaired()};
  for (const std::string& image : from.images()) {
    if (const auto digest = Digest::parse(image)) finding.images.push_back(*digest);
  }
  return finding;
}

Status check_through_daemon(const FsckOptions& options, Report& report,
                            const std::stop_token& stop) {
  IMSY_TRY_ASSIGN(ControlClient daemon, ControlClient::connect(options.state, options.root));
  api::CheckRequest request;
  request.set_read_data(options.read_data);
  request.set_repair(options.repair);
  api::Summary sums;
  const auto take = [&](const api::CheckResponse& response) {
    if (response.has_finding()) report.finding(finding_of(response.finding()));
    if (response.has_summary()) sums = response.summary();
    if (!response.has_progress()) return;
    const api::Progress& progress = response.progress();
    report.progress(progress.objects(), progress.bytes(), progress.images_to_fill());
  };
  IMSY_TRY(daemon.check(request, take, stop));
  return report.end({.images = sums.images(),
                     .objects = sums.objects(),
                     .bytes = sums.bytes(),
                     .findings = sums.findings(),
                     .mended = sums.repaired()},
                    sums.left_to_readers()
                        ? "background_fill is off: what is missing now is fetched when it is read"
                        : "");
}

}  // namespace

Status fsck(const FsckOptions& options, std::ostream& out, std::ostream* progress,
            const std::stop_token& stop) {
  const auto store = open_idle_store(options.root);
  const bool in_use = !store && store.error().code() == Errc::kUnavailable;
  if (!store && !in_use) return store.error();
  Report report(options, out, progress);
  return in_use ? check_through_daemon(options, report, stop)
                : check_directly(**store, options, report, stop);
}

void add_fsck_command(CLI::App& app, std::ostream& out, std::ostream& err,
                      const std::stop_token& stop, Status& outcome) {
  const auto options = std::make_shared<FsckOptions>();
  CLI::App* const command =
      app.add_subcommand("fsck", "Check the store of an imsy-snapshotter, running or not.");
  command->add_option("--root", options->root, "root directory of imsy-snapshotter")
      ->capture_default_str();
  command->add_option("--state", options->state, "its state directory, while it is running")
      ->capture_default_str();
  command->add_flag("--read-data", options->read_data, "read and hash all contents");
  command->add_flag("--repair", options->repair, "mend what is found; fetch what is bad again");
  command->add_flag("--json", options->json, "for programs");
  command->callback([options, &out, &err, &stop, &outcome] {
    outcome = fsck(*options, out, ::isatty(STDERR_FILENO) == 1 ? &err : nullptr, stop);
  });
}

}  // namespace imsy::cli
