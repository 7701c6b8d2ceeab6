// check: the proof that a converted image is what it says.
//
// converter::open_converted() has proved the documents. This reads the layers completely, in one
// pass and with bounded memory:
//   * the anchor layer is the anchor's tar;
//   * every frame decodes to the size that the CDC manifest says, and they follow each other from
//     the start of the blob; behind them lies the CDC manifest, and nothing else;
//   * the tar is the one that the CDC manifest's tree and objects make, byte for byte: headers,
//     every chunk of every file, padding, end; and each object lies where the manifest says;
//   * blob digest, blob size and diffID.
// Threads: one call, one thread; waits for the network or the disk.
#pragma once

#include "converter/proved_image.h"

namespace imsy::cli::image {

// kCorrupt: the message names what is wrong: an annotation, a layer, a frame, a path. kInvalid:
// more than one data layer, for which no tar is the only right one; imsy-convert writes none such.
Status check(oci::ImageSource& source, const converter::ProvedImage& image);

}  // namespace imsy::cli::image
