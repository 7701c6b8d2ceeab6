#include "tests/integration/snapshotter_harness.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <spawn.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>

extern char** environ;

namespace imsy::test {
namespace {

// Far more than anything here takes; only a broken program meets it.
constexpr int kPatienceMs = 60'000;

std::string slurp(const std::filesystem::path& path) {
  std::ifstream file(path);
  if (!file) return std::string("error: ") + std::strerror(errno);
  std::stringstream text;
  text << file.rdbuf();
  if (file.bad()) return std::string("error: ") + std::strerror(errno);
  return text.str();
}

UniqueFd notification_socket(const std::filesystem::path& path) {
  std::filesystem::remove(path);
  UniqueFd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  if (bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) std::abort();
  return fd;
}

}  // namespace

SnapshotterProcess::SnapshotterProcess(const std::filesystem::path& folder,
                                       const std::string& config)
    : root(folder / "root"), state(folder / "state"), socket(folder / "s"), folder_(folder) {
  std::ofstream(folder / "config.toml") << config;
}

SnapshotterProcess::~SnapshotterProcess() {
  if (pid_ > 0) end(SIGKILL);
  // What a killed daemon leaves mounted.
  while (umount2((root / "mnt").c_str(), MNT_DETACH) == 0) {
  }
}

void SnapshotterProcess::spawn(const std::string& notify_socket,
                               const std::vector<std::string>& more) {
  std::vector<std::string> words = {IMSY_SNAPSHOTTER, "--root",   root,
                                    "--state",        state,      "--address",
                                    socket,           "--config", folder_ / "config.toml",
                                    "--log-level",    "trace"};
  words.insert(words.end(), more.begin(), more.end());
  std::string before;
  if (descriptors > 0) before += "ulimit -n " + std::to_string(descriptors) + " && ";
  if (listening >= 0) before += "export LISTEN_PID=$$ LISTEN_FDS=1 && ";
  if (!before.empty()) {
    const std::vector<std::string> shell = {"/bin/sh", "-c", before + "exec \"$0\" \"$@\""};
    words.insert(words.begin(), shell.begin(), shell.end());
  }
  std::vector<char*> arguments;
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  std::vector<char*> environment;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    if (std::strncmp(*entry, "NOTIFY_SOCKET=", 14) != 0) environment.push_back(*entry);
  }
  std::string notify = "NOTIFY_SOCKET=" + notify_socket;
  // Nothing of the machine's configuration decides about credentials.
  std::string docker = "DOCKER_CONFIG=" + (folder_ / "docker").string();
  environment.push_back(notify.data());
  environment.push_back(docker.data());
  environment.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 2, (folder_ / "log").c_str(),
                                   O_WRONLY | O_CREAT | O_APPEND, 0600);
  if (listening >= 0) posix_spawn_file_actions_adddup2(&actions, listening, 3);
  const int error = posix_spawn(&pid_, words.front().c_str(), &actions, nullptr, arguments.data(),
                                environment.data());
  posix_spawn_file_actions_destroy(&actions);
  ASSERT_EQ(error, 0) << std::strerror(error);
}

void SnapshotterProcess::start() {
  const auto path = folder_ / "notify";
  const UniqueFd fd = notification_socket(path);
  spawn(path);
  const UniqueFd process(static_cast<int>(::syscall(434 /* pidfd_open */, pid_, 0)));
  pollfd events[] = {{fd.get(), POLLIN, 0}, {process.get(), POLLIN, 0}};
  ASSERT_GT(poll(events, 2, kPatienceMs), 0) << "not ready\n" << log();
  char message[64] = {};
  ASSERT_NE(events[0].revents, 0) << "ended at start\n" << log();
  ASSERT_GT(recv(fd.get(), message, sizeof message - 1, 0), 0);
  ASSERT_STREQ(message, "READY=1");
}

Outcome SnapshotterProcess::run_to_end() {
  return run_to_end({});
}

Outcome SnapshotterProcess::run_to_end(const std::vector<std::string>& more) {
  spawn("", more);
  return wait_for_end();
}

Outcome SnapshotterProcess::end(int signal) {
  kill(pid_, signal);
  return wait_for_end();
}

void SnapshotterProcess::signal(int number) const {
  kill(pid_, number);
}

void SnapshotterProcess::configure(const std::string& config) const {
  std::ofstream(folder_ / "config.toml") << config;
}

void SnapshotterProcess::wait_for_log(const std::string& text) const {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(kPatienceMs);
  const UniqueFd watch(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  ASSERT_GE(inotify_add_watch(watch.get(), (folder_ / "log").c_str(), IN_MODIFY), 0);
  while (log().find(text) == std::string::npos) {
    ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "no \"" << text << "\" in\n" << log();
    pollfd event = {watch.get(), POLLIN, 0};
    poll(&event, 1, 1'000);
    char ignored[4096];
    while (read(watch.get(), ignored, sizeof ignored) > 0) {
    }
  }
}

Outcome SnapshotterProcess::wait_for_end() {
  Outcome outcome;
  int status = 0;
  while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = 0;
  if (WIFEXITED(status)) outcome.code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) {
    outcome.signal = WTERMSIG(status);
    outcome.core = WCOREDUMP(status);
  }
  outcome.log = log();
  return outcome;
}

std::string SnapshotterProcess::log() const {
  return slurp(folder_ / "log");
}

std::unique_ptr<api::Snapshots::Stub> SnapshotterProcess::connect() const {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetMaxReceiveMessageSize(16 << 20);
  return api::Snapshots::NewStub(grpc::CreateCustomChannel(
      "unix:" + socket.string(), grpc::InsecureChannelCredentials(), arguments));
}

oci::Json SnapshotterProcess::stats() const {
  const auto json = oci::Json::parse(slurp(state / "stats.json"), nullptr, false);
  return json.is_discarded() ? oci::Json::object() : json;
}

void SnapshotterProcess::wait_for_stats(
    const std::function<bool(const oci::Json&)>& condition) const {
  const UniqueFd changes(inotify_init1(IN_CLOEXEC));
  ASSERT_GE(inotify_add_watch(changes.get(), state.c_str(), IN_MOVED_TO | IN_CREATE), 0);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(kPatienceMs);
  while (!condition(stats())) {
    ASSERT_LT(std::chrono::steady_clock::now(), deadline) << stats().dump(1) << log();
    pollfd event = {changes.get(), POLLIN, 0};
    ASSERT_GT(poll(&event, 1, kPatienceMs), 0) << stats().dump(1) << log();
    char buffer[4096];
    ASSERT_GT(read(changes.get(), buffer, sizeof buffer), 0);
  }
}

namespace {

template <typename Response>
void take_mounts(const Response& response, std::vector<containerd::types::Mount>* to) {
  if (to != nullptr) to->assign(response.mounts().begin(), response.mounts().end());
}

}  // namespace

grpc::Status Client::prepare(const std::string& key, const std::string& parent,
                             const Labels& labels, std::vector<containerd::types::Mount>* mounts,
                             const std::string& name_space) {
  grpc::ClientContext context;
  if (!name_space.empty()) context.AddMetadata("containerd-namespace", name_space);
  api::PrepareSnapshotRequest request;
  request.set_snapshotter("imsy");
  request.set_key(key);
  request.set_parent(parent);
  request.mutable_labels()->insert(labels.begin(), labels.end());
  api::PrepareSnapshotResponse response;
  const grpc::Status status = stub_->Prepare(&context, request, &response);
  take_mounts(response, mounts);
  return status;
}

grpc::Status Client::view(const std::string& key, const std::string& parent,
                          std::vector<containerd::types::Mount>* mounts) {
  grpc::ClientContext context;
  api::ViewSnapshotRequest request;
  request.set_key(key);
  request.set_parent(parent);
  api::ViewSnapshotResponse response;
  const grpc::Status status = stub_->View(&context, request, &response);
  take_mounts(response, mounts);
  return status;
}

grpc::Status Client::mounts(const std::string& key, std::vector<containerd::types::Mount>* mounts) {
  grpc::ClientContext context;
  api::MountsRequest request;
  request.set_key(key);
  api::MountsResponse response;
  const grpc::Status status = stub_->Mounts(&context, request, &response);
  take_mounts(response, mounts);
  return status;
}

grpc::Status Client::commit(const std::string& name, const std::string& key, const Labels& labels) {
  grpc::ClientContext context;
  api::CommitSnapshotRequest request;
  request.set_name(name);
  request.set_key(key);
  request.mutable_labels()->insert(labels.begin(), labels.end());
  google::protobuf::Empty response;
  return stub_->Commit(&context, request, &response);
}

grpc::Status Client::remove(const std::string& key) {
  grpc::ClientContext context;
  api::RemoveSnapshotRequest request;
  request.set_key(key);
  google::protobuf::Empty response;
  return stub_->Remove(&context, request, &response);
}

grpc::Status Client::stat(const std::string& key, api::Info* info) {
  grpc::ClientContext context;
  api::StatSnapshotRequest request;
  request.set_key(key);
  api::StatSnapshotResponse response;
  const grpc::Status status = stub_->Stat(&context, request, &response);
  if (info != nullptr) *info = response.info();
  return status;
}

grpc::Status Client::usage(const std::string& key, api::UsageResponse* usage) {
  grpc::ClientContext context;
  api::UsageRequest request;
  request.set_key(key);
  api::UsageResponse response;
  const grpc::Status status = stub_->Usage(&context, request, &response);
  if (usage != nullptr) *usage = response;
  return status;
}

grpc::Status Client::cleanup() {
  grpc::ClientContext context;
  google::protobuf::Empty response;
  return stub_->Cleanup(&context, {}, &response);
}

std::vector<api::ListSnapshotsResponse> Client::list_messages(
    const std::vector<std::string>& filters, grpc::Status* status) {
  grpc::ClientContext context;
  api::ListSnapshotsRequest request;
  for (const std::string& filter : filters) request.add_filters(filter);
  const auto stream = stub_->List(&context, request);
  std::vector<api::ListSnapshotsResponse> messages;
  api::ListSnapshotsResponse message;
  while (stream->Read(&message)) messages.push_back(message);
  const grpc::Status end = stream->Finish();
  if (status != nullptr) *status = end;
  return messages;
}

std::vector<api::Info> Client::list(const std::vector<std::string>& filters) {
  std::vector<api::Info> infos;
  for (const auto& message : list_messages(filters)) {
    infos.insert(infos.end(), message.info().begin(), message.info().end());
  }
  return infos;
}

Mounted::Mounted(const std::vector<containerd::types::Mount>& mounts, std::filesystem::path at)
    : at_(std::move(at)) {
  std::filesystem::create_directories(at_);
  EXPECT_EQ(mounts.size(), 1U);
  for (const auto& mount : mounts) {
    bool read_only = false;
    std::string data;
    for (const std::string& option : mount.options()) {
      read_only = read_only || option == "ro";
      if (option.find('=') != std::string::npos) data += (data.empty() ? "" : ",") + option;
    }
    const bool bind = mount.type() == "bind";
    const int done = bind ? ::mount(mount.source().c_str(), at_.c_str(), "", MS_BIND | MS_REC, "")
                          : ::mount("overlay", at_.c_str(), "overlay", 0, data.c_str());
    EXPECT_EQ(done, 0) << std::strerror(errno) << ": " << mount.ShortDebugString();
    if (bind && read_only) {
      EXPECT_EQ(::mount("", at_.c_str(), "", MS_BIND | MS_REMOUNT | MS_RDONLY, ""), 0);
    }
  }
}

Mounted::~Mounted() {
  umount2(at_.c_str(), MNT_DETACH);
}

std::string Mounted::read(const std::string& name) const {
  return slurp(at_ / name);
}

}  // namespace imsy::test
