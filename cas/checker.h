// Checker: goes over a store and holds manifests, index and files against each other. Internal to
// cas; Store::check() is its face.
//
// Beside others who use the store: files and index change one after the other there, so what looks
// wrong is looked at twice. Without descriptors or memory it ends with kUnavailable, since nothing
// is known of the disk then. Memory: one CDC manifest, one chunk, and the names in one folder.
// Threads: belongs to one thread. Waits for the disk, and for the pace that it is to keep.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "cas/check.h"
#include "cas/disk_reader.h"
#include "cas/index.h"
#include "cas/index_scan.h"
#include "cas/layout.h"
#include "cas/rebuild.h"

namespace imsy::cas {

class Checker {
 public:
  // What the store does for it, under its locks.
  struct Hands {
    // These chunks of the object are missing from now on, and everything that its file cannot give.
    std::function<Status(const cdc::Manifest&, std::uint32_t object,
                         std::span<const std::uint32_t> bad, std::string_view why)>
        take_off;
    // Gives the object up unless it is open or owned. True: done.
    std::function<Result<bool>(const cdc::ObjectId&)> discard;
    std::function<bool(const cdc::ObjectId&)> is_open;
    // Makes the image the owner of its objects, and of nothing else.
    std::function<Status(const Digest& manifest)> own_again;
  };

  // Layout, index and events outlive it.
  Checker(const Layout& layout, Index& index, Hands hands, const CheckOptions& options,
          const CheckEvents& events, const std::stop_token& stop);

  Result<CheckSummary> run();

 private:
  using Clock = std::chrono::steady_clock;
  // One object of an image.
  struct Subject {
    const cdc::Manifest& manifest;
    std::uint32_t object = 0;
    std::uint64_t size = 0;  // bytes
    bool resident = false;   // the image is on record as that
    const cdc::ObjectId& id() const { return manifest.objects().id(object); }
  };
  // What is wrong with a file; nothing when `what` is empty.
  struct Fault {
    std::string what;
    bool only_mode = false;
  };

  Status check_index();
  Status check_images();
  Status check_image(const Digest& manifest);
  Status check_owners(const IndexScan::Image& image, std::uint64_t lacking, std::uint64_t objects);
  Status check_object(const Subject& subject);
  Status check_chunks(const Subject& subject);
  Status check_unowned();
  Status check_unowned(const cdc::ObjectId& id);
  Status check_folders();
  Status check_stray(Place place, const Layout::ObjectFile& file);

  Result<Fault> look(const cdc::ObjectId& id, const std::optional<Subject>& subject);
  Result<Fault> look_twice(const cdc::ObjectId& id, const std::optional<Subject>& subject);
  // The chunks whose bytes on the disk are others, or cannot be read; and why.
  Result<std::vector<std::uint32_t>> bad_chunks(const Subject& subject, std::string& why);
  // What is wrong with the content of an object without a chunk list, or "".
  Result<std::string> content_fault(const cdc::ObjectId& id);
  bool seen_with_another(const std::vector<Digest>& owners, const Digest& manifest) const;
  Status mend_mode(const cdc::ObjectId& id);
  Status take_off(const Subject& subject, std::span<const std::uint32_t> bad,
                  const std::string& why);
  // Reports it. With repair it runs `mend` first, which says in `mended` what it did.
  void report(Finding finding, const std::function<Result<bool>()>& mend, std::string mended);
  void passed(const CheckPosition& position);
  // kCancelled when the check is to stop. Waits until so many bytes may be read.
  Status pace(std::uint64_t bytes);

  const Layout& layout_;
  Index& index_;
  const Hands hands_;
  const CheckOptions options_;
  const CheckEvents& events_;
  const std::stop_token stop_;

  std::optional<IndexScan> scan_;
  CheckPosition position_;
  CheckSummary summary_;
  std::vector<Digest> unreadable_;  // images
  Clock::time_point may_read_ = Clock::time_point::min();
};

}  // namespace imsy::cas
