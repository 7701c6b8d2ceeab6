#include "tests/crash/store_life.h"

#include <algorithm>
#include <stop_token>
#include <utility>

namespace imsy::test {
namespace {

namespace fs = std::filesystem;

MadeImage first_image() {
  return ImageMaker()
      .file("big", random_bytes(300'000, 1))
      .file("small", "of one chunk")
      .file("shared", "in both images")
      .make();
}

// Part of the other's large file lies in one of its own.
MadeImage second_image() {
  Bytes bigger = random_bytes(300'000, 1);
  append(bigger, random_bytes(50'000, 2));
  return ImageMaker().file("bigger", bigger).file("shared", "in both images").make();
}

bool same(ByteSpan one, ByteSpan other) {
  return std::equal(one.begin(), one.end(), other.begin(), other.end());
}

}  // namespace

StoreLife::StoreLife(fs::path root)
    : root_(std::move(root)), first_(first_image()), second_(second_image()) {}

void StoreLife::expect(bool condition, const std::string& otherwise) {
  if (!condition) wrong_.push_back(otherwise);
}

void StoreLife::expect(const Status& done, const std::string& what) {
  if (!done) wrong_.push_back(what + ": " + done.error().message());
}

void StoreLife::open() {
  store_.reset();
  auto opened = cas::Store::open(root_);
  if (opened) store_ = std::move(*opened);
}

void StoreLife::add(const MadeImage& image, Promise& promise) {
  if (store_ == nullptr) return;
  promise.gone = false;
  if (store_->add_image(image.manifest, image.manifest_bytes, image.anchor_text, "")) {
    promise.kept = true;
  }
}

void StoreLife::put_all(const MadeImage& image) {
  if (store_ == nullptr) return;
  for (const auto& [path, content] : image.files) {
    const std::uint32_t object = image.object(path);
    const auto opened = store_->open_object(*image.manifest, object, "");
    if (!opened) continue;
    const auto chunks = image.manifest->objects().chunks_of(object);
    for (std::uint32_t i = 0; i < chunks.size(); ++i) {
      const auto right = ByteSpan(content).subspan(chunks[i].object_offset, chunks[i].size);
      const auto copy = store_->find_chunk(chunks[i], "");
      expect(!copy || !*copy || same(**copy, right), path + ": a copy of a chunk is wrong");
      ignore(store_->put_chunk(**opened, i, right), "it may fail");
    }
  }
  read_all(image);
}

// Whatever is said to be there is right. The number of chunks that are not there.
std::size_t StoreLife::read_all(const MadeImage& image) {
  std::size_t missing = 0;
  for (const auto& [path, content] : image.files) {
    const std::uint32_t object = image.object(path);
    const auto chunks = image.manifest->objects().chunks_of(object);
    if (store_ == nullptr) return missing + chunks.size();
    const auto opened = store_->open_object(*image.manifest, object, "");
    for (std::uint32_t i = 0; i < chunks.size(); ++i) {
      Bytes bytes(chunks[i].size);
      if (opened && (*opened)->has_chunk(i) && (*opened)->read(chunks[i].object_offset, bytes)) {
        const auto right = ByteSpan(content).subspan(chunks[i].object_offset, chunks[i].size);
        expect(same(bytes, right),
               path + ": wrong bytes at " + std::to_string(chunks[i].object_offset));
      } else {
        ++missing;
      }
    }
  }
  return missing;
}

void StoreLife::mark_first_resident() {
  if (store_ != nullptr && store_->mark_resident(*first_.manifest)) of_first_.resident = true;
}

void StoreLife::remove_second() {
  if (store_ == nullptr) return;
  of_second_.kept = false;
  if (store_->remove_image(second_.manifest->digest())) of_second_.gone = true;
}

void StoreLife::collect() {
  if (store_ != nullptr) ignore(store_->collect(), "it may fail");
}

void StoreLife::crash() {
  if (!fs::exists(root_)) return;
  const fs::path left = root_.string() + "-after-crash";
  fs::copy(root_, left, fs::copy_options::recursive);
  fs::permissions(left, fs::perms::owner_all);
  fs::remove(left / "index.db-shm");
  store_.reset();
  root_ = left;
}

std::vector<std::string> StoreLife::check(bool unreadable) {
  auto opened = cas::Store::open(root_);
  if (!opened) {
    wrong_.push_back("it does not open: " + opened.error().message());
    return wrong_;
  }
  store_ = std::move(*opened);
  check_promise("the first image", first_, of_first_, unreadable);
  check_promise("the second image", second_, of_second_, unreadable);
  expect_no_finding();
  bring_back("the first image", first_);
  bring_back("the second image", second_);
  leave_nothing();
  return wrong_;
}

void StoreLife::check_promise(const std::string& name, const MadeImage& image,
                              const Promise& promise, bool unreadable) {
  const auto loaded = store_->load_image(image.manifest->digest());
  if (promise.kept && !loaded) wrong_.push_back(name + " is lost: " + loaded.error().message());
  expect(!promise.gone || !loaded, name + " is there, but was removed");
  const auto resident = store_->is_resident(image.manifest->digest());
  if (!resident) {
    wrong_.push_back(name + ": " + resident.error().message());
    return;
  }
  expect(*resident || !promise.resident || unreadable, name + " is resident no more");
  const std::size_t missing = read_all(image);
  expect(missing == 0 || !*resident,
         name + " is resident and lacks " + std::to_string(missing) + " chunks");
}

void StoreLife::expect_no_finding() {
  const cas::CheckEvents events{
      .finding =
          [this](const cas::Finding& found) { wrong_.push_back(found.where + ": " + found.what); },
      .progress = {}};
  const auto done = store_->check({}, events, std::stop_token());
  if (!done) wrong_.push_back("checking: " + done.error().message());
}

// The store can be filled as if nothing had been.
void StoreLife::bring_back(const std::string& name, const MadeImage& image) {
  expect(store_->add_image(image.manifest, image.manifest_bytes, image.anchor_text, ""), name);
  put_all(image);
  expect(read_all(image) == 0, name + " cannot be filled");
  expect(store_->mark_resident(*image.manifest), name);
}

void StoreLife::leave_nothing() {
  for (const MadeImage* image : {&first_, &second_}) {
    expect(store_->remove_image(image->manifest->digest()), "removing an image");
  }
  const auto collected = store_->collect();
  if (!collected) wrong_.push_back("collecting: " + collected.error().message());
  store_.reset();
  for (const char* folder : {"objects", "partial", "trash", "manifests"}) {
    for (const auto& entry : fs::recursive_directory_iterator(root_ / folder)) {
      expect(entry.is_directory(), entry.path().string() + " is left");
    }
  }
}

}  // namespace imsy::test
