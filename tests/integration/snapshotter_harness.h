// One imsy-snapshotter as a process, and a client for its socket, for tests.
//
// Needs root. Everything it makes lies in one temporary directory and is gone with it, mounts
// included.
#pragma once

#include <grpcpp/grpcpp.h>
#include <sys/types.h>

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/io.h"
#include "oci/descriptor.h"
#include "proto/containerd/snapshots.grpc.pb.h"
#include "tests/unit/snapshotter/temporary_directory.h"

namespace imsy::test {

namespace api = containerd::services::snapshots::v1;

// A finished process.
struct Outcome {
  int code = -1;      // exit code
  int signal = 0;     // that ended it
  bool core = false;  // it left a core file
  std::string log;    // its standard error
};

class SnapshotterProcess {
 public:
  // `folder` outlives the process. `config` is the text of the configuration file.
  SnapshotterProcess(const std::filesystem::path& folder, const std::string& config);
  ~SnapshotterProcess();
  SnapshotterProcess(const SnapshotterProcess&) = delete;
  SnapshotterProcess& operator=(const SnapshotterProcess&) = delete;

  // Other places than <folder>/root, <folder>/state and <folder>/s; before start().
  std::filesystem::path root, state, socket;
  // How many descriptors the process may have; 0: as many as this one. Before start().
  unsigned descriptors = 0;
  // A listening socket that the process inherits as systemd would hand it over; -1: none. Before
  // start().
  int listening = -1;

  // Runs the program and returns when it says that it is ready; a test failure when it ends
  // instead.
  void start();
  // Runs the program, which is expected to end by itself.
  Outcome run_to_end();
  // The same with more words behind its own.
  Outcome run_to_end(const std::vector<std::string>& more);
  // Sends a signal and waits for the end.
  Outcome end(int signal);
  void signal(int number) const;
  // Another text in the configuration file.
  void configure(const std::string& config) const;
  // Returns when the log has this text; a test failure after a minute.
  void wait_for_log(const std::string& text) const;
  pid_t pid() const { return pid_; }
  std::string log() const;

  // A new connection.
  std::unique_ptr<api::Snapshots::Stub> connect() const;
  oci::Json stats() const;
  // Returns when stats() satisfies the condition; a test failure after a minute.
  void wait_for_stats(const std::function<bool(const oci::Json&)>& condition) const;

 private:
  void spawn(const std::string& notify_socket, const std::vector<std::string>& more = {});
  Outcome wait_for_end();

  const std::filesystem::path folder_;
  pid_t pid_ = 0;
};

// Calls with their answers, failures as gRPC's status.
class Client {
 public:
  explicit Client(const SnapshotterProcess& process) : stub_(process.connect()) {}

  using Labels = std::map<std::string, std::string>;
  grpc::Status prepare(const std::string& key, const std::string& parent = "",
                       const Labels& labels = {}, std::vector<containerd::types::Mount>* = nullptr,
                       const std::string& name_space = "default");
  grpc::Status view(const std::string& key, const std::string& parent,
                    std::vector<containerd::types::Mount>* = nullptr);
  grpc::Status mounts(const std::string& key, std::vector<containerd::types::Mount>* = nullptr);
  grpc::Status commit(const std::string& name, const std::string& key, const Labels& labels = {});
  grpc::Status remove(const std::string& key);
  grpc::Status stat(const std::string& key, api::Info* = nullptr);
  grpc::Status usage(const std::string& key, api::UsageResponse* = nullptr);
  grpc::Status cleanup();
  // All messages of a List.
  std::vector<api::ListSnapshotsResponse> list_messages(const std::vector<std::string>& filters,
                                                        grpc::Status* = nullptr);
  std::vector<api::Info> list(const std::vector<std::string>& filters = {});

  api::Snapshots::Stub& stub() { return *stub_; }

 private:
  std::unique_ptr<api::Snapshots::Stub> stub_;
};

// Mounts as containerd does, at a directory that is unmounted when this goes.
class Mounted {
 public:
  Mounted(const std::vector<containerd::types::Mount>& mounts, std::filesystem::path at);
  ~Mounted();
  Mounted(const Mounted&) = delete;
  Mounted& operator=(const Mounted&) = delete;
  const std::filesystem::path& path() const { return at_; }
  std::string read(const std::string& name) const;  // a whole file, or "error: ..."

 private:
  const std::filesystem::path at_;
};

}  // namespace imsy::test
