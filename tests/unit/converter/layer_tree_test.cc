// What layers mean: each case is a list of layers and the tree they must make, or the refusal.
#include "converter/layer_tree.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

namespace imsy::converter {
namespace {

using oci::tar::Header;
using oci::tar::Type;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::UnorderedElementsAre;

Header entry(Type type, std::string name) {
  Header header;
  header.type = type;
  header.name = std::move(name);
  header.mode = type == Type::kDirectory ? 0755 : 0644;
  header.mtime_s = 100;
  return header;
}
Header dir(std::string name, std::uint32_t mode = 0755) {
  Header header = entry(Type::kDirectory, std::move(name));
  header.mode = mode;
  return header;
}
Header file(std::string name) {
  return entry(Type::kRegular, std::move(name));
}
Header symlink(std::string name, std::string target) {
  Header header = entry(Type::kSymlink, std::move(name));
  header.link = std::move(target);
  return header;
}
Header hard_link(std::string name, std::string target) {
  Header header = entry(Type::kHardLink, std::move(name));
  header.link = std::move(target);
  return header;
}
Header device(std::string name, std::uint32_t major, std::uint32_t minor) {
  Header header = entry(Type::kCharDevice, std::move(name));
  header.device_major = major;
  header.device_minor = minor;
  return header;
}

using Layer = std::vector<Header>;

struct AclEntry {
  unsigned tag;
  unsigned rights;
  std::uint32_t owner = 0xFFFFFFFF;
};

// As the kernel keeps an ACL in an extended attribute.
std::string acl(const std::vector<AclEntry>& entries) {
  std::string value("\2\0\0\0", 4);
  const auto put = [&](std::uint32_t number, int bytes) {
    for (int i = 0; i < bytes; ++i) value += static_cast<char>(number >> (8 * i) & 0xFF);
  };
  for (const AclEntry& entry : entries) {
    put(entry.tag, 2);
    put(entry.rights, 2);
    put(entry.owner, 4);
  }
  return value;
}

LayerTree::ReadContent number(std::uint32_t content) {
  return [content] { return Result<std::uint32_t>(content); };
}

// Applies layers; regular files get contents 0, 1, 2 ... in the order in which they are made.
class LayerTreeTest : public testing::Test {
 protected:
  Status apply(const std::vector<Layer>& layers) {
    for (const auto& layer : layers) {
      tree_.begin_layer();
      for (const auto& header : layer) {
        IMSY_TRY(tree_.apply(header, [&] { return Result<std::uint32_t>(next_content_++); }));
      }
      tree_.end_layer();
    }
    return {};
  }

  void expect_ok(const std::vector<Layer>& layers) {
    const auto applied = apply(layers);
    ASSERT_TRUE(applied) << applied.error().message();
  }

  std::string refusal(const std::vector<Layer>& layers) {
    const auto applied = apply(layers);
    if (applied) return "accepted";
    EXPECT_EQ(applied.error().code(), Errc::kInvalid);
    return applied.error().message();
  }

  // "path" for directories (with a slash at the end), "path=content" for files, "path->target" for
  // symlinks, "path c" for devices.
  std::vector<std::string> listing() const {
    std::vector<std::string> lines;
    list(LayerTree::kRoot, "", lines);
    return lines;
  }

  const LayerTree::Inode& at(const std::string& path) const {
    LayerTree::InodeId current = LayerTree::kRoot;
    std::string rest = path;
    while (!rest.empty()) {
      const auto slash = rest.find('/');
      const auto name = rest.substr(0, slash);
      rest = slash == std::string::npos ? "" : rest.substr(slash + 1);
      current = tree_.inode(current).directory->children.at(name).inode;
    }
    return tree_.inode(current);
  }

  LayerTree tree_;

 private:
  void list(LayerTree::InodeId id, const std::string& prefix,
            std::vector<std::string>& lines) const {
    for (const auto& [name, child] : tree_.inode(id).directory->children) {
      const auto& inode = tree_.inode(child.inode);
      const std::string path = prefix + name;
      switch (inode.type) {
        case cdc::NodeType::kDirectory:
          lines.push_back(path + "/");
          list(child.inode, path + "/", lines);
          break;
        case cdc::NodeType::kRegular:
          lines.push_back(path + "=" + std::to_string(inode.content));
          break;
        case cdc::NodeType::kSymlink: lines.push_back(path + "->" + inode.target); break;
        default: lines.push_back(path + " c"); break;
      }
    }
  }

  std::uint32_t next_content_ = 0;
};

// --- names ---

TEST_F(LayerTreeTest, SpellingsOfOnePathAreOnePath) {
  expect_ok({{file("/a/b"), file("./a//c"), file("a/./d"), dir("a/")}});
  EXPECT_THAT(listing(), ElementsAre("a/", "a/b=0", "a/c=1", "a/d=2"));
}

TEST_F(LayerTreeTest, RefusesDotDotInNames) {
  EXPECT_THAT(refusal({{file("a/../../etc/passwd")}}), HasSubstr("\"..\""));
}

TEST_F(LayerTreeTest, RefusesNamesThatNoFileSystemTakes) {
  EXPECT_THAT(refusal({{file(std::string(256, 'x'))}}), HasSubstr("255 bytes"));
  std::string deep;
  while (deep.size() <= 4095) deep += "d/";
  EXPECT_THAT(refusal({{file(deep + "x")}}), HasSubstr("4095 bytes"));
  EXPECT_THAT(refusal({{file(std::string("a\0b", 3))}}), HasSubstr("NUL"));
}

TEST_F(LayerTreeTest, AcceptsNamesOf255BytesAndAnyOtherByte) {
  const std::string longest(255, 'x');
  expect_ok({{file(longest), file("new\nline"), file("\xff\xfe"), file("back\\slash")}});
  EXPECT_EQ(listing().size(), 4u);
}

TEST_F(LayerTreeTest, MessagesEscapeHostileNames) {
  EXPECT_THAT(refusal({{file("..\x1b[2J/x"), file("../\x1b[2J")}}), HasSubstr("\\x1b"));
}

// --- the root ---

TEST_F(LayerTreeTest, RootTakesTheAttributesOfItsLastEntry) {
  Header root = dir("./", 0700);
  root.mtime_s = 7;
  root.uid = 3;
  expect_ok({{dir("./", 0711)}, {root}});
  EXPECT_EQ(at("").mode, 0700);
  EXPECT_EQ(at("").uid, 3u);
  EXPECT_EQ(at("").mtime_s, 7);
}

TEST_F(LayerTreeTest, RootWithoutEntryHasDefaults) {
  expect_ok({{file("a")}});
  EXPECT_EQ(at("").mode, 0755);
  EXPECT_EQ(at("").mtime_s, 0);
}

TEST_F(LayerTreeTest, RootMustBeADirectory) {
  EXPECT_THAT(refusal({{symlink(".", "/etc")}}), HasSubstr("must be a directory"));
  EXPECT_THAT(refusal({{file("/")}}), HasSubstr("must be a directory"));
  EXPECT_THAT(refusal({{device("./", 1, 3)}}), HasSubstr("must be a directory"));
}

// --- implied directories and symlinked parents ---

TEST_F(LayerTreeTest, ImpliedDirectoriesGetDefaultsAndTheTimeOfTheirEntry) {
  Header f = file("a/b/c");
  f.mtime_s = 42;
  f.mtime_ns = 5;
  f.uid = 9;
  expect_ok({{f}});
  EXPECT_EQ(at("a/b").mode, 0755);
  EXPECT_EQ(at("a/b").uid, 0u);
  EXPECT_EQ(at("a/b").mtime_s, 42);
  EXPECT_EQ(at("a/b").mtime_ns, 5u);
}

TEST_F(LayerTreeTest, AnEntryBelowALowerDirectoryKeepsItsAttributes) {
  expect_ok({{dir("a", 0700)}, {file("a/b")}});
  EXPECT_EQ(at("a").mode, 0700);
}

TEST_F(LayerTreeTest, FollowsSymlinkedParentsInsideTheRoot) {
  expect_ok({{dir("run"), symlink("var/run", "/run"), symlink("up", "../../run"),
              symlink("chain", "var/run")},
             {file("var/run/a"), file("up/b"), file("chain/c")}});
  EXPECT_THAT(listing(), ElementsAre("chain->var/run", "run/", "run/a=0", "run/b=1", "run/c=2",
                                     "up->../../run", "var/", "var/run->/run"));
  EXPECT_EQ(tree_.warnings().symlinked_parents, 4u);
}

TEST_F(LayerTreeTest, ADanglingParentLeadsToNewDirectories) {
  expect_ok({{symlink("l", "/new/place"), file("l/x")}});
  EXPECT_THAT(listing(), ElementsAre("l->/new/place", "new/", "new/place/", "new/place/x=0"));
}

TEST_F(LayerTreeTest, RefusesSymlinkLoops) {
  EXPECT_THAT(refusal({{symlink("a", "b"), symlink("b", "a"), file("a/x")}}), HasSubstr("ELOOP"));
}

TEST_F(LayerTreeTest, FollowsAsManyLinksAsTheLimitAndNoMore) {
  Layer layer{dir("d")};
  for (int i = 0; i <= 256; ++i) {
    layer.push_back(symlink("l" + std::to_string(i), i == 0 ? "d" : "l" + std::to_string(i - 1)));
  }
  expect_ok({layer, {file("l254/x")}});  // 255 links
  EXPECT_EQ(at("d/x").content, 0u);
  EXPECT_THAT(refusal({{file("l255/y")}}), HasSubstr("(ELOOP) than the limit of 255"));
}

TEST_F(LayerTreeTest, ADirectoryEntryReplacesASymlink) {
  expect_ok({{dir("t"), symlink("l", "t")}, {dir("l"), file("l/x")}});
  EXPECT_THAT(listing(), ElementsAre("l/", "l/x=0", "t/"));
}

TEST_F(LayerTreeTest, RefusesAPathThroughAFile) {
  EXPECT_THAT(refusal({{file("a"), file("a/b")}}), HasSubstr("not a directory"));
}

TEST_F(LayerTreeTest, RefusesDepthBeyondTheLimit) {
  LayerTree shallow(LayerLimits{.depth = 3});
  shallow.begin_layer();
  EXPECT_TRUE(shallow.apply(file("a/b/c"), number(0)));
  EXPECT_FALSE(shallow.apply(file("a/b/c/d"), number(1)));
}

TEST_F(LayerTreeTest, RefusesMoreEntriesThanTheLimit) {
  LayerTree small(LayerLimits{.entries = 2});
  small.begin_layer();
  EXPECT_TRUE(small.apply(file("a"), number(0)));
  EXPECT_TRUE(small.apply(file("b"), number(1)));
  EXPECT_FALSE(small.apply(file("c"), number(2)));
}

// --- replacing ---

TEST_F(LayerTreeTest, TypeChangesRemoveWhatWasBelow) {
  expect_ok({{dir("d"), file("d/x"), file("f"), symlink("s", "f")},
             {file("d"), dir("f"), file("f/y"), device("s", 1, 3)}});
  EXPECT_THAT(listing(), ElementsAre("d=2", "f/", "f/y=3", "s c"));
}

TEST_F(LayerTreeTest, DirectoryOverDirectoryMergesAndTakesNewAttributes) {
  Header old = dir("d", 0755);
  old.xattrs["user.old"] = "1";
  expect_ok({{old, file("d/x")}, {dir("d", 0500), file("d/y")}});
  EXPECT_THAT(listing(), ElementsAre("d/", "d/x=0", "d/y=1"));
  EXPECT_EQ(at("d").mode, 0500);
  EXPECT_TRUE(at("d").xattrs.empty());
}

// Every type over every other one, with something below where there can be: nothing of the lower
// one is left, and a directory that comes back later is empty.
TEST_F(LayerTreeTest, EveryTypeReplacesEveryOther) {
  Header block = device("p", 8, 1);
  block.type = Type::kBlockDevice;
  Header link = hard_link("p", "other");
  const std::vector<Layer> kinds = {{file("p")},
                                    {dir("p"), file("p/old/below")},
                                    {symlink("p", "elsewhere")},
                                    {device("p", 1, 3)},
                                    {block},
                                    {entry(Type::kFifo, "p")},
                                    {file("other"), link}};
  for (std::size_t lower = 0; lower < kinds.size(); ++lower) {
    for (std::size_t upper = 0; upper < kinds.size(); ++upper) {
      tree_ = LayerTree();
      expect_ok({kinds[lower], kinds[upper]});
      const auto& inode = at("p");
      ASSERT_EQ(inode.directory != nullptr, upper == 1) << lower << " " << upper;
      ASSERT_EQ(inode.type == cdc::NodeType::kSymlink, upper == 2);
      if (lower == upper) continue;
      expect_ok({{dir("p")}});
      ASSERT_EQ(at("p").directory->children.size(), upper == 1 ? 1u : 0u);
    }
  }
}

TEST_F(LayerTreeTest, CountsDirectoriesThatAreListedTwice) {
  expect_ok({{file("a/x"), dir("a"), dir("b"), dir("b"), dir("b")}, {dir("a"), dir("b")}});
  EXPECT_EQ(tree_.warnings().duplicate_entries, 2u);
}

TEST_F(LayerTreeTest, TheLastOfDuplicateEntriesCounts) {
  expect_ok({{file("a"), file("a"), symlink("a", "x")}});
  EXPECT_THAT(listing(), ElementsAre("a->x"));
  EXPECT_EQ(tree_.warnings().duplicate_entries, 2u);
}

TEST_F(LayerTreeTest, ANewLayerReplacesAFileWithoutTouchingItsOtherLinks) {
  expect_ok({{file("a"), hard_link("b", "a")}, {file("a")}});
  EXPECT_THAT(listing(), ElementsAre("a=1", "b=0"));
}

// --- hard links ---

TEST_F(LayerTreeTest, HardLinksShareAnInode) {
  expect_ok({{file("a"), hard_link("b", "/a"), hard_link("d/c", "./b")}});
  EXPECT_EQ(&at("a"), &at("b"));
  EXPECT_EQ(&at("a"), &at("d/c"));
}

TEST_F(LayerTreeTest, AHardLinkToASymlinkIsASymlink) {
  expect_ok({{symlink("s", "target"), hard_link("l", "s")}});
  EXPECT_EQ(&at("s"), &at("l"));
  EXPECT_EQ(at("l").type, cdc::NodeType::kSymlink);
}

TEST_F(LayerTreeTest, TheLinksHeaderAppliesToTheSharedInode) {
  Header link = hard_link("b", "a");
  link.mode = 04755;
  link.uid = 5;
  Header original = file("a");
  original.xattrs["user.kept"] = "1";
  expect_ok({{original, link}});
  EXPECT_EQ(at("a").mode, 04755);
  EXPECT_EQ(at("a").uid, 5u);
  ASSERT_EQ(at("a").xattrs.size(), 1u);
}

TEST_F(LayerTreeTest, LinkTargetsGoThroughSymlinkedParents) {
  expect_ok(
      {{dir("usr/bin"), symlink("bin", "usr/bin"), file("usr/bin/x")}, {hard_link("y", "/bin/x")}});
  EXPECT_EQ(&at("y"), &at("usr/bin/x"));
}

TEST_F(LayerTreeTest, RefusesLinksToNothingLaterDirectoriesAndThemselves) {
  const std::string missing = refusal({{hard_link("b", "nowhere")}});
  EXPECT_THAT(missing, HasSubstr("\"b\""));
  EXPECT_THAT(missing, HasSubstr("\"nowhere\""));
  EXPECT_THAT(refusal({{hard_link("c", "later"), file("later")}}), HasSubstr("no such file"));
  EXPECT_THAT(refusal({{dir("d"), hard_link("e", "d")}}), HasSubstr("directory"));
  EXPECT_THAT(refusal({{file("f"), hard_link("f", "f")}}), HasSubstr("itself"));
  EXPECT_THAT(refusal({{hard_link("g", "../x")}}), HasSubstr("\"..\""));
}

TEST_F(LayerTreeTest, ALinkMayBeThereAlready) {
  for (const bool in_one_layer : {true, false}) {
    LayerTree tree;
    tree.begin_layer();
    ASSERT_TRUE(tree.apply(file("a"), number(0)));
    ASSERT_TRUE(tree.apply(hard_link("b", "a"), number(cdc::kNone)));
    if (!in_one_layer) {
      tree.end_layer();
      tree.begin_layer();
    }
    ASSERT_TRUE(tree.apply(hard_link("b", "a"), number(cdc::kNone)));
    tree.end_layer();
    const auto& children = tree.inode(LayerTree::kRoot).directory->children;
    EXPECT_EQ(children.find("a")->second.inode, children.find("b")->second.inode);
    EXPECT_EQ(tree.warnings().duplicate_entries, in_one_layer ? 1u : 0u);
  }
}

TEST_F(LayerTreeTest, ALinkToALowerFileSurvivesItsWhiteoutInEitherOrder) {
  for (const bool whiteout_first : {true, false}) {
    LayerTree tree;
    tree.begin_layer();
    ASSERT_TRUE(tree.apply(file("old"), number(0)));
    tree.end_layer();
    tree.begin_layer();
    if (whiteout_first) {
      ASSERT_TRUE(tree.apply(file(".wh.old"), number(cdc::kNone)));
    }
    ASSERT_TRUE(tree.apply(hard_link("new", "old"), number(cdc::kNone)));
    if (!whiteout_first) {
      ASSERT_TRUE(tree.apply(file(".wh.old"), number(cdc::kNone)));
    }
    tree.end_layer();
    const auto& children = tree.inode(LayerTree::kRoot).directory->children;
    ASSERT_EQ(children.size(), 1u);
    EXPECT_EQ(tree.inode(children.at("new").inode).content, 0u);
  }
}

TEST_F(LayerTreeTest, ALinkIntoAWhitedOutDirectorySurvives) {
  expect_ok({{dir("d"), file("d/x")}, {file(".wh.d"), hard_link("y", "d/x")}});
  EXPECT_THAT(listing(), ElementsAre("y=0"));
}

// --- whiteouts ---

// All orders of one layer's entries over one lower layer must make the same tree.
void expect_order_does_not_matter(const Layer& lower, Layer upper,
                                  const std::vector<std::string>& expected) {
  std::sort(upper.begin(), upper.end(),
            [](const Header& a, const Header& b) { return a.name < b.name; });
  std::vector<std::size_t> order(upper.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  do {
    LayerTree tree;
    tree.begin_layer();
    for (const auto& header : lower) ASSERT_TRUE(tree.apply(header, number(0)));
    tree.end_layer();
    tree.begin_layer();
    std::string orders;
    for (const std::size_t i : order) {
      ASSERT_TRUE(tree.apply(upper[i], number(1)));
      orders += upper[i].name + " ";
    }
    tree.end_layer();
    std::vector<std::string> found;
    std::vector<std::pair<LayerTree::InodeId, std::string>> pending{{LayerTree::kRoot, ""}};
    while (!pending.empty()) {
      const auto [id, prefix] = pending.back();
      pending.pop_back();
      for (const auto& [name, child] : tree.inode(id).directory->children) {
        const auto& inode = tree.inode(child.inode);
        found.push_back(prefix + name + " " + std::to_string(inode.mode) + " " +
                        (inode.content == cdc::kNone ? "" : std::to_string(inode.content)));
        if (inode.directory) pending.emplace_back(child.inode, prefix + name + "/");
      }
    }
    std::sort(found.begin(), found.end());
    ASSERT_EQ(found, expected) << orders;
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST_F(LayerTreeTest, WhiteoutsHideLowerEntriesOnlyInAnyOrder) {
  expect_order_does_not_matter({file("x"), file("y"), file("z")},
                               {file(".wh.x"), file("x"), file(".wh.y"), file("w")},
                               {"w 420 1", "x 420 1", "z 420 0"});
}

TEST_F(LayerTreeTest, ADirectoryMadeAnewHasNothingOfTheWhitedOutOne) {
  expect_order_does_not_matter({dir("d", 0700), file("d/old"), dir("d/sub", 0700), file("d/sub/g")},
                               {file(".wh.d"), dir("d"), file("d/new"), file("d/sub/f")},
                               {"d 493 ", "d/new 420 1", "d/sub 493 ", "d/sub/f 420 1"});
}

TEST_F(LayerTreeTest, AWhitedOutDirectoryThatIsImpliedAgainGetsDefaults) {
  expect_order_does_not_matter({dir("d", 0700), file("d/old")}, {file(".wh.d"), file("d/new")},
                               {"d 493 ", "d/new 420 1"});
}

TEST_F(LayerTreeTest, OpaqueMarkersHideLowerEntriesOnlyInAnyOrder) {
  expect_order_does_not_matter(
      {dir("d", 0711), file("d/old"), dir("d/sub", 0700), file("d/sub/g")},
      {file("d/.wh..wh..opq"), file("d/new"), file("d/sub/f"), file("d/sub/deep/e")},
      {"d 457 ", "d/new 420 1", "d/sub 493 ", "d/sub/deep 493 ", "d/sub/deep/e 420 1",
       "d/sub/f 420 1"});
}

TEST_F(LayerTreeTest, AnOpaqueRootHidesEverythingBelow) {
  expect_ok({{file("a"), dir("d"), file("d/b")}, {file(".wh..wh..opq"), file("c")}});
  EXPECT_THAT(listing(), ElementsAre("c=2"));
}

TEST_F(LayerTreeTest, AWhiteoutHidesAWholeSubtreeAndLaterLayersStartAnew) {
  expect_ok({{file("d/e/f")}, {file(".wh.d")}, {file("d/g")}});
  EXPECT_THAT(listing(), ElementsAre("d/", "d/g=1"));
}

TEST_F(LayerTreeTest, WhiteoutsGoThroughSymlinkedParents) {
  expect_ok({{dir("etc"), file("etc/x"), symlink("l", "etc")}, {file("l/.wh.x")}});
  EXPECT_THAT(listing(), ElementsAre("etc/", "l->etc"));
}

TEST_F(LayerTreeTest, AWhitedOutSymlinkIsNoParentAnyMore) {
  expect_ok({{dir("etc"), symlink("l", "etc")}, {file(".wh.l"), file("l/x")}});
  EXPECT_THAT(listing(), ElementsAre("etc/", "l/", "l/x=0"));
}

TEST_F(LayerTreeTest, WhiteoutsCountByNameWhateverTheirType) {
  expect_ok({{file("a"), file("b"), dir("c")},
             {dir(".wh.a"), symlink(".wh.b", "x"), hard_link(".wh.c", "nowhere")}});
  EXPECT_THAT(listing(), ElementsAre());
}

TEST_F(LayerTreeTest, AWhiteoutOfNothingIsHarmless) {
  expect_ok({{file(".wh.a"), file("b")}});
  EXPECT_THAT(listing(), ElementsAre("b=0"));
}

TEST_F(LayerTreeTest, RefusesWhiteoutsThatNameNothingOrTheDirectoryItself) {
  EXPECT_THAT(refusal({{file(".wh.")}}), HasSubstr("must name something"));
  EXPECT_THAT(refusal({{file("d/.wh..")}}), HasSubstr("must name something"));
  EXPECT_THAT(refusal({{file("d/.wh...")}}), HasSubstr("must name something"));
}

TEST_F(LayerTreeTest, NoSymlinkLeadsToADirectoryThatIsAWhiteout) {
  EXPECT_THAT(refusal({{symlink("l", "d/.wh.x"), file("l/f")}}),
              HasSubstr("leads into a whiteout, \".wh.x\""));
  expect_ok({{symlink("m", ".wh.x")}});  // as long as nobody goes there
}

TEST_F(LayerTreeTest, IgnoresOtherWhiteoutMetadata) {
  expect_ok({{file("x"), file("foo")}, {file(".wh..wh.foo"), file(".wh..wh.plnk/1")}});
  EXPECT_THAT(listing(), ElementsAre("foo=1", "x=0"));
  EXPECT_EQ(tree_.warnings().ignored_whiteouts, 2u);
  EXPECT_THAT(refusal({{file(".wh.foo/bar")}}), HasSubstr("lies in a whiteout"));
}

TEST_F(LayerTreeTest, ACharacterDeviceZeroIsAWhiteout) {
  expect_ok({{file("a"), file("b")}, {device("a", 0, 0)}});
  EXPECT_THAT(listing(), ElementsAre("b=1"));
  EXPECT_EQ(tree_.warnings().whiteout_devices, 1u);
}

// Each directory of a layer is purged once, however many markers name it or its ancestors.
TEST_F(LayerTreeTest, ManyNestedMarkersDoNotMultiplyTheWork) {
  constexpr int kDepth = 800;
  constexpr int kFiles = 400;
  Layer lower;
  Layer upper;
  std::string path;
  for (int i = 0; i < kDepth; ++i) {
    path += "d/";
    lower.push_back(file(path + "old"));
    upper.push_back(file(path + ".wh..wh..opq"));
  }
  for (int i = 0; i < kFiles; ++i) upper.push_back(file(path + std::to_string(i)));
  for (int i = 0; i < kFiles; ++i) upper.push_back(file(path + ".wh..wh..opq"));
  expect_ok({lower, upper});
  EXPECT_EQ(listing().size(), static_cast<std::size_t>(kDepth + kFiles));
}

// --- the work is linear ---

// The steps that a lower and an upper layer of `size` take.
using MakeLayers = std::vector<Layer> (*)(int size);
std::uint64_t steps_for(MakeLayers make, int size) {
  LayerTree tree;
  for (const Layer& layer : make(size)) {
    tree.begin_layer();
    for (const Header& header : layer) EXPECT_TRUE(tree.apply(header, number(0)));
    tree.end_layer();
  }
  return tree.steps();
}

std::vector<Layer> many_files(int size) {
  Layer layer;
  for (int i = 0; i < size; ++i) layer.push_back(file("a/b/c/" + std::to_string(i)));
  return {layer};
}
std::vector<Layer> many_markers_in_one_directory(int size) {
  Layer lower;
  Layer upper;
  for (int i = 0; i < size; ++i) {
    lower.push_back(file("d/" + std::to_string(i)));
    upper.push_back(file("d/.wh..wh..opq"));
  }
  return {lower, upper};
}
std::vector<Layer> markers_in_many_directories(int size) {
  Layer lower;
  Layer upper{file(".wh..wh..opq")};
  for (int i = 0; i < size; ++i) {
    lower.push_back(file(std::to_string(i) + "/old"));
    upper.push_back(file(std::to_string(i) + "/new"));
    upper.push_back(file(std::to_string(i) + "/.wh..wh..opq"));
    upper.push_back(file(".wh." + std::to_string(i)));
  }
  return {lower, upper};
}
// Each layer hides all and makes it again.
std::vector<Layer> many_layers(int size) {
  std::vector<Layer> layers;
  for (int i = 0; i < size / 100; ++i) {
    Layer layer{file("d/.wh..wh..opq"), file(".wh.e")};
    for (int k = 0; k < 50; ++k) {
      layer.push_back(file("d/" + std::to_string(k)));
      layer.push_back(file("e/s/" + std::to_string(k)));
    }
    layers.push_back(layer);
  }
  return layers;
}
std::vector<Layer> nested_deeply(int size) {
  Layer lower;
  Layer upper;
  std::string path;
  for (int i = 0; i < 1000; ++i) path += "d/";
  for (int i = 0; i < size / 100; ++i) {
    lower.push_back(file(path + std::to_string(i)));
    upper.push_back(file(path + ".wh." + std::to_string(i)));
    upper.push_back(file(path.substr(0, 1000) + ".wh..wh..opq"));
  }
  return {lower, upper};
}

TEST_F(LayerTreeTest, TwiceTheEntriesAreTwiceTheWork) {
  for (const MakeLayers make : {many_files, many_markers_in_one_directory,
                                markers_in_many_directories, many_layers, nested_deeply}) {
    const std::uint64_t once = steps_for(make, 2'000);
    EXPECT_LE(steps_for(make, 4'000), 2 * once + 2'000);
    EXPECT_LE(steps_for(make, 8'000), 4 * once + 4'000);
  }
}

// As many markers as an archive of a few MB can have; what they hide is visited once.
TEST_F(LayerTreeTest, HalfAMillionMarkersHideOnce) {
  constexpr int kMarkers = 500'000;
  tree_.begin_layer();
  for (int i = 0; i < 1'000; ++i) {
    ASSERT_TRUE(tree_.apply(file("d/" + std::to_string(i)), number(0)));
  }
  tree_.end_layer();
  const std::uint64_t before = tree_.steps();
  tree_.begin_layer();
  const Header marker = file("d/.wh..wh..opq");
  for (int i = 0; i < kMarkers; ++i) ASSERT_TRUE(tree_.apply(marker, number(0)));
  tree_.end_layer();
  EXPECT_LE(tree_.steps() - before, kMarkers + 1'000u);
  EXPECT_THAT(listing(), ElementsAre("d/"));
}

// --- extended attributes ---

TEST_F(LayerTreeTest, KeepsAttributesThatBelongToTheImageAndDropsTheHosts) {
  Header f = file("a");
  f.xattrs = {{"user.mine", "1"},
              {"security.capability", std::string(20, '\1')},
              {"system.posix_acl_access", acl({{1, 6}, {4, 4}, {32, 0}})},
              {"trusted.overlay.opaque", "y"},
              {"user.overlay.redirect", "/x"},
              {"security.ima", "signature"},
              {"security.selinux", "label"}};
  expect_ok({{f}});
  std::vector<std::string> names;
  for (const auto& xattr : at("a").xattrs) names.push_back(xattr.name);
  EXPECT_THAT(names,
              UnorderedElementsAre("user.mine", "security.capability", "system.posix_acl_access"));
  EXPECT_EQ(tree_.warnings().dropped_xattrs, 4u);
}

TEST_F(LayerTreeTest, KeepsAclsThatAKernelAccepts) {
  for (const std::string& value :
       {acl({}), acl({{1, 7}, {4, 5}, {32, 5}}), acl({{1, 7}, {4, 5}, {16, 7}, {32, 0}}),
        acl({{1, 7}, {2, 6, 1000}, {2, 4, 0}, {4, 5}, {8, 7, 5}, {16, 7}, {32, 0}})}) {
    Header d = dir("d");
    d.xattrs = {{"system.posix_acl_access", value}, {"system.posix_acl_default", value}};
    expect_ok({{d}});
    EXPECT_EQ(at("d").xattrs.size(), 2u);
  }
}

TEST_F(LayerTreeTest, RefusesAclsThatNoKernelAccepts) {
  const std::string good = acl({{1, 7}, {4, 5}, {32, 5}});
  std::string version_3 = good;
  version_3[0] = 3;
  const std::vector<std::string> wrong = {
      "",
      "1",
      version_3,
      good.substr(0, good.size() - 1),
      acl({{1, 7}, {4, 5}}),                            // nothing for others
      acl({{4, 5}, {1, 7}, {32, 5}}),                   // another order
      acl({{1, 7}, {1, 7}, {4, 5}, {32, 5}}),           // the owner twice
      acl({{1, 8}, {4, 5}, {32, 5}}),                   // more than rwx
      acl({{1, 7}, {3, 5}, {4, 5}, {16, 7}, {32, 5}}),  // no such tag
      acl({{1, 7}, {4, 5}, {32, 5}, {64, 5}}),          // no such tag
      acl({{1, 7}, {2, 6, 1000}, {4, 5}, {32, 0}}),     // a name without a mask
      acl({{1, 7}, {2, 6, 0xFFFFFFFF}, {4, 5}, {16, 7}, {32, 0}})};
  for (const std::string& value : wrong) {
    Header f = file("a");
    f.xattrs["system.posix_acl_access"] = value;
    EXPECT_THAT(refusal({{f}}), AllOf(HasSubstr("entry \"a\""), HasSubstr("posix_acl_access")));
  }
  Header f = file("a");
  f.xattrs["system.posix_acl_default"] = good;
  EXPECT_THAT(refusal({{f}}), HasSubstr("posix_acl_default"));
}

TEST_F(LayerTreeTest, RefusesAttributesThatNoFileSystemTakes) {
  Header large = file("a");
  large.xattrs["user.a"] = std::string(70u << 10, 'x');
  EXPECT_THAT(refusal({{large}}), HasSubstr("too large"));
  Header many = file("b");
  many.xattrs["user.a"] = std::string(40u << 10, 'x');
  many.xattrs["user.b"] = std::string(40u << 10, 'x');
  EXPECT_THAT(refusal({{many}}), HasSubstr("64 KiB"));
  Header capability = file("c");
  capability.xattrs["security.capability"] = "short";
  EXPECT_THAT(refusal({{capability}}), HasSubstr("no kernel"));
}

TEST_F(LayerTreeTest, RefusesAttributesThatNoImageMayCarry) {
  for (const std::string name :
       {"com.apple.quarantine", "user.", "user", "security.", "", "lustre.lov"}) {
    Header f = file("d/a");
    f.xattrs[name] = "x";
    const std::string message = refusal({{f}});
    EXPECT_THAT(message, HasSubstr("entry \"d/a\""));
    EXPECT_THAT(message, HasSubstr("\"" + name + "\" is not in user.*"));
  }
}

// --- numbers ---

TEST_F(LayerTreeTest, RefusesDeviceNumbersBeyondLinux) {
  EXPECT_THAT(refusal({{device("dev/x", 4096, 0)}}),
              HasSubstr("entry \"dev/x\": device 4096:0 does not exist"));
  EXPECT_THAT(refusal({{device("dev/x", 0, 1u << 20)}}), HasSubstr("device 0:1048576"));
  expect_ok({{device("dev/last", 4095, (1u << 20) - 1)}});
  EXPECT_EQ(at("dev/last").device_major, 4095u);
  EXPECT_EQ(at("dev/last").device_minor, (1u << 20) - 1);
}

// --- symlinks ---

TEST_F(LayerTreeTest, RefusesImpossibleSymlinkTargets) {
  EXPECT_THAT(refusal({{symlink("s", "")}}), HasSubstr("4095"));
  EXPECT_THAT(refusal({{symlink("s", std::string(4096, 'x'))}}), HasSubstr("4095"));
}

}  // namespace
}  // namespace imsy::converter
