// The tar encoder: what it writes can be read again, and never changes.
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <string>

#include "common/digest.h"
#include "oci/tar/tar.h"
#include "tests/unit/oci/tar_bytes.h"

namespace imsy::oci::tar {
namespace {

Header file(const std::string& name) {
  Header header;
  header.name = name;
  header.mode = 0644;
  return header;
}

Header of_type(Type type, const std::string& name) {
  Header header = file(name);
  header.type = type;
  if (type == Type::kHardLink || type == Type::kSymlink) header.link = "target";
  return header;
}

// Everything at once: what needs pax, and what does not.
Header rich() {
  Header header = file(std::string(90, 'd') + "/" + std::string(90, '\xff'));
  header.mode = 06755;
  header.uid = 4294967294u;
  header.gid = 2097152;
  header.size = 9u * (std::uint64_t{1} << 30);
  header.mtime_s = -2;
  header.mtime_ns = 500'000'000;
  header.xattrs["security.capability"] = std::string("\1\0\0\2\n=", 6);
  header.xattrs["user.empty"] = "";
  header.records["IMSY.test"] = "value";
  return header;
}

void expect_equal(const Header& a, const Header& b) {
  EXPECT_EQ(a.name, b.name);
  EXPECT_EQ(a.link, b.link);
  EXPECT_EQ(a.type, b.type);
  EXPECT_EQ(a.mode, b.mode);
  EXPECT_EQ(a.uid, b.uid);
  EXPECT_EQ(a.gid, b.gid);
  EXPECT_EQ(a.size, b.size);
  EXPECT_EQ(a.mtime_s, b.mtime_s);
  EXPECT_EQ(a.mtime_ns, b.mtime_ns);
  EXPECT_EQ(a.device_major, b.device_major);
  EXPECT_EQ(a.device_minor, b.device_minor);
  EXPECT_EQ(a.xattrs, b.xattrs);
  EXPECT_EQ(a.records, b.records);
}

void expect_round_trip(const Header& header) {
  const auto bytes = encode_header(header);
  ASSERT_TRUE(bytes) << bytes.error().message();
  EXPECT_EQ(bytes->size() % 512, 0u);
  StringReader input(*bytes);
  Reader reader(input);
  Header read;
  const auto more = reader.next(read);
  ASSERT_TRUE(more) << more.error().message();
  ASSERT_TRUE(*more);
  expect_equal(read, header);
}

// The digest of the encoded header, or the error.
std::string digest_of(const Header& header) {
  const auto bytes = encode_header(header);
  return bytes ? sha256(*bytes).hex() : bytes.error().message();
}

TEST(TarWriter, WritesOneUstarBlockWhereItFits) {
  Header header = file("a/file");
  header.mode = 04711;
  header.uid = 1;
  header.gid = 2;
  header.size = 3;
  header.mtime_s = 4;
  const Block expected = Block("a/file", '0', 3)
                             .put(100, octal(04711, 8))
                             .put(108, octal(1, 8))
                             .put(116, octal(2, 8))
                             .put(136, octal(4, 12));
  EXPECT_EQ(encode_header(header).value_or(""), expected.str());
}

TEST(TarWriter, WritesPaxInFrontWhereItDoesNot) {
  Header header = file("f");
  header.mtime_s = 7;
  header.mtime_ns = 20;
  header.xattrs["user.b"] = "2";
  header.xattrs["user.a"] = "1";
  header.records["Z"] = "z";
  header.records["A"] = "a";
  const std::string records = record("A", "a") + record("SCHILY.xattr.user.a", "1") +
                              record("SCHILY.xattr.user.b", "2") + record("Z", "z") +
                              record("mtime", "7.00000002");
  const std::string expected = Block("PaxHeaders.0/entry", 'x', records.size()).str() +
                               padded(records) + Block("f").put(136, octal(7, 12)).str();
  EXPECT_EQ(encode_header(header).value_or(""), expected);
}

TEST(TarWriter, ReadsBackWhatItWrote) {
  expect_round_trip(rich());
  expect_round_trip(of_type(Type::kDirectory, "d/"));
  expect_round_trip(of_type(Type::kDirectory, "./"));
  expect_round_trip(of_type(Type::kDirectory, std::string(500, 'd') + "/"));
  expect_round_trip(of_type(Type::kFifo, "p"));
  for (const Type type : {Type::kHardLink, Type::kSymlink}) {
    Header link = of_type(type, "l");
    expect_round_trip(link);
    link.link = std::string(101, 'x');
    expect_round_trip(link);
  }
  for (const Type type : {Type::kCharDevice, Type::kBlockDevice}) {
    Header device = of_type(type, "dev");
    device.device_major = 4095;
    device.device_minor = 1048575;
    expect_round_trip(device);
    device.device_major = device.device_minor = 07777777;
    expect_round_trip(device);
  }
}

TEST(TarWriter, ReadsBackTheEdgesOfEveryField) {
  for (const std::size_t size : {1, 99, 100, 101, 102, 255, 256, 4096}) {
    expect_round_trip(file(std::string(size, 'n')));
    expect_round_trip(file(std::string(size - 1, '/') + "n"));
  }
  // Lengths of records around the points where their own length gets a digit more.
  for (std::size_t size = 80; size < 100; ++size) {
    Header header = file("f");
    header.records["k"] = std::string(size, 'v');
    expect_round_trip(header);
  }
  for (const std::uint64_t size : {std::uint64_t{0}, std::uint64_t{077777777777},
                                   std::uint64_t{0100000000000}, std::uint64_t{INT64_MAX}}) {
    Header header = file("f");
    header.size = size;
    if (size < 1000) expect_round_trip(header);
    const bool fits = size <= 077777777777;
    EXPECT_EQ(encode_header(header).value_or("").size(), fits ? 512u : 1536u) << size;
  }
  for (const std::uint32_t id : {07777777u, 010000000u, 4294967294u}) {
    Header header = file("f");
    header.uid = id;
    expect_round_trip(header);
    header.gid = id;
    expect_round_trip(header);
  }
  for (const std::int64_t s : {std::int64_t{0}, std::int64_t{-1}, std::int64_t{077777777777},
                               std::int64_t{0100000000000}, INT64_MAX, INT64_MIN, INT64_MIN + 1}) {
    for (const std::uint32_t ns : {0u, 1u, 100u, 999'999'999u, 500'000'000u}) {
      if (s == INT64_MIN && ns != 0) continue;
      Header header = file("f");
      header.mtime_s = s;
      header.mtime_ns = ns;
      expect_round_trip(header);
    }
  }
}

TEST(TarWriter, UsesThePaxHeaderOnlyWhereItMust) {
  Header link = of_type(Type::kSymlink, std::string(100, 'n'));
  link.link = std::string(100, 't');
  EXPECT_EQ(encode_header(link).value_or("").size(), 512u);
  link.link += 't';
  EXPECT_EQ(encode_header(link).value_or("").size(), 1536u);
  EXPECT_EQ(encode_header(file(std::string(101, 'n'))).value_or("").size(), 1536u);
  Header owned = file("f");
  owned.uid = owned.gid = 07777777;
  owned.mtime_s = 077777777777;
  EXPECT_EQ(encode_header(owned).value_or("").size(), 512u);
  for (const auto& change : std::vector<std::function<void(Header&)>>{
           [](Header& h) { ++h.uid; }, [](Header& h) { ++h.gid; }, [](Header& h) { ++h.mtime_s; },
           [](Header& h) { h.mtime_s = -1; }, [](Header& h) { h.mtime_ns = 1; }}) {
    Header changed = owned;
    change(changed);
    EXPECT_EQ(encode_header(changed).value_or("").size(), 1536u);
  }
}

TEST(TarWriter, NeverCutsANameIntoADirectory) {
  const std::string name = std::string(99, 'd') + "/file";
  const std::string bytes = encode_header(file(name)).value_or("");
  ASSERT_EQ(bytes.size(), 1536u);
  EXPECT_EQ(bytes.substr(1024, 100), std::string(99, 'd') + std::string(1, '\0'));
}

TEST(TarWriter, RefusesWhatTarCannotCarry) {
  const std::string nul("a\0b", 3);
  const std::vector<std::pair<const char*, std::function<void(Header&)>>> cases = {
      {"empty name", [](Header& h) { h.name.clear(); }},
      {"NUL in name", [&](Header& h) { h.name = nul; }},
      {"slash behind a file", [](Header& h) { h.name = "f/"; }},
      {"slash behind a device", [](Header& h) { h = of_type(Type::kCharDevice, "c/"); }},
      {"slash behind a fifo", [](Header& h) { h = of_type(Type::kFifo, "p/"); }},
      {"link on a file", [](Header& h) { h.link = "t"; }},
      {"no link target", [](Header& h) { h.type = Type::kSymlink; }},
      {"NUL in link", [&](Header& h) { (h = of_type(Type::kHardLink, "l")).link = nul; }},
      {"file type in mode", [](Header& h) { h.mode = 0100644; }},
      {"reserved uid", [](Header& h) { h.uid = 4294967295u; }},
      {"reserved gid", [](Header& h) { h.gid = 4294967295u; }},
      {"size beyond 63 bits", [](Header& h) { h.size = std::uint64_t{1} << 63; }},
      {"size of a directory", [](Header& h) { (h = of_type(Type::kDirectory, "d/")).size = 1; }},
      {"nanoseconds", [](Header& h) { h.mtime_ns = 1'000'000'000; }},
      {"device number of a file", [](Header& h) { h.device_minor = 1; }},
      {"large device number",
       [](Header& h) { (h = of_type(Type::kCharDevice, "c")).device_major = 010000000; }},
      {"xattr without a name", [](Header& h) { h.xattrs[""] = "v"; }},
      {"'=' in an xattr's name", [](Header& h) { h.xattrs["user.a=b"] = "v"; }},
      {"NUL in an xattr's name", [&](Header& h) { h.xattrs[nul] = "v"; }},
      {"record without a key", [](Header& h) { h.records[""] = "v"; }},
      {"'=' in a key", [](Header& h) { h.records["a=b"] = "v"; }},
      {"NUL in a key", [&](Header& h) { h.records[nul] = "v"; }},
      {"NUL in a user name", [&](Header& h) { h.records["uname"] = nul; }},
      {"record path", [](Header& h) { h.records["path"] = "p"; }},
      {"record linkpath", [](Header& h) { h.records["linkpath"] = "p"; }},
      {"record size", [](Header& h) { h.records["size"] = "1"; }},
      {"record mtime", [](Header& h) { h.records["mtime"] = "1"; }},
      {"record uid", [](Header& h) { h.records["uid"] = "1"; }},
      {"record gid", [](Header& h) { h.records["gid"] = "1"; }},
      {"xattr as a record", [](Header& h) { h.records["SCHILY.xattr.user.a"] = "1"; }},
      {"sparse map", [](Header& h) { h.records["GNU.sparse.map"] = "0,1"; }},
      {"too much pax", [](Header& h) { h.xattrs["user.a"] = std::string(1 << 20, 'v'); }},
  };
  for (const auto& [what, spoil] : cases) {
    Header header = file("f");
    spoil(header);
    const auto bytes = encode_header(header);
    ASSERT_FALSE(bytes) << what;
    EXPECT_EQ(bytes.error().code(), Errc::kInvalid) << what;
  }
}

TEST(TarWriter, WritesAsMuchPaxAsReadersTake) {
  Header header = file("f");
  const std::string key = "user.a";
  header.xattrs[key] = std::string((1 << 20) - 8 - 13 - key.size() - 2, 'v');
  expect_round_trip(header);
  header.xattrs[key] += 'v';
  EXPECT_FALSE(encode_header(header));
}

// These digests are part of the format: images carry them. A change here breaks every image that
// exists.
TEST(TarWriter, WritesTheSameBytesForEver) {
  EXPECT_EQ(digest_of(file("f")),
            "1c623727ffd09a059319fb1a9d54e20e3477702c4beaaa0bb4d8188f0565b2ce");
  EXPECT_EQ(digest_of(rich()), "f31902097268083683e3047961bc53d9924b960fe72e544cac2fad750f6346a1");
  EXPECT_EQ(digest_of(of_type(Type::kDirectory, "usr/bin/")),
            "eaf662d607b2d7cd8a8cc0d9041da3f31582e1cb98e99b68b136df6bfb15d98d");
  EXPECT_EQ(digest_of(of_type(Type::kSymlink, std::string(101, 's'))),
            "2c0558a9e25a4c0c9624c09ae9244ea0a41ba1d76eafc27851899df1cff3c7c0");
}

TEST(TarWriter, WritesTheMarkerForEver) {
  const std::string value = "imsy 1\nmanifest sha256:00\n";
  const auto marker = marker_archive("IMSY.anchor", value);
  ASSERT_TRUE(marker) << marker.error().message();
  const std::string records = record("IMSY.anchor", value);
  EXPECT_EQ(*marker, Block("PaxHeaders.0/entry", 'x', records.size()).str() + padded(records) +
                         Block("./", '5').put(100, octal(0755, 8)).str() + end());
  EXPECT_EQ(sha256(*marker).hex(),
            "e1320e99ae70aa3cdd07e585cf3b8526ec92634be44f9ac1a8299e6be6259e41");

  StringReader input(*marker);
  Reader reader(input);
  Header header;
  ASSERT_TRUE(reader.next(header).value_or(false));
  EXPECT_EQ(header.name, "./");
  EXPECT_EQ(header.type, Type::kDirectory);
  EXPECT_EQ(header.mode, 0755u);
  EXPECT_EQ(header.uid, 0u);
  EXPECT_EQ(header.mtime_s, 0);
  EXPECT_EQ(header.records,
            (std::map<std::string, std::string>{{"IMSY.anchor", "imsy 1\nmanifest sha256:00\n"}}));
  EXPECT_FALSE(reader.next(header).value_or(true));
}

TEST(TarWriter, RefusesAMarkerThatPretendsToBeAnother) {
  EXPECT_FALSE(marker_archive("path", "etc/passwd"));
  EXPECT_FALSE(marker_archive("", "v"));
  EXPECT_FALSE(marker_archive("a=b", "v"));
}

TEST(TarWriter, PadsToBlocks) {
  EXPECT_EQ(padding(0), 0u);
  EXPECT_EQ(padding(1), 511u);
  EXPECT_EQ(padding(512), 0u);
  EXPECT_EQ(padding(513), 511u);
}

}  // namespace
}  // namespace imsy::oci::tar
