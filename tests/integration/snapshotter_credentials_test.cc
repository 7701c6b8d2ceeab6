// imsy-snapshotter as a process: which credentials it finds, whom it gives private content, and
// where nothing of a secret must be.

#include <grp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <cstring>
#include <fstream>

#include "oci/base64.h"
#include "tests/integration/lazy_fixture.h"

namespace imsy::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// A node with the right login that has pulled a private image in the namespace "default".
class PrivateTest : public LazyTest {
 protected:
  void SetUp() override {
    LazyTest::SetUp();
    if (IsSkipped()) return;
    registry_->require_basic("user", "pw");
    log_in("pw");
    start("background_fill = false\n");
    image_ = publish(31);
    Client client(*process_);
    pull(client, image_);
    // Labels are written down once a second.
    process_->wait_for_stats([](const oci::Json& stats) {
      return stats.contains("images") && !stats["images"].empty();
    });
    registry_->clear_log();
  }
  void log_in(const std::string& password) {
    std::filesystem::create_directories(folder_ / "docker");
    const oci::Json login = {{"username", "user"}, {"password", password}};
    std::ofstream(folder_ / "docker/config.json")
        << oci::Json{{"auths", {{registry_->host(), login}}}};
  }
  // What Prepare of its anchor layer says in a namespace that has pulled from this repository.
  Code prepare_in(const std::string& name_space, const std::string& repository) {
    const std::string config = *containerd_->blob("default", image_.config);
    containerd_->add_blob(name_space, config,
                          {{"containerd.io/distribution.source.127.0.0.1", repository}});
    const std::string key = name_space + "/" + std::to_string(++keys_) + "/extract";
    return Client(*process_).prepare(key, "", image_.labels(0), nullptr, name_space).error_code();
  }
  // What requests for content were answered, but for those that only ask for a login.
  std::vector<int> answers() const {
    std::vector<int> statuses;
    for (const FakeRequest& request : registry_->log()) {
      const bool content = request.path.find("/blobs/") != std::string::npos;
      if (content && request.status != 401) statuses.push_back(request.status);
    }
    return statuses;
  }

  Image image_;
};

TEST_F(PrivateTest, AnAuthenticatedRequestPrecedesEachAnswer) {
  EXPECT_EQ(prepare_in("default", "web"), Code::ALREADY_EXISTS);
  EXPECT_TRUE(answers().empty()) << "that was asked a moment ago";
  EXPECT_EQ(prepare_in("second", "web"), Code::ALREADY_EXISTS);
  ASSERT_EQ(answers().size(), 1U);
  EXPECT_EQ(answers()[0], 206);
  const std::vector<FakeRequest> log = registry_->log();
  EXPECT_THAT(log.back().header("authorization"), HasSubstr("Basic "));
  EXPECT_EQ(log.back().header("range").find("bytes="), 0U) << "and little of it";
  EXPECT_EQ(prepare_in("second", "web"), Code::ALREADY_EXISTS);
  EXPECT_EQ(answers().size(), 1U) << "a moment ago, again";
}

TEST_F(PrivateTest, WhoNamesAnotherRepositoryGetsNothing) {
  EXPECT_EQ(prepare_in("hostile", "evil/web"), Code::OK) << "containerd has to fetch it itself";
  EXPECT_TRUE(answers().empty()) << "whatever it would say";
  EXPECT_THAT(process_->log(), HasSubstr("its content is private"));
  // Without a claim nobody knows where it would be from.
  const Client::Labels bare = {{kRef, image_.chain[0]}};
  EXPECT_EQ(Client(*process_).prepare("hostile/2/x", "", bare, nullptr, "hostile").error_code(),
            Code::OK);
  // Where it was, it is given; and nobody was asked for either.
  EXPECT_EQ(Client(*process_).prepare("default/2/x", "", bare, nullptr, "default").error_code(),
            Code::ALREADY_EXISTS);
  EXPECT_TRUE(answers().empty());
}

TEST_F(PrivateTest, ARevokedLoginEndsIt) {
  registry_->require_basic("user", "another");
  EXPECT_EQ(prepare_in("second", "web"), Code::OK);
  restart();  // nothing is known to have been asked a moment ago
  EXPECT_EQ(prepare_in("default", "web"), Code::OK) << "nor is it given where it was";
  log_in("another");
  EXPECT_EQ(prepare_in("second", "web"), Code::ALREADY_EXISTS);
}

TEST_F(PrivateTest, WithoutItsRegistryOnlyItsNamespaceHasIt) {
  restart();
  registry_->fault("", "", FakeRegistry::kAlways, [](const FakeRequest&, FakeResponse& response) {
    response.end = FakeResponse::End::kReset;
    response.send_at_most = 0;
  });
  EXPECT_EQ(prepare_in("second", "web"), Code::OK);
  EXPECT_EQ(prepare_in("default", "web"), Code::ALREADY_EXISTS);
  EXPECT_THAT(process_->log(), HasSubstr("cannot be asked whether it may be used again"));
}

// An image of another registry whose manifest names the content of a private one, and whose blob
// does not have it.
class HostileManifestTest : public LazyTest {
 protected:
  // What reading the stolen file gives; `store` is the text of the configuration for that.
  std::string steal(const std::string& store) {
    FakeRegistry evil;
    registry_->require_basic("user", "pw");
    std::filesystem::create_directories(folder_ / "docker");
    std::ofstream(folder_ / "docker/config.json")
        << oci::Json{{"auths", {{registry_->host(), {{"username", "user"}, {"password", "pw"}}}}}};
    start("background_fill = true\n" + store +
          "[[registry]]\nhost = \"localhost\"\nendpoints = [\"" + evil.endpoint() + "\"]\n");
    const Image victim = publish(51);
    Client client(*process_);
    pull(client, victim);
    wait_resident(1);

    ImageMaker maker;
    MadeImage made = maker.file("stolen", victim.made.files.at("data/big")).make();
    const cdc::Anchor::DataLayer layer = made.anchor.data_layers[0];
    std::string blob(as_text(made.blobs[0]));
    std::fill_n(blob.begin(), made.anchor.manifest_offset, '\0');
    const Image hostile = publish(std::move(made), evil, "localhost");
    evil.set_blob(layer.blob, blob);
    Mounts mounts;
    const auto names = pull(client, hostile);
    EXPECT_TRUE(client.prepare("default/9/thief", names.back(), {}, &mounts).ok());
    const Mounted mounted(mounts, folder_ / "mounted");
    error_ = read_error(mounted.path() / "stolen");
    return mounted.read("stolen");
  }
  int error_ = 0;  // of reading its first byte
  const std::string content_{as_text(random_bytes(400'000, 51))};
};

TEST_F(HostileManifestTest, GetsNothingOfAnothersContent) {
  EXPECT_EQ(steal(""), "");
  EXPECT_EQ(error_, EIO);
}

TEST_F(HostileManifestTest, GetsItWhereTheOperatorSaysThatAllIsOne) {
  EXPECT_TRUE(steal("[store]\ndedup_scope = \"node\"\n") == content_)
      << "so that the case above shows something";
}

// A node whose kubelet pulls through the snapshotter's socket.
class KubeletTest : public LazyTest {
 protected:
  // containerd asks the registry for the manifest, pulls the image's layers as it does, and names
  // the image by its configuration.
  void serve(const Image& image) {
    containerd_->on_pull(
        [this, image](const runtime::v1::PullImageRequest& request) -> Result<std::string> {
          if (request.auth().password() == refused_)
            return Error(Errc::kDenied, "the registry says no");
          Client client(*process_);
          top_.clear();
          for (std::size_t link = 0; link < image.chain.size(); ++link) {
            top_ = prepare_layer(client, image.labels(link), top_);
            if (top_.empty()) return Error(Errc::kDenied, "has to be unpacked");
          }
          return image.config.to_string();
        });
  }
  grpc::Status kubelet_pulls(const std::string& password) {
    const auto stub = runtime::v1::ImageService::NewStub(grpc::CreateChannel(
        "unix:" + process_->socket.string(), grpc::InsecureChannelCredentials()));
    runtime::v1::PullImageRequest request;
    request.mutable_image()->set_image(registry_->host() + "/web:1");
    request.mutable_auth()->set_username("user");
    request.mutable_auth()->set_password(password);
    grpc::ClientContext context;
    runtime::v1::PullImageResponse response;
    return stub->PullImage(&context, request, &response);
  }

  std::string refused_;  // what the registry tells containerd itself
  std::string top_;      // the snapshot of the image's last layer
};

TEST_F(KubeletTest, ItsLoginServesTheLayersAndALaterPullRenewsIt) {
  registry_->require_basic("user", "first");
  start("background_fill = false\n[cri]\nimage_service = true\n");
  const Image image = publish(41);
  serve(image);
  EXPECT_FALSE(kubelet_pulls("wrong").ok());
  EXPECT_EQ(top_, "");
  const grpc::Status pulled = kubelet_pulls("first");
  ASSERT_TRUE(pulled.ok()) << pulled.error_message();
  Mounts mounts;
  ASSERT_TRUE(Client(*process_).prepare("default/9/container", top_, {}, &mounts).ok());
  const Mounted mounted(mounts, folder_ / "mounted");
  EXPECT_TRUE(mounted.read("etc/name") == as_text(image.made.files.at("etc/name")));
  registry_->require_basic("user", "second");
  refused_ = "wrong";
  EXPECT_EQ(read_error(mounted.path() / "data/big"), EIO) << "what was noted is good no longer";
  EXPECT_FALSE(kubelet_pulls("wrong").ok());
  ASSERT_TRUE(kubelet_pulls("second").ok());
  EXPECT_EQ(read_error(mounted.path() / "data/big"), 0);
  EXPECT_TRUE(mounted.read("data/big") == as_text(image.made.files.at("data/big")));
}

TEST_F(KubeletTest, IsNotServedUnlessThatIsSwitchedOn) {
  start();
  serve(publish(42));
  EXPECT_EQ(kubelet_pulls("pw").error_code(), Code::UNIMPLEMENTED);
}

// Whether any file below `folder`, the lazy tree left out, has the text.
std::vector<std::string> files_with(const std::filesystem::path& folder, const std::string& text) {
  std::vector<std::string> found;
  std::filesystem::recursive_directory_iterator it(folder), end;
  for (; it != end; ++it) {
    if (it->path().filename() == "mnt") it.disable_recursion_pending();
    if (!it->is_regular_file()) continue;
    std::ifstream file(it->path(), std::ios::binary);
    const std::string content((std::istreambuf_iterator<char>(file)), {});
    if (content.find(text) != std::string::npos) found.push_back(it->path());
  }
  return found;
}

TEST_F(KubeletTest, NoSecretIsAnywhere) {
  // Each place has one of its own; that of the plugin is the good one, so that all are tried.
  const std::vector<std::string> secrets = {"canary-pull", "canary-docker", "canary-plugin",
                                            "canary-token"};
  registry_->require_basic("user", "canary-plugin");
  const TemporaryDirectory outside;
  const auto plugin = outside / "plugin";
  std::ofstream(outside / "answer") << oci::Json{
      {"kind", "CredentialProviderResponse"},
      {"apiVersion", "credentialprovider.kubelet.k8s.io/v1"},
      {"cacheKeyType", "Registry"},
      {"cacheDuration", "0s"},
      {"auth", {{registry_->host(), {{"username", "user"}, {"password", "canary-plugin"}}}}}};
  std::ofstream(plugin)
      << "#!/bin/sh\ncat /proc/$$/environ /proc/$$/cmdline /proc/$PPID/cmdline >> "
      << (outside / "seen") << "\ncat >> " << (outside / "seen") << "\ncat " << (outside / "answer")
      << "\n";
  std::filesystem::permissions(plugin, std::filesystem::perms::owner_all);
  std::ofstream(outside / "plugins.yaml")
      << "apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\nproviders:\n"
      << "- {name: plugin, matchImages: ['" << registry_->host() << "'], "
      << "defaultCacheDuration: 0s, apiVersion: credentialprovider.kubelet.k8s.io/v1}\n";
  std::ofstream(outside / "kubeconfig")
      << "current-context: x\ncontexts: [{name: x, context: {cluster: c, user: u}}]\n"
      << "clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]\n"
      << "users: [{name: u, user: {token: canary-token}}]\n";
  std::filesystem::create_directories(folder_ / "docker");
  std::ofstream(folder_ / "docker/config.json") << oci::Json{
      {"auths", {{registry_->host(), {{"username", "user"}, {"password", "canary-docker"}}}}}};
  start("[credentials]\nkubelet_config = \"" + (outside / "plugins.yaml").string() +
        "\"\nkubelet_bin_dir = \"" + outside.path().string() + "\"\nkubeconfig = \"" +
        (outside / "kubeconfig").string() + "\"\n[cri]\nimage_service = true\n");
  const Image image = publish(43);
  serve(image);
  const grpc::Status pulled = kubelet_pulls("canary-pull");
  ASSERT_TRUE(pulled.ok()) << pulled.error_message() << process_->log();
  wait_resident(1);
  // An error that a client sees, and the labels.
  registry_->require_basic("user", "another");
  Client client(*process_);
  Client::Labels labels = publish(44).labels(0);
  EXPECT_TRUE(client.prepare("default/7/x", "", labels).ok());
  std::string said = process_->log();
  EXPECT_THAT(said, HasSubstr("a place of credentials fails")) << "the cluster's, the last one";
  for (const api::Info& info : client.list()) said += info.DebugString();
  said += process_->stats().dump();
  for (const char* file : {"environ", "cmdline"}) {
    std::ifstream open("/proc/" + std::to_string(process_->pid()) + "/" + file);
    said += std::string((std::istreambuf_iterator<char>(open)), {});
  }
  std::ifstream seen(outside / "seen");
  const std::string asked((std::istreambuf_iterator<char>(seen)), {});
  EXPECT_THAT(asked, HasSubstr("CredentialProviderRequest"));
  said += asked;
  const auto log_and_state = [&](const std::string& text) {
    EXPECT_EQ(said.find(text), std::string::npos) << text;
    EXPECT_THAT(files_with(process_->root, text), ::testing::IsEmpty()) << text;
    EXPECT_THAT(files_with(process_->state, text), ::testing::IsEmpty()) << text;
  };
  for (const std::string& secret : secrets) {
    log_and_state(secret);
    log_and_state(oci::base64_encode(as_bytes("user:" + secret)));
  }
  // The search itself finds what is there.
  EXPECT_THAT(files_with(process_->root, "containerd.io/snapshot"), Not(::testing::IsEmpty()));
  const Outcome aborted = process_->end(SIGABRT);
  EXPECT_EQ(aborted.signal, SIGABRT);
  EXPECT_FALSE(aborted.core) << "memory has all of them";
}

// What "nobody" can do, as bits; only calls that are safe after fork.
enum Reached : int { kSocket = 1, kControl = 2, kState = 4, kRoot = 8, kTree = 16, kFile = 32 };

bool can_connect(const std::filesystem::path& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  const UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM, 0));
  return ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

TEST_F(LazyTest, AnotherUserReachesNothing) {
  start();
  ImageMaker maker;
  ImageMaker::Attributes raised;
  raised.mode = 04755;
  const Image image = publish(maker.file("bin/su", text_bytes("a program"), raised).make());
  Client client(*process_);
  const auto names = pull(client, image);
  wait_resident(1);
  std::filesystem::permissions(folder_.path(), std::filesystem::perms(0755));
  const auto root = process_->root;
  const std::vector<std::string> trees = {root, root / "store", root / "mnt", root / "snapshots",
                                          root / "mnt/1"};
  const auto reach = [&](uid_t user) {
    const pid_t child = fork();
    if (child == 0) {
      int reached = 0;
      if (user != 0 && (setgroups(0, nullptr) != 0 || setgid(user) != 0 || setuid(user) != 0)) {
        _exit(127);
      }
      if (can_connect(process_->socket)) reached |= kSocket;
      if (can_connect(process_->state / "control.sock")) reached |= kControl;
      if (access((process_->state / "stats.json").c_str(), R_OK) == 0) reached |= kState;
      for (const auto& tree : trees) {
        if (access(tree.c_str(), R_OK) == 0) reached |= tree.ends_with("mnt/1") ? kTree : kRoot;
      }
      if (access((root / "mnt/1/bin/su").c_str(), X_OK) == 0) reached |= kFile;
      _exit(reached);
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  };
  EXPECT_EQ(reach(0), kSocket | kControl | kState | kRoot | kTree | kFile) << "they are there";
  EXPECT_EQ(reach(65534), 0);
}

}  // namespace
}  // namespace imsy::test
