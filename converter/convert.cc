#include "converter/convert.h"

#include "converter/content_spool.h"
#include "converter/image_writer.h"
#include "converter/layer_reader.h"
#include "converter/source_image.h"

namespace imsy::converter {
namespace {

// One conversion: from where, to where, how.
struct Job {
  oci::ImageSource& from;
  oci::ImageTarget& to;
  const ConvertOptions& options;
  Progress& progress;
};

Result<DataLayer> upload_data_layer(Job& job, const PlannedImage& planned,
                                    const ContentSpool& spool) {
  IMSY_TRY_ASSIGN(const auto blob, job.to.create_blob());
  IMSY_TRY_ASSIGN(auto layer,
                  write_data_layer(planned, spool, job.options.data_layer, *blob, job.progress));
  IMSY_TRY(blob->commit(layer.anchor.data_layers[0].blob));
  return layer;
}

// Blobs before the manifest that names them, the manifest before its artifact.
Status publish(Job& job, const ConvertedImage& image) {
  IMSY_TRY(job.to.put_blob(as_bytes(image.anchor_tar), sha256(image.anchor_tar)));
  IMSY_TRY(job.to.put_blob(as_bytes(image.config), sha256(image.config)));
  IMSY_TRY(job.to.put_blob(as_bytes("{}"), sha256("{}")));
  IMSY_TRY(job.to.put_manifest(image.manifest, ""));
  IMSY_TRY(job.to.put_manifest(image.artifact, ""));
  return job.to.add_referrer(image.manifest.digest, image.artifact_descriptor);
}

struct Converted {
  oci::Document manifest;
  oci::Descriptor descriptor;
  ImageReport report;
};

// The conversion of one image, on one screen.
Result<Converted> convert_image(Job& job, oci::Document document) {
  IMSY_TRY_ASSIGN(const SourceImage source, read_image(job.from, std::move(document)));
  std::uint64_t bytes = 0;
  for (const auto& layer : source.manifest.layers) bytes += layer.size;
  job.progress.begin_image(platform_name(source.config.platform), bytes);

  IMSY_TRY_ASSIGN(auto spool,
                  ContentSpool::create(job.options.temporary, job.options.data_layer.chunker));
  LayerTree tree(job.options.input.limits.tree);
  LayerReader reader(job.from, job.options.input, tree, spool, job.progress);
  for (std::size_t i = 0; i < source.manifest.layers.size(); ++i) {
    IMSY_TRY(reader.read(source.manifest.layers[i], source.config.diff_ids[i]));
  }
  IMSY_TRY_ASSIGN(const auto planned, plan_image(tree, spool, job.options.profile));
  IMSY_TRY_ASSIGN(const auto layer, upload_data_layer(job, planned, spool));
  IMSY_TRY_ASSIGN(const auto image,
                  make_image(source.document, source.manifest, source.config, layer.anchor));
  IMSY_TRY(publish(job, image));

  ImageReport report;
  report.platform = platform_name(source.config.platform);
  report.source = source.document.digest;
  report.manifest = image.manifest.digest;
  report.artifact = image.artifact.digest;
  report.data_layer = layer;
  report.inodes = planned.tree.inode_count();
  for (std::uint32_t i = 0; i < planned.tree.object_count(); ++i) {
    report.content_bytes += planned.tree.object_size(i);
  }
  report.warnings = tree.warnings();
  report.front_files = planned.order.front().size();
  report.unknown_accesses = planned.unknown_accesses;
  return Converted{image.manifest, image.manifest_descriptor, report};
}

// Archives often hold the image of one platform, with the index of all.
Error missing_image(const oci::Platform& platform, const Error& error) {
  const std::string name = platform_name(platform);
  if (error.code() != Errc::kNotFound) return error.with_context(name);
  return Error(error.code(), name + ": " + error.message() +
                                 "; to convert one of the others, name it with --platform");
}

Result<oci::Document> convert_index(Job& job, const oci::Document& document,
                                    ConvertReport& report) {
  IMSY_TRY_ASSIGN(const auto index, oci::parse_index(document));
  oci::Index converted;
  converted.media_type = oci::media_type::kOciIndex;
  converted.annotations = index.annotations;
  for (const auto& entry : index.manifests) {
    // What describes the original image is left behind with it.
    if (!is_image_for(entry, job.options.platform)) continue;
    auto original = job.from.get_manifest(entry.digest.to_string());
    if (!original) return missing_image(*entry.platform, original.error());
    auto image = convert_image(job, std::move(*original));
    if (!image) return image.error().with_context(platform_name(*entry.platform));
    image->descriptor.platform = entry.platform;
    image->descriptor.annotations = entry.annotations;
    converted.manifests.push_back(image->descriptor);
    report.images.push_back(image->report);
  }
  if (converted.manifests.empty()) {
    return Error(Errc::kNotFound,
                 job.options.platform.empty()
                     ? "the index holds no image manifest"
                     : "the index holds no image for platform " + job.options.platform);
  }
  oci::Document made;
  made.media_type = oci::media_type::kOciIndex;
  made.bytes = converted.to_json().dump();
  made.digest = sha256(made.bytes);
  return made;
}

}  // namespace

Result<ConvertReport> convert(oci::ImageSource& from, const Location& source, oci::ImageTarget& to,
                              const Location& target, const ConvertOptions& options,
                              Progress& progress) {
  Job job{from, to, options, progress};
  ConvertReport report;
  IMSY_TRY_ASSIGN(auto document, from.get_manifest(source.object));

  oci::Document published;
  if (oci::is_index(document.media_type)) {
    auto index = convert_index(job, document, report);
    if (!index) return index.error().with_context(source.text);
    published = std::move(*index);
  } else {
    auto image = convert_image(job, std::move(document));
    if (!image) return image.error().with_context(source.text);
    report.images.push_back(image->report);
    published = std::move(image->manifest);
  }
  IMSY_TRY(to.put_manifest(published, target.object.empty() ? "latest" : target.object));
  IMSY_TRY(to.finish());
  report.digest = published.digest;
  return report;
}

}  // namespace imsy::converter
