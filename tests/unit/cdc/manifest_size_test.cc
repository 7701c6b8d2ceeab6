// How many bytes a manifest takes: what a node must fetch before it can mount an image.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <random>

#include "cdc/frame.h"
#include "cdc/manifest.h"

namespace imsy::cdc {
namespace {

constexpr std::array<const char*, 40> kWords = {
    "crypt", "server",  "gnome", "python", "common", "util",   "config", "network",
    "perl",  "systemd", "ssl",   "image",  "magick", "fonts",  "dejavu", "locale",
    "glib",  "ncurses", "data",  "base",   "client", "module", "parser", "thread",
    "cache", "event",   "queue", "string", "format", "logger", "schema", "query",
    "http",  "socket",  "codec", "filter", "stream", "vector", "matrix", "random"};

// A system of packages as Debian's: each with its directories, documentation, libraries with their
// symlinks, modules; file sizes with a long tail; one time of build for each package.
class SyntheticSystem {
 public:
  SyntheticSystem() : builder_({}) {
    usr_ = add_directory(TreeBuilder::kRoot, "usr");
    lib_ = add_directory(usr_, "lib");
    multiarch_ = add_directory(lib_, "x86_64-linux-gnu");
    modules_ = add_directory(add_directory(lib_, "python3"), "dist-packages");
    share_ = add_directory(usr_, "share");
    doc_ = add_directory(share_, "doc");
    bin_ = add_directory(usr_, "bin");
    for (int package = 0; package < 400; ++package) add_package(package);
    cut(raw_ + 1024);
  }

  ManifestParts parts(const Tree& tree, const std::vector<std::uint32_t>& order) const {
    ManifestParts parts;
    parts.tree = &tree;
    for (const std::uint32_t object : order) parts.objects.push_back(objects_[object]);
    parts.frames = frames_;
    return parts;
  }
  TreeBuilder& builder() { return builder_; }
  std::uint64_t files() const { return files_; }
  std::uint64_t raw_size() const { return raw_; }

 private:
  std::string word() { return kWords[generator_() % kWords.size()]; }

  TreeBuilder::Attributes attributes(NodeType type, std::uint16_t mode) {
    TreeBuilder::Attributes a;
    a.type = type;
    a.mode = mode;
    a.mtime_s = build_time_;
    ++files_;
    raw_ += 512;
    return a;
  }
  TreeBuilder::NodeId add_directory(TreeBuilder::NodeId parent, const std::string& name) {
    return builder_.add(parent, name, attributes(NodeType::kDirectory, 0755));
  }
  void add_symlink(TreeBuilder::NodeId parent, const std::string& name, std::string target) {
    auto a = attributes(NodeType::kSymlink, 0777);
    a.target = std::move(target);
    builder_.add(parent, name, std::move(a));
  }

  void add_file(TreeBuilder::NodeId parent, const std::string& name, std::uint16_t mode) {
    auto a = attributes(NodeType::kRegular, mode);
    std::lognormal_distribution<double> sizes(std::log(4000.0), 2.0);
    const auto size = static_cast<std::uint64_t>(sizes(generator_)) % (64u << 20);
    ManifestParts::Object object;
    object.raw_offset = raw_;
    for (std::uint64_t left = size; left > 0;) {
      const std::uint64_t length = std::min<std::uint64_t>(left, 16'384 + generator_() % 120'000);
      object.sizes.push_back(static_cast<std::uint32_t>(length));
      object.digests.push_back(
          sha256(std::to_string(objects_.size()) + "/" + std::to_string(left)));
      if (raw_ + length - frame_begin_ > kLargeFileFrame) cut(raw_);
      raw_ += length;
      left -= length;
    }
    raw_ = (raw_ + 511) / 512 * 512;
    a.object = size == 0 ? empty_object() : builder_.add_object(size);
    if (size != 0) objects_.push_back(std::move(object));
    builder_.add(parent, name, std::move(a));
  }
  std::uint32_t empty_object() {
    if (empty_ == kNone) {
      empty_ = builder_.add_object(0);
      objects_.emplace_back();
    }
    return empty_;
  }

  void add_package(int number) {
    build_time_ = 1'650'000'000 + static_cast<std::int64_t>(generator_() % 50'000'000);
    const std::string name = word() + "-" + word() + std::to_string(number % 7);
    const std::string unique = name + "-" + std::to_string(number);
    const auto doc = add_directory(doc_, unique);
    for (const char* file : {"changelog.Debian.gz", "copyright"}) add_file(doc, file, 0644);
    const std::string library = "lib" + unique + ".so";
    add_file(multiarch_, library + ".1.2." + std::to_string(number % 9), 0644);
    add_symlink(multiarch_, library + ".1", library + ".1.2." + std::to_string(number % 9));
    add_file(bin_, unique, 0755);
    const auto module = add_directory(modules_, word() + std::to_string(number));
    for (std::uint64_t i = 0; i < 5 + generator_() % 20; ++i) {
      add_file(module, word() + "_" + word() + std::to_string(i) + ".py", 0644);
    }
    const auto data = add_directory(share_, unique);
    for (std::uint64_t i = 0; i < generator_() % 10; ++i) {
      add_file(data, word() + std::to_string(i) + ".xml", 0644);
    }
  }

  void cut(std::uint64_t end) {
    while (frame_begin_ < end) {
      const std::uint64_t stored =
          frames_.empty() ? 0 : frames_.back().stored_offset + frames_.back().stored_size;
      const std::uint64_t size = std::min<std::uint64_t>(end - frame_begin_, kFrameLimit);
      frames_.push_back({frame_begin_, static_cast<std::uint32_t>(size),
                         static_cast<std::uint32_t>(size / 3 + 64 + generator_() % 1000), stored,
                         0});
      frame_begin_ += size;
    }
  }

  std::mt19937_64 generator_{20'240'501};
  TreeBuilder builder_;
  TreeBuilder::NodeId usr_, lib_, multiarch_, modules_, share_, doc_, bin_;
  std::vector<ManifestParts::Object> objects_;
  std::vector<Frame> frames_;
  std::int64_t build_time_ = 0;
  std::uint32_t empty_ = kNone;
  std::uint64_t files_ = 0;
  std::uint64_t raw_ = 0;
  std::uint64_t frame_begin_ = 0;
};

TEST(ManifestSizeTest, StaysWithinItsBounds) {
  SyntheticSystem system;
  std::vector<std::uint32_t> order;
  const auto tree = system.builder().build(&order);
  ASSERT_TRUE(tree) << tree.error().message();
  const auto written = Manifest::write(system.parts(*tree, order));
  ASSERT_TRUE(written) << written.error().message();
  Anchor anchor;
  anchor.manifest = written->digest;
  anchor.header_size = written->header_size;
  anchor.manifest_size = written->bytes.size();
  anchor.data_layers = {{{}, anchor.manifest_size, {}}};
  const auto header = Manifest::read_header(written->bytes, anchor);
  ASSERT_TRUE(header) << header.error().message();

  const auto files = static_cast<double>(system.files());
  const auto raw = static_cast<double>(system.raw_size());
  const auto mount = static_cast<double>(Manifest::mount_size(*header));
  const auto whole = static_cast<double>(written->bytes.size());
  RecordProperty("files", std::to_string(system.files()));
  RecordProperty("mount_bytes_per_file", std::to_string(mount / files));
  RecordProperty("bytes_per_file", std::to_string(whole / files));
  // What is promised.
  EXPECT_LE(mount, 0.001 * raw + 40 * files);
  EXPECT_LE(whole, 0.01 * raw + 80 * files);
  // What is reached, so that a loss is noticed. Names and sizes here are more random than real
  // ones.
  EXPECT_LE(mount, 9 * files);
  EXPECT_LE(whole, 0.001 * raw + 45 * files);
}

}  // namespace
}  // namespace imsy::cdc
