#include "converter/data_layer.h"

#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <future>
#include <string_view>
#include <unordered_set>
#include <utility>

#include "common/thread_pool.h"

namespace imsy::converter {
namespace {

// Encoders are expensive to make; each task borrows one.
class EncoderPool {
 public:
  explicit EncoderPool(int level) : level_(level) {}
  Bytes encode(ByteSpan raw) {
    auto encoder = take();
    Bytes stored = encoder.encode(raw);
    MutexLock lock(mu_);
    idle_.push_back(std::move(encoder));
    return stored;
  }

 private:
  cdc::FrameEncoder take() {
    MutexLock lock(mu_);
    if (idle_.empty()) return cdc::FrameEncoder(level_);
    auto encoder = std::move(idle_.back());
    idle_.pop_back();
    return encoder;
  }
  const int level_;
  Mutex mu_;
  std::vector<cdc::FrameEncoder> idle_ IMSY_GUARDED_BY(mu_);
};

// Cuts the tar stream into frames, has them compressed, and writes them in order.
class FrameWriter {
 public:
  FrameWriter(const DataLayerOptions& options, ByteWriter& output, Progress& progress)
      : in_flight_max_(4 * std::size_t{options.jobs}),
        output_(output),
        progress_(progress),
        bases_(options.bases),
        known_(options.known),
        encoder_(cdc::FrameEncoder::describe(options.level)),
        encoders_(options.level),
        pool_("compress", options.jobs) {}

  // Tar headers and padding: they go into the frame of the chunk behind them.
  Status add_metadata(ByteSpan bytes) {
    append(metadata_, bytes);
    raw_size_ += bytes.size();
    if (metadata_.size() + current_.size() <= kind_.target) return {};
    if (!current_.empty()) IMSY_TRY(close_frame());
    std::swap(current_, metadata_);
    return current_.size() > kind_.target ? close_frame() : Status();
  }

  // A whole chunk, for a frame of about `target` raw bytes. The frame before it is closed where
  // that leaves it nearest to its target, and when it is of another kind. `fill` puts the chunk's
  // bytes where it is told.
  template <typename Fill>
  Status add_chunk(const cdc::ChunkDigest& digest, std::uint32_t size, std::uint32_t target,
                   Fill fill) {
    const Kind kind{target, bases_ && bases_->chunks().contains(digest)};
    const std::size_t with_half = current_.size() + metadata_.size() + size / 2;
    if (!current_.empty() && (kind != kind_ || with_half > kind.target)) IMSY_TRY(close_frame());
    kind_ = kind;
    append(current_, metadata_);
    metadata_.clear();
    const std::size_t begin = current_.size();
    current_.resize(begin + size);
    if (bases_ || known_) chunks_.push_back(digest);
    raw_size_ += size;
    return fill(std::span(current_).subspan(begin));
  }

  Status finish() {
    append(current_, metadata_);
    metadata_.clear();
    if (!current_.empty()) IMSY_TRY(close_frame());
    while (!in_flight_.empty()) IMSY_TRY(write_next());
    return {};
  }

  // Bytes behind the frames, hashed and written as they are.
  Status write_behind(ByteSpan bytes) {
    blob_hash_.update(bytes);
    stored_size_ += bytes.size();
    return output_.write(bytes);
  }

  std::uint64_t raw_size() const { return raw_size_; }
  std::uint64_t stored_size() const { return stored_size_; }
  const std::vector<cdc::Frame>& frames() const { return frames_; }
  const std::string& encoder() const { return encoder_; }
  std::uint64_t reused() const { return reused_; }
  Digest finish_diff_id() { return raw_hash_.finish(); }
  Digest finish_blob() { return blob_hash_.finish(); }

 private:
  // What chunks must have in common to share a frame.
  struct Kind {
    std::uint32_t target = cdc::kSmallFilesFrame;  // about how many raw bytes it has
    bool known = false;                            // to the nodes
    bool operator==(const Kind&) const = default;
  };
  struct Pending {
    std::uint32_t raw_size = 0;
    std::future<Bytes> stored;
  };

  Status close_frame() {
    while (in_flight_.size() >= in_flight_max_) IMSY_TRY(write_next());
    raw_hash_.update(current_);
    auto raw = std::make_shared<Bytes>(std::exchange(current_, {}));
    auto task = std::make_shared<std::packaged_task<Bytes()>>(
        [this, raw, chunks = std::exchange(chunks_, {})] { return encode(*raw, chunks); });
    in_flight_.push_back({static_cast<std::uint32_t>(raw->size()), task->get_future()});
    pool_.submit([task] { (*task)(); });
    return {};
  }

  // On a thread of the pool.
  Bytes encode(ByteSpan raw, std::span<const cdc::ChunkDigest> chunks) {
    auto known = bases_ ? bases_->frames().find(chunks, raw, encoder_) : std::nullopt;
    if (!known && known_) known = known_->find(chunks, raw, encoder_);
    if (!known) return encoders_.encode(raw);
    reused_.fetch_add(1, std::memory_order_relaxed);
    return std::move(*known);
  }

  Status write_next() {
    Pending next = std::move(in_flight_.front());
    in_flight_.pop_front();
    const Bytes stored = next.stored.get();
    cdc::Frame frame;
    frame.raw_offset = frames_raw_;
    frame.raw_size = next.raw_size;
    frame.stored_size = static_cast<std::uint32_t>(stored.size());
    frame.stored_offset = stored_size_;
    frames_raw_ += next.raw_size;
    frames_.push_back(frame);
    progress_.add_written(next.raw_size, stored.size());
    return write_behind(stored);
  }

  const std::size_t in_flight_max_;
  ByteWriter& output_;
  Progress& progress_;
  const std::shared_ptr<const BaseImages> bases_;
  const std::shared_ptr<const KnownFrames> known_;
  const std::string encoder_;
  std::atomic<std::uint64_t> reused_{0};  // frames
  Kind kind_;                             // of the frame being filled
  Bytes current_;                         // what is in it
  std::vector<cdc::ChunkDigest> chunks_;  // likewise, when frames are looked for
  Bytes metadata_;                        // not yet in a frame
  std::uint64_t raw_size_ = 0;
  std::uint64_t stored_size_ = 0;
  std::uint64_t frames_raw_ = 0;  // raw bytes in frames_
  std::vector<cdc::Frame> frames_;
  Hasher raw_hash_;
  Hasher blob_hash_;
  std::deque<Pending> in_flight_;
  EncoderPool encoders_;
  ThreadPool pool_;  // last: its tasks use the encoders
};

// Small files are read together with their neighbours, large ones in pieces.
std::uint32_t frame_target(std::uint64_t file_size) {
  return file_size <= cdc::kSmallFile ? cdc::kSmallFilesFrame : cdc::kLargeFileFrame;
}

// A content, chunk by chunk, and the padding behind it.
Status write_content(const ContentSpool& spool, std::uint32_t content, std::uint32_t target,
                     FrameWriter& frames) {
  static constexpr std::byte kZeros[512] = {};
  const auto digests = spool.digests(content);
  const auto sizes = spool.chunk_sizes(content);
  std::uint64_t offset = 0;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    IMSY_TRY(frames.add_chunk(digests[i], sizes[i], target, [&](std::span<std::byte> place) {
      return spool.read(content, offset, place);
    }));
    offset += sizes[i];
  }
  return frames.add_metadata(std::span(kZeros).first(oci::tar::padding(offset)));
}

// The whole tar. Returns for each object where its first copy begins.
Result<std::vector<std::uint64_t>> write_tar(const PlannedImage& image, const ContentSpool& spool,
                                             FrameWriter& frames) {
  static constexpr std::byte kEnd[oci::tar::kEndSize] = {};
  constexpr std::uint64_t kNowhere = ~std::uint64_t{0};
  std::vector<std::uint64_t> offsets(image.contents.size(), kNowhere);
  std::size_t profiled = image.profiled;
  IMSY_TRY(for_each_tar_entry(
      image.tree, image.order, [&](const oci::tar::Header& header, std::uint32_t object) -> Status {
        auto encoded = oci::tar::encode_header(header);
        if (!encoded) return encoded.error().with_context("tar header of " + header.name);
        IMSY_TRY(frames.add_metadata(as_bytes(*encoded)));
        if (object == cdc::kNone || header.size == 0) return {};
        if (offsets[object] == kNowhere) offsets[object] = frames.raw_size();
        std::uint32_t target = frame_target(header.size);
        if (profiled > 0) {
          --profiled;
          target = cdc::kFrontFrame;
        }
        return write_content(spool, image.contents[object], target, frames);
      }));
  IMSY_TRY(frames.add_metadata(kEnd));
  IMSY_TRY(frames.finish());
  return offsets;
}

Result<cdc::Manifest::Written> make_manifest(const PlannedImage& image, const ContentSpool& spool,
                                             const cdc::ChunkerParameters& chunker,
                                             const std::vector<std::uint64_t>& offsets,
                                             const std::vector<cdc::Frame>& frames) {
  cdc::ManifestParts parts;
  parts.chunker = chunker;
  parts.tree = &image.tree;
  parts.frames = frames;
  parts.objects.resize(offsets.size());
  for (std::size_t i = 0; i < offsets.size(); ++i) {
    const auto digests = spool.digests(image.contents[i]);
    const auto sizes = spool.chunk_sizes(image.contents[i]);
    parts.objects[i].raw_offset = offsets[i];
    parts.objects[i].digests.assign(digests.begin(), digests.end());
    parts.objects[i].sizes.assign(sizes.begin(), sizes.end());
  }
  return cdc::Manifest::write(parts);
}

cdc::TreeBuilder::Attributes attributes_of(LayerTree::Inode& inode) {
  cdc::TreeBuilder::Attributes attributes;
  attributes.type = inode.type;
  attributes.mode = inode.mode;
  attributes.uid = inode.uid;
  attributes.gid = inode.gid;
  attributes.mtime_s = inode.mtime_s;
  attributes.mtime_ns = inode.mtime_ns;
  attributes.xattrs = std::move(inode.xattrs);
  attributes.target = std::move(inode.target);
  attributes.device_major = inode.device_major;
  attributes.device_minor = inode.device_minor;
  return attributes;
}

// What becomes of the layers' tree: objects are numbered as they are met.
struct Rebuilt {
  cdc::TreeBuilder builder;
  std::vector<std::uint32_t> contents;  // object -> content in the spool
};

// Each node is freed as soon as it is there: the two trees together would take too much memory.
Rebuilt rebuild(LayerTree layers, const ContentSpool& spool) {
  auto root = layers.take(LayerTree::kRoot);
  Rebuilt made{cdc::TreeBuilder(attributes_of(root)), {}};
  std::vector<std::uint32_t> object_of(spool.count(), cdc::kNone);
  std::vector<std::uint32_t> built(layers.inode_count(), cdc::kNone);
  using Directory = std::pair<std::unique_ptr<LayerTree::Directory>, cdc::TreeBuilder::NodeId>;
  std::deque<Directory> directories;
  directories.emplace_back(std::move(root.directory), cdc::TreeBuilder::kRoot);
  for (; !directories.empty(); directories.pop_front()) {
    auto& [directory, node] = directories.front();
    while (!directory->children.empty()) {
      auto child = directory->children.extract(directory->children.begin());
      std::uint32_t& known = built[child.mapped().inode];
      if (known != cdc::kNone) {
        made.builder.add_link(node, std::move(child.key()), known);
        continue;
      }
      auto inode = layers.take(child.mapped().inode);
      auto attributes = attributes_of(inode);
      if (inode.type == cdc::NodeType::kRegular) {
        std::uint32_t& object = object_of[inode.content];
        if (object == cdc::kNone) {
          object = made.builder.add_object(spool.size(inode.content));
          made.contents.push_back(inode.content);
        }
        attributes.object = object;
      }
      known = made.builder.add(node, std::move(child.key()), std::move(attributes));
      if (inode.directory) directories.emplace_back(std::move(inode.directory), known);
    }
  }
  return made;
}

// Files in the tar, with their headers; other entries are next to nothing.
std::uint64_t estimate_tar(const cdc::Tree& tree) {
  std::uint64_t bytes = 0;
  for (std::uint32_t i = 0; i < tree.inode_count(); ++i) {
    const cdc::Inode& inode = tree.inode(i);
    if (inode.type == cdc::NodeType::kRegular) bytes += 512 + tree.object_size(inode.value);
  }
  return bytes;
}

// The objects that the profile names, in its order; `unknown` counts what names none.
std::vector<std::uint32_t> objects_of(const cdc::Profile& profile, const cdc::Tree& tree,
                                      std::uint64_t& unknown) {
  std::vector<std::uint32_t> objects;
  std::unordered_set<std::string_view> seen;
  for (const auto& access : profile.accesses()) {
    if (!seen.insert(access.path).second) continue;
    const cdc::Inode* inode = tree.lookup(access.path);
    if (inode != nullptr && inode->type == cdc::NodeType::kRegular) {
      objects.push_back(inode->value);
    } else {
      ++unknown;
    }
  }
  return objects;
}

// Side by side, the objects with chunks that no base has fill frames that hold nothing else, and
// few ranges that an upgrade fetches.
void append_new(const std::vector<std::uint32_t>& contents, const ContentSpool& spool,
                const BaseImages& bases, std::vector<std::uint32_t>& objects) {
  for (std::uint32_t object = 0; object < contents.size(); ++object) {
    const auto digests = spool.digests(contents[object]);
    const bool is_new = std::any_of(digests.begin(), digests.end(), [&](const auto& digest) {
      return !bases.chunks().contains(digest);
    });
    if (is_new) objects.push_back(object);
  }
}

}  // namespace

Result<PlannedImage> plan_image(LayerTree layers, const ContentSpool& spool,
                                const cdc::Profile& profile, const BaseImages* bases) {
  PlannedImage image;
  {
    auto rebuilt = rebuild(std::move(layers), spool);
    std::vector<std::uint32_t> order;
    IMSY_TRY_ASSIGN(image.tree, rebuilt.builder.build(&order));
    for (const std::uint32_t old : order) image.contents.push_back(rebuilt.contents[old]);
  }
  // The other trees were made of small pieces, which the large arrays to come cannot use.
  ::malloc_trim(0);
  auto front = objects_of(profile, image.tree, image.unknown_accesses);
  image.known_accesses = front.size();
  if (bases != nullptr) append_new(image.contents, spool, *bases, front);
  image.order = TarOrder::with_front(image.tree, front);
  image.profiled = std::min<std::size_t>(image.known_accesses, image.order.front().size());
  return image;
}

Result<DataLayer> write_data_layer(const PlannedImage& image, const ContentSpool& spool,
                                   const DataLayerOptions& options, ByteWriter& output,
                                   Progress& progress) {
  progress.begin_writing(estimate_tar(image.tree));
  FrameWriter frames(options, output, progress);
  IMSY_TRY_ASSIGN(const auto offsets, write_tar(image, spool, frames));
  IMSY_TRY_ASSIGN(const auto manifest,
                  make_manifest(image, spool, options.chunker, offsets, frames.frames()));
  IMSY_TRY_ASSIGN(const Bytes header, cdc::skippable_header(manifest.bytes.size()));
  IMSY_TRY(frames.write_behind(header));

  DataLayer layer;
  layer.raw_size = frames.raw_size();
  layer.frames = frames.frames().size();
  layer.reused_frames = frames.reused();
  layer.encoder = frames.encoder();
  for (const std::uint32_t content : image.contents) {
    layer.chunks += spool.chunk_sizes(content).size();
  }
  layer.manifest_size = manifest.bytes.size();
  layer.anchor.manifest = manifest.digest;
  layer.anchor.header_size = manifest.header_size;
  layer.anchor.manifest_size = manifest.bytes.size();
  layer.anchor.manifest_offset = frames.stored_size();
  IMSY_TRY(frames.write_behind(manifest.bytes));
  layer.anchor.data_layers.push_back(
      {frames.finish_blob(), frames.stored_size(), frames.finish_diff_id()});
  // Reading it back proves, before anything is published, that every node will accept it.
  IMSY_TRY_ASSIGN(const auto checked, cdc::Manifest::read(manifest.bytes, layer.anchor));
  layer.mount_size = cdc::Manifest::mount_size(checked->header());
  return layer;
}

}  // namespace imsy::converter
