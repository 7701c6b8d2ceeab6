// Conversions that a target has already: how they are put on record, and found again.
//
// With a converted image goes a record: an artifact that has the original's manifest as its subject
// and names the image it became and the options. So the same conversion is not done twice, and one
// that was killed after the first of several images goes on with the second. A record is a hint:
// what it names is used only if it is there as a whole and says itself what it was made from.
// Whoever can write to the repository can also write records; no more is believed of them than of
// its tags. docs/format/image.md.
// Threads: free functions. Those that take a target wait for disk or network.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "cdc/anchor.h"
#include "cdc/profile.h"
#include "converter/data_layer.h"
#include "oci/repository.h"

namespace imsy::converter {

inline constexpr std::string_view kRecordType = "application/vnd.imsy.conversion.v1";

// On the record.
namespace annotation {
inline constexpr std::string_view kOptions = "vnd.imsy.options";
inline constexpr std::string_view kImage = "vnd.imsy.image.digest";
}  // namespace annotation

// All that the bytes of an image depend on beside its original, in one line.
std::string options_text(const DataLayerOptions& options, const cdc::Profile& profile);

// Puts on record what `original` became. The image must be complete in the target.
Status record_conversion(oci::Repository& target, const oci::Document& original,
                         const Digest& image, const std::string& options);

struct Previous {
  oci::Document manifest;  // of the image
  cdc::Anchor anchor;
  Digest artifact;
};

// The image that `original` became with these options, if all of it is in the target. What cannot
// be found out counts as not there.
std::optional<Previous> find_previous(oci::Repository& target, const oci::Document& original,
                                      const std::string& options);

}  // namespace imsy::converter
