#include "snapshotter/metrics.h"

#include <prometheus/text_serializer.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <iterator>
#include <sstream>
#include <string_view>
#include <utility>

#include "common/io.h"

namespace imsy::snapshotter {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

constexpr std::uint64_t kProcFileLimit = 64 << 10;

// One metric with all its label values.
class Metric {
 public:
  Metric(std::string name, std::string help, MetricType type) {
    family_.name = std::move(name);
    family_.help = std::move(help);
    family_.type = type;
  }

  Metric& add(double value, std::vector<ClientMetric::Label> labels = {}) {
    ClientMetric metric;
    metric.label = std::move(labels);
    metric.counter.value = value;
    metric.gauge.value = value;
    family_.metric.push_back(std::move(metric));
    return *this;
  }
  Metric& add(std::uint64_t value, std::vector<ClientMetric::Label> labels = {}) {
    return add(static_cast<double>(value), std::move(labels));
  }
  MetricFamily take() { return std::move(family_); }

 private:
  MetricFamily family_;
};

Metric counter(std::string name, std::string help) {
  return {std::move(name), std::move(help), MetricType::Counter};
}
Metric gauge(std::string name, std::string help) {
  return {std::move(name), std::move(help), MetricType::Gauge};
}

void add_traffic(std::vector<MetricFamily>& to, const Stats& stats) {
  Metric bytes =
      counter("imsy_fetched_bytes_total", "Bytes received from registries, HTTP headers included.");
  Metric requests = counter("imsy_requests_total", "HTTP requests.");
  for (const auto& [place, purposes] : stats.traffic) {
    for (const auto& [purpose, sum] : purposes) {
      const std::vector<ClientMetric::Label> labels = {{"place", place},
                                                       {"purpose", std::string(name_of(purpose))}};
      bytes.add(sum.bytes, labels);
      requests.add(sum.requests, labels);
    }
  }
  to.push_back(bytes.take());
  to.push_back(requests.take());
  to.push_back(counter("imsy_copied_bytes_total", "Bytes taken from other files of the store.")
                   .add(stats.bytes_copied)
                   .take());
  to.push_back(counter("imsy_fetched_chunks_total", "Chunks received and verified.")
                   .add(stats.chunks_fetched)
                   .take());
  to.push_back(counter("imsy_useless_bytes_total", "Bytes of content received that were of no use.")
                   .add(stats.bytes_gap, {{"reason", "gap"}})
                   .add(stats.bytes_broken, {{"reason", "broken"}})
                   .add(stats.bytes_wrong, {{"reason", "wrong"}})
                   .take());
}

void add_node(std::vector<MetricFamily>& to, const Numbers& numbers) {
  const auto resident = static_cast<std::uint64_t>(std::ranges::count_if(
      numbers.stats.images, [](const auto& image) { return image.resident; }));
  to.push_back(
      gauge("imsy_images", "Images in the lazy tree, and whether the store has all of them.")
          .add(resident, {{"resident", "true"}})
          .add(numbers.stats.images.size() - resident, {{"resident", "false"}})
          .take());
  Metric snapshots = gauge("imsy_snapshots", "Snapshots, as containerd sees them.");
  constexpr std::array<std::pair<Kind, const char*>, 3> kKinds = {
      {{Kind::kView, "view"}, {Kind::kActive, "active"}, {Kind::kCommitted, "committed"}}};
  for (const auto& [kind, name] : kKinds) {
    const auto found = numbers.snapshots.find(kind);
    snapshots.add(found == numbers.snapshots.end() ? 0 : found->second, {{"kind", name}});
  }
  to.push_back(snapshots.take());
  to.push_back(counter("imsy_tree_requests_total", "Requests of the kernel to the lazy tree.")
                   .add(numbers.tree.requests)
                   .take());
  to.push_back(counter("imsy_tree_reads_total", "Reads of the lazy tree answered with content.")
                   .add(numbers.tree.reads)
                   .take());
  to.push_back(counter("imsy_tree_read_bytes_total", "Bytes that these reads were answered with.")
                   .add(numbers.tree.read_bytes)
                   .take());
  to.push_back(counter("imsy_tree_errors_total", "Requests to the lazy tree answered with EIO.")
                   .add(numbers.tree.eio)
                   .take());
  to.push_back(gauge("imsy_tree_waiting_reads", "Reads of the lazy tree without an answer yet.")
                   .add(numbers.tree.waiting_reads)
                   .take());
  to.push_back(
      gauge("imsy_disk_bytes", "Size of the store's file system.").add(numbers.disk_bytes).take());
  to.push_back(gauge("imsy_disk_free_bytes", "Free space of the store's file system.")
                   .add(numbers.disk_free_bytes)
                   .take());
  to.push_back(gauge("imsy_healthy", "1 unless /healthz says that something is broken.")
                   .add(numbers.healthy ? 1.0 : 0.0)
                   .take());
  to.push_back(gauge("imsy_build_info", "Always 1; its label is the program's version.")
                   .add(1.0, {{"version", numbers.version}})
                   .take());
}

// The names that all of Prometheus' libraries use.
void add_process(std::vector<MetricFamily>& to, const ProcessNumbers& process) {
  to.push_back(
      counter("process_cpu_seconds_total", "Processor time used.").add(process.cpu_seconds).take());
  to.push_back(gauge("process_start_time_seconds", "When it started, in seconds since 1970.")
                   .add(process.start_time)
                   .take());
  to.push_back(
      gauge("process_resident_memory_bytes", "Memory in use.").add(process.resident_bytes).take());
  to.push_back(gauge("process_threads", "Threads.").add(process.threads).take());
  to.push_back(gauge("process_open_fds", "Open descriptors.").add(process.open_files).take());
  to.push_back(gauge("process_max_fds", "How many descriptors it may have open.")
                   .add(process.open_files_max)
                   .take());
}

// The fields of /proc/self/stat behind the program's name, which may have any characters.
Result<std::vector<std::string>> read_stat_fields() {
  IMSY_TRY_ASSIGN(const Bytes bytes, read_file("/proc/self/stat", kProcFileLimit));
  const std::string_view text = as_text(bytes);
  const std::size_t name_end = text.rfind(')');
  if (name_end == std::string_view::npos) return Error(Errc::kInternal, "/proc/self/stat");
  std::istringstream fields{std::string(text.substr(name_end + 1))};
  return std::vector<std::string>(std::istream_iterator<std::string>(fields), {});
}

Result<double> read_boot_time() {
  IMSY_TRY_ASSIGN(const Bytes bytes, read_file("/proc/stat", 16u << 20));
  const std::string_view text = as_text(bytes);
  constexpr std::string_view kName = "\nbtime ";
  const std::size_t at = text.find(kName);
  if (at == std::string_view::npos) return Error(Errc::kInternal, "/proc/stat has no btime");
  return std::strtod(std::string(text.substr(at + kName.size(), 20)).c_str(), nullptr);
}

}  // namespace

Result<ProcessNumbers> read_process_numbers() {
  // proc_pid_stat(5), less the pid and the name: utime is 12, stime 13, num_threads 18, starttime
  // 20, rss 22, counted from 1.
  IMSY_TRY_ASSIGN(const auto fields, read_stat_fields());
  if (fields.size() < 22) return Error(Errc::kInternal, "/proc/self/stat is too short");
  const auto number = [&](std::size_t i) { return std::strtod(fields[i - 1].c_str(), nullptr); };
  const auto ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
  ProcessNumbers numbers;
  numbers.cpu_seconds = (number(12) + number(13)) / ticks;
  numbers.threads = static_cast<std::uint64_t>(number(18));
  IMSY_TRY_ASSIGN(const double booted, read_boot_time());
  numbers.start_time = booted + number(20) / ticks;
  numbers.resident_bytes =
      static_cast<std::uint64_t>(number(22)) * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  std::error_code error;
  const std::filesystem::directory_iterator files("/proc/self/fd", error);
  if (error) return Error::from_errno(error.value(), "list /proc/self/fd");
  // Less the one that lists them.
  numbers.open_files = static_cast<std::uint64_t>(std::distance(begin(files), end(files))) - 1;
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) numbers.open_files_max = limit.rlim_cur;
  return numbers;
}

std::string to_prometheus(const Numbers& numbers, std::vector<MetricFamily> more) {
  std::vector<MetricFamily> all;
  add_traffic(all, numbers.stats);
  add_node(all, numbers);
  add_process(all, numbers.process);
  std::ranges::move(more, std::back_inserter(all));
  return prometheus::TextSerializer().Serialize(all);
}

}  // namespace imsy::snapshotter
