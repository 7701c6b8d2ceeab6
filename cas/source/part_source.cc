#include "cas/source/part_source.h"

#include <atomic>
#include <utility>

#include "common/thread_pool.h"

namespace imsy::cas {
namespace {

const Error kPartCancelled(Errc::kCancelled, "nobody waits for it any more");

class PartSource final : public BlobSource {
 public:
  PartSource(oci::ImageSource& place, unsigned threads)
      : place_(place), name_(place.name()), pool_("blobs", threads) {}
  ~PartSource() override { ending_ = true; }  // what waits is cancelled before the pool has ended

  const std::string& name() const override { return name_; }
  const std::string& host() const override { return name_; }
  Cost cost() const override { return {}; }

  Cancel read(const BlobRange& range, std::shared_ptr<BlobReceiver> receiver) override {
    const auto cancelled = std::make_shared<std::atomic<bool>>(false);
    pool_.submit([this, range, receiver = std::move(receiver), cancelled] {
      receiver->end(ending_ || *cancelled ? kPartCancelled : give(range, *receiver));
    });
    return [cancelled] { *cancelled = true; };
  }

  Time usable_at() const override { return {}; }
  void distrust(const Digest& /*blob*/) override {}

 private:
  Status give(const BlobRange& range, BlobReceiver& receiver) {
    oci::Descriptor blob;
    blob.digest = range.blob;
    blob.size = range.blob_size;
    IMSY_TRY_ASSIGN(const Bytes part, place_.read_part(blob, range.offset, range.length));
    receiver.begin("");
    receiver.take(part);
    return {};
  }

  oci::ImageSource& place_;
  const std::string name_;
  std::atomic<bool> ending_{false};
  ThreadPool pool_;  // the last one: its threads use the others
};

}  // namespace

std::shared_ptr<BlobSource> make_part_source(oci::ImageSource& place, unsigned threads) {
  return std::make_shared<PartSource>(place, threads);
}

}  // namespace imsy::cas
