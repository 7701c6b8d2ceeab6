#include "cli/image/diff.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <unordered_set>

#include "cas/planner.h"
#include "cli/text.h"
#include "common/log.h"
#include "oci/base64.h"

namespace imsy::cli::image {
namespace {

using Json = nlohmann::ordered_json;
using DigestSet = std::unordered_set<Digest>;

DigestSet chunks_of(const cdc::Objects& objects) {
  DigestSet digests;
  digests.reserve(objects.total_chunks());
  for (std::uint32_t i = 0; i < objects.total_chunks(); ++i) {
    digests.insert(objects.chunk(i).digest);
  }
  return digests;
}

// `had`: the chunks that the node has.
Upgrade plan_upgrade(const cdc::Objects& objects, DigestSet had) {
  Upgrade upgrade;
  std::vector<std::uint32_t> wanted;
  for (std::uint32_t frame = 0; frame < objects.frame_count(); ++frame) {
    bool brings = false;
    for (const std::uint32_t index : objects.chunks_in_frame(frame)) {
      const cdc::Chunk& chunk = objects.chunk(index);
      if (!had.insert(chunk.digest).second) continue;
      brings = true;
      upgrade.chunks.add(chunk.size);
    }
    if (!brings) continue;
    wanted.push_back(frame);
    upgrade.frames.add(objects.frame(frame).stored_size);
  }
  const cas::PlanLimits limits;
  for (const cas::FrameRun& run : cas::plan_runs(objects, wanted, limits.gap, limits.fill_run)) {
    const cdc::Frame& last = objects.frame(run.last);
    ++upgrade.requests;
    upgrade.bytes += last.stored_offset + last.stored_size - objects.frame(run.first).stored_offset;
  }
  return upgrade;
}

// Tells the paths apart, and which of them bring bytes.
class PathCounter {
 public:
  PathCounter(const converter::ProvedImage& from, const converter::ProvedImage& to, DigestSet had,
              Diff& diff)
      : from_(from), to_(to), had_(std::move(had)), diff_(diff) {}

  void take(const Difference& difference) {
    switch (difference.change) {
      case Change::kSame: ++diff_.same; return;
      case Change::kAttributes: ++diff_.attributes; break;
      case Change::kChanged: ++diff_.changed; break;
      case Change::kAdded: ++diff_.added; break;
      case Change::kRemoved: ++diff_.removed; break;
    }
    ChangedFile file{difference.change, difference.path, difference.what, 0, 0};
    const bool gone = difference.change == Change::kRemoved;
    const cdc::Tree& tree = (gone ? from_ : to_).manifest->tree();
    const cdc::Inode& inode = tree.inode(gone ? difference.left : difference.right);
    if (inode.type == cdc::NodeType::kRegular) {
      file.size = tree.size_of(inode);
      if (!gone) file.new_bytes = new_bytes(inode.value);
    }
    diff_.files.push_back(std::move(file));
  }

 private:
  std::uint64_t new_bytes(std::uint32_t object) {
    std::uint64_t bytes = 0;
    for (const cdc::Chunk& chunk : to_.manifest->objects().chunks_of(object)) {
      if (had_.insert(chunk.digest).second) bytes += chunk.size;
    }
    return bytes;
  }

  const converter::ProvedImage& from_;
  const converter::ProvedImage& to_;
  DigestSet had_;
  Diff& diff_;
};

std::string_view name_of(Change change) {
  switch (change) {
    case Change::kSame: return "same";
    case Change::kAttributes: return "attributes";
    case Change::kChanged: return "changed";
    case Change::kAdded: return "added";
    case Change::kRemoved: return "removed";
  }
  return "";
}

std::string line_of(const ChangedFile& file) {
  const std::string what = file.what.empty() ? "" : "  " + file.what;
  return fmt::format("  {:<10}{:>10}  {:>10}  {}{}\n", name_of(file.change), human_bytes(file.size),
                     human_bytes(file.new_bytes), log::printable(file.path), what);
}

// Two names that are no UTF-8 may look the same as `path`.
Json to_json(const ChangedFile& file) {
  Json json{{"path", file.path},
            {"change", name_of(file.change)},
            {"what", file.what},
            {"size", file.size},
            {"new_bytes", file.new_bytes}};
  if (!is_utf8(file.path)) json["path_base64"] = oci::base64_encode(as_bytes(file.path));
  return json;
}

}  // namespace

Diff diff(const converter::ProvedImage& from, const converter::ProvedImage& to) {
  Diff result;
  result.platform = to.platform();
  result.from = from.image.document.digest;
  result.to = to.image.document.digest;
  result.manifest_size = to.anchor.manifest_size;
  const DigestSet had = chunks_of(from.manifest->objects());
  result.upgrade = plan_upgrade(to.manifest->objects(), had);
  PathCounter counter(from, to, had, result);
  compare_trees(content_of(*from.manifest), content_of(*to.manifest),
                [&](const Difference& difference) { counter.take(difference); });
  return result;
}

std::string to_text(const Diff& diff, bool files) {
  const Upgrade& upgrade = diff.upgrade;
  std::string text = log::printable(diff.platform) + '\n';
  const auto paths = [&](std::string_view name, std::uint64_t count, std::string_view meaning) {
    text += table_line(name, std::to_string(count), "", meaning);
  };
  paths("same", diff.same, "paths");
  paths("attributes", diff.attributes, "paths of which nothing else changed");
  paths("changed", diff.changed, "paths with another content, target or type");
  paths("added", diff.added, "");
  paths("removed", diff.removed, "");
  text += table_line("new chunks", std::to_string(upgrade.chunks.count),
                     human_bytes(upgrade.chunks.bytes), "that the old image does not have");
  text += table_line("frames", std::to_string(upgrade.frames.count),
                     human_bytes(upgrade.frames.bytes), "that hold them, as stored");
  text += table_line("requests", std::to_string(upgrade.requests), human_bytes(upgrade.bytes),
                     "for these frames, gaps between neighbours included");
  text += table_line("CDC manifest", "", human_bytes(diff.manifest_size), "of the new image");
  text += table_line("in all", "", human_bytes(upgrade.bytes + diff.manifest_size), "to fetch");
  if (!files) return text;
  text += fmt::format("  {:<10}{:>10}  {:>10}  {}\n", "", "size", "new", "path");
  for (const ChangedFile& file : diff.files) text += line_of(file);
  return text;
}

Json to_json(const Diff& diff, bool files) {
  const Upgrade& upgrade = diff.upgrade;
  Json json{{"platform", diff.platform},
            {"from", diff.from.to_string()},
            {"to", diff.to.to_string()},
            {"paths",
             {{"same", diff.same},
              {"attributes", diff.attributes},
              {"changed", diff.changed},
              {"added", diff.added},
              {"removed", diff.removed}}},
            {"chunks", to_json(upgrade.chunks)},
            {"frames",
             {{"count", upgrade.frames.count},
              {"bytes", upgrade.frames.bytes},
              {"requests", upgrade.requests},
              {"request_bytes", upgrade.bytes}}},
            {"cdc_manifest_bytes", diff.manifest_size},
            {"fetched_bytes", upgrade.bytes + diff.manifest_size}};
  if (!files) return json;
  json["files"] = Json::array();
  for (const ChangedFile& file : diff.files) json["files"].push_back(to_json(file));
  return json;
}

}  // namespace imsy::cli::image
