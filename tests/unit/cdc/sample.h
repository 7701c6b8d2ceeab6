// A small image with something of everything, on which the tests of the manifest make their
// changes. Numbers of inodes, entries and objects are what the tables below say.
#pragma once

#include "tests/support/image_maker.h"

namespace imsy::test {

// inode  entry            what                                  object
//   1    0  bin           directory
//   2    1  dev           directory
//   3    2  empty         empty file                              0
//   4    3  etc           directory
//   5    4  link          symlink to bin/tool
//   6    5  bin/big       file of several chunks                  1
//   7    6  bin/tool      file of one chunk, 5 bytes              2
//   7    7  bin/tool2     hard link to it
//   8    8  dev/null      character device 1:3
//   9    9  dev/pipe      fifo
//  10   10  etc/conf      file of one chunk, 5 bytes, xattr set 0 3
//  11   11  etc/deep      directory
//  12   12  etc/same      content and xattrs as etc/conf          3
//  13   13  etc/deep/big2 file of several chunks                  4
// Two data layers, several frames each.
inline MadeImage make_sample() {
  using Attributes = ImageMaker::Attributes;
  ImageMaker maker;
  maker.chunker({cdc::ChunkerAlgorithm::kTwoStage, 64, 256, 1024}).frame_target(2048).layers(2);
  const auto file = [](std::uint16_t mode, std::int64_t mtime_s) {
    Attributes attributes;
    attributes.mode = mode;
    attributes.mtime_s = mtime_s;
    return attributes;
  };
  Attributes conf = file(0640, 1'600'000'000);
  conf.mtime_ns = 123'456'789;
  conf.uid = 1000;
  conf.gid = 100;
  conf.xattrs = {{"user.origin", "here"}, {"security.capability", std::string("\1\0\0\2", 4)}};
  Attributes null = file(0666, -1);
  null.type = cdc::NodeType::kCharDevice;
  null.device_major = 1;
  null.device_minor = 3;
  Attributes pipe = file(0600, 0);
  pipe.type = cdc::NodeType::kFifo;
  maker.root(file(0755, 0))
      .directory("bin", file(0755, 1'700'000'000))
      .directory("dev", file(0755, 0))
      .directory("etc", file(01777, 0))
      .directory("etc/deep", file(0700, 5))
      .file("bin/big", random_bytes(9'000, 1), file(04755, 1'700'000'000))
      .file("bin/tool", text_bytes("tool!"), file(0755, 1'700'000'001))
      .hard_link("bin/tool2", "bin/tool")
      .node("dev/null", null)
      .node("dev/pipe", pipe)
      .file("empty", Bytes(), file(0644, 0))
      .file("etc/conf", text_bytes("conf!"), conf)
      .file("etc/deep/big2", random_bytes(5'000, 2), file(0644, 0))
      .file("etc/same", text_bytes("conf!"), conf)
      .symlink("link", "bin/tool");
  return maker.make();
}

}  // namespace imsy::test
