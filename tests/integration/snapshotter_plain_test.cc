// imsy-snapshotter as a process, with ordinary images: what containerd's own suite does not ask.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <thread>

#include "tests/integration/snapshotter_harness.h"

namespace imsy::test {
namespace {

using ::testing::HasSubstr;
using Code = grpc::StatusCode;
using Mounts = std::vector<containerd::types::Mount>;

class PlainTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "mounts filesystems: needs root";
    process_.start();
  }
  static std::string directory_of(const Mounts& mounts) {
    for (const std::string& option : mounts.front().options()) {
      if (option.starts_with("upperdir=")) return option.substr(9);
    }
    return mounts.front().source();
  }

  TemporaryDirectory folder_;
  SnapshotterProcess process_{folder_.path(), "containerd_address = \"\"\n"};
};

void expect_code(const grpc::Status& status, Code code) {
  EXPECT_EQ(status.error_code(), code) << status.error_message();
}

TEST_F(PlainTest, CodesThatContainerdActsUpon) {
  Client client(process_);
  expect_code(client.prepare("a"), Code::OK);
  expect_code(client.prepare("a"), Code::ALREADY_EXISTS);
  expect_code(client.prepare("b", "gone"), Code::NOT_FOUND);
  expect_code(client.prepare("b", "a"), Code::INVALID_ARGUMENT);
  expect_code(client.view("v", "gone"), Code::NOT_FOUND);
  expect_code(client.commit("c", "gone"), Code::NOT_FOUND);
  expect_code(client.commit("c", "a"), Code::OK);
  expect_code(client.view("v", "c"), Code::OK);
  expect_code(client.commit("d", "v"), Code::FAILED_PRECONDITION);
  expect_code(client.mounts("c"), Code::FAILED_PRECONDITION);
  expect_code(client.mounts("gone"), Code::NOT_FOUND);
  const grpc::Status parent = client.remove("c");
  expect_code(parent, Code::FAILED_PRECONDITION);
  EXPECT_THAT(parent.error_message(), HasSubstr("remove"));
  expect_code(client.remove("v"), Code::OK);
  expect_code(client.remove("c"), Code::OK);
  expect_code(client.remove("c"), Code::NOT_FOUND);
  expect_code(client.stat("c"), Code::NOT_FOUND);
  expect_code(client.usage("c"), Code::NOT_FOUND);
  expect_code(client.cleanup(), Code::OK);
  grpc::Status filter;
  client.list_messages({"name=="}, &filter);
  expect_code(filter, Code::INVALID_ARGUMENT);
}

TEST_F(PlainTest, InfosAreComplete) {
  Client client(process_);
  const Client::Labels labels = {{"a/b.c", "1"}, {"d", "ü"}};
  ASSERT_TRUE(client.prepare("default/1/extract-1 sha256:abc", "", labels).ok());
  api::Info info;
  ASSERT_TRUE(client.stat("default/1/extract-1 sha256:abc", &info).ok());
  EXPECT_EQ(info.name(), "default/1/extract-1 sha256:abc");
  EXPECT_EQ(info.kind(), api::Kind::ACTIVE);
  EXPECT_EQ((Client::Labels{info.labels().begin(), info.labels().end()}), labels);
  EXPECT_GT(info.created_at().seconds(), 1'600'000'000);
  EXPECT_EQ(info.created_at().nanos(), info.updated_at().nanos());
  const auto all = client.list();
  ASSERT_EQ(all.size(), 1U);
  EXPECT_EQ(all.front().SerializeAsString().size(), info.SerializeAsString().size());
}

TEST_F(PlainTest, ListsInBatchesWhileOthersWork) {
  Client client(process_);
  EXPECT_TRUE(client.list_messages({}).empty()) << "no snapshots, no message";
  for (int i = 0; i < 250; ++i) {
    ASSERT_TRUE(client.prepare("key" + std::to_string(i), "", {{"l", "x"}}).ok());
  }
  grpc::ClientContext context;
  const auto stream = client.stub().List(&context, {});
  api::ListSnapshotsResponse message;
  std::vector<int> sizes;
  while (stream->Read(&message)) {
    sizes.push_back(message.info_size());
    for (const api::Info& info : message.info()) {
      EXPECT_TRUE(client.stat(info.name()).ok());
      EXPECT_TRUE(client.remove(info.name()).ok());
    }
  }
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(sizes, (std::vector<int>{100, 100, 50}));
}

TEST_F(PlainTest, ContentSurvivesAKillAndGarbageDoesNot) {
  {
    Client client(process_);
    Mounts mounts;
    ASSERT_TRUE(client.prepare("base-active", "", {}, &mounts).ok());
    std::ofstream(directory_of(mounts) + "/file") << "content";
    ASSERT_TRUE(client.commit("base", "base-active", {{"l", "1"}}).ok());
    ASSERT_TRUE(client.prepare("active", "base", {}, &mounts).ok());
    std::ofstream(directory_of(mounts) + "/own") << "mine";
    ASSERT_TRUE(client.view("view", "base").ok());
  }
  EXPECT_EQ(process_.end(SIGKILL).signal, SIGKILL);
  std::filesystem::create_directories(process_.root / "snapshots/99/fs");
  process_.start();
  Client client(process_);
  EXPECT_EQ(client.list().size(), 3U);
  api::Info info;
  ASSERT_TRUE(client.stat("base", &info).ok());
  EXPECT_EQ(info.labels().at("l"), "1");
  Mounts mounts;
  ASSERT_TRUE(client.mounts("active", &mounts).ok());
  {
    const Mounted mounted(mounts, folder_ / "mounted");
    EXPECT_EQ(mounted.read("file"), "content");
    EXPECT_EQ(mounted.read("own"), "mine");
  }
  ASSERT_TRUE(client.mounts("view", &mounts).ok());
  {
    const Mounted mounted(mounts, folder_ / "mounted");
    EXPECT_EQ(mounted.read("file"), "content");
    EXPECT_FALSE(std::ofstream(mounted.path() / "new")) << "a view is read-only";
  }
  ASSERT_TRUE(client.cleanup().ok());
  EXPECT_FALSE(std::filesystem::exists(process_.root / "snapshots/99"));
}

TEST_F(PlainTest, StopsCleanlyOnBothSignals) {
  for (const int signal : {SIGTERM, SIGINT}) {
    const Outcome outcome = process_.end(signal);
    EXPECT_EQ(outcome.code, 0) << outcome.log;
    std::ifstream mounts("/proc/self/mountinfo");
    const std::string text((std::istreambuf_iterator<char>(mounts)), {});
    EXPECT_THAT(text, ::testing::Not(HasSubstr(process_.root.string())));
    process_.start();
  }
}

TEST_F(PlainTest, StopsWithAnIdleAndABrokenClient) {
  Client idle(process_);
  ASSERT_TRUE(idle.cleanup().ok());
  // Somebody who speaks no HTTP/2.
  const UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, process_.socket.c_str(), sizeof address.sun_path - 1);
  ASSERT_EQ(connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_TRUE(write_all(fd.get(), as_bytes("GET / HTTP/1.1\r\n\r\n")));
  EXPECT_TRUE(idle.cleanup().ok());
  EXPECT_EQ(process_.end(SIGTERM).code, 0);
}

TEST_F(PlainTest, ASecondDaemonIsRefusedAndTheFirstGoesOn) {
  const std::string pid = "pid " + std::to_string(process_.pid());
  for (const bool other_root : {false, true}) {
    for (const bool other_state : {false, true}) {
      if (other_root && other_state) continue;
      const TemporaryDirectory folder;
      SnapshotterProcess second(folder.path(), "");
      if (!other_root) second.root = process_.root;
      if (!other_state) second.state = process_.state;
      const Outcome outcome = second.run_to_end();
      EXPECT_EQ(outcome.code, 1);
      EXPECT_THAT(outcome.log, HasSubstr(pid));
      second.root = folder.path();  // not to be cleaned up from here
    }
  }
  const TemporaryDirectory folder;
  SnapshotterProcess second(folder.path(), "");
  second.socket = process_.socket;
  const Outcome outcome = second.run_to_end();
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.log, HasSubstr(pid));
  EXPECT_TRUE(Client(process_).cleanup().ok());
}

TEST_F(PlainTest, AMistakeInTheConfigurationIsOneClearLine) {
  const TemporaryDirectory folder;
  SnapshotterProcess second(folder.path(), "log_level = \"info\"\nprepare_timout = 3\n");
  const Outcome outcome = second.run_to_end();
  EXPECT_EQ(outcome.code, 1);
  EXPECT_EQ(outcome.log, "imsy-snapshotter: " + (folder / "config.toml").string() +
                             " line 2: prepare_timout is not a known key\n");
}

TEST_F(PlainTest, OnlyRootReachesIt) {
  struct stat st = {};
  ASSERT_EQ(stat(process_.socket.c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0600U);
  for (const auto& path : {process_.root, process_.root / "snapshots", process_.root / "store"}) {
    ASSERT_EQ(stat(path.c_str(), &st), 0);
    EXPECT_EQ(st.st_mode & 0777, 0700U) << path;
  }
  std::ifstream limits("/proc/" + std::to_string(process_.pid()) + "/limits");
  const std::string text((std::istreambuf_iterator<char>(limits)), {});
  EXPECT_THAT(text, ::testing::ContainsRegex("Max core file size +0 +0 ")) << "no core files";
}

TEST_F(PlainTest, ParallelClientsOnTheSameKeys) {
  ASSERT_TRUE(Client(process_).prepare("base-active").ok());
  ASSERT_TRUE(Client(process_).commit("base", "base-active").ok());
  std::atomic<int> prepared = 0;
  std::atomic<int> removed = 0;
  std::vector<std::jthread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      Client client(process_);
      for (int i = 0; i < 30; ++i) {
        const std::string key = "key" + std::to_string((i + t) % 10);
        const grpc::Status made = client.prepare(key, "base");
        if (made.ok()) ++prepared;
        EXPECT_TRUE(made.ok() || made.error_code() == Code::ALREADY_EXISTS);
        const grpc::Status mounts = client.mounts(key);
        EXPECT_TRUE(mounts.ok() || mounts.error_code() == Code::NOT_FOUND);
        const grpc::Status gone = client.remove(key);
        if (gone.ok()) ++removed;
        EXPECT_TRUE(gone.ok() || gone.error_code() == Code::NOT_FOUND);
      }
    });
  }
  threads.clear();
  Client client(process_);
  EXPECT_EQ(client.list().size(), 1U + static_cast<std::size_t>(prepared - removed));
  for (const api::Info& info : client.list({"kind==active"})) {
    EXPECT_TRUE(client.remove(info.name()).ok());
  }
  ASSERT_TRUE(client.cleanup().ok());
  int directories = 0;
  for (const auto& entry : std::filesystem::directory_iterator(process_.root / "snapshots")) {
    directories += entry.is_directory() ? 1 : 0;
  }
  EXPECT_EQ(directories, 1) << "nothing leaks";
}

}  // namespace
}  // namespace imsy::test
