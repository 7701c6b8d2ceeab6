#include "tests/unit/fuse/fake_image.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "cdc/frame.h"
#include "cdc/object_id.h"
#include "common/digest.h"

namespace imsy::fuse::testing {
namespace {

constexpr std::uint32_t kChunkSize = 64u << 10;

// A fixture that cannot be made is a mistake in the test itself.
template <typename T>
T must(Result<T> result) {
  if (!result) {
    std::fprintf(stderr, "the fixture cannot be made: %s\n", result.error().message().c_str());
    std::abort();
  }
  return std::move(*result);
}

// Objects one after the other in the raw address space, each chunk in a frame of its own.
std::shared_ptr<const cdc::Manifest> make_manifest(const cdc::Tree& tree,
                                                   const std::vector<std::string>& contents) {
  cdc::ManifestParts parts;
  parts.tree = &tree;
  std::uint64_t raw = 0;
  std::uint64_t stored = 0;
  cdc::FrameEncoder encoder(1);
  for (const std::string& content : contents) {
    cdc::ManifestParts::Object object;
    object.raw_offset = raw;
    for (std::size_t at = 0; at < content.size(); at += kChunkSize) {
      const auto chunk = as_bytes(std::string_view(content).substr(at, kChunkSize));
      const auto size = static_cast<std::uint32_t>(chunk.size());
      object.digests.push_back(sha256(chunk));
      object.sizes.push_back(size);
      const Bytes frame = encoder.encode(chunk);
      const auto stored_size = static_cast<std::uint32_t>(frame.size());
      parts.frames.push_back({.raw_offset = raw,
                              .raw_size = size,
                              .stored_size = stored_size,
                              .stored_offset = stored,
                              .layer = 0});
      raw += size;
      stored += stored_size;
    }
    parts.objects.push_back(std::move(object));
  }
  const auto written = must(cdc::Manifest::write(parts));
  cdc::Anchor anchor;
  anchor.manifest = written.digest;
  anchor.header_size = written.header_size;
  anchor.manifest_size = written.bytes.size();
  anchor.manifest_offset = stored + cdc::kSkippableHeaderSize;
  anchor.data_layers.push_back({.blob = sha256("blob"),
                                .size = anchor.manifest_offset + anchor.manifest_size,
                                .diff_id = sha256("layer")});
  return must(cdc::Manifest::read(written.bytes, anchor));
}

cdc::TreeBuilder::Attributes attributes(cdc::NodeType type, const Look& look) {
  cdc::TreeBuilder::Attributes attributes;
  attributes.type = type;
  attributes.mode = look.mode;
  attributes.uid = look.uid;
  attributes.gid = look.gid;
  attributes.mtime_s = look.mtime_s;
  attributes.mtime_ns = look.mtime_ns;
  attributes.xattrs = look.xattrs;
  return attributes;
}

}  // namespace

FakeImage::FakeImage(std::shared_ptr<const cdc::Manifest> manifest,
                     std::vector<std::string> contents)
    : manifest_(std::move(manifest)), contents_(std::move(contents)) {}

std::uint64_t FakeImage::read(std::uint32_t object, std::uint64_t offset, std::uint32_t length,
                              ReadDone done) {
  std::optional<Result<Bytes>> answer;
  std::uint64_t number = 0;
  {
    MutexLock lock(mu_);
    if (held_.contains(object)) {
      number = ++last_number_;
      waiting_.emplace(number, Waiting{object, offset, length, std::move(done)});
      changed_.notify_all();
    } else if (const auto found = failing_.find(object); found != failing_.end()) {
      answer = found->second;
    } else {
      answer = bytes(object, offset, length);
    }
  }
  if (answer) done(std::move(*answer));
  return number;
}

Bytes FakeImage::bytes(std::uint32_t object, std::uint64_t offset, std::uint32_t length) const {
  auto text = std::string_view(contents_.at(object)).substr(offset, length);
  if (short_.contains(object)) text.remove_suffix(1);
  const auto raw = as_bytes(text);
  return Bytes(raw.begin(), raw.end());
}

void FakeImage::cancel(std::uint64_t read) {
  ReadDone done;
  {
    MutexLock lock(mu_);
    ++cancels_;
    changed_.notify_all();
    const auto found = waiting_.find(read);
    if (ignore_cancel_ || found == waiting_.end()) return;
    done = std::move(found->second.done);
    waiting_.erase(found);
  }
  done(Error(Errc::kCancelled, "cancelled"));
}

void FakeImage::fill(std::function<void(Status)> done) {
  done({});
}

void FakeImage::hold(std::uint32_t object) {
  MutexLock lock(mu_);
  held_.insert(object);
}

std::vector<FakeImage::Waiting> FakeImage::take_waiting(std::uint32_t object) {
  std::vector<Waiting> taken;
  for (auto at = waiting_.begin(); at != waiting_.end();) {
    if (at->second.object != object) {
      ++at;
      continue;
    }
    taken.push_back(std::move(at->second));
    at = waiting_.erase(at);
  }
  return taken;
}

void FakeImage::let_go(std::uint32_t object) {
  std::vector<std::pair<ReadDone, Bytes>> answers;
  {
    MutexLock lock(mu_);
    held_.erase(object);
    for (Waiting& read : take_waiting(object)) {
      answers.emplace_back(std::move(read.done), bytes(object, read.offset, read.length));
    }
  }
  for (auto& [done, answer] : answers) done(std::move(answer));
}

void FakeImage::fail_waiting(std::uint32_t object, const Error& error) {
  std::vector<Waiting> reads;
  {
    MutexLock lock(mu_);
    held_.erase(object);
    reads = take_waiting(object);
  }
  for (const Waiting& read : reads) read.done(error);
}

void FakeImage::fail(std::uint32_t object, std::optional<Error> error) {
  MutexLock lock(mu_);
  failing_.erase(object);
  if (error) failing_.emplace(object, std::move(*error));
}

void FakeImage::cut_short(std::uint32_t object) {
  MutexLock lock(mu_);
  short_.insert(object);
}

void FakeImage::ignore_cancel() {
  MutexLock lock(mu_);
  ignore_cancel_ = true;
}

void FakeImage::wait_for_waiting(std::size_t count) {
  MutexLock lock(mu_);
  while (waiting_.size() < count) changed_.wait(mu_);
}

void FakeImage::wait_for_cancels(std::size_t count) {
  MutexLock lock(mu_);
  while (cancels_ < count) changed_.wait(mu_);
}

std::size_t FakeImage::waiting() const {
  MutexLock lock(mu_);
  return waiting_.size();
}

std::size_t FakeImage::cancels() const {
  MutexLock lock(mu_);
  return cancels_;
}

ImageBuilder::ImageBuilder(const Look& root) : tree_(attributes(cdc::NodeType::kDirectory, root)) {}

ImageBuilder::Node ImageBuilder::directory(Node parent, const std::string& name, const Look& look) {
  return tree_.add(parent, name, attributes(cdc::NodeType::kDirectory, look));
}

ImageBuilder::Node ImageBuilder::file(Node parent, const std::string& name, std::string content,
                                      const Look& look) {
  auto file = attributes(cdc::NodeType::kRegular, look);
  // Equal contents are one object.
  const auto [at, is_new] =
      objects_.try_emplace(content, static_cast<std::uint32_t>(contents_.size()));
  file.object = at->second;
  if (is_new) {
    tree_.add_object(content.size());
    contents_.push_back(std::move(content));
  }
  return tree_.add(parent, name, std::move(file));
}

ImageBuilder::Node ImageBuilder::symlink(Node parent, const std::string& name,
                                         const std::string& target, const Look& look) {
  auto link = attributes(cdc::NodeType::kSymlink, look);
  link.mode = 0777;
  link.target = target;
  return tree_.add(parent, name, std::move(link));
}

ImageBuilder::Node ImageBuilder::device(Node parent, const std::string& name, cdc::NodeType type,
                                        std::uint32_t major, std::uint32_t minor,
                                        const Look& look) {
  auto device = attributes(type, look);
  device.device_major = major;
  device.device_minor = minor;
  return tree_.add(parent, name, std::move(device));
}

ImageBuilder::Node ImageBuilder::fifo(Node parent, const std::string& name, const Look& look) {
  return tree_.add(parent, name, attributes(cdc::NodeType::kFifo, look));
}

void ImageBuilder::link(Node parent, const std::string& name, Node node) {
  tree_.add_link(parent, name, node);
}

std::shared_ptr<FakeImage> ImageBuilder::build() {
  std::vector<std::uint32_t> order;
  const cdc::Tree tree = must(tree_.build(&order));
  std::vector<std::string> contents;
  for (const std::uint32_t old : order) contents.push_back(contents_[old]);
  auto manifest = make_manifest(tree, contents);
  return std::make_shared<FakeImage>(std::move(manifest), std::move(contents));
}

std::uint32_t inode_at(const cas::Image& image, const std::string& path) {
  const cdc::Tree& tree = image.manifest()->tree();
  std::uint32_t at = 0;
  std::string_view rest = path;
  while (!rest.empty()) {
    const auto end = std::min(rest.find('/'), rest.size());
    const cdc::Entry* entry = tree.find(tree.inode(at), rest.substr(0, end));
    if (entry == nullptr) {
      std::fprintf(stderr, "the fixture has no %s\n", path.c_str());
      std::abort();
    }
    at = entry->inode;
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return at;
}

std::uint32_t object_at(const cas::Image& image, const std::string& path) {
  return image.manifest()->tree().inode(inode_at(image, path)).value;
}

}  // namespace imsy::fuse::testing
