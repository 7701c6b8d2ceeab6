#include "converter/layer_reader.h"

#include "common/log.h"
#include "converter/measured_reader.h"
#include "converter/read_ahead.h"
#include "oci/layer_type.h"

namespace imsy::converter {
namespace {

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

// The content decides how it is read, as with everybody else, so a wrong label is only told.
Status check_label(const oci::Descriptor& descriptor, oci::Compression found) {
  if (found == oci::promised_compression(descriptor.media_type)) return {};
  if (!oci::tolerates(descriptor.media_type, found)) {
    return Error(Errc::kInvalid, "its media type " + descriptor.media_type +
                                     " is wrong, the content is compressed with " +
                                     std::string(name_of(found)));
  }
  log::warn("a layer is not compressed as its media type says layer={} media_type={} found={}",
            descriptor.digest.to_string(), descriptor.media_type, name_of(found));
  return {};
}

}  // namespace

Result<std::unique_ptr<ByteReader>> LayerReader::open(const oci::Descriptor& descriptor) {
  if (!oci::promised_compression(descriptor.media_type)) {
    return Error(Errc::kInvalid, "its media type " + log::printable(descriptor.media_type) +
                                     " is none of a layer that can be unpacked");
  }
  if (!oci::is_foreign_layer(descriptor)) return source_.open_blob(descriptor);
  if (!options_.open_foreign) {
    return Error(Errc::kInvalid,
                 "a foreign layer, which is kept elsewhere than in its registry; to fetch it from "
                 "there, allow it with --allow-foreign-layers");
  }
  auto here = source_.open_blob(descriptor);
  if (here || here.error().code() != Errc::kNotFound) return here;
  return options_.open_foreign(descriptor);
}

Result<std::uint32_t> LayerReader::add_content(oci::tar::Reader& tar,
                                               const oci::tar::Header& header) {
  const std::uint64_t limit = options_.limits.inflated.output;
  if (header.size > limit - contents_) {
    return Error(Errc::kInvalid, "entry " + log::printable(header.name) +
                                     ": the contents of the image's files are larger than the "
                                     "limit of " +
                                     std::to_string(limit) + " bytes");
  }
  contents_ += header.size;
  EntryContent content(tar);
  auto added = spool_.add(content, header.size);
  if (!added) return added.error().with_context("content of " + log::printable(header.name));
  return added;
}

Status LayerReader::apply_entries(ByteReader& plain) {
  oci::tar::Reader tar(plain, options_.limits.tar);
  oci::tar::Header header;
  for (;;) {
    IMSY_TRY_ASSIGN(const bool more, tar.next(header));
    if (!more) return {};
    IMSY_TRY(tree_.apply(header, [&] { return add_content(tar, header); }));
  }
}

Status LayerReader::read_checked(const oci::Descriptor& descriptor, const Digest& diff_id) {
  IMSY_TRY_ASSIGN(const auto blob, open(descriptor));
  Counter counted(*blob, progress_);
  IMSY_TRY_ASSIGN(const auto plain, oci::decompress(counted, options_.limits.inflated, inflated_));
  IMSY_TRY(check_label(descriptor, plain.found));
  MeasuredReader measured(*plain.content);
  {
    ReadAhead ahead(measured);
    tree_.begin_layer();
    IMSY_TRY(apply_entries(ahead));
    tree_.end_layer();
  }
  inflated_ += measured.size();
  if (const Digest found = measured.finish(); found != diff_id) {
    return Error(Errc::kCorrupt, "its content has diffID " + found.to_string() +
                                     ", but the image's configuration says " + diff_id.to_string());
  }
  return {};
}

Status LayerReader::read(const oci::Descriptor& descriptor, const Digest& diff_id) {
  const auto read = read_checked(descriptor, diff_id);
  if (!read) return read.error().with_context("layer " + descriptor.digest.to_string());
  return {};
}

}  // namespace imsy::converter
