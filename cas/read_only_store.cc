#include "cas/read_only_store.h"

#include "cas/index.h"
#include "cas/rebuild.h"
#include "cas/sqlite.h"

namespace imsy::cas {
namespace {

Error refused() {
  return Error(Errc::kFailedPrecondition, "the store is open for reading only");
}

class ReadOnlyStore final : public Store {
 public:
  explicit ReadOnlyStore(Layout layout) : layout_(std::move(layout)) {}

  Status add_image(const std::shared_ptr<const cdc::Manifest>&, ByteSpan, const std::string&,
                   const std::string&) override {
    return refused();
  }
  Result<std::shared_ptr<const cdc::Manifest>> load_image(const Digest& manifest) override {
    IMSY_TRY_ASSIGN(auto image, read_image(layout_, manifest));
    return std::move(image.manifest);
  }
  Result<std::vector<Digest>> images() override { return refused(); }
  Status remove_image(const Digest&) override { return refused(); }
  Status mark_resident(const cdc::Manifest&) override { return refused(); }
  Result<bool> is_resident(const Digest&) override { return refused(); }
  Result<bool> is_shrunk(const Digest&) override { return refused(); }
  Status use_image(const Digest&) override { return refused(); }
  Status pin(const Digest&, bool) override { return refused(); }
  Result<std::shared_ptr<Object>> open_object(const cdc::Manifest&, std::uint32_t,
                                              const std::string&) override {
    return refused();
  }
  Status put_chunk(Object&, std::uint32_t, ByteSpan) override { return refused(); }
  Status try_room(std::uint64_t) override { return refused(); }
  Result<std::optional<Bytes>> find_chunk(const cdc::Chunk&, const std::string&) override {
    return refused();
  }
  std::vector<bool> likely_chunks(std::span<const cdc::Chunk> chunks, const std::string&) override {
    return std::vector<bool>(chunks.size());
  }
  Result<Collected> collect(Extent, std::uint64_t) override { return refused(); }
  void set_closer(std::function<void()>) override {}
  Result<CheckSummary> check(const CheckOptions&, const CheckEvents&,
                             const std::stop_token&) override {
    return refused();
  }
  Status set_limits(std::uint64_t, unsigned) override { return refused(); }
  std::vector<Problem> problems() const override { return {}; }
  Result<StoreStats> stats() override {
    // Without a log nobody has the index open, and a database of our own would only leave one.
    std::error_code ignored;
    const bool in_use = std::filesystem::exists(layout_.index_path().string() + "-wal", ignored);
    IMSY_TRY_ASSIGN(auto database,
                    Database::open(layout_.index_path(),
                                   in_use ? Database::Mode::kRead : Database::Mode::kImmutable));
    StoreStats stats;
    IMSY_TRY(Index::stats(database, stats));
    IMSY_TRY(add_file_stats(layout_, stats));
    return stats;
  }

 private:
  const Layout layout_;
};

}  // namespace

Result<std::unique_ptr<Store>> open_read_only(const std::filesystem::path& root) {
  IMSY_TRY_ASSIGN(Layout layout, Layout::open(root, /*lock=*/false));
  return std::unique_ptr<Store>(std::make_unique<ReadOnlyStore>(std::move(layout)));
}

Status add_file_stats(const Layout& layout, StoreStats& stats) {
  IMSY_TRY_ASSIGN(const Layout::FreeSpace space, layout.free_space());
  stats.disk_bytes = space.bytes;
  stats.free_bytes = space.free_bytes;
  IMSY_TRY(layout.each_in_trash([&](std::uint64_t allocated) {
    ++stats.trash_objects;
    stats.trash_bytes += allocated;
  }));
  return layout.each_object(Place::kPartial, [&](const Layout::ObjectFile& file) {
    ++stats.partial_objects;
    stats.partial_bytes += file.allocated;
  });
}

}  // namespace imsy::cas
