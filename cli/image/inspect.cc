#include "cli/image/inspect.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string_view>
#include <unordered_set>

#include "cli/text.h"
#include "common/log.h"

namespace imsy::cli::image {
namespace {

using Json = nlohmann::ordered_json;

std::unordered_set<Digest> chunk_digests(const cdc::Objects& objects) {
  std::unordered_set<Digest> digests;
  digests.reserve(objects.total_chunks());
  for (std::uint32_t i = 0; i < objects.total_chunks(); ++i) {
    digests.insert(objects.chunk(i).digest);
  }
  return digests;
}

void count_tree(const cdc::Tree& tree, Inspection& counts) {
  counts.entries = tree.entry_count();
  for (std::uint32_t i = 0; i < tree.inode_count(); ++i) {
    const cdc::Inode& inode = tree.inode(i);
    if (inode.type == cdc::NodeType::kRegular) counts.files.add(tree.size_of(inode));
  }
  for (std::uint32_t i = 0; i < tree.object_count(); ++i) counts.objects.add(tree.object_size(i));
}

void count_objects(const cdc::Objects& objects, Inspection& counts) {
  std::unordered_set<Digest> seen;
  for (std::uint32_t i = 0; i < objects.total_chunks(); ++i) {
    const cdc::Chunk& chunk = objects.chunk(i);
    counts.chunks.add(chunk.size);
    if (seen.insert(chunk.digest).second) counts.distinct_chunks.add(chunk.size);
  }
  for (std::uint32_t i = 0; i < objects.frame_count(); ++i) {
    counts.frames.add(objects.frame(i).stored_size);
  }
}

std::string amount_line(std::string_view name, const Amount& amount, std::string_view meaning) {
  return table_line(name, std::to_string(amount.count), human_bytes(amount.bytes), meaning);
}

}  // namespace

Json to_json(const Amount& amount) {
  return {{"count", amount.count}, {"bytes", amount.bytes}};
}

Inspection inspect(const converter::ProvedImage& image) {
  Inspection counts;
  counts.platform = image.platform();
  counts.image = image.image.document.digest;
  counts.source = converter::original_of(image.image.manifest);
  counts.cdc_manifest = image.anchor.manifest;
  counts.data_layers = image.anchor.data_layers;
  counts.raw_size = image.raw_size();
  for (const auto& layer : counts.data_layers) counts.stored_size += layer.size;
  counts.manifest_size = image.anchor.manifest_size;
  counts.mount_size = cdc::Manifest::mount_size(image.manifest->header());
  count_tree(image.manifest->tree(), counts);
  count_objects(image.manifest->objects(), counts);
  return counts;
}

Shared share(const converter::ProvedImage& image, const converter::ProvedImage& other,
             const std::string& name) {
  Shared shared;
  shared.with = name;
  const cdc::Objects& theirs = other.manifest->objects();
  std::unordered_set<Digest> ids;
  for (std::uint32_t i = 0; i < theirs.count(); ++i) ids.insert(theirs.id(i));
  const cdc::Objects& ours = image.manifest->objects();
  for (std::uint32_t i = 0; i < ours.count(); ++i) {
    if (ids.contains(ours.id(i))) shared.objects.add(image.manifest->tree().object_size(i));
  }
  auto digests = chunk_digests(theirs);
  for (std::uint32_t i = 0; i < ours.total_chunks(); ++i) {
    const cdc::Chunk& chunk = ours.chunk(i);
    if (digests.erase(chunk.digest) > 0) shared.chunks.add(chunk.size);  // once each
  }
  return shared;
}

std::string to_text(const Inspection& i) {
  std::string text = log::printable(i.platform) + '\n';
  const auto digest = [&](std::string_view name, const Digest& value) {
    if (!value.is_zero()) text += fmt::format("  {:<16}{}\n", name, value.to_string());
  };
  digest("image", i.image);
  digest("converted from", i.source);
  digest("CDC manifest", i.cdc_manifest);
  for (const auto& layer : i.data_layers) digest("data layer", layer.blob);
  text += table_line("raw", "", human_bytes(i.raw_size), "the tar of the data layer");
  text += table_line("stored", percent(i.stored_size, i.raw_size), human_bytes(i.stored_size),
                     "the data layer, CDC manifest included");
  text += table_line("manifest", percent(i.manifest_size, i.raw_size), human_bytes(i.manifest_size),
                     "the CDC manifest");
  text += table_line("mount part", percent(i.mount_size, i.raw_size), human_bytes(i.mount_size),
                     "of it, what a mount needs");
  text += table_line("entries", std::to_string(i.entries), "", "names in the tree");
  text += amount_line("files", i.files, "regular files");
  text += amount_line("objects", i.objects, "their distinct contents");
  text += amount_line("chunks", i.chunks, "of these objects");
  text += amount_line("distinct chunks", i.distinct_chunks, "");
  text += amount_line("frames", i.frames, "stored");
  text += table_line("saved", percent(i.files.bytes - i.distinct_chunks.bytes, i.files.bytes),
                     human_bytes(i.files.bytes - i.distinct_chunks.bytes),
                     "equal files and chunks inside the image");
  for (const Shared& with : i.shared) {
    text += "  shared with " + with.with + '\n';
    text += amount_line("  objects", with.objects, percent(with.objects.bytes, i.objects.bytes));
    text +=
        amount_line("  chunks", with.chunks, percent(with.chunks.bytes, i.distinct_chunks.bytes));
  }
  return text;
}

Json to_json(const Inspection& i) {
  Json json{{"platform", i.platform}, {"image", i.image.to_string()}};
  if (!i.source.is_zero()) json["source"] = i.source.to_string();
  json["data_layers"] = Json::array();
  for (const auto& layer : i.data_layers) {
    json["data_layers"].push_back({{"digest", layer.blob.to_string()},
                                   {"size", layer.size},
                                   {"diff_id", layer.diff_id.to_string()}});
  }
  json["cdc_manifest"] = {{"digest", i.cdc_manifest.to_string()},
                          {"size", i.manifest_size},
                          {"mount_size", i.mount_size}};
  json["raw_size"] = i.raw_size;
  json["stored_size"] = i.stored_size;
  json["entries"] = i.entries;
  json["files"] = to_json(i.files);
  json["objects"] = to_json(i.objects);
  json["chunks"] = to_json(i.chunks);
  json["distinct_chunks"] = to_json(i.distinct_chunks);
  json["frames"] = to_json(i.frames);
  json["shared"] = Json::array();
  for (const Shared& with : i.shared) {
    json["shared"].push_back({{"with", with.with},
                              {"objects", to_json(with.objects)},
                              {"chunks", to_json(with.chunks)}});
  }
  return json;
}

}  // namespace imsy::cli::image
