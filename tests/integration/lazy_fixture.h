// A node with its registry and its containerd, all but the snapshotter in this process, for tests.
#pragma once

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <sstream>
#include <thread>

#include "cdc/anchor.h"
#include "common/io.h"
#include "oci/tar/tar.h"
#include "tests/integration/snapshotter_harness.h"
#include "tests/support/fake_registry.h"
#include "tests/support/image_maker.h"
#include "tests/unit/snapshotter/fake_containerd.h"

namespace imsy::test {

using Code = grpc::StatusCode;
using Mounts = std::vector<containerd::types::Mount>;

inline constexpr const char* kRef = "containerd.io/snapshot.ref";

// A converted image that a registry has and containerd is pulling.
struct Image {
  MadeImage made;
  Digest config;
  std::vector<std::string> chain;  // chainIDs, bottom first
  std::vector<std::string> roles;

  Client::Labels labels(std::size_t link) const {
    return {{kRef, chain[link]},
            {"containerd.io/snapshot/imsy.anchor", made.anchor_text},
            {"containerd.io/snapshot/imsy.role", roles[link]},
            {"containerd.io/snapshot/imsy.config", config.to_string()}};
  }
};

// The errno of reading the file's first byte, or 0.
inline int read_error(const std::filesystem::path& path) {
  const auto file = open_file(path, O_RDONLY);
  EXPECT_TRUE(file) << file.error().message();
  char byte = 0;
  return file && read(file->get(), &byte, 1) < 0 ? errno : 0;
}

class LazyTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "mounts filesystems: needs root";
    if (access("/dev/fuse", F_OK) != 0) GTEST_SKIP() << "needs /dev/fuse";
  }
  std::string config(const std::string& more = "") const {
    return "hosts_dir = \"\"\ncontainerd_address = \"" + (folder_ / "c").string() + "\"\n" + more +
           "[[registry]]\nhost = \"127.0.0.1\"\nendpoints = [\"" + registry_->endpoint() + "\"]\n";
  }
  void start(const std::string& more = "") {
    process_ = std::make_unique<SnapshotterProcess>(folder_.path(), config(more));
    process_->start();
  }
  void restart(int signal = SIGKILL) {
    process_->end(signal);
    process_->start();
  }

  // Publishes an image with a few files; different seeds are different images.
  Image publish(std::uint64_t seed, std::uint32_t layers = 1) {
    ImageMaker maker;
    ImageMaker::Attributes root;
    root.uid = 7;
    root.gid = 8;
    maker.root(root)
        .file("etc/name", "image " + std::to_string(seed))
        .file("data/big", random_bytes(400'000, seed))
        .file("data/small", random_bytes(1'000, seed + 1))
        .symlink("link", "etc/name")
        .layers(layers);
    return publish(maker.make());
  }
  Image publish(MadeImage made) { return publish(std::move(made), *registry_, "127.0.0.1"); }
  // `host`: what containerd has noted, which is without a port.
  Image publish(MadeImage made, FakeRegistry& registry, const std::string& host) {
    Image image;
    image.made = std::move(made);
    const auto archive = oci::tar::marker_archive(cdc::kAnchorRecordKey, image.made.anchor_text);
    Digest chain = sha256(*archive);
    oci::Json diff_ids = {chain.to_string()};
    image.chain = {chain.to_string()};
    image.roles = {"anchor"};
    const auto& data_layers = image.made.anchor.data_layers;
    for (std::size_t i = 0; i < data_layers.size(); ++i) {
      chain = cdc::chain_id(chain, data_layers[i].diff_id);
      image.chain.push_back(chain.to_string());
      image.roles.push_back(data_layers.size() == 1 ? "data" : "data/" + std::to_string(i));
      diff_ids.push_back(data_layers[i].diff_id.to_string());
      registry.add_blob(std::string(as_text(image.made.blobs[i])));
    }
    const oci::Json config = {{"os", "linux"},
                              {"architecture", "amd64"},
                              {"rootfs", {{"type", "layers"}, {"diff_ids", diff_ids}}}};
    image.config = containerd_->add_blob("default", config.dump(),
                                         {{"containerd.io/distribution.source." + host, "web"}});
    return image;
  }

  // What containerd's metadata layer does for one layer: Prepare, and List when it is told that the
  // layer is there. The name of the committed snapshot, or "" when it has to be unpacked.
  std::string prepare_layer(Client& client, const Client::Labels& labels,
                            const std::string& parent) {
    const std::string key = "default/1/extract-" + std::to_string(++keys_) + " " + labels.at(kRef);
    const grpc::Status status = client.prepare(key, parent, labels);
    if (status.ok()) {
      client.remove(key);
      return "";
    }
    EXPECT_EQ(status.error_code(), Code::ALREADY_EXISTS) << status.error_message();
    const auto infos = client.list({"labels.\"" + std::string(kRef) + "\"==" + labels.at(kRef) +
                                    ",parent==\"" + parent + "\""});
    for (const api::Info& info : infos) {
      if (info.kind() == api::Kind::COMMITTED && info.labels().at(kRef) == labels.at(kRef) &&
          info.parent() == parent) {
        EXPECT_EQ(client.stat(key).error_code(), Code::NOT_FOUND) << "nothing active is left";
        return info.name();
      }
    }
    ADD_FAILURE() << "containerd would not find " << labels.at(kRef);
    return "";
  }
  // All layers; the names of their snapshots, bottom first.
  std::vector<std::string> pull(Client& client, const Image& image) {
    std::vector<std::string> names;
    for (std::size_t link = 0; link < image.chain.size(); ++link) {
      names.push_back(prepare_layer(client, image.labels(link), names.empty() ? "" : names.back()));
      EXPECT_NE(names.back(), "") << process_->log();
    }
    return names;
  }
  void expect_content(const Mounts& mounts, const Image& image) {
    const Mounted mounted(mounts, folder_ / "mounted");
    for (const auto& [path, content] : image.made.files) {
      EXPECT_TRUE(mounted.read(path) == as_text(content)) << path << process_->log();
    }
  }
  void wait_resident(std::size_t images) {
    process_->wait_for_stats([images](const oci::Json& stats) {
      if (!stats.contains("images") || stats["images"].size() != images) return false;
      return std::ranges::all_of(
          stats["images"], [](const oci::Json& image) { return image["resident"].get<bool>(); });
    });
  }

  // Returns when a line of the log has both; it may come after what it is about.
  void wait_for_log(const std::string& first, const std::string& second) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    for (;;) {
      std::istringstream log(process_->log());
      for (std::string line; std::getline(log, line);) {
        const std::size_t at = line.find(first);
        if (at != std::string::npos && line.find(second, at) != std::string::npos) return;
      }
      ASSERT_LT(std::chrono::steady_clock::now(), deadline) << process_->log();
      std::this_thread::yield();
    }
  }

  TemporaryDirectory folder_;
  std::unique_ptr<FakeRegistry> registry_ = std::make_unique<FakeRegistry>();
  std::unique_ptr<FakeContainerd> containerd_ = std::make_unique<FakeContainerd>(folder_ / "c");
  std::unique_ptr<SnapshotterProcess> process_;
  std::atomic<int> keys_ = 0;
};

}  // namespace imsy::test
