#include "converter/layer_reader.h"

#include "converter/read_ahead.h"
#include "oci/decompress.h"

namespace imsy::converter {
namespace {

// Counts and hashes what passes.
class Meter : public ByteReader {
 public:
  explicit Meter(ByteReader& input) : input_(input) {}
  Result<std::size_t> read(std::span<std::byte> buffer) override {
    IMSY_TRY_ASSIGN(const std::size_t got, input_.read(buffer));
    hasher_.update(buffer.first(got));
    return got;
  }
  Digest finish() { return hasher_.finish(); }

 private:
  ByteReader& input_;
  Hasher hasher_;
};

class Counter : public ByteReader {
 public:
  Counter(ByteReader& input, Progress& progress) : input_(input), progress_(progress) {}
  Result<std::size_t> read(std::span<std::byte> buffer) override {
    IMSY_TRY_ASSIGN(const std::size_t got, input_.read(buffer));
    progress_.add_read(got);
    return got;
  }

 private:
  ByteReader& input_;
  Progress& progress_;
};

// The content of the tar reader's current entry.
class EntryContent : public ByteReader {
 public:
  explicit EntryContent(oci::tar::Reader& tar) : tar_(tar) {}
  Result<std::size_t> read(std::span<std::byte> buffer) override { return tar_.read(buffer); }

 private:
  oci::tar::Reader& tar_;
};

// Layers made for lazy pulling by others carry their index as a file in the root; it belongs to the
// blob, not to the image.
bool is_foreign_index(const oci::tar::Header& header) {
  return header.name == "stargz.index.json" || header.name == ".prefetch.landmark" ||
         header.name == ".no.prefetch.landmark";
}

Status apply_entries(ByteReader& plain, LayerTree& tree, ContentSpool& spool) {
  oci::tar::Reader tar(plain);
  oci::tar::Header header;
  EntryContent content(tar);
  for (;;) {
    IMSY_TRY_ASSIGN(const bool more, tar.next(header));
    if (!more) return {};
    if (is_foreign_index(header)) continue;
    std::uint32_t number = cdc::kNone;
    if (header.type == oci::tar::Type::kRegular) {
      auto added = spool.add(content, header.size);
      if (!added) return added.error().with_context("content of " + header.name);
      number = *added;
    }
    IMSY_TRY(tree.apply(header, number));
  }
}

bool is_foreign(const oci::Descriptor& descriptor) {
  return descriptor.media_type.find("nondistributable") != std::string::npos ||
         descriptor.media_type.find("foreign") != std::string::npos || !descriptor.urls.empty();
}

Status read_checked(oci::ImageSource& source, const oci::Descriptor& descriptor,
                    const Digest& diff_id, LayerTree& tree, ContentSpool& spool,
                    Progress& progress) {
  if (is_foreign(descriptor)) {
    return Error(Errc::kInvalid,
                 "foreign layers are not converted; store the layer in the registry first");
  }
  IMSY_TRY_ASSIGN(const auto blob, source.open_blob(descriptor));
  Counter counted(*blob, progress);
  IMSY_TRY_ASSIGN(const auto plain, oci::decompress(counted));
  Meter measured(*plain);
  {
    ReadAhead ahead(measured);
    tree.begin_layer();
    IMSY_TRY(apply_entries(ahead, tree, spool));
    tree.end_layer();
  }
  if (const Digest found = measured.finish(); found != diff_id) {
    return Error(Errc::kCorrupt, "its content has diffID " + found.to_string() +
                                     ", but the image's configuration says " + diff_id.to_string());
  }
  return {};
}

}  // namespace

Status read_layer(oci::ImageSource& source, const oci::Descriptor& descriptor,
                  const Digest& diff_id, LayerTree& tree, ContentSpool& spool, Progress& progress) {
  auto read = read_checked(source, descriptor, diff_id, tree, spool, progress);
  if (!read) return read.error().with_context("layer " + descriptor.digest.to_string());
  return {};
}

}  // namespace imsy::converter
