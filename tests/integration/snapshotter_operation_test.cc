// imsy-snapshotter as an operator and a service manager meet it.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "snapshotter/socket.h"
#include "tests/integration/snapshotter_harness.h"

namespace imsy::test {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr const char* kAlone = "containerd_address = \"\"\n";

class OperationTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "mounts filesystems: needs root";
  }

  // One HTTP request at a unix socket, and all that comes back.
  static std::string ask(const std::filesystem::path& socket, const std::string& path) {
    const UniqueFd client(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, socket.c_str(), sizeof address.sun_path - 1);
    if (::connect(client.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
      return std::string("connect: ") + std::strerror(errno);
    }
    const std::string request = "GET " + path + " HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    EXPECT_TRUE(write_all(client.get(), as_bytes(request)));
    std::string answer;
    char piece[4096];
    for (;;) {
      const ssize_t got = ::read(client.get(), piece, sizeof piece);
      if (got <= 0) return answer;
      answer.append(piece, static_cast<std::size_t>(got));
    }
  }

  TemporaryDirectory folder_;
};

TEST_F(OperationTest, MetricsCountWhatHappens) {
  const auto socket = folder_.path() / "m";
  SnapshotterProcess process(
      folder_.path(), kAlone + std::string("[metrics]\naddress = \"") + socket.string() + "\"\n");
  process.start();
  Client client(process);
  ASSERT_TRUE(client.prepare("a").ok());
  ASSERT_TRUE(client.prepare("b").ok());
  ASSERT_FALSE(client.prepare("b").ok());
  ASSERT_TRUE(client.commit("c", "a").ok());
  const std::string text = ask(socket, "/metrics");
  EXPECT_THAT(text, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(text, HasSubstr("Content-Type: text/plain; version=0.0.4"));
  EXPECT_THAT(text, HasSubstr("imsy_rpc_ended_total{code=\"OK\",method=\"Prepare\"} 2\n"));
  EXPECT_THAT(text,
              HasSubstr("imsy_rpc_ended_total{code=\"ALREADY_EXISTS\",method=\"Prepare\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("imsy_rpc_duration_seconds_count{method=\"Prepare\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("imsy_snapshots{kind=\"active\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("imsy_snapshots{kind=\"committed\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("imsy_healthy 1\n"));
  EXPECT_THAT(text, ContainsRegex("\nprocess_resident_memory_bytes [1-9]"));
  EXPECT_THAT(text, ContainsRegex("\nprocess_open_fds [1-9]"));
  EXPECT_THAT(text, ContainsRegex("\nimsy_disk_free_bytes [1-9]"));
  EXPECT_THAT(ask(socket, "/"), StartsWith("HTTP/1.1 404 "));
  struct stat st = {};
  ASSERT_EQ(::stat(socket.c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0600U);
}

TEST_F(OperationTest, HealthSaysWhatIsWrong) {
  const auto socket = folder_.path() / "m";
  SnapshotterProcess process(
      folder_.path(), kAlone + std::string("[metrics]\naddress = \"") + socket.string() + "\"\n");
  process.start();
  EXPECT_THAT(ask(socket, "/healthz"), AllOf(StartsWith("HTTP/1.1 200 OK\r\n"), EndsWith("ok\n")));
  // A mount of somebody else hides the lazy tree: new containers work as soon as it is gone.
  const auto tree = process.root / "mnt";
  ASSERT_EQ(::system(("mount -t tmpfs none " + tree.string()).c_str()), 0);
  std::string text;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  while (text.find("degraded: the lazy tree") == std::string::npos &&
         std::chrono::steady_clock::now() < deadline) {
    text = ask(socket, "/healthz");  // news of a second ago, at most
    ::poll(nullptr, 0, 50);
  }
  EXPECT_EQ(::system(("umount " + tree.string()).c_str()), 0);
  EXPECT_THAT(text, AllOf(StartsWith("HTTP/1.1 200 OK\r\n"), HasSubstr("degraded: the lazy tree")));
}

TEST_F(OperationTest, OnSighupTheConfigurationIsReadAgain) {
  SnapshotterProcess process(folder_.path(), kAlone);
  process.start();
  process.configure(kAlone + std::string("nonsense = 1\n"));
  process.signal(SIGHUP);
  process.wait_for_log("the configuration stays as it was: ");
  EXPECT_THAT(process.log(), HasSubstr("nonsense is not a known key"));
  process.configure(kAlone +
                    std::string("background_fill = false\n[store]\nquota_bytes = 12345678\n"));
  process.signal(SIGHUP);
  process.wait_for_log("background_fill has changed: that takes effect with the next restart");
  EXPECT_THAT(process.log(), Not(HasSubstr("quota_bytes has changed")));
  EXPECT_TRUE(Client(process).prepare("a").ok());
}

TEST_F(OperationTest, ASocketOfTheServiceManagerIsTakenOver) {
  SnapshotterProcess process(folder_.path(), kAlone);
  auto listening = snapshotter::listen_at(process.socket);
  ASSERT_TRUE(listening) << listening.error().message();
  process.listening = listening->get();
  // A call that comes while nobody serves waits in the socket.
  Client early(process);
  process.start();
  EXPECT_TRUE(early.prepare("a").ok());
  process.end(SIGTERM);
  EXPECT_TRUE(std::filesystem::exists(process.socket));
  process.start();
  EXPECT_TRUE(Client(process).stat("a").ok());
  // A socket for another address is a mistake in the configuration.
  process.end(SIGTERM);
  process.socket = folder_.path() / "other";
  const Outcome refused = process.run_to_end();
  EXPECT_EQ(refused.code, 1);
  EXPECT_THAT(refused.log, HasSubstr("ListenStream= and --address must be the same"));
}

TEST_F(OperationTest, TheDaemonHasOnlyThePrivilegesThatItNeeds) {
  SnapshotterProcess process(folder_.path(), kAlone);
  process.start();
  std::ifstream file("/proc/" + std::to_string(process.pid()) + "/status");
  const std::string status((std::istreambuf_iterator<char>(file)), {});
  // chown, dac_override, dac_read_search, fowner, fsetid, sys_admin.
  EXPECT_THAT(status, HasSubstr("CapPrm:\t000000000020001f\n"));
  EXPECT_THAT(status, HasSubstr("CapEff:\t000000000020001f\n"));
  EXPECT_THAT(status, HasSubstr("CapBnd:\t000000000020001f\n"));
  EXPECT_THAT(status, HasSubstr("CapInh:\t0000000000000000\n"));
  EXPECT_THAT(status, HasSubstr("NoNewPrivs:\t1\n"));
  EXPECT_THAT(status, HasSubstr("Seccomp:\t2\n"));
}

TEST_F(OperationTest, SlowCallsAndTheirTraceAreInTheLog) {
  SnapshotterProcess process(folder_.path(), kAlone);
  process.start();
  Client client(process);
  grpc::ClientContext context;
  context.AddMetadata("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
  api::StatSnapshotRequest request;
  request.set_key("default/1/gone");
  api::StatSnapshotResponse response;
  ASSERT_FALSE(client.stub().Stat(&context, request, &response).ok());
  EXPECT_THAT(process.log(),
              HasSubstr("snapshot default/1/gone does not exist "
                        "trace=4bf92f3577b34da6a3ce929d0e0e4736 snapshot=default/1/gone\n"));
}

}  // namespace
}  // namespace imsy::test
