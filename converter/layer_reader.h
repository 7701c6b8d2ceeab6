// Reading a layer: blob -> plain tar -> tree and contents, verified to the end of each stream.
//
// Threads: one call, one thread (plus a read-ahead thread inside). Waits for network and disk.
#pragma once

#include "converter/content_spool.h"
#include "converter/layer_tree.h"
#include "converter/progress.h"
#include "oci/repository.h"

namespace imsy::converter {

// Applies layer `descriptor` of `source` to `tree`; file contents go to `spool`. Blob digest,
// blob size and `diff_id` are checked to the last byte, whatever the tar says about its end.
// kInvalid: a media type, tar or entry that is refused; kCorrupt: a digest or format is wrong. The
// message names the layer.
Status read_layer(oci::ImageSource& source, const oci::Descriptor& descriptor,
                  const Digest& diff_id, LayerTree& tree, ContentSpool& spool, Progress& progress);

}  // namespace imsy::converter
