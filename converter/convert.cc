#include "converter/convert.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "common/log.h"
#include "converter/carrier.h"
#include "converter/content_spool.h"
#include "converter/image_writer.h"
#include "converter/index_rewriter.h"
#include "converter/layer_reader.h"
#include "converter/platform.h"
#include "converter/previous.h"
#include "converter/proved_image.h"
#include "converter/source_image.h"

namespace imsy::converter {
namespace {

constexpr const char* kOnlyLinux = "; only images for linux can be converted";
constexpr unsigned kUploadTriesMax = 3;  // of a data layer that the target has lost

// One conversion: from where, to where, how.
struct Job {
  oci::ImageSource& from;
  oci::ImageTarget& to;
  const ConvertOptions& options;
  DataLayerOptions data_layer;
  Progress& progress;
};

// The frames of what the target's tag names so far. A target that cannot be asked has none.
std::shared_ptr<const KnownFrames> frames_in(oci::ImageTarget& to, const std::string& tag) {
  if (to.repository() == nullptr) return nullptr;
  const std::shared_ptr<oci::ImageSource> source(std::shared_ptr<void>(), to.repository());
  auto frames = std::make_shared<KnownFrames>();
  const Status looked = for_each_converted(*source, tag, [&](const ProvedImage& image) -> Status {
    frames->add(source, image);
    return {};
  });
  if (!looked) log::debug("no frames of the target are known: {}", looked.error().message());
  return frames;
}

// Very old images do not say.
bool is_linux(const oci::Platform& platform) {
  return platform.os.empty() || platform.os == "linux";
}

bool is_chosen(const ConvertOptions& options, const oci::Platform& platform) {
  return options.platforms.empty() ||
         std::any_of(options.platforms.begin(), options.platforms.end(),
                     [&](const auto& chosen) { return same_platform(chosen, platform); });
}

// The chosen platforms that `platform` is not.
std::string chosen_beside(const ConvertOptions& options, const oci::Platform& platform) {
  std::string names;
  for (const auto& chosen : options.platforms) {
    if (!same_platform(chosen, platform)) {
      names += (names.empty() ? "" : ", ") + platform_name(chosen);
    }
  }
  return names;
}

Error already_converted(const SourceImage& source) {
  return Error(Errc::kInvalid, "is converted already, from " +
                                   original_of(source.manifest).to_string() +
                                   "; convert that one, or copy this one as it is");
}

// A target that has lost what it got gets it again: the spool still holds everything.
Result<DataLayer> upload_data_layer(Job& job, const PlannedImage& planned,
                                    const ContentSpool& spool, Transfers& transfers) {
  const auto upload = [&]() -> Result<DataLayer> {
    IMSY_TRY_ASSIGN(const auto blob, job.to.create_blob());
    IMSY_TRY_ASSIGN(auto layer,
                    write_data_layer(planned, spool, job.data_layer, *blob, job.progress));
    const auto& written = layer.anchor.data_layers[0];
    IMSY_TRY_ASSIGN(const auto arrival, blob->commit(written.blob));
    transfers.add(arrival, written.size);
    return layer;
  };
  for (unsigned tries = 1;; ++tries) {
    auto layer = upload();
    const bool lost = !layer && layer.error().code() == Errc::kFailedPrecondition;
    if (!lost || tries == kUploadTriesMax) return layer;
  }
}

// Blobs before the manifest that names them, the manifest before its artifact, and the record of a
// conversion when nothing is missing.
Status publish(Job& job, const SourceImage& source, const ConvertedImage& image,
               Transfers& transfers) {
  std::vector<BlobTask> tasks;
  std::vector<std::string_view> blobs = {image.anchor_tar, image.config};
  if (job.to.keeps_referrers()) blobs.emplace_back("{}");
  for (const std::string_view blob : blobs) {
    tasks.push_back(
        {blob.size(), [&job, blob] { return job.to.put_blob(as_bytes(blob), sha256(blob)); }});
  }
  IMSY_TRY(send_blobs(job.to, tasks, transfers));
  IMSY_TRY(job.to.put_manifest(image.manifest, ""));
  if (!job.to.keeps_referrers()) return {};
  IMSY_TRY(job.to.put_manifest(image.artifact, ""));
  IMSY_TRY(job.to.add_referrer(image.manifest.digest, image.artifact_descriptor));
  if (job.to.repository() == nullptr) return {};
  return record_conversion(*job.to.repository(), source.document, image.manifest.digest,
                           options_text(job.options.data_layer, job.options.profile));
}

struct Converted {
  oci::Document manifest;
  ImageReport report;
};

// What an earlier conversion has left in the target.
std::optional<Converted> reuse(Job& job, const SourceImage& source) {
  if (job.options.force || job.to.repository() == nullptr) return std::nullopt;
  auto previous = find_previous(*job.to.repository(), source.document,
                                options_text(job.options.data_layer, job.options.profile));
  if (!previous) return std::nullopt;
  ImageReport report;
  report.platform = platform_name(source.config.platform);
  report.source = source.document.digest;
  report.manifest = previous->manifest.digest;
  report.artifact = previous->artifact;
  report.reused = true;
  report.data_layer.anchor = std::move(previous->anchor);
  return Converted{std::move(previous->manifest), std::move(report)};
}

// The conversion of one image, on one screen.
Result<Converted> convert_image(Job& job, const SourceImage& source) {
  if (says_converted(source)) return already_converted(source);
  if (auto known = reuse(job, source)) return std::move(*known);
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
  spool.seal();
  ImageReport report;
  report.warnings = tree.warnings();
  IMSY_TRY_ASSIGN(const auto planned, plan_image(std::move(tree), spool, job.options.profile,
                                                 job.options.data_layer.bases.get()));
  IMSY_TRY_ASSIGN(const auto layer, upload_data_layer(job, planned, spool, report.transfers));
  IMSY_TRY_ASSIGN(const auto image, make_image(source.document, source.manifest, source.config,
                                               layer.anchor, layer.encoder));
  IMSY_TRY(publish(job, source, image, report.transfers));

  report.platform = platform_name(source.config.platform);
  report.source = source.document.digest;
  report.manifest = image.manifest.digest;
  if (job.to.keeps_referrers()) report.artifact = image.artifact.digest;
  report.data_layer = layer;
  report.inodes = planned.tree.inode_count();
  for (std::uint32_t i = 0; i < planned.tree.object_count(); ++i) {
    report.content_bytes += planned.tree.object_size(i);
  }
  report.front_files = planned.known_accesses;
  report.unknown_accesses = planned.unknown_accesses;
  return Converted{image.manifest, report};
}

// What the source names is one manifest.
Result<oci::Document> convert_single(Job& job, oci::Document document, ConvertReport& report) {
  IMSY_TRY_ASSIGN(const auto manifest, oci::parse_manifest(document));
  if (!is_image(manifest)) return Error(Errc::kInvalid, "is no image but an artifact");
  IMSY_TRY_ASSIGN(const auto source, read_image(job.from, std::move(document)));
  const oci::Platform& platform = source.config.platform;
  if (const std::string others = chosen_beside(job.options, platform); !others.empty()) {
    return Error(Errc::kNotFound,
                 "is an image for " + platform_name(platform) + ", not for " + others);
  }
  if (!is_linux(platform)) {
    return Error(Errc::kInvalid, "is an image for " + platform_name(platform) + kOnlyLinux);
  }
  IMSY_TRY_ASSIGN(auto image, convert_image(job, source));
  report.images.push_back(image.report);
  return std::move(image.manifest);
}

// --- indexes ---

// What may be an image to convert, as far as the entry says.
bool may_be_image(const IndexRewriter& index, std::size_t entry) {
  const oci::Descriptor& descriptor = index.entries()[entry];
  return oci::is_manifest(descriptor.media_type) && descriptor.artifact_type.empty() &&
         !index.is_attestation(entry) && (!descriptor.platform || is_linux(*descriptor.platform));
}

// Archives often hold the image of one platform, with the index of all.
Error missing_image(const oci::Platform& platform, const Error& error) {
  const std::string name = platform_name(platform);
  if (error.code() != Errc::kNotFound) return error.with_context(name);
  return Error(error.code(), name + ": " + error.message() +
                                 "; to convert one of the others, name it with --platform");
}

// The image behind an entry; nothing when it is none, or not one to convert.
Result<std::optional<SourceImage>> read_entry(Job& job, const oci::Descriptor& entry) {
  auto document = get_entry(job.from, entry);
  if (!document && !entry.platform && document.error().code() == Errc::kNotFound) {
    return std::optional<SourceImage>();
  }
  if (!document) return document.error();
  IMSY_TRY_ASSIGN(const auto manifest, oci::parse_manifest(*document));
  if (!is_image(manifest) || !has_only_layers(manifest)) return std::optional<SourceImage>();
  IMSY_TRY_ASSIGN(auto source, read_image(job.from, std::move(*document)));
  const oci::Platform& platform = source.config.platform;
  if (!is_linux(platform)) return std::optional<SourceImage>();
  if (!entry.platform && !is_chosen(job.options, platform)) return std::optional<SourceImage>();
  return std::optional(std::move(source));
}

// Every chosen platform must be there: a pipeline that asks for two wants both.
Status check_chosen(const ConvertOptions& options, const std::vector<oci::Platform>& there) {
  for (const auto& chosen : options.platforms) {
    if (std::any_of(there.begin(), there.end(),
                    [&](const auto& platform) { return same_platform(platform, chosen); })) {
      continue;
    }
    return Error(Errc::kNotFound, "the index holds no image for platform " + platform_name(chosen));
  }
  return {};
}

// The same before any work is done, as far as the entries say what they are for.
Status check_listed(const Job& job, const IndexRewriter& index) {
  std::vector<oci::Platform> listed;
  for (std::size_t i = 0; i < index.entries().size(); ++i) {
    if (!may_be_image(index, i)) continue;
    if (!index.entries()[i].platform) return {};
    if (is_chosen(job.options, *index.entries()[i].platform)) {
      listed.push_back(*index.entries()[i].platform);
    }
  }
  if (job.to.holds_one_image() && listed.size() > 1) {
    return Error(Errc::kInvalid, job.to.name() + " can hold one image, but there are " +
                                     std::to_string(listed.size()) +
                                     "; choose one with --platform");
  }
  return check_chosen(job.options, listed);
}

Status convert_images(Job& job, IndexRewriter& index, ConvertReport& report) {
  struct Done {
    oci::Descriptor manifest;
    oci::Platform platform;
  };
  std::map<Digest, Done> done;  // one image may stand there for several platforms
  std::vector<oci::Platform> found;
  IMSY_TRY(check_listed(job, index));
  for (std::size_t i = 0; i < index.entries().size(); ++i) {
    const oci::Descriptor& entry = index.entries()[i];
    if (!may_be_image(index, i)) continue;
    if (entry.platform && !is_chosen(job.options, *entry.platform)) continue;
    if (!done.contains(entry.digest)) {
      const auto source = read_entry(job, entry);
      if (!source && entry.platform) return missing_image(*entry.platform, source.error());
      if (!source) return source.error();
      if (!*source) continue;
      if (job.to.holds_one_image() && !done.empty()) {
        return Error(Errc::kInvalid,
                     job.to.name() + " can hold one image; choose one with --platform");
      }
      const oci::Platform& platform = (*source)->config.platform;
      auto image = convert_image(job, **source);
      if (!image) return image.error().with_context(platform_name(platform));
      report.images.push_back(image->report);
      done.emplace(entry.digest, Done{image->manifest.describe(), platform});
    }
    const Done& image = done.at(entry.digest);
    index.convert(i, image.manifest);
    found.push_back(entry.platform.value_or(image.platform));
  }
  IMSY_TRY(check_chosen(job.options, found));
  if (!found.empty()) return {};
  return Error(Errc::kInvalid, "the index holds no image that can be converted");
}

Status carry_rest(Job& job, IndexRewriter& index, ConvertReport& report) {
  Carrier carrier(job.from, job.to);
  for (std::size_t i = 0; i < index.entries().size(); ++i) {
    const bool wanted = job.options.platforms.empty() || index.attests_converted(i);
    if (index.is_converted(i) || !wanted) continue;
    const Digest& digest = index.entries()[i].digest;
    const auto obstacle = carrier.copy(index.entries()[i]);
    if (!obstacle) {
      return obstacle.error().with_context("carrying " + digest.to_string() + " through");
    }
    if (!*obstacle) {
      index.carry(i);
      report.carried.push_back(digest);
      continue;
    }
    log::warn("an entry of the index is left out digest={} reason={}", digest.to_string(),
              log::printable(**obstacle));
    report.left_out.push_back({digest, **obstacle});
  }
  report.carried_transfers = carrier.transfers();
  return {};
}

Result<oci::Document> convert_index(Job& job, const oci::Document& original,
                                    ConvertReport& report) {
  IMSY_TRY_ASSIGN(auto index, IndexRewriter::open(original));
  IMSY_TRY(convert_images(job, index, report));
  IMSY_TRY(carry_rest(job, index, report));
  return index.finish();
}

}  // namespace

Result<ConvertReport> convert(oci::ImageSource& from, const Location& source, oci::ImageTarget& to,
                              const Location& target, const ConvertOptions& options,
                              Progress& progress) {
  const std::string tag = target.object.empty() ? "latest" : target.object;
  Job job{from, to, options, options.data_layer, progress};
  ConvertReport report;
  for (const auto& platform : options.platforms) {
    if (is_linux(platform)) continue;
    return Error(Errc::kInvalid, "platform " + platform_name(platform) + kOnlyLinux);
  }
  IMSY_TRY_ASSIGN(auto document, from.get_manifest(source.object));
  job.data_layer.known = frames_in(to, tag);
  auto published = oci::is_index(document.media_type)
                       ? convert_index(job, document, report)
                       : convert_single(job, std::move(document), report);
  if (!published) return published.error().with_context(source.text);
  IMSY_TRY(to.put_manifest(*published, tag));
  std::vector<Digest> images;
  for (const auto& image : report.images) images.push_back(image.manifest);
  IMSY_TRY(to.finish(images));
  report.digest = published->digest;
  return report;
}

}  // namespace imsy::converter
