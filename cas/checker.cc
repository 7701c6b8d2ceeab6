// On disk: docs/format/store.md.
#include "cas/checker.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <condition_variable>
#include <mutex>
#include <utility>

#include "cdc/chunker.h"
#include "common/sys.h"

namespace imsy::cas {
namespace {

using Part = CheckPosition::Part;

constexpr std::array<std::string_view, 4> kPartNames = {"index", "images", "unowned", "files"};
constexpr std::size_t kUnownedBatch = 1024;    // objects
constexpr std::uint64_t kWindow = 4ull << 20;  // bytes read at a time to be cut again
constexpr const char* kAskForRepair = "a check with repair mends it";
constexpr const char* kFetchedAgain = "taken off the record, so that it is fetched again";

std::string name_of(Place place, const cdc::ObjectId& id) {
  return std::string(place == Place::kObjects ? "objects/" : "partial/") + id.hex().substr(0, 2) +
         "/" + id.hex();
}

std::string_view type_name(mode_t mode) {
  if (S_ISLNK(mode)) return "a symlink";
  if (S_ISDIR(mode)) return "a directory";
  if (S_ISFIFO(mode)) return "a fifo";
  return "no regular file";
}

// The smallest digest that is greater; false: there is none.
bool advance(Digest& digest) {
  const auto bytes = digest.mutable_bytes();
  for (std::size_t i = bytes.size(); i-- > 0;) {
    bytes[i] = static_cast<std::byte>(std::to_integer<unsigned>(bytes[i]) + 1);
    if (bytes[i] != std::byte{0}) return true;
  }
  return false;
}

void wait_until(std::chrono::steady_clock::time_point then, const std::stop_token& stop) {
  std::mutex mu;
  std::condition_variable_any never;
  std::unique_lock lock(mu);
  never.wait_until(lock, stop, then, [] { return false; });
}

}  // namespace

std::string CheckPosition::to_text() const {
  return std::string(kPartNames[static_cast<std::size_t>(part)]) + " " + at.hex() + " " +
         std::to_string(number);
}

Result<CheckPosition> CheckPosition::parse(std::string_view text) {
  const Error none(Errc::kInvalid, "not the position of a check");
  const std::size_t first = text.find(' ');
  const std::size_t second = text.find(' ', first + 1);
  if (first == std::string_view::npos || second == std::string_view::npos) return none;
  const auto* const name = std::ranges::find(kPartNames, text.substr(0, first));
  const auto digest = Digest::parse_hex(text.substr(first + 1, second - first - 1));
  CheckPosition position;
  const char* const end = text.data() + text.size();
  const auto number = std::from_chars(text.data() + second + 1, end, position.number);
  if (name == kPartNames.end() || !digest || number.ec != std::errc() || number.ptr != end) {
    return none;
  }
  position.part = static_cast<Part>(name - kPartNames.begin());
  position.at = *digest;
  return position;
}

Checker::Checker(const Layout& layout, Index& index, Hands hands, const CheckOptions& options,
                 const CheckEvents& events, const std::stop_token& stop)
    : layout_(layout),
      index_(index),
      hands_(std::move(hands)),
      options_(options),
      events_(events),
      stop_(stop),
      position_(options.from) {}

Result<CheckSummary> Checker::run() {
  IMSY_TRY_ASSIGN(scan_, IndexScan::open(layout_));
  const auto next = [this](Part part) { passed({.part = part, .at = {}, .number = 0}); };
  if (position_.part == Part::kIndex) {
    IMSY_TRY(check_index());
    next(Part::kImages);
  }
  if (position_.part == Part::kImages) {
    IMSY_TRY(check_images());
    next(Part::kUnowned);
  }
  if (position_.part == Part::kUnowned) {
    IMSY_TRY(check_unowned());
    next(Part::kFiles);
  }
  IMSY_TRY(check_folders());
  return summary_;
}

// --- the index

Status Checker::check_index() {
  IMSY_TRY_ASSIGN(const std::string fault, scan_->fault());
  if (!fault.empty()) {
    report(
        {.where = "index.db", .what = fault},
        [this]() -> Result<bool> {
          layout_.mark_index_broken();
          return false;
        },
        "");
  }
  IMSY_TRY_ASSIGN(const std::uint64_t dangling, scan_->dangling_rows());
  if (dangling == 0) return {};
  report(
      {.where = "index.db",
       .what = std::to_string(dangling) + " rows about objects or images that it does not have"},
      [this]() -> Result<bool> {
        IMSY_TRY(index_.drop_dangling_rows());
        return true;
      },
      "deleted");
  return {};
}

// --- images and their objects

Status Checker::check_images() {
  IMSY_TRY_ASSIGN(const auto images, scan_->images_from(position_.at));
  for (const Digest& manifest : images) {
    if (manifest != position_.at) passed({.part = Part::kImages, .at = manifest, .number = 0});
    IMSY_TRY(check_image(manifest));
    ++summary_.images;
  }
  return {};
}

Status Checker::check_image(const Digest& manifest) {
  IMSY_TRY(pace(0));
  IMSY_TRY_ASSIGN(const auto image, scan_->image(manifest));
  if (!image) return {};  // removed meanwhile
  auto stored = read_image(layout_, manifest);
  if (stored && stored->trust_domain != image->row.trust_domain) {
    stored = Error(Errc::kCorrupt, "the file is for another trust domain than the index says");
  }
  if (!stored) {
    if (stored.error().code() == Errc::kUnavailable) return stored.error();
    IMSY_TRY_ASSIGN(const auto still, scan_->image(manifest));
    if (!still) return {};
    unreadable_.push_back(manifest);
    report(
        {.where = "manifests/" + manifest.hex(),
         .what = stored.error().message(),
         .images = {manifest}},
        [&]() -> Result<bool> {
          if (options_.fetch_manifest) IMSY_TRY(options_.fetch_manifest(manifest));
          return options_.fetch_manifest != nullptr;
        },
        "is fetched again");
    return {};
  }
  const cdc::Manifest& content = *stored->manifest;
  std::uint64_t objects = 0;
  std::uint64_t lacking = 0;
  for (std::uint32_t i = 0; i < content.objects().count(); ++i) {
    const std::uint64_t size = content.tree().object_size(i);
    if (size == 0) continue;
    IMSY_TRY_ASSIGN(const auto owners, scan_->owners_of(content.objects().id(i)));
    ++objects;
    if (!std::ranges::binary_search(owners, manifest)) ++lacking;
    if (i < position_.number || seen_with_another(owners, manifest)) continue;
    IMSY_TRY(check_object({content, i, size, image->resident}));
    ++summary_.objects;
    passed({.part = Part::kImages, .at = manifest, .number = i + 1});
  }
  return check_owners(*image, lacking, objects);
}

// An object of several images is looked at with the first of them that can be read.
bool Checker::seen_with_another(const std::vector<Digest>& owners, const Digest& manifest) const {
  return std::ranges::any_of(owners, [&](const Digest& owner) {
    return owner < manifest && std::ranges::find(unreadable_, owner) == unreadable_.end();
  });
}

Status Checker::check_owners(const IndexScan::Image& image, std::uint64_t lacking,
                             std::uint64_t objects) {
  if (lacking == 0 && image.owned <= objects) return {};
  const Digest& manifest = image.row.manifest;
  IMSY_TRY_ASSIGN(const auto still, scan_->image(manifest));
  if (!still) return {};
  report(
      {.where = "index.db",
       .what = "image " + manifest.to_string() + " owns " + std::to_string(image.owned) +
               " objects, and not " + std::to_string(lacking) + " of the " +
               std::to_string(objects) + " that its CDC manifest names"},
      [&]() -> Result<bool> {
        IMSY_TRY(hands_.own_again(manifest));
        return true;
      },
      "it owns what its CDC manifest names");
  return {};
}

Status Checker::check_object(const Subject& subject) {
  IMSY_TRY(pace(0));
  const cdc::ObjectId& id = subject.id();
  IMSY_TRY_ASSIGN(const Fault fault, look_twice(id, subject));
  if (fault.what.empty()) return options_.read_data ? check_chunks(subject) : Status();
  Finding finding{.where = name_of(Place::kObjects, id), .what = fault.what};
  if (fault.only_mode) {
    report(
        std::move(finding),
        [&]() -> Result<bool> {
          IMSY_TRY(mend_mode(id));
          return true;
        },
        "closed to all who have not brought it");
    return {};
  }
  IMSY_TRY_ASSIGN(finding.images, scan_->owners_of(id));
  report(
      std::move(finding),
      [&]() -> Result<bool> {
        IMSY_TRY(take_off(subject, {}, fault.what));
        return true;
      },
      kFetchedAgain);
  return {};
}

Status Checker::take_off(const Subject& subject, std::span<const std::uint32_t> bad,
                         const std::string& why) {
  IMSY_TRY(hands_.take_off(subject.manifest, subject.object, bad, why));
  // Also where only the record of the image was wrong.
  return index_.distrust(subject.id());
}

// --- one file

Result<Checker::Fault> Checker::look_twice(const cdc::ObjectId& id,
                                           const std::optional<Subject>& subject) {
  auto first = look(id, subject);
  if (!first || first->what.empty()) return first;
  // Who is just deleting it has the index's lock until its rows are gone, too.
  ignore(index_.flush(), "what cannot be written is looked at with the queue");
  return look(id, subject);
}

Result<Checker::Fault> Checker::look(const cdc::ObjectId& id,
                                     const std::optional<Subject>& subject) {
  const Index::Standing standing = index_.standing_of(id);
  if (standing.trust == Index::Trust::kIncomplete) {
    if (!subject || !subject->resident) return Fault();
    const auto resident = index_.is_resident(subject->manifest.digest());
    if (!resident || !*resident) return Fault();
    return Fault{"an image that has it is on record as resident, but it is not complete"};
  }
  const auto file = layout_.look_at(Place::kObjects, id);
  if (!file && file.error().code() == Errc::kNotFound) {
    return Fault{"on record as complete, but there is no file"};
  }
  if (!file && file.error().code() == Errc::kUnavailable) return file.error();
  if (!file) return Fault{file.error().message()};
  if (!S_ISREG(file->mode)) return Fault{"is " + std::string(type_name(file->mode))};
  if (subject && file->size != subject->size) {
    return Fault{"has " + std::to_string(file->size) + " bytes instead of " +
                 std::to_string(subject->size)};
  }
  // Which of the two is right is not known, so it is nobody's until somebody brings it.
  if (standing.trust_domain && standing.trust_domain->empty() != file->is_public) {
    return Fault{file->is_public
                     ? "open to all, but the index says that it needs a credential"
                     : "for all by the index, but its mode says that it needs a credential",
                 true};
  }
  if ((file->mode & 07777) != object_mode(Place::kObjects, file->is_public)) {
    return Fault{"has a mode that others may change it with, or no mode of ours", true};
  }
  return Fault();
}

Status Checker::mend_mode(const cdc::ObjectId& id) {
  IMSY_TRY_ASSIGN(const auto file, layout_.open_object(Place::kObjects, id, O_RDONLY));
  IMSY_TRY(index_.set_mixed(id));
  if (sys::fchmod(file.get(), object_mode(Place::kObjects, false)) == 0) return {};
  return Error::from_errno(errno, "set the mode of object " + id.hex());
}

// --- contents

Status Checker::check_chunks(const Subject& subject) {
  const cdc::ObjectId& id = subject.id();
  if (index_.standing_of(id).trust == Index::Trust::kIncomplete) return {};
  std::string why;
  IMSY_TRY_ASSIGN(const auto bad, bad_chunks(subject, why));
  // Somebody else may have found it meanwhile, and be writing to it.
  if (bad.empty() || index_.standing_of(id).trust == Index::Trust::kIncomplete) return {};
  const cdc::Chunk& first = subject.manifest.objects().chunks_of(subject.object)[bad.front()];
  Finding finding{
      .where = name_of(Place::kObjects, id),
      .what = "chunk " + std::to_string(bad.front()) + " at offset " +
              std::to_string(first.object_offset) + ": " + why +
              (bad.size() > 1 ? ", and " + std::to_string(bad.size() - 1) + " more" : "")};
  IMSY_TRY_ASSIGN(finding.images, scan_->owners_of(id));
  report(
      std::move(finding),
      [&]() -> Result<bool> {
        IMSY_TRY(take_off(subject, bad, why));
        return true;
      },
      kFetchedAgain);
  return {};
}

Result<std::vector<std::uint32_t>> Checker::bad_chunks(const Subject& subject, std::string& why) {
  std::vector<std::uint32_t> bad;
  auto file = layout_.open_object(Place::kObjects, subject.id(), O_RDONLY);
  if (!file && file.error().code() == Errc::kNotFound) return bad;  // lost meanwhile
  if (!file) return file.error();
  DiskReader reader(std::move(*file));
  const auto chunks = subject.manifest.objects().chunks_of(subject.object);
  for (std::uint32_t i = 0; i < chunks.size(); ++i) {
    IMSY_TRY(pace(chunks[i].size));
    const auto bytes = reader.read(chunks[i].object_offset, chunks[i].size);
    if (!bytes && bytes.error().code() == Errc::kUnavailable) return bytes.error();
    if (bytes && sha256(*bytes) == chunks[i].digest) continue;
    if (bad.empty()) why = bytes ? "its bytes are not the chunk's" : bytes.error().message();
    bad.push_back(i);
  }
  return bad;
}

Result<std::string> Checker::content_fault(const cdc::ObjectId& id) {
  IMSY_TRY_ASSIGN(auto file, layout_.open_object(Place::kObjects, id, O_RDONLY));
  IMSY_TRY_ASSIGN(const std::uint64_t size, file_size(file.get()));
  DiskReader reader(std::move(file));
  const cdc::Chunker chunker;
  std::vector<cdc::ChunkDigest> digests;
  for (std::uint64_t at = 0; at < size;) {
    const auto bytes = reader.read(at, static_cast<std::size_t>(std::min(kWindow, size - at)));
    if (!bytes && bytes.error().code() == Errc::kUnavailable) return bytes.error();
    if (!bytes) return bytes.error().message();
    const bool last = at + bytes->size() == size;
    std::size_t done = 0;
    while (done < bytes->size() &&
           (last || bytes->size() - done >= chunker.parameters().size_max)) {
      const std::size_t length = chunker.next(bytes->subspan(done));
      digests.push_back(sha256(bytes->subspan(done, length)));
      done += length;
    }
    IMSY_TRY(pace(done));
    at += done;
  }
  return std::string(cdc::object_id(size, digests) == id ? "" : "its bytes are not the object's");
}

// --- objects that no image owns

Status Checker::check_unowned() {
  cdc::ObjectId from = position_.at;
  for (;;) {
    IMSY_TRY_ASSIGN(const auto objects, scan_->unowned_from(from, kUnownedBatch));
    for (const IndexScan::Object& object : objects) {
      if (object.complete) IMSY_TRY(check_unowned(object.id));
      from = object.id;
      if (!advance(from)) return {};
      passed({.part = Part::kUnowned, .at = from, .number = 0});
    }
    if (objects.size() < kUnownedBatch) return {};
  }
}

// It has no chunk list, so it is cut again, and has to give its own name.
Status Checker::check_unowned(const cdc::ObjectId& id) {
  IMSY_TRY(pace(0));
  IMSY_TRY_ASSIGN(Fault fault, look_twice(id, std::nullopt));
  ++summary_.objects;
  if (fault.what.empty() && options_.read_data) {
    auto content = content_fault(id);
    // Given up, or wanted by a new image, meanwhile.
    if (index_.standing_of(id).trust == Index::Trust::kIncomplete) return {};
    if (!content) return content.error();
    fault.what = std::move(*content);
  }
  if (fault.what.empty()) return {};
  report(
      {.where = name_of(Place::kObjects, id), .what = fault.what + "; no image owns it"},
      [&] { return hands_.discard(id); }, "deleted");
  return {};
}

// --- files

Status Checker::check_folders() {
  for (unsigned folder = position_.number; folder < Layout::kFolders; ++folder) {
    for (const Place place : {Place::kObjects, Place::kPartial}) {
      IMSY_TRY(pace(0));
      std::vector<Layout::ObjectFile> files;
      IMSY_TRY(layout_.each_in_folder(
          place, folder, [&](const Layout::ObjectFile& file) { files.push_back(file); }));
      for (const auto& file : files) IMSY_TRY(check_stray(place, file));
    }
    passed({.part = Part::kFiles, .at = {}, .number = folder + 1});
  }
  return {};
}

Status Checker::check_stray(Place place, const Layout::ObjectFile& file) {
  if (!S_ISREG(file.mode)) {
    const bool seen =
        place == Place::kObjects && index_.standing_of(file.id).trust != Index::Trust::kIncomplete;
    if (seen) return {};
    report(
        {.where = name_of(place, file.id), .what = "is " + std::string(type_name(file.mode))},
        [&]() -> Result<bool> {
          IMSY_TRY(layout_.remove_object(place, file.id));
          return true;
        },
        "removed");
    return {};
  }
  if (place == Place::kPartial) return {};  // proves nothing, and is hashed before it is used
  IMSY_TRY_ASSIGN(const bool known, scan_->knows(file.id));
  const bool in_use =
      hands_.is_open(file.id) || index_.standing_of(file.id).trust != Index::Trust::kIncomplete;
  if (known || in_use || !layout_.look_at(place, file.id)) return {};
  report(
      {.where = name_of(place, file.id), .what = "the index does not know it"},
      [&] { return hands_.discard(file.id); }, "deleted");
  return {};
}

// --- reports and pace

void Checker::report(Finding finding, const std::function<Result<bool>()>& mend,
                     std::string mended) {
  ++summary_.findings;
  if (options_.repair) {
    const Result<bool> done = mend();
    finding.mended = done && *done;
    finding.remedy = finding.mended ? std::move(mended)
                     : done         ? "imsy-snapshotter mends it at its next start"
                                    : "cannot be mended: " + done.error().message();
  } else {
    finding.remedy = kAskForRepair;
  }
  if (finding.mended) ++summary_.mended;
  if (events_.finding) events_.finding(finding);
}

void Checker::passed(const CheckPosition& position) {
  position_ = position;
  if (events_.progress) events_.progress(position_, summary_);
}

Status Checker::pace(std::uint64_t bytes) {
  summary_.bytes += bytes;
  if (bytes > 0 && options_.bytes_per_second > 0) {
    if (Clock::now() < may_read_) wait_until(may_read_, stop_);
    const std::chrono::duration<double> takes(static_cast<double>(bytes) /
                                              static_cast<double>(options_.bytes_per_second));
    may_read_ =
        std::max(may_read_, Clock::now()) + std::chrono::duration_cast<Clock::duration>(takes);
  }
  if (stop_.stop_requested()) return Error(Errc::kCancelled, "the check was stopped");
  return {};
}

}  // namespace imsy::cas
