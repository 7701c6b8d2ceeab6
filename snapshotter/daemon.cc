#include "snapshotter/daemon.h"

#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <system_error>

#include "common/io.h"
#include "common/log.h"
#include "snapshotter/control.h"
#include "snapshotter/cri_proxy.h"
#include "snapshotter/node.h"
#include "snapshotter/notify.h"
#include "snapshotter/own_directory.h"
#include "snapshotter/server.h"
#include "snapshotter/service.h"
#include "snapshotter/snapshotter.h"
#include "snapshotter/socket.h"

namespace imsy::snapshotter {
namespace {

// Calls that are under way when we are told to stop.
constexpr std::chrono::seconds kStopPatience{5};

// Signals end the daemon through sigtimedwait, so every thread must block them from the start.
sigset_t block_stop_signals() {
  std::signal(SIGPIPE, SIG_IGN);
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
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

Status note_boot(Database& database) {
  IMSY_TRY_ASSIGN(const Bytes id, read_file("/proc/sys/kernel/random/boot_id", 64));
  IMSY_TRY_ASSIGN(const bool first, database.note_boot(std::string(as_text(id))));
  if (first) log::info("first start since the machine booted");
  return {};
}

void write_stats(StatsFile& file, const Node& node) {
  const Status written = file.write(node.stats());
  if (!written) log::warn("stats are not written: {}", written.error().message());
}

}  // namespace

Status run_daemon(const DaemonOptions& options) {
  const sigset_t signals = block_stop_signals();
  set_process_limits();
  IMSY_TRY_ASSIGN(const auto root, own_directory(options.root, 0700));
  IMSY_TRY_ASSIGN(const UniqueFd root_lock, lock_directory(root));
  IMSY_TRY_ASSIGN(const auto state, own_directory(options.state, 0711));
  IMSY_TRY_ASSIGN(const UniqueFd state_lock, lock_directory(state));

  const Layout layout(root);
  IMSY_TRY(check_database_was_not_lost(layout));
  IMSY_TRY_ASSIGN(const auto database, Database::open(layout.database()));
  IMSY_TRY(note_boot(*database));
  IMSY_TRY_ASSIGN(const auto node, Node::start(layout, options.config, *database));
  IMSY_TRY_ASSIGN(const auto snapshotter, Snapshotter::open(layout, *database, node->images()));
  ServiceOptions service_options;
  service_options.prepare_timeout = options.config.prepare_timeout;
  Service service(*snapshotter, service_options);
  // Before anybody reaches us: what is there may be of the process before this one.
  StatsFile stats(state / "stats.json");
  write_stats(stats, *node);
  IMSY_TRY_ASSIGN(UniqueFd listening, listen_at(options.address));
  std::unique_ptr<CriProxy> cri;
  if (options.config.cri_image_service) {
    cri = std::make_unique<CriProxy>(options.config.containerd_address, node->cri_logins());
  }
  IMSY_TRY_ASSIGN(const auto server, Server::start(std::move(listening), service, cri.get()));
  Control control(*node, root);
  IMSY_TRY_ASSIGN(UniqueFd control_socket, listen_at(state / "control.sock"));
  IMSY_TRY_ASSIGN(const auto control_server, Server::start(std::move(control_socket), control));
  log::info("serving {} at {}", root.string(), options.address.string());
  notify_service_manager("READY=1");

  int signal = 0;
  while (signal <= 0) {
    write_stats(stats, *node);
    node->maintain();
    const timespec second = {1, 0};
    signal = sigtimedwait(&signals, nullptr, &second);
  }
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
