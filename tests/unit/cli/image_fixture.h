// Images in OCI layouts in a temporary directory, ordinary, converted and forged, for the tests of
// the commands about images.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "cdc/frame.h"
#include "cdc/manifest.h"
#include "converter/convert.h"
#include "converter/image_writer.h"
#include "oci/layout.h"
#include "tests/unit/cli/support.h"
#include "tests/unit/converter/memory_streams.h"

namespace imsy::cli {

using converter::testing_support::header;
using converter::testing_support::noise;
using converter::testing_support::TarBuilder;
using converter::testing_support::text;

class ImageTest : public testing::Test {
 protected:
  ImageTest()
      : plain_(oci::Layout::open_or_create(temp_ / "plain").value()),
        converted_(oci::Layout::open_or_create(temp_ / "converted").value()) {}

  std::string at(const std::string& name) const { return (temp_ / name).string(); }
  std::string plain(const std::string& tag) const { return "oci:" + at("plain") + ":" + tag; }
  std::string converted(const std::string& tag) const {
    return "oci:" + at("converted") + ":" + tag;
  }

  oci::Descriptor put(std::string_view media_type, ByteSpan bytes) {
    const oci::Descriptor blob{
        std::string(media_type), sha256(bytes), bytes.size(), {}, {}, "", {}};
    EXPECT_TRUE(plain_->put_blob(bytes, blob.digest));
    return blob;
  }

  // An ordinary image of these layers. `more`: members of its configuration.
  oci::Document add_plain(const std::string& tag, const std::vector<Bytes>& tars,
                          const std::string& arch = "amd64",
                          const oci::Json& more = oci::Json::object()) {
    oci::Manifest manifest;
    for (const Bytes& tar : tars) manifest.layers.push_back(put(oci::media_type::kOciLayer, tar));
    return publish_plain(tag, std::move(manifest), tars, arch, more);
  }
  // One whose only layer is not in the layout, but at `url`.
  void add_foreign(const std::string& tag, const Bytes& tar, const std::string& url) {
    oci::Manifest manifest;
    manifest.layers = {{"application/vnd.oci.image.layer.nondistributable.v1.tar",
                        sha256(tar),
                        tar.size(),
                        {},
                        {},
                        "",
                        {url}}};
    publish_plain(tag, std::move(manifest), {tar}, "amd64", oci::Json::object());
  }
  oci::Document publish_plain(const std::string& tag, oci::Manifest manifest,
                              const std::vector<Bytes>& tars, const std::string& arch,
                              const oci::Json& more) {
    oci::Json diff_ids = oci::Json::array();
    for (const Bytes& tar : tars) diff_ids.push_back(sha256(tar).to_string());
    oci::Json config{{"architecture", arch},
                     {"os", "linux"},
                     {"config", {{"Cmd", {"/bin/tool"}}}},
                     {"rootfs", {{"type", "layers"}, {"diff_ids", diff_ids}}}};
    config.update(more);
    manifest.media_type = oci::media_type::kOciManifest;
    manifest.config = put(oci::media_type::kOciConfig, as_bytes(config.dump()));
    const auto document = oci::Document::make(manifest.media_type, manifest.to_json());
    EXPECT_TRUE(plain_->put_manifest(document, tag));
    return document;
  }

  // An index of ordinary images with these architectures.
  void add_index(const std::string& tag,
                 const std::vector<std::pair<std::string, oci::Document>>& images) {
    oci::Index index;
    index.media_type = oci::media_type::kOciIndex;
    for (const auto& [arch, document] : images) {
      index.manifests.push_back(document.describe());
      index.manifests.back().platform = oci::Platform{"linux", arch, "", ""};
    }
    EXPECT_TRUE(plain_->put_manifest(oci::Document::make(index.media_type, index.to_json()), tag));
  }

  // Converts what `tag` names, under the same tag.
  void convert(const std::string& tag) {
    converter::ConvertOptions options;
    options.data_layer.level = 3;
    options.temporary = at("");
    converter::Progress progress(false);
    const auto done =
        converter::convert(*plain_, converter::Location::parse(plain(tag)).value(), *converted_,
                           converter::Location::parse(converted(tag)).value(), options, progress);
    ASSERT_TRUE(done) << done.error().message();
  }
  void add_both(const std::string& tag, const std::vector<Bytes>& tars) {
    add_plain(tag, tars);
    convert(tag);
  }

  oci::Manifest manifest_of(const std::string& tag) {
    return oci::parse_manifest(converted_->get_manifest(tag).value()).value();
  }
  std::filesystem::path blob_file(const oci::Descriptor& blob) const {
    return temp_ / "converted" / "blobs" / "sha256" / blob.digest.hex();
  }
  Bytes blob(const oci::Descriptor& of) { return text(read_all(blob_file(of))); }
  cdc::Anchor anchor_of(const std::string& tag) {
    const auto annotations = manifest_of(tag).layers[0].annotations;
    return cdc::Anchor::parse(annotations.at(std::string(converter::annotation::kAnchor))).value();
  }
  std::shared_ptr<const cdc::Manifest> cdc_manifest_of(const std::string& tag) {
    const auto anchor = anchor_of(tag);
    const Bytes data = blob(manifest_of(tag).layers[1]);
    return cdc::Manifest::read(ByteSpan(data).subspan(anchor.manifest_offset, anchor.manifest_size),
                               anchor)
        .value();
  }

  // What a CDC manifest is written from, to change something of it.
  static cdc::ManifestParts parts_of(const cdc::Manifest& manifest) {
    cdc::ManifestParts parts;
    parts.chunker = manifest.header().chunker;
    parts.tree = &manifest.tree();
    const cdc::Objects& objects = manifest.objects();
    for (std::uint32_t i = 0; i < objects.count(); ++i) {
      auto& object = parts.objects.emplace_back();
      object.raw_offset = objects.raw_offset(i);
      for (const cdc::Chunk& chunk : objects.chunks_of(i)) {
        object.digests.push_back(chunk.digest);
        object.sizes.push_back(chunk.size);
      }
    }
    for (std::uint32_t i = 0; i < objects.frame_count(); ++i) {
      parts.frames.push_back(objects.frame(i));
    }
    return parts;
  }

  // A converted image with the frames of `tag` and another CDC manifest, as somebody would make it
  // who wants to deceive: every digest is right.
  void forge(const std::string& tag, const cdc::ManifestParts& parts, const std::string& as) {
    const auto written = cdc::Manifest::write(parts).value();
    cdc::Anchor anchor = anchor_of(tag);
    Bytes data = blob(manifest_of(tag).layers[1]);
    data.resize(anchor.manifest_offset - cdc::kSkippableHeaderSize);
    append(data, cdc::skippable_header(written.bytes.size()).value());
    append(data, written.bytes);
    anchor.manifest = written.digest;
    anchor.manifest_size = written.bytes.size();
    anchor.data_layers[0].blob = sha256(data);
    anchor.data_layers[0].size = data.size();
    publish(anchor, data, as);
  }

  void publish(const cdc::Anchor& anchor, const Bytes& data, const std::string& as) {
    const auto document = plain_->get_manifest(as).value();
    const auto manifest = oci::parse_manifest(document).value();
    const auto config =
        oci::parse_config(plain_->get_blob(manifest.config, 1 << 20).value()).value();
    const auto made = converter::make_image(document, manifest, config, anchor, "test").value();
    for (const ByteSpan bytes :
         {ByteSpan(data), as_bytes(made.anchor_tar), as_bytes(made.config)}) {
      ASSERT_TRUE(converted_->put_blob(bytes, sha256(bytes)));
    }
    ASSERT_TRUE(converted_->put_manifest(made.manifest, as));
  }

  // The line that a command that must fail writes.
  std::string refusal(const std::vector<std::string>& args) {
    const Ran ran = run_imsy(args);
    EXPECT_EQ(ran.code, kExitFailed) << ran.out;
    EXPECT_EQ(std::count(ran.err.begin(), ran.err.end(), '\n'), 1) << ran.err;
    return ran.err;
  }

  TempDir temp_;
  std::unique_ptr<oci::Layout> plain_;
  std::unique_ptr<oci::Layout> converted_;
};

}  // namespace imsy::cli
