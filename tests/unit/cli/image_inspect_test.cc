// imsy inspect and imsy diff: what is counted, and that only documents are fetched.
#include <nlohmann/json.hpp>

#include "oci/base64.h"
#include "tests/support/fake_registry.h"
#include "tests/unit/cli/image_fixture.h"

namespace imsy::cli {
namespace {

using nlohmann::json;
using oci::tar::Type;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

// Two equal files, one with a part of them, small ones.
Bytes first_tar() {
  return TarBuilder()
      .add(header(Type::kDirectory, "data/"))
      .add(header(Type::kRegular, "data/a"), noise(400'000, 1))
      .add(header(Type::kRegular, "data/b"), noise(400'000, 1))
      .add(header(Type::kHardLink, "data/c", "data/a"))
      .add(header(Type::kRegular, "gone"), text("gone"))
      .add(header(Type::kRegular, "kept"), text("kept"))
      .add(header(Type::kRegular, "touched"), text("touched"))
      .finish();
}

Bytes second_tar() {
  Bytes longer = noise(400'000, 1);
  append(longer, noise(200'000, 2));
  auto touched = header(Type::kRegular, "touched");
  touched.mode = 0600;
  return TarBuilder()
      .add(header(Type::kDirectory, "data/"))
      .add(header(Type::kRegular, "data/a"), longer)
      .add(header(Type::kRegular, "data/b"), noise(400'000, 1))
      .add(header(Type::kRegular, "kept"), text("kept"))
      .add(header(Type::kRegular, "new"), noise(3000, 3))
      .add(touched, text("touched"))
      .finish();
}

class InspectTest : public ImageTest {
 protected:
  json run_json(std::vector<std::string> args) {
    args.emplace_back("--json");
    const Ran ran = run_imsy(args);
    EXPECT_EQ(ran.code, kExitDone) << ran.err;
    return json::parse(ran.out);
  }
};

TEST_F(InspectTest, CountsWhatIsThere) {
  const auto original = add_plain("v1", {first_tar()});
  convert("v1");
  const auto all = run_json({"inspect", converted("v1")});
  ASSERT_EQ(all["images"].size(), 1u);
  const auto& image = all["images"][0];
  const auto manifest = manifest_of("v1");
  const auto anchor = anchor_of("v1");
  const auto cdc_manifest = cdc_manifest_of("v1");
  EXPECT_EQ(image["platform"], "linux/amd64");
  EXPECT_EQ(image["image"], converted_->get_manifest("v1").value().digest.to_string());
  EXPECT_EQ(image["source"], original.digest.to_string());
  EXPECT_EQ(image["cdc_manifest"]["digest"], anchor.manifest.to_string());
  EXPECT_EQ(image["cdc_manifest"]["size"], anchor.manifest_size);
  EXPECT_LT(image["cdc_manifest"]["mount_size"], anchor.manifest_size);
  EXPECT_EQ(image["data_layers"][0]["digest"], manifest.layers[1].digest.to_string());
  EXPECT_EQ(image["stored_size"], manifest.layers[1].size);
  // Eight headers, one of them for the hard link, the contents twice, the end.
  EXPECT_EQ(image["raw_size"], 8 * 512 + 2 * 400'384 + 3 * 512 + 1024);
  EXPECT_EQ(image["entries"], 7);
  EXPECT_EQ(image["files"], json({{"count", 5}, {"bytes", 800'000 + 4 + 4 + 7}}));
  EXPECT_EQ(image["objects"], json({{"count", 4}, {"bytes", 400'000 + 4 + 4 + 7}}));
  EXPECT_EQ(image["chunks"]["count"], cdc_manifest->objects().total_chunks());
  EXPECT_EQ(image["chunks"]["bytes"], 400'000 + 4 + 4 + 7);
  EXPECT_EQ(image["distinct_chunks"], image["chunks"]);
  EXPECT_EQ(image["frames"]["count"], cdc_manifest->objects().frame_count());
  EXPECT_EQ(image["shared"], json::array());
}

TEST_F(InspectTest, SaysWhatIsShared) {
  add_both("v1", {first_tar()});
  add_both("v2", {second_tar()});
  const auto shared = run_json({"inspect", converted("v1"), converted("v2"), converted("v1")});
  const auto& with = shared["images"][0]["shared"];
  ASSERT_EQ(with.size(), 2u);
  EXPECT_EQ(with[0]["with"], converted("v2"));
  EXPECT_EQ(with[0]["objects"], json({{"count", 3}, {"bytes", 400'000 + 4 + 7}}));
  EXPECT_EQ(with[0]["chunks"]["bytes"], 400'000 + 4 + 7);
  EXPECT_EQ(with[1]["objects"], shared["images"][0]["objects"]);
  EXPECT_EQ(with[1]["chunks"], shared["images"][0]["distinct_chunks"]);
}

TEST_F(InspectTest, WritesATableForPeople) {
  add_both("v1", {first_tar()});
  add_both("v2", {second_tar()});
  const Ran ran = run_imsy({"inspect", converted("v1"), converted("v2")});
  EXPECT_EQ(ran.code, kExitDone) << ran.err;
  EXPECT_THAT(ran.out, AllOf(HasSubstr("linux/amd64\n"), HasSubstr("  files                    5"),
                             HasSubstr("  saved               50.0 %    400.0 kB"),
                             HasSubstr("shared with " + converted("v2"))));
}

TEST_F(InspectTest, SaysWhatItCannotDo) {
  add_both("v1", {first_tar()});
  EXPECT_THAT(refusal({"inspect", plain("v1")}), HasSubstr("convert it with imsy-convert first"));
  EXPECT_THAT(refusal({"inspect", converted("v1"), plain("v1")}),
              AllOf(HasSubstr(plain("v1")), HasSubstr("convert it")));
  EXPECT_THAT(refusal({"inspect", converted("nothing")}), HasSubstr("has no tag nothing"));
  EXPECT_THAT(refusal({"inspect", "tar:" + at("none")}), HasSubstr("none"));
  EXPECT_EQ(run_imsy({"inspect"}).code, kExitUsage);
}

TEST_F(InspectTest, PlatformsOfIndexesArePaired) {
  const auto amd = add_plain("amd", {first_tar()});
  const auto arm = add_plain("arm", {second_tar()}, "arm64");
  add_index("v1", {{"amd64", amd}, {"arm64", arm}});
  convert("v1");
  const auto all = run_json({"inspect", converted("v1"), converted("v1")});
  ASSERT_EQ(all["images"].size(), 2u);
  for (const auto& image : all["images"]) {
    EXPECT_EQ(image["shared"][0]["objects"], image["objects"]) << image["platform"];
  }
  convert("amd");
  EXPECT_THAT(refusal({"inspect", converted("v1"), converted("nothing")}), HasSubstr("nothing"));
}

// From a registry only manifests, configurations and the part with the CDC manifest are fetched.
TEST_F(InspectTest, FetchesDocumentsOnly) {
  add_both("v1", {first_tar()});
  test::FakeRegistry registry;
  const auto document = converted_->get_manifest("v1").value();
  const auto manifest = manifest_of("v1");
  for (const auto& layer : manifest.layers) registry.add_blob(read_all(blob_file(layer)));
  registry.add_blob(read_all(blob_file(manifest.config)));
  registry.add_manifest("library/web", "v1", document.media_type, document.bytes);
  const std::string ref = registry.host() + "/library/web:v1";
  for (const char* command : {"inspect", "diff"}) {
    registry.clear_log();
    std::vector<std::string> args{command, ref, ref, "--plain-http"};
    const Ran ran = run_imsy(args);
    ASSERT_EQ(ran.code, kExitDone) << ran.err;
    for (const auto& request : registry.log()) {
      if (request.path.find(manifest.layers[1].digest.to_string()) == std::string::npos) continue;
      EXPECT_THAT(request.header("range"),
                  HasSubstr("bytes=" + std::to_string(anchor_of("v1").manifest_offset) + "-"));
    }
    EXPECT_EQ(registry.count("GET", manifest.layers[0].digest.to_string()), 0u);
  }
}

class DiffTest : public InspectTest {
 protected:
  json diff(const std::string& from, const std::string& to) {
    return run_json({"diff", converted(from), converted(to), "--files"})["images"][0];
  }
};

TEST_F(DiffTest, AnImageItselfCostsItsManifestOnly) {
  add_both("v1", {first_tar()});
  const auto same = diff("v1", "v1");
  EXPECT_EQ(same["paths"],
            json({{"same", 8}, {"attributes", 0}, {"changed", 0}, {"added", 0}, {"removed", 0}}));
  EXPECT_EQ(same["chunks"], json({{"count", 0}, {"bytes", 0}}));
  EXPECT_EQ(same["frames"]["requests"], 0);
  EXPECT_EQ(same["fetched_bytes"], anchor_of("v1").manifest_size);
  EXPECT_EQ(same["files"], json::array());
}

TEST_F(DiffTest, NamesFilesAndCountsTheirNewBytes) {
  add_both("v1", {first_tar()});
  add_both("v2", {second_tar()});
  const auto changes = diff("v1", "v2");
  std::map<std::string, json> files;
  for (const auto& file : changes["files"]) files[file["path"]] = file;
  EXPECT_EQ(files["gone"]["change"], "removed");
  EXPECT_EQ(files["data/c"]["change"], "removed");
  EXPECT_EQ(files["new"], json({{"path", "new"},
                                {"change", "added"},
                                {"what", ""},
                                {"size", 3000},
                                {"new_bytes", 3000}}));
  EXPECT_THAT(files["touched"]["what"].get<std::string>(), HasSubstr("mode: "));
  EXPECT_EQ(files["touched"]["change"], "attributes");
  EXPECT_EQ(files["touched"]["new_bytes"], 0);
  EXPECT_EQ(files["data/a"]["change"], "changed");
  EXPECT_EQ(files["data/a"]["size"], 600'000);
  EXPECT_GE(files["data/a"]["new_bytes"], 200'000);
  EXPECT_LT(files["data/a"]["new_bytes"], 500'000);  // what the chunker finds again is not fetched
  EXPECT_FALSE(files.contains("kept"));
  EXPECT_EQ(changes["chunks"]["bytes"], files["data/a"]["new_bytes"].get<int>() + 3000);
  EXPECT_EQ(changes["paths"],
            json({{"same", 4}, {"attributes", 1}, {"changed", 1}, {"added", 1}, {"removed", 2}}));
}

// Whatever is had, what the frames bring is what lacks.
TEST_F(DiffTest, NamesThatAreNoUtf8AreToldApart) {
  const std::vector<std::string> names = {"a\xFE", "a\xFF", "\xED\xA0\x80", "plain \u20AC"};
  TarBuilder tar;
  for (const std::string& name : names) tar.add(header(Type::kFifo, name));
  add_both("v1", {TarBuilder().finish()});
  add_both("v2", {tar.finish()});
  std::vector<std::string> found;
  const auto changes = diff("v1", "v2");
  for (const auto& file : changes["files"]) {
    if (file["path"] == ".") continue;
    found.push_back(file.contains("path_base64")
                        ? oci::base64_decode(file["path_base64"].get<std::string>()).value()
                        : file["path"].get<std::string>());
  }
  EXPECT_THAT(found, testing::UnorderedElementsAreArray(names));
}

TEST_F(DiffTest, PlatformsThatTheOtherLacksArePassedOver) {
  const auto amd = add_plain("amd", {first_tar()});
  const auto arm = add_plain("arm", {second_tar()}, "arm64");
  add_index("v1", {{"amd64", amd}, {"arm64", arm}});
  convert("amd");
  convert("arm");
  convert("v1");
  for (const char* command : {"diff", "inspect"}) {
    const bool diff = command == std::string_view("diff");
    std::vector<std::string> args = {command, converted("v1"), converted("amd")};
    if (diff) std::swap(args[1], args[2]);
    const Ran ran = run_imsy(args);
    EXPECT_EQ(ran.code, kExitDone) << ran.err;
    EXPECT_EQ(ran.err,
              "imsy: linux/arm64 is passed over: " + converted("amd") + " holds no image for it\n");
    EXPECT_THAT(ran.out, HasSubstr("linux/amd64\n"));
    EXPECT_EQ(ran.out.find("linux/arm64") != std::string::npos, !diff);
  }
  const Ran nothing = run_imsy({"diff", converted("amd"), converted("arm")});
  EXPECT_EQ(nothing.code, kExitFailed);
  EXPECT_THAT(nothing.err, HasSubstr("have no platform in common"));
}

TEST_F(DiffTest, FetchesWholeFramesAndJoinsNeighbours) {
  add_both("empty", {TarBuilder().finish()});
  add_both("v1", {first_tar()});
  const auto whole = diff("empty", "v1");
  const auto manifest = cdc_manifest_of("v1");
  const auto& objects = manifest->objects();
  EXPECT_EQ(whole["chunks"]["count"], objects.total_chunks());
  // Between the first copy of the large content and what follows lies the second one.
  EXPECT_EQ(whole["frames"]["requests"], 2);
  std::uint64_t end = 0;
  std::uint64_t count = 0;
  for (std::uint32_t i = 0; i < objects.frame_count(); ++i) {
    if (objects.chunks_in_frame(i).empty()) continue;
    ++count;
    end = objects.frame(i).stored_offset + objects.frame(i).stored_size;
  }
  EXPECT_EQ(whole["frames"]["count"], count);
  EXPECT_LE(whole["frames"]["request_bytes"], end);
  EXPECT_GE(whole["frames"]["request_bytes"], whole["frames"]["bytes"]);
}

TEST_F(DiffTest, WritesATableForPeople) {
  add_both("v1", {first_tar()});
  add_both("v2", {second_tar()});
  const Ran brief = run_imsy({"diff", converted("v1"), converted("v2")});
  EXPECT_EQ(brief.code, kExitDone) << brief.err;
  EXPECT_THAT(brief.out, AllOf(HasSubstr("  changed                  1"), HasSubstr("to fetch"),
                               Not(HasSubstr("data/a"))));
  const Ran files = run_imsy({"diff", converted("v1"), converted("v2"), "--files"});
  EXPECT_THAT(files.out, AllOf(HasSubstr("data/a  content: "), HasSubstr("touched  mode: ")));
}

TEST_F(DiffTest, BothMustBeConverted) {
  add_both("v1", {first_tar()});
  EXPECT_THAT(refusal({"diff", plain("v1"), converted("v1")}), HasSubstr("convert it"));
  EXPECT_THAT(refusal({"diff", converted("v1"), plain("v1")}), HasSubstr("convert it"));
  EXPECT_EQ(run_imsy({"diff", converted("v1")}).code, kExitUsage);
}

}  // namespace
}  // namespace imsy::cli
