#include "snapshotter/daemon.h"

#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "common/io.h"
#include "common/log.h"
#include "common/thread_pool.h"
#include "snapshotter/calls.h"
#include "snapshotter/control.h"
#include "snapshotter/cri_proxy.h"
#include "snapshotter/monitor.h"
#include "snapshotter/node.h"
#include "snapshotter/notify.h"
#include "snapshotter/own_directory.h"
#include "snapshotter/privileges.h"
#include "snapshotter/server.h"
#include "snapshotter/service.h"
#include "snapshotter/snapshotter.h"
#include "snapshotter/socket.h"
#include "snapshotter/surroundings.h"

namespace imsy::snapshotter {
namespace {

// Calls that are under way when we are told to stop.
constexpr std::chrono::seconds kStopPatience{5};

// Signals reach the daemon through sigtimedwait, so every thread must block them from the start.
sigset_t block_signals() {
  std::signal(SIGPIPE, SIG_IGN);
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  return signals;
}

// One descriptor per open object adds up; and memory holds credentials, so no core files.
void set_process_limits() {
  umask(0077);
  rlimit files = {};
  if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
    files.rlim_cur = files.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &files) != 0) {
      log::warn("the limit of open files stays low: {}", std::strerror(errno));
    }
  }
  const rlimit none = {0, 0};
  if (setrlimit(RLIMIT_CORE, &none) != 0 || prctl(PR_SET_DUMPABLE, 0) != 0) {
    log::warn("core dumps stay possible: {}", std::strerror(errno));
  }
}

void give_up_privileges() {
  const Status reduced = reduce_privileges();
  if (reduced) return;
  log::warn("the daemon keeps more privileges than it needs: {}", reduced.error().message());
}

// A database that is made anew knows no snapshot, so that all their directories would be deleted.
Status check_database_was_not_lost(const Layout& layout) {
  std::error_code missing;
  const auto size = std::filesystem::file_size(layout.database(), missing);
  std::error_code none;
  const bool has_snapshots = !std::filesystem::is_empty(layout.snapshots(), none) && !none;
  if (!has_snapshots || (!missing && size > 0)) return {};
  return Error(Errc::kFailedPrecondition,
               layout.database().string() + " is lost, but there are snapshots in " +
                   layout.snapshots().string() +
                   ": restore it from a copy, or move the whole root away and remove the "
                   "snapshotter's images from containerd");
}

// The running kernel's boot id.
Result<std::string> note_boot(Database& database) {
  IMSY_TRY_ASSIGN(const Bytes bytes, read_file("/proc/sys/kernel/random/boot_id", 64));
  std::string id(as_text(bytes));
  IMSY_TRY_ASSIGN(const bool first, database.note_boot(id));
  if (first) log::info("first start since the machine booted");
  return id;
}

void write_advice(const Surroundings& seen) {
  for (const std::string& fact : seen.facts) log::info("{}", fact);
  for (const Advice& advice : seen.advice) log::warn("{}: {}", advice.what, advice.remedy);
}

// Writes down what may be wrong with containerd, as soon as it runs: it may start after us.
class ContainerdCheck {
 public:
  ContainerdCheck(const DaemonOptions& options, const Layout& layout, Containerd& containerd)
      : options_(options), layout_(layout), containerd_(containerd) {
    thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
  }

  Surroundings look() const {
    return look_at_containerd(options_.config, options_.address, layout_.mount_point(), containerd_,
                              std::chrono::steady_clock::now() + kAnswerLimit);
  }

 private:
  void run(const std::stop_token& stop) {
    name_this_thread("containerd");
    const auto runs = [this] {
      return options_.config.containerd_address.empty() ||
             containerd_.version(std::chrono::steady_clock::now() + kAnswerLimit).has_value();
    };
    while (!runs()) {
      wait_until(std::chrono::steady_clock::now() + kAskAgain, stop);
      if (stop.stop_requested()) return;
    }
    write_advice(look());
  }

  static constexpr std::chrono::seconds kAnswerLimit{2};
  static constexpr std::chrono::seconds kAskAgain{5};
  const DaemonOptions& options_;
  const Layout& layout_;
  Containerd& containerd_;
  std::jthread thread_;
};

void write_stats(StatsFile& file, const Node& node) {
  const Status written = file.write(node.stats());
  if (!written) log::warn("stats are not written: {}", written.error().message());
}

// As systemd wants to know when a reload began.
std::string monotonic_microseconds() {
  timespec now = {};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return std::to_string(now.tv_sec * 1'000'000 + now.tv_nsec / 1'000);
}

Health health_of(const Node& node, const Database& database) {
  Health health = node.health();
  if (database.is_broken()) {
    health.broken.push_back(
        "a change could not be written to the database, and no more is "
        "accepted: check the disk, then restart");
  }
  return health;
}

// Null: it is not wanted, or cannot be had. Containers do not depend on it, so that is no reason to
// end.
std::unique_ptr<Monitor> start_monitor(const std::string& address, const Monitor::Parts& parts) {
  if (address.empty()) return nullptr;
  auto monitor = Monitor::start(address, parts);
  if (monitor) return std::move(*monitor);
  log::error("no metrics and health: {}", monitor.error().message());
  return nullptr;
}

// Takes over what the configuration says now.
void reload(const DaemonOptions& options, Node& node, Service& service) {
  notify_service_manager("RELOADING=1\nMONOTONIC_USEC=" + monotonic_microseconds());
  const auto read = options.reload();
  if (!read) {
    log::error("the configuration stays as it was: {}", read.error().message());
  } else {
    const Status level = log::configure(read->log_level);
    if (!level) log::error("the log level stays: {}", level.error().message());
    service.set_prepare_timeout(read->prepare_timeout);
    node.configure(*read);
    log::info("the configuration was read again");
    for (const std::string& key : needs_restart(options.config, *read)) {
      log::warn("{} has changed: that takes effect with the next restart", key);
    }
  }
  notify_service_manager("READY=1");
}

// SIGTERM or SIGINT, when it comes.
int wait_for_stop(const sigset_t& signals, const std::function<void()>& every_second,
                  const std::function<void()>& on_hangup) {
  while (true) {
    every_second();
    const timespec second = {1, 0};
    const int signal = sigtimedwait(&signals, nullptr, &second);
    if (signal == SIGTERM || signal == SIGINT) return signal;
    if (signal == SIGHUP) on_hangup();
  }
}

}  // namespace

Status run_daemon(const DaemonOptions& options) {
  const sigset_t signals = block_signals();
  // Descriptors are handed over from 3 on: before others are opened.
  IMSY_TRY_ASSIGN(UniqueFd listening, inherited_socket(options.address));
  set_process_limits();
  if (options.config.reduce_privileges) give_up_privileges();
  IMSY_TRY_ASSIGN(const auto root, own_directory(options.root, 0700));
  IMSY_TRY_ASSIGN(const UniqueFd root_lock, lock_directory(root));
  IMSY_TRY_ASSIGN(const auto state, own_directory(options.state, 0711));
  IMSY_TRY_ASSIGN(const UniqueFd state_lock, lock_directory(state));

  const Layout layout(root);
  IMSY_TRY(check_database_was_not_lost(layout));
  IMSY_TRY_ASSIGN(const auto database, Database::open(layout.database()));
  IMSY_TRY_ASSIGN(const std::string boot_id, note_boot(*database));
  IMSY_TRY_ASSIGN(const auto node, Node::start(layout, options.config, *database));
  IMSY_TRY_ASSIGN(const auto snapshotter,
                  Snapshotter::open(layout, *database, node->images(),
                                    {options.config.volatile_containers, boot_id}));
  ServiceOptions service_options;
  service_options.prepare_timeout = options.config.prepare_timeout;
  Calls calls;
  Service service(*snapshotter, calls, service_options);
  // Before anybody reaches us: what is there may be of the process before this one.
  StatsFile stats(state / "stats.json");
  write_stats(stats, *node);
  const auto monitor = start_monitor(options.config.metrics_address, {*node, *database, calls});
  if (!listening) {
    IMSY_TRY_ASSIGN(listening, listen_at(options.address));
  }
  std::unique_ptr<CriProxy> cri;
  if (options.config.cri_image_service) {
    cri = std::make_unique<CriProxy>(options.config.containerd_address, node->cri_logins());
  }
  IMSY_TRY_ASSIGN(const auto server, Server::start(std::move(listening), service, cri.get()));
  write_advice(look_at_kernel(layout));
  const ContainerdCheck containerd(options, layout, node->containerd());
  const auto look_around = [&] { return look_at_kernel(layout).with(containerd.look()); };
  Control control(
      {*node, *snapshotter, layout, look_around, [&] { return health_of(*node, *database); }});
  IMSY_TRY_ASSIGN(UniqueFd control_socket, listen_at(state / "control.sock"));
  IMSY_TRY_ASSIGN(const auto control_server, Server::start(std::move(control_socket), control));
  log::info("serving {} at {}", root.string(), options.address.string());
  notify_service_manager("READY=1");

  const auto every_second = [&] {
    write_stats(stats, *node);
    node->maintain();
    if (monitor != nullptr) monitor->note(health_of(*node, *database));
  };
  const int signal = wait_for_stop(signals, every_second, [&] { reload(options, *node, service); });
  log::info("stopping on signal {}", strsignal(signal));
  notify_service_manager("STOPPING=1");
  write_stats(stats, *node);
  // A Prepare that waits for a registry ends with an error, and containerd tries again.
  control.stop();
  node->stop();
  server->stop(kStopPatience);
  control_server->stop(kStopPatience);
  return {};
}

}  // namespace imsy::snapshotter
