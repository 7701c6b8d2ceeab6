// Images made of layers' bytes, converted from memory into a layout; what came of them as lines.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/digest.h"
#include "converter/convert.h"
#include "oci/layout.h"

namespace imsy::converter::testing_support {

// One layer of an image that is converted. What is not said is right.
struct LayerBytes {
  using Opener = std::function<std::unique_ptr<ByteReader>()>;

  oci::Descriptor descriptor;
  Digest diff_id;
  Opener open;  // begins to read the blob

  // A layer with these bytes, whose tar is `plain`.
  static LayerBytes of(std::string blob, std::string_view plain,
                       std::string_view media_type = oci::media_type::kOciLayer);
  static LayerBytes tar(std::string plain) { return of(plain, plain); }
};

// Serves one image. Blobs are checked as by every source.
class LayerSource : public oci::ImageSource {
 public:
  explicit LayerSource(std::vector<LayerBytes> layers);
  std::string name() const override { return "test"; }
  Result<oci::Document> get_manifest(const std::string& object) override;
  Result<std::unique_ptr<ByteReader>> open_blob(const oci::Descriptor& descriptor) override;

 private:
  std::vector<LayerBytes> layers_;
  std::string config_;
  oci::Document manifest_;
};

// A layout in a temporary directory, which images are converted into.
class LayerConversion {
 public:
  LayerConversion();
  ~LayerConversion();

  // The error's message, "" when the image was converted. Only then is there a tag afterwards, and
  // whatever is left in the layout otherwise is checked to be no manifest.
  std::string refusal(std::vector<LayerBytes> layers, const ConvertOptions& options = fast());
  // What the data layer's tar holds, the root left out, sorted: "d/", "d/f=text", "l->target",
  // "h=>first name" for hard links, "c c 1:3" for devices.
  std::vector<std::string> tree(std::vector<LayerBytes> layers);
  // The digest of the converted image's data layer.
  Digest data_layer(std::vector<LayerBytes> layers);

  // Called for each regular file of the converted image's data layer.
  using Visit = std::function<void(const oci::tar::Header&, ByteReader& content)>;
  void visit_files(const Visit& visit);

  const ConvertReport& report() const { return report_; }

  static ConvertOptions fast();

 private:
  Result<std::unique_ptr<ByteReader>> open_data_layer();

  std::filesystem::path directory_;
  std::unique_ptr<oci::Layout> target_;
  ConvertReport report_;
};

// The most memory that this process has ever had, in bytes.
std::uint64_t peak_memory();

}  // namespace imsy::converter::testing_support
