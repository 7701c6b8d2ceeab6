// Reading layers: blob -> plain tar -> tree and contents, verified to the end of each stream.
//
// Threads: one at a time (plus a read-ahead thread inside). Waits for network and disk.
#pragma once

#include <functional>

#include "converter/content_spool.h"
#include "converter/layer_tree.h"
#include "converter/progress.h"
#include "oci/decompress.h"
#include "oci/repository.h"

namespace imsy::converter {

// What the layers of an image may ask of whoever reads them; more is kInvalid.
struct InputLimits {
  oci::DecompressLimits inflated;  // output: all tars together; all contents together. ratio: each
  oci::tar::ReaderLimits tar;      // of each layer
  LayerLimits tree;                // of all layers
};

struct InputOptions {
  InputLimits limits;
  // Gets a foreign layer that the source itself does not have. Null: foreign layers are refused.
  std::function<Result<std::unique_ptr<ByteReader>>(const oci::Descriptor&)> open_foreign;
};

// Reads the layers of one image, bottom up.
class LayerReader {
 public:
  // All of these must outlive the reader.
  LayerReader(oci::ImageSource& source, const InputOptions& options, LayerTree& tree,
              ContentSpool& spool, Progress& progress)
      : source_(source), options_(options), tree_(tree), spool_(spool), progress_(progress) {}

  // Applies the next layer to the tree; file contents go to the spool. Blob digest, blob size and
  // `diff_id` are checked to the last byte, whatever the tar says about its end. kInvalid: a media
  // type, tar or entry that is refused, or a limit; kCorrupt: a digest or format is wrong. The
  // message names the layer. After an error the image cannot be read on.
  Status read(const oci::Descriptor& descriptor, const Digest& diff_id);

 private:
  Status read_checked(const oci::Descriptor& descriptor, const Digest& diff_id);
  Result<std::unique_ptr<ByteReader>> open(const oci::Descriptor& descriptor);
  Status apply_entries(ByteReader& plain);
  Result<std::uint32_t> add_content(oci::tar::Reader& tar, const oci::tar::Header& header);

  oci::ImageSource& source_;
  const InputOptions& options_;
  LayerTree& tree_;
  ContentSpool& spool_;
  Progress& progress_;
  std::uint64_t inflated_ = 0;  // bytes of the tars read so far
  std::uint64_t contents_ = 0;  // bytes of the contents so far
};

}  // namespace imsy::converter
