// What the tests of cas share: a directory that disappears, and short words for common steps.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <future>
#include <memory>
#include <string>

#include "cas/fetcher.h"
#include "cas/store.h"
#include "tests/support/image_maker.h"

namespace imsy::cas {

class TempDir {
 public:
  enum class On { kDisk, kMemory };
  // In memory a sync of the file system does not wait for what others write.
  explicit TempDir(On on = On::kDisk) {
    std::filesystem::path parent = std::filesystem::temp_directory_path();
    if (on == On::kMemory && ::access("/dev/shm", W_OK) == 0) parent = "/dev/shm";
    std::string name = (parent / "imsy-cas-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    path_ = name;
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

#define ASSERT_OK(expr)                                              \
  do {                                                               \
    const auto& result_of_expr = (expr);                             \
    ASSERT_TRUE(result_of_expr) << result_of_expr.error().message(); \
  } while (false)
#define EXPECT_OK(expr)                                              \
  do {                                                               \
    const auto& result_of_expr = (expr);                             \
    EXPECT_TRUE(result_of_expr) << result_of_expr.error().message(); \
  } while (false)

template <typename T>
Errc code_of(const Result<T>& result) {
  EXPECT_FALSE(result);
  return result ? Errc::kInternal : result.error().code();
}

inline std::unique_ptr<Store> open_store(const std::filesystem::path& root,
                                         const StoreOptions& options = {}) {
  auto store = Store::open(root, options);
  EXPECT_TRUE(store) << store.error().message();
  return store ? std::move(*store) : nullptr;
}

inline Status add(Store& store, const test::MadeImage& image, const std::string& domain = "") {
  return store.add_image(image.manifest, image.manifest_bytes, image.anchor_text, domain);
}

// The bytes of chunk `index` of the file at `path`.
inline ByteSpan chunk_bytes(const test::MadeImage& image, const std::string& path,
                            std::uint32_t index) {
  const auto chunks = image.manifest->objects().chunks_of(image.object(path));
  return ByteSpan(image.files.at(path)).subspan(chunks[index].object_offset, chunks[index].size);
}

// Puts all of the file into the store, as fetched for `domain`.
inline void put_file(Store& store, const test::MadeImage& image, const std::string& path,
                     const std::string& domain = "") {
  const std::uint32_t object = image.object(path);
  auto opened = store.open_object(*image.manifest, object, domain);
  ASSERT_OK(opened);
  for (std::uint32_t i = 0; i < image.manifest->objects().chunk_count(object); ++i) {
    ASSERT_OK(store.put_chunk(**opened, i, chunk_bytes(image, path, i)));
  }
}

inline void put_all(Store& store, const test::MadeImage& image, const std::string& domain = "") {
  for (const auto& [path, content] : image.files) put_file(store, image, path, domain);
}

inline std::filesystem::path object_path(const std::filesystem::path& root, const char* place,
                                         const cdc::ObjectId& id) {
  return root / place / id.hex().substr(0, 2) / id.hex();
}

}  // namespace imsy::cas
