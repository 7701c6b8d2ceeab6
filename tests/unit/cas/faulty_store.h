// FaultyStore: a store whose disk a test can make fail. Everything else is the real one.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <utility>

#include "cas/store.h"
#include "common/mutex.h"

namespace imsy::cas {

class FaultyStore final : public Store {
 public:
  explicit FaultyStore(Store& store) : store_(store) {}

  // From now on these calls fail with this error; nullopt: they work again.
  void fail_put(std::optional<Error> error) { set(put_, std::move(error)); }
  void fail_open(std::optional<Error> error) { set(open_, std::move(error)); }
  void fail_resident(std::optional<Error> error) { set(resident_, std::move(error)); }
  std::uint64_t failed() const { return failed_; }  // calls so far
  // Times that try_room() said no, as it does while puts fail.
  std::uint64_t without_room() const { return without_room_; }

  Status add_image(const std::shared_ptr<const cdc::Manifest>& manifest, ByteSpan bytes,
                   const std::string& anchor, const std::string& domain) override {
    return store_.add_image(manifest, bytes, anchor, domain);
  }
  Result<std::shared_ptr<const cdc::Manifest>> load_image(const Digest& manifest) override {
    return store_.load_image(manifest);
  }
  Result<std::vector<Digest>> images() override { return store_.images(); }
  Status remove_image(const Digest& manifest) override { return store_.remove_image(manifest); }
  Status mark_resident(const cdc::Manifest& manifest) override {
    if (auto error = get(resident_)) return *error;
    return store_.mark_resident(manifest);
  }
  Result<bool> is_resident(const Digest& manifest) override { return store_.is_resident(manifest); }
  Result<bool> is_shrunk(const Digest& manifest) override { return store_.is_shrunk(manifest); }
  Status use_image(const Digest& manifest) override { return store_.use_image(manifest); }
  Status pin(const Digest& manifest, bool pinned) override { return store_.pin(manifest, pinned); }
  Result<std::shared_ptr<Object>> open_object(const cdc::Manifest& manifest, std::uint32_t object,
                                              const std::string& domain) override {
    if (auto error = get(open_)) return *error;
    return store_.open_object(manifest, object, domain);
  }
  Status put_chunk(Object& object, std::uint32_t index, ByteSpan raw) override {
    if (auto error = get(put_)) return *error;
    return store_.put_chunk(object, index, raw);
  }
  Status try_room(std::uint64_t bytes) override {
    auto error = get(put_);
    if (!error) return store_.try_room(bytes);
    ++without_room_;
    return *error;
  }
  Result<std::optional<Bytes>> find_chunk(const cdc::Chunk& chunk,
                                          const std::string& domain) override {
    return store_.find_chunk(chunk, domain);
  }
  std::vector<bool> likely_chunks(std::span<const cdc::Chunk> chunks,
                                  const std::string& domain) override {
    return store_.likely_chunks(chunks, domain);
  }
  Result<Collected> collect(Extent extent, std::uint64_t bytes) override {
    return store_.collect(extent, bytes);
  }
  void set_closer(std::function<void()> close) override { store_.set_closer(std::move(close)); }
  Result<StoreStats> stats() override { return store_.stats(); }
  Status set_limits(std::uint64_t quota_bytes, unsigned free_floor_percent) override {
    return store_.set_limits(quota_bytes, free_floor_percent);
  }
  std::vector<Problem> problems() const override { return store_.problems(); }
  Result<CheckSummary> check(const CheckOptions& options, const CheckEvents& events,
                             const std::stop_token& stop) override {
    return store_.check(options, events, stop);
  }

 private:
  void set(std::optional<Error>& which, std::optional<Error> error) {
    MutexLock lock(mu_);
    which = std::move(error);
  }
  std::optional<Error> get(const std::optional<Error>& which) {
    MutexLock lock(mu_);
    if (which) ++failed_;
    return which;
  }

  Store& store_;
  std::atomic<std::uint64_t> failed_{0};
  std::atomic<std::uint64_t> without_room_{0};
  Mutex mu_;
  std::optional<Error> put_;
  std::optional<Error> open_;
  std::optional<Error> resident_;
};

}  // namespace imsy::cas
