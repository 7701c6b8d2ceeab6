#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "cdc/manifest.h"

namespace imsy::cdc {
namespace {

using Attributes = TreeBuilder::Attributes;

Attributes directory() {
  return {};
}
Attributes fifo() {
  Attributes attributes;
  attributes.type = NodeType::kFifo;
  return attributes;
}
Attributes symlink(std::string target) {
  Attributes attributes;
  attributes.type = NodeType::kSymlink;
  attributes.target = std::move(target);
  return attributes;
}
Attributes file(std::uint32_t object) {
  Attributes attributes;
  attributes.type = NodeType::kRegular;
  attributes.object = object;
  return attributes;
}
Attributes device(NodeType type, std::uint32_t major, std::uint32_t minor) {
  Attributes attributes;
  attributes.type = type;
  attributes.device_major = major;
  attributes.device_minor = minor;
  return attributes;
}
Attributes with_xattrs(std::vector<Xattr> xattrs) {
  Attributes attributes = fifo();
  attributes.xattrs = std::move(xattrs);
  return attributes;
}

// The error of a tree to which `change` was done; empty when it was built.
std::string error_of(const std::function<void(TreeBuilder&)>& change) {
  TreeBuilder builder(directory());
  change(builder);
  const auto tree = builder.build(nullptr);
  if (tree) return "";
  EXPECT_EQ(tree.error().code(), Errc::kInvalid);
  return tree.error().message();
}
std::string error_of_node(std::string name, Attributes attributes) {
  return error_of([&](TreeBuilder& b) { b.add(TreeBuilder::kRoot, name, attributes); });
}

TEST(TreeBuilderTest, AnEmptyRootIsATree) {
  TreeBuilder builder(directory());
  const auto tree = builder.build(nullptr);
  ASSERT_TRUE(tree);
  EXPECT_EQ(tree->inode_count(), 1u);
  EXPECT_EQ(tree->entry_count(), 0u);
  EXPECT_EQ(tree->inode(0).link_count, 2u);
  EXPECT_EQ(tree->parent_of(0), 0u);
  EXPECT_EQ(tree->path_of(0), "");
}

TEST(TreeBuilderTest, NumbersBreadthFirstAndByName) {
  TreeBuilder builder(directory());
  const auto z = builder.add(TreeBuilder::kRoot, "z", directory());
  const auto a = builder.add(TreeBuilder::kRoot, "a", directory());
  builder.add(z, "1", fifo());
  builder.add(a, "2", fifo());
  builder.add(a, "10", fifo());
  builder.add(TreeBuilder::kRoot, "\xff", fifo());  // bytes, not signed characters
  const auto built = builder.build(nullptr);
  ASSERT_TRUE(built) << built.error().message();
  std::vector<std::string> names;
  for (std::uint32_t i = 0; i < built->entry_count(); ++i) {
    names.emplace_back(built->name(built->entry(i)));
    EXPECT_EQ(built->entry(i).inode, i + 1);
  }
  EXPECT_EQ(names, (std::vector<std::string>{"a", "z", "\xff", "10", "2", "1"}));
  EXPECT_EQ(built->parent_of(1), 0u);
  EXPECT_EQ(built->path_of(2), "z");
}

TEST(TreeBuilderTest, FindsNames) {
  TreeBuilder builder(directory());
  for (int i = 0; i < 100; ++i) builder.add(TreeBuilder::kRoot, std::to_string(i), fifo());
  const auto tree = builder.build(nullptr);
  ASSERT_TRUE(tree);
  for (int i = 0; i < 100; ++i) {
    const Entry* entry = tree->find(tree->inode(0), std::to_string(i));
    ASSERT_NE(entry, nullptr);
    EXPECT_EQ(tree->name(*entry), std::to_string(i));
  }
  for (const char* name : {"", "100", "1a", "a", "/"}) {
    EXPECT_EQ(tree->find(tree->inode(0), name), nullptr);
  }
}

TEST(TreeBuilderTest, HardLinksShareAnInodeAndAreCounted) {
  TreeBuilder builder(directory());
  const auto sub = builder.add(TreeBuilder::kRoot, "sub", directory());
  const auto node = builder.add(sub, "first", file(builder.add_object(7)));
  builder.add_link(TreeBuilder::kRoot, "second", node);
  builder.add_link(sub, "third", node);
  const auto link = builder.add(TreeBuilder::kRoot, "link", symlink("sub/first"));
  builder.add_link(sub, "link too", link);
  const auto tree = builder.build(nullptr);
  ASSERT_TRUE(tree) << tree.error().message();
  EXPECT_EQ(tree->inode_count(), 4u);
  EXPECT_EQ(tree->entry_count(), 6u);
  const Inode& root = tree->inode(0);
  const std::uint32_t inode = tree->find(root, "second")->inode;
  EXPECT_EQ(tree->inode(inode).link_count, 3u);
  const Inode& directory_sub = tree->inode(tree->find(root, "sub")->inode);
  EXPECT_EQ(tree->find(directory_sub, "first")->inode, inode);
  EXPECT_EQ(tree->find(directory_sub, "third")->inode, inode);
  EXPECT_EQ(tree->inode(tree->find(root, "link")->inode).link_count, 2u);
  EXPECT_EQ(root.link_count, 3u);
}

TEST(TreeBuilderTest, ObjectsAreNumberedAsInodesReferToThem) {
  TreeBuilder builder(directory());
  const auto first = builder.add_object(10);
  const auto second = builder.add_object(20);
  const auto third = builder.add_object(30);
  builder.add(TreeBuilder::kRoot, "a", file(third));
  builder.add(TreeBuilder::kRoot, "b", file(first));
  builder.add(TreeBuilder::kRoot, "c", file(third));
  builder.add(TreeBuilder::kRoot, "d", file(second));
  std::vector<std::uint32_t> order;
  const auto tree = builder.build(&order);
  ASSERT_TRUE(tree);
  EXPECT_EQ(order, (std::vector<std::uint32_t>{third, first, second}));
  EXPECT_EQ(tree->object_count(), 3u);
  EXPECT_EQ(tree->object_size(0), 30u);
  EXPECT_EQ(tree->object_size(1), 10u);
  EXPECT_EQ(tree->inode(3).value, 0u);
  EXPECT_EQ(tree->size_of(tree->inode(4)), 20u);
}

TEST(TreeBuilderTest, EqualXattrsAreKeptOnce) {
  TreeBuilder builder(directory());
  const std::vector<Xattr> sorted = {{"security.capability", "x"}, {"user.b", ""}};
  const std::vector<Xattr> swapped = {sorted[1], sorted[0]};
  builder.add(TreeBuilder::kRoot, "1", with_xattrs(sorted));
  builder.add(TreeBuilder::kRoot, "2", with_xattrs(swapped));
  builder.add(TreeBuilder::kRoot, "3", with_xattrs({{"user.b", ""}}));
  builder.add(TreeBuilder::kRoot, "4", fifo());
  const auto tree = builder.build(nullptr);
  ASSERT_TRUE(tree) << tree.error().message();
  EXPECT_EQ(tree->inode(1).xattrs, tree->inode(2).xattrs);
  EXPECT_NE(tree->inode(1).xattrs, tree->inode(3).xattrs);
  EXPECT_TRUE(std::ranges::equal(tree->xattrs(tree->inode(2)), sorted));
  EXPECT_EQ(tree->xattrs(tree->inode(3)).size(), 1u);
  EXPECT_TRUE(tree->xattrs(tree->inode(4)).empty());
}

TEST(TreeBuilderTest, RefusesIllegalNames) {
  for (const std::string& name :
       {std::string(), std::string("."), std::string(".."), std::string("a/b"), std::string("/"),
        std::string("a\0b", 3), std::string(256, 'x'), std::string(65'537, 'x'),
        std::string(".wh."), std::string(".wh.x"), std::string(".wh..wh..opq")}) {
    EXPECT_FALSE(is_legal_name(name)) << name;
    EXPECT_NE(error_of_node(name, fifo()).find("illegal name"), std::string::npos) << name;
  }
  for (const std::string& name : {std::string("..."), std::string(255, 'x'), std::string(".wh"),
                                  std::string("\n\xff\\\""), std::string("x.wh.x")}) {
    EXPECT_TRUE(is_legal_name(name)) << name;
    EXPECT_EQ(error_of_node(name, fifo()), "");
  }
}

TEST(TreeBuilderTest, NamesThePathThatIsWrong) {
  const std::string error = error_of([](TreeBuilder& b) {
    const auto usr = b.add(TreeBuilder::kRoot, "usr", directory());
    const auto bin = b.add(usr, "b\nin", directory());
    b.add(bin, "x", fifo());
    b.add(bin, "x", fifo());
  });
  EXPECT_NE(error.find("\"usr/b\\x0ain/x\""), std::string::npos) << error;
  EXPECT_NE(error.find("there twice"), std::string::npos) << error;
}

TEST(TreeBuilderTest, RefusesWhatIsNoTree) {
  EXPECT_NE(error_of([](TreeBuilder& b) {
              const auto sub = b.add(TreeBuilder::kRoot, "a", directory());
              b.add_link(TreeBuilder::kRoot, "b", sub);
            }).find("\"b\": a hard link to a directory"),
            std::string::npos);
  EXPECT_NE(error_of([](TreeBuilder& b) {
              const auto sub = b.add(TreeBuilder::kRoot, "a", directory());
              b.add_link(sub, "itself", sub);
            }).find("hard link to a directory"),
            std::string::npos);
  EXPECT_NE(error_of([](TreeBuilder& b) {
              const auto pipe = b.add(TreeBuilder::kRoot, "a", fifo());
              b.add(pipe, "below", fifo());
            }).find("\"below\""),
            std::string::npos);
  EXPECT_NE(error_of([](TreeBuilder& b) { b.add_object(1); }).find("no file refers to"),
            std::string::npos);
  EXPECT_NE(error_of_node("x", file(kNone)).find("without an object"), std::string::npos);
  EXPECT_NE(error_of_node("x", file(0)).find("without an object"), std::string::npos);
  TreeBuilder no_directory(fifo());
  EXPECT_FALSE(no_directory.build(nullptr));
}

TEST(TreeBuilderTest, RefusesAttributesBeyondTheirLimits) {
  const auto changed = [](auto change) {
    Attributes attributes = fifo();
    change(attributes);
    return error_of_node("x", attributes);
  };
  EXPECT_NE(changed([](Attributes& a) { a.mode = 010000; }).find("mode"), std::string::npos);
  EXPECT_EQ(changed([](Attributes& a) { a.mode = 07777; }), "");
  EXPECT_NE(changed([](Attributes& a) { a.uid = 0xffffffff; }).find("owner"), std::string::npos);
  EXPECT_NE(changed([](Attributes& a) { a.gid = 0xffffffff; }).find("owner"), std::string::npos);
  EXPECT_EQ(changed([](Attributes& a) { a.uid = a.gid = 0xfffffffe; }), "");
  EXPECT_NE(changed([](Attributes& a) { a.mtime_ns = 1'000'000'000; }).find("nanoseconds"),
            std::string::npos);
  EXPECT_NE(error_of_node("x", symlink("")).find("target"), std::string::npos);
  EXPECT_NE(error_of_node("x", symlink(std::string(4096, 'x'))).find("target"), std::string::npos);
  EXPECT_NE(error_of_node("x", symlink(std::string("a\0b", 3))).find("target"), std::string::npos);
  EXPECT_EQ(error_of_node("x", symlink(std::string(4095, 'x'))), "");
}

TEST(TreeBuilderTest, RefusesDevicesThatLinuxCannotHold) {
  const auto block = NodeType::kBlockDevice;
  const auto character = NodeType::kCharDevice;
  EXPECT_NE(error_of_node("x", device(character, 0, 0)).find("whiteout"), std::string::npos);
  EXPECT_EQ(error_of_node("x", device(block, 0, 0)), "");
  EXPECT_EQ(error_of_node("x", device(character, 0, 1)), "");
  EXPECT_EQ(error_of_node("x", device(character, 4095, 0xfffff)), "");
  // These would wrap around to 0:0 in the kernel's 32 bits.
  EXPECT_NE(error_of_node("x", device(character, 1u << 24, 0)).find("device"), std::string::npos);
  EXPECT_NE(error_of_node("x", device(character, 4096, 0)).find("device"), std::string::npos);
  EXPECT_NE(error_of_node("x", device(character, 0, 1u << 20)).find("device"), std::string::npos);
}

TEST(TreeBuilderTest, XattrsAreBoundedAndOfAllowedKinds) {
  const auto one = [](std::string name, std::size_t size) {
    return error_of_node("x", with_xattrs({{std::move(name), std::string(size, 'v')}}));
  };
  EXPECT_EQ(one("user.a", 64 << 10), "");
  EXPECT_NE(one("user.a", (64 << 10) + 1).find("values"), std::string::npos);
  EXPECT_EQ(one("system.posix_acl_access", 28), "");
  EXPECT_EQ(one("security.capability", 20), "");
  EXPECT_EQ(one("user." + std::string(250, 'a'), 1), "");
  for (const char* name : {"trusted.a", "trusted.overlay.opaque", "user.overlay.opaque", "user.",
                           "security.selinux", "com.apple.quarantine", "", "user"}) {
    EXPECT_FALSE(is_legal_xattr(name)) << name;
    EXPECT_NE(one(name, 1).find("not allowed"), std::string::npos) << name;
  }
  EXPECT_NE(one("user." + std::string(251, 'a'), 1).find("not allowed"), std::string::npos);
  EXPECT_NE(one(std::string("user.a\0b", 8), 1).find("not allowed"), std::string::npos);
  EXPECT_NE(error_of_node("x", with_xattrs({{"user.a", "1"}, {"user.a", "2"}})).find("twice"),
            std::string::npos);
  std::vector<Xattr> many;  // names of 100 bytes with their NUL
  for (int i = 0; i < 656; ++i) {
    std::string name = "user." + std::to_string(1000 + i);
    name.resize(99, 'x');
    many.push_back({name, ""});
  }
  EXPECT_NE(error_of_node("x", with_xattrs(many)).find("names"), std::string::npos);
  many.pop_back();
  EXPECT_EQ(error_of_node("x", with_xattrs(many)), "");
}

TEST(TreeBuilderTest, PathsAreBoundedAndDepthNeedsNoStack) {
  const auto nested = [](std::size_t depth, std::size_t name_size) {
    return error_of([&](TreeBuilder& b) {
      auto at = TreeBuilder::kRoot;
      for (std::size_t i = 0; i < depth; ++i) at = b.add(at, std::string(name_size, 'd'), {});
    });
  };
  EXPECT_EQ(nested(1024, 3), "");  // 4095 bytes
  EXPECT_NE(nested(1025, 1).find("more than 1024 names"), std::string::npos);
  EXPECT_NE(nested(1024, 4).find("longer than 4095"), std::string::npos);
  EXPECT_NE(nested(300'000, 1).find("more than 1024 names"), std::string::npos);
}

}  // namespace
}  // namespace imsy::cdc
