// Manifests in which exactly one thing is wrong, with all digests right: each must be refused for
// its own reason.
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <random>

#include "cdc/column.h"
#include "cdc/manifest.h"
#include "tests/unit/cdc/raw_manifest.h"
#include "tests/unit/cdc/sample.h"
#include "tests/unit/cdc/walk.h"

namespace imsy::test {
namespace {

using Numbers = std::vector<std::uint64_t>;
using Texts = std::vector<std::string>;

constexpr std::uint64_t kMax = std::numeric_limits<std::uint64_t>::max();
constexpr std::uint64_t kMax32 = std::numeric_limits<std::uint32_t>::max();

struct Case {
  const char* name;
  const char* reason;  // a part of the message
  std::function<void(RawManifest&)> change;
  Errc code = Errc::kCorrupt;
};

void PrintTo(const Case& one, std::ostream* out) {
  *out << one.name;
}

const MadeImage& sample() {
  static const MadeImage image = make_sample();
  return image;
}

Result<std::shared_ptr<const cdc::Manifest>> read(const PutTogether& image,
                                                  const cdc::ManifestLimits& limits = {}) {
  return cdc::Manifest::read(image.bytes, image.anchor, limits);
}

class HostileManifest : public ::testing::TestWithParam<Case> {};

TEST_P(HostileManifest, IsRefused) {
  RawManifest raw = take_apart(sample().manifest_bytes);
  ASSERT_TRUE(read(put_together(raw, sample().anchor)));
  GetParam().change(raw);
  const auto manifest = read(put_together(raw, sample().anchor));
  ASSERT_FALSE(manifest);
  EXPECT_EQ(manifest.error().code(), GetParam().code) << manifest.error().message();
  EXPECT_NE(manifest.error().message().find(GetParam().reason), std::string::npos)
      << manifest.error().message();
}

std::string name_of(const ::testing::TestParamInfo<Case>& one) {
  return one.param.name;
}

// Shorthands: change the numbers or texts of a column.
auto numbers(std::uint32_t kind, std::size_t column, std::function<void(Numbers&)> change) {
  return [=](RawManifest& raw) { raw.section(kind).numbers(column, change); };
}
auto number(std::uint32_t kind, std::size_t column, std::size_t index, std::uint64_t value) {
  return numbers(kind, column, [=](Numbers& n) { n.at(index) = value; });
}
auto name(std::size_t entry, std::string value) {
  return [=](RawManifest& raw) {
    raw.section(kTree).texts(kNames, [&](Texts& names) { names.at(entry) = value; });
  };
}
auto xattr_name(std::size_t index, std::string value) {
  return [=](RawManifest& raw) {
    raw.section(kTree).texts(kXattrNames, [&](Texts& names) { names.at(index) = value; });
  };
}
auto row(std::size_t index, std::function<void(RawRow&)> change) {
  return [=](RawManifest& raw) {
    raw.change_table = [=](std::vector<RawRow>& rows) { change(rows.at(index)); };
  };
}

// --- header -------------------------------------------------------------------------------------

INSTANTIATE_TEST_SUITE_P(
    Header, HostileManifest,
    ::testing::Values(
        Case{"Magic", "does not begin", [](RawManifest& r) { r.magic = "IMSYCDC\r"; }},
        Case{"Version2", "format version 2", [](RawManifest& r) { r.version = 2; }, Errc::kInvalid},
        Case{"Version0", "format version 0", [](RawManifest& r) { r.version = 0; }, Errc::kInvalid},
        Case{"MoreSectionsThanThere", "does not fit",
             [](RawManifest& r) { r.section_count = 5; }},
        Case{"FewerSectionsThanThere", "does not fit",
             [](RawManifest& r) { r.section_count = 3; }},
        Case{"SectionCountOverflow", "does not fit",
             [](RawManifest& r) { r.section_count = 0x04000004; }},
        Case{"LongerHeader", "does not fit", [](RawManifest& r) { r.header_tail.resize(1); }},
        Case{"ChunkerAlgorithm", "algorithm 2", [](RawManifest& r) { r.algorithm = 2; },
             Errc::kInvalid},
        Case{"ChunkerAlgorithmBeyondAByte", "algorithm 257",
             [](RawManifest& r) { r.algorithm = 257; }, Errc::kInvalid},
        Case{"ChunkerSizes", "not possible", [](RawManifest& r) { r.size_min = 2000; },
             Errc::kInvalid},
        Case{"ContentSize", "content size", [](RawManifest& r) { ++r.content_size; }},
        Case{"TrailingBytes", "behind the last section",
             [](RawManifest& r) { r.tail.resize(1); }},
        Case{"NoTree", "kind 16",
             [](RawManifest& r) { r.sections.erase(r.sections.begin()); }},
        Case{"NoFrames", "kind 64", [](RawManifest& r) { r.sections.pop_back(); }},
        Case{"SectionTwice", "out of order",
             [](RawManifest& r) { r.sections.push_back(r.sections.back()); }},
        Case{"SectionsInAnotherOrder", "out of order",
             [](RawManifest& r) { std::swap(r.sections[1], r.sections[2]); }},
        Case{"KnownSectionNotMandatory", "kind 32",
             [](RawManifest& r) { r.sections[1].flags = 0; }},
        Case{"UnknownFlags", "unknown flags", [](RawManifest& r) { r.sections[1].flags = 3; },
             Errc::kInvalid},
        Case{"UnknownMandatorySection", "kind 65 is mandatory",
             [](RawManifest& r) {
               r.sections.push_back(r.sections.back());
               r.sections.back().kind = 65;
             },
             Errc::kInvalid},
        Case{"UnknownSectionBeforeTheTree", "not the first",
             [](RawManifest& r) {
               r.sections.insert(r.sections.begin(), r.sections.back());
               r.sections.front().kind = 1;
               r.sections.front().flags = 0;
             }},
        Case{"UnknownSectionWithAWrongDigest", "kind 65 has a wrong digest",
             [](RawManifest& r) {
               r.sections.push_back(r.sections.back());
               r.sections.back().kind = 65;
               r.sections.back().flags = 0;
               r.change_table = [](auto& rows) { rows[4].digest = sha256("x"); };
             }},
        Case{"Gap", "does not lie behind", row(1, [](RawRow& r) { ++r.offset; })},
        Case{"Overlap", "does not lie behind", row(1, [](RawRow& r) { --r.offset; })},
        Case{"OffsetInsideTheHeader", "does not lie behind",
             row(0, [](RawRow& r) { r.offset = 0; })},
        Case{"SizeBeyondTheEnd", "does not lie behind",
             row(3, [](RawRow& r) { ++r.stored_size; })},
        Case{"SizeOverflows", "does not lie behind",
             row(3, [](RawRow& r) { r.stored_size = kMax - 10; })},
        Case{"SizeTooSmall", "behind the last section",
             row(3, [](RawRow& r) { --r.stored_size; })},
        Case{"SectionDigest", "kind 48 has a wrong digest",
             row(2, [](RawRow& r) { r.digest = sha256("x"); })},
        Case{"RawSizeTooSmall", "instead of", row(0, [](RawRow& r) { --r.raw_size; })},
        Case{"RawSizeZero", "instead of", row(0, [](RawRow& r) { r.raw_size = 0; })},
        Case{"RawSizeTooLarge", "instead of", row(0, [](RawRow& r) { ++r.raw_size; })},
        Case{"RawSizeHuge", "exceed the limit",
             row(0, [](RawRow& r) { r.raw_size = kMax; }), Errc::kInvalid},
        Case{"RawSizeOutOfProportion", "exceed the limit",
             row(0, [](RawRow& r) { r.raw_size = 1u << 30; }), Errc::kInvalid},
        Case{"SectionWithoutPrefix", "cut short",
             [](RawManifest& r) { r.sections[0].stored = Bytes(7); }},
        Case{"SectionPackedSize", "cut short",
             [](RawManifest& r) { r.sections[0].stored = Bytes(100, std::byte{0xff}); }},
        Case{"SectionNotZstd", "not a zstd frame",
             [](RawManifest& r) {
               Bytes stored;
               append_le(stored, std::uint64_t{100});
               stored.resize(108, std::byte{1});
               r.sections[0].stored = stored;
             }}),
    name_of);

// --- tree ---------------------------------------------------------------------------------------

INSTANTIATE_TEST_SUITE_P(
    Names, HostileManifest,
    ::testing::Values(Case{"Empty", "illegal name", name(0, "")},
                      Case{"Dot", "illegal name", name(0, ".")},
                      Case{"DotDot", "illegal name", name(0, "..")},
                      Case{"Slash", "illegal name", name(0, "bin/x")},
                      Case{"Whiteout", "illegal name", name(0, ".wh.x")},
                      Case{"OpaqueWhiteout", "illegal name", name(0, ".wh..wh..opq")},
                      Case{"TooLong", "illegal name", name(0, std::string(256, 'a'))},
                      Case{"MuchTooLong", "illegal name", name(0, std::string(65536 + 3, 'a'))},
                      Case{"Twice", "there twice", name(0, "dev")},
                      Case{"NotInOrder", "not in order", name(0, "elf")},
                      Case{"NotInOrderOfBytes", "not in order", name(6, "\xff")},
                      Case{"Missing", "cannot hold",
                           [](RawManifest& r) { r.section(kTree).columns[kNames].clear(); }},
                      Case{"OneMissing", "illegal name",
                           [](RawManifest& r) {
                             r.section(kTree).texts(kNames, [](Texts& names) { names.pop_back(); });
                           }},
                      Case{"OneTooMany", "left over",
                           [](RawManifest& r) {
                             r.section(kTree).texts(kNames,
                                                    [](Texts& names) { names.emplace_back("x"); });
                           }},
                      Case{"NoLastNul", "illegal name",
                           [](RawManifest& r) { r.section(kTree).columns[kNames].pop_back(); }}),
    name_of);

INSTANTIATE_TEST_SUITE_P(
    Structure, HostileManifest,
    ::testing::Values(
        Case{"NoRoot", "no root", number(kTree, kCounts, 0, 0)},
        Case{"MoreInodesThanEntries", "contradict", number(kTree, kCounts, 0, 16)},
        Case{"FewerInodes", "left over", number(kTree, kCounts, 0, 13)},
        Case{"FewerEntries", "left over", number(kTree, kCounts, 1, 13)},
        Case{"MoreEntries", "illegal name", number(kTree, kCounts, 1, 15)},
        Case{"MoreEntriesThanBytes", "cannot hold", number(kTree, kCounts, 1, 4'000'000)},
        Case{"EntriesBeyondTheLimit", "exceed the limit", number(kTree, kCounts, 1, kMax32),
             Errc::kInvalid},
        Case{"EntriesBeyond32Bits", "malformed", number(kTree, kCounts, 1, kMax32 + 1)},
        Case{"MoreObjectsThanInodes", "contradict", number(kTree, kCounts, 2, 14)},
        Case{"ObjectTooMany", "number of objects", number(kTree, kCounts, 2, 6)},
        Case{"MoreTimesThanInodes", "contradict", number(kTree, kCounts, 3, 15)},
        Case{"MoreXattrSetsThanInodes", "contradict", number(kTree, kCounts, 4, 15)},
        Case{"TheRootIsAFile", "root is no directory",
             numbers(kTree, kModes, [](Numbers& n) { n[0] = 1u << 12 | 0755; })},
        Case{"UnknownType", "unknown type",
             numbers(kTree, kModes, [](Numbers& n) { n[3] = 6u << 12 | 0644; })},
        Case{"ModeBits", "unknown type",
             numbers(kTree, kModes, [](Numbers& n) { n[3] |= 1u << 20; })},
        Case{"DirectoryInsideItself", "cannot be reached",
             number(kTree, kChildren, 3, 1)},  // etc/deep begins with its own entry
        Case{"TwoParents", "two names", number(kTree, kLinks, 7, 1)},
        Case{"ParentIsItsOwnChild", "two names", number(kTree, kLinks, 13, 4)},
        Case{"LinkToALaterInode", "not there", number(kTree, kLinks, 7, 8)},
        Case{"LinkBeyondTheEnd", "not there", number(kTree, kLinks, 7, 14)},
        Case{"NewInodeBeyondTheEnd", "not there", number(kTree, kLinks, 7, 0)},
        Case{"MissingInode", "cannot be reached", number(kTree, kLinks, 13, 7)},
        Case{"DirectoryWithTooManyEntries", "more entries", number(kTree, kChildren, 4, 2)},
        Case{"DirectoryWithAllEntries", "more entries", number(kTree, kChildren, 0, kMax32)},
        Case{"ChildrenMissing", "cannot be reached",
             numbers(kTree, kChildren, [](Numbers& n) { n.pop_back(); })},
        Case{"ChildrenTooMany", "left over",
             numbers(kTree, kChildren, [](Numbers& n) { n.push_back(0); })},
        Case{"LinksTooMany", "left over",
             numbers(kTree, kLinks, [](Numbers& n) { n.push_back(0); })}),
    name_of);

INSTANTIATE_TEST_SUITE_P(
    Attributes, HostileManifest,
    ::testing::Values(
        Case{"UidIsNobody", "4294967295", number(kTree, kUids, 6, kMax32)},
        Case{"GidIsNobody", "4294967295", number(kTree, kGids, 6, kMax32)},
        Case{"UidBeyond32Bits", "malformed", number(kTree, kUids, 6, kMax32 + 1)},
        Case{"UidsTooFew", "malformed", numbers(kTree, kUids, [](Numbers& n) { n.pop_back(); })},
        Case{"WholeSecondOfNanoseconds", "nanoseconds",
             numbers(kTree, kNanoseconds, [](Numbers& n) { n.back() = 1'000'000'000; })},
        Case{"TimesTwice", "not in order",
             numbers(kTree, kSeconds, [](Numbers& n) { n.back() = 0; })},
        Case{"TimesWrapAround", "not in order",
             numbers(kTree, kSeconds, [](Numbers& n) { n.back() = kMax; })},
        Case{"TimeOutOfRange", "does not exist", number(kTree, kTimeOfInode, 2, 7)},
        Case{"ObjectOfAnInodeOutOfRange", "does not exist", number(kTree, kObjectOfInode, 1, 3)},
        Case{"ObjectsBeyond32Bits", "malformed", number(kTree, kObjectOfInode, 1, kMax)},
        Case{"ObjectWithoutASize", "malformed",
             numbers(kTree, kObjectSizes,
                     [](Numbers& n) {
                       n.erase(n.begin());
                       n[0] = 1u << 15;
                     })},
        Case{"TargetEmpty", "target",
             [](RawManifest& r) {
               r.section(kTree).texts(kTargets, [](Texts& list) { list[0].clear(); });
             }},
        Case{"TargetTooLong", "target",
             [](RawManifest& r) {
               r.section(kTree).texts(kTargets, [](Texts& list) { list[0].assign(4096, 'a'); });
             }},
        Case{"TargetVeryLong", "target",
             [](RawManifest& r) {
               r.section(kTree).texts(kTargets,
                                      [](Texts& list) { list[0].assign(100 << 10, 'a'); });
             }},
        Case{"TargetMissing", "malformed",
             [](RawManifest& r) { r.section(kTree).columns[kTargets].clear(); }},
        Case{"OverlayWhiteout", "0:0",
             numbers(kTree, kDevices,
                     [](Numbers& n) {
                       n = {0, 0};
                     })},
        Case{"MajorBeyondLinux", "device numbers", number(kTree, kDevices, 0, 4096)},
        Case{"MinorBeyondLinux", "device numbers", number(kTree, kDevices, 1, 1u << 20)},
        Case{"MinorMissing", "malformed",
             numbers(kTree, kDevices, [](Numbers& n) { n.pop_back(); })}),
    name_of);

INSTANTIATE_TEST_SUITE_P(
    Xattrs, HostileManifest,
    ::testing::Values(
        Case{"SetOutOfRange", "do not exist", number(kTree, kXattrSets, 3, 2)},
        Case{"MoreThanThere", "fewer xattrs", number(kTree, kXattrCounts, 0, 3)},
        Case{"ManyMoreThanThere", "fewer xattrs", number(kTree, kXattrCounts, 0, kMax32)},
        Case{"FewerThanThere", "left over", number(kTree, kXattrCounts, 0, 1)},
        Case{"Trusted", "not allowed", xattr_name(1, "trusted.overlay.opaque")},
        Case{"UserOverlay", "not allowed", xattr_name(1, "user.overlay.redirect")},
        Case{"Selinux", "not allowed", xattr_name(0, "security.selinux")},
        Case{"ForeignNamespace", "not allowed", xattr_name(1, "zebra.stripes")},
        Case{"NamespaceOnly", "not allowed", xattr_name(1, "user.")},
        Case{"EmptyName", "not allowed", xattr_name(1, "")},
        Case{"NameTooLong", "not allowed", xattr_name(1, "user." + std::string(251, 'a'))},
        Case{"Twice", "there twice", xattr_name(1, "security.capability")},
        Case{"NotInOrder", "not in order", xattr_name(0, "user.z")},
        Case{"ValueBeyondTheValues", "malformed", number(kTree, kXattrValueSizes, 1, 5)},
        Case{"ValueSizeOverflows", "malformed", number(kTree, kXattrValueSizes, 1, kMax)},
        Case{"ValueTooShort", "left over", number(kTree, kXattrValueSizes, 1, 3)},
        Case{"ValueTooLarge", "values",
             [](RawManifest& r) {
               r.section(kTree).numbers(kXattrValueSizes, [](Numbers& n) { n[1] = 65'533; });
               r.section(kTree).columns[kXattrValues].resize(4 + 65'533);
             }},
        Case{"AMillionXattrs", "names",
             [](RawManifest& r) {
               RawSection& tree = r.section(kTree);
               tree.numbers(kXattrCounts, [](Numbers& n) { n[0] = 1'000'000; });
               tree.texts(kXattrNames, [](Texts& list) {
                 list.clear();
                 for (int i = 1'000'000; i < 2'000'000; ++i)
                   list.push_back("user." + std::to_string(i));
               });
               tree.columns[kXattrValueSizes].assign(1'000'000, std::byte{0});
               tree.columns[kXattrValues].clear();
             }}),
    name_of);

INSTANTIATE_TEST_SUITE_P(
    Columns, HostileManifest,
    ::testing::Values(Case{"NumberNotInShortestForm", "malformed",
                           [](RawManifest& r) {
                             Bytes& column = r.section(kTree).columns[kGids];
                             column.back() |= std::byte{0x80};
                             column.push_back(std::byte{0});
                           }},
                      Case{"NumberBeyond64Bits", "malformed",
                           [](RawManifest& r) {
                             Bytes& column = r.section(kTree).columns[kObjectSizes];
                             column.pop_back();
                             column.pop_back();  // the last size takes two bytes
                             column.insert(column.end(), 9, std::byte{0xff});
                             column.push_back(std::byte{2});
                           }},
                      Case{"NumberCutShort", "malformed",
                           [](RawManifest& r) {
                             r.section(kTree).columns[kObjectSizes].pop_back();
                           }},
                      Case{"BytesBehindTheLastColumn", "behind the last column",
                           [](RawManifest& r) { r.section(kTree).tail.resize(1); }},
                      Case{"ColumnMissing", "missing",
                           [](RawManifest& r) { r.section(kTree).columns.pop_back(); }},
                      Case{"ColumnLengthBeyondTheEnd", "cut short",
                           [](RawManifest& r) {
                             r.section(kTree).columns.pop_back();
                             r.section(kTree).tail = column_of({kMax});
                           }},
                      Case{"PlainBytesInTheTree", "behind the columns",
                           [](RawManifest& r) { r.section(kTree).plain.resize(32); }},
                      Case{"PlainBytesInTheFrames", "behind the columns",
                           [](RawManifest& r) { r.section(kFrames).plain.resize(32); }}),
    name_of);

// --- objects, chunks, frames --------------------------------------------------------------------

// The first digest of a section becomes the second one.
auto repeat_digest(std::uint32_t kind, std::size_t from, std::size_t to) {
  return [=](RawManifest& raw) {
    Bytes& plain = raw.section(kind).plain;
    std::copy_n(plain.begin() + static_cast<std::ptrdiff_t>(32 * from), 32,
                plain.begin() + static_cast<std::ptrdiff_t>(32 * to));
  };
}

INSTANTIATE_TEST_SUITE_P(
    Chunks, HostileManifest,
    ::testing::Values(
        Case{"NoChunks", "0 chunks", number(kObjects, kChunkCounts, 2, 0)},
        Case{"ChunksOfAnEmptyObject", "0 bytes", number(kObjects, kChunkCounts, 0, 1)},
        Case{"ChunksBeyondTheLimit", "exceed the limit",
             number(kObjects, kChunkCounts, 1, 64'000'001), Errc::kInvalid},
        Case{"ManyChunks", "cannot hold", number(kObjects, kChunkCounts, 1, 63'000'000)},
        Case{"ChunkTooMany", "one digest for each chunk",
             numbers(kObjects, kChunkCounts, [](Numbers& n) { ++n[1]; })},
        Case{"ChunkTooFew", "one digest for each chunk",
             numbers(kObjects, kChunkCounts, [](Numbers& n) { --n[1]; })},
        Case{"OneChunkInsteadOfSeveral", "one digest for each chunk",
             number(kObjects, kChunkCounts, 1, 1)},
        Case{"ObjectDigestMissing", "one digest for each object",
             [](RawManifest& r) { r.section(kObjects).plain.resize(3 * 32); }},
        Case{"ObjectDigestTooMany", "one digest for each object",
             [](RawManifest& r) { r.section(kObjects).plain.resize(5 * 32); }},
        Case{"ObjectDigestCutShort", "one digest for each object",
             [](RawManifest& r) { r.section(kObjects).plain.pop_back(); }},
        Case{"ChunkDigestTooMany", "one digest for each chunk",
             [](RawManifest& r) {
               r.section(kChunks).plain.resize(r.section(kChunks).plain.size() + 32);
             }},
        Case{"ObjectIdIsNotTheHash", "object 1: its id is not the hash",
             [](RawManifest& r) { r.section(kObjects).plain[0] ^= std::byte{1}; }},
        Case{"ChunkDigestOfALargeObject", "object 1: its id is not the hash",
             [](RawManifest& r) { r.section(kChunks).plain[0] ^= std::byte{1}; }},
        Case{"SizeOfALargeObject", "object 1: its id is not the hash",
             numbers(kTree, kObjectSizes, [](Numbers& n) { ++n[1]; })},
        Case{"TwoObjectsWithOneId", "objects 2 and 3 have the same id",
             repeat_digest(kObjects, 1, 2)},
        Case{"OneDigestTwoLengths", "two lengths",
             [](RawManifest& r) {
               r.section(kTree).numbers(kObjectSizes, [](Numbers& n) { n[3] = 4; });
               repeat_digest(kObjects, 1, 2)(r);
             }},
        Case{"ChunkOfLengthZero", "a chunk of 0 bytes", number(kChunks, kLengths, 0, 0)},
        Case{"ChunkTooLong", "a chunk of 1025 bytes", number(kChunks, kLengths, 0, 1025)},
        Case{"ChunkOfHugeLength", "a chunk of 4294967295 bytes",
             number(kChunks, kLengths, 0, kMax32)},
        Case{"OnlyChunkTooLong", "a chunk of 1025 bytes", number(kTree, kObjectSizes, 2, 1025)},
        Case{"OnlyChunkBeyond32Bits", "its chunks hold",
             number(kTree, kObjectSizes, 2, (std::uint64_t{1} << 32) + 5)},
        Case{"GapBetweenChunks", "its chunks hold",
             numbers(kChunks, kLengths, [](Numbers& n) { --n[1]; })},
        Case{"ChunksOverlap", "its chunks hold",
             numbers(kChunks, kLengths, [](Numbers& n) { ++n[1]; })}),
    name_of);

// Object `moved` begins `distance` bytes behind the begin of object `other`. Offsets are stored as
// the difference to where the next file of a tar would begin, so all of them are written anew.
auto object_at(std::uint32_t moved, std::uint32_t other, std::uint64_t distance) {
  return numbers(kObjects, kRawOffsets, [=](Numbers& offsets) {
    offsets.clear();
    const cdc::Objects& objects = sample().manifest->objects();
    std::uint64_t expected = 0;
    for (std::uint32_t i = 0; i < objects.count(); ++i) {
      if (objects.chunk_count(i) == 0) continue;
      const std::uint64_t offset =
          i == moved ? objects.raw_offset(other) + distance : objects.raw_offset(i);
      offsets.push_back(cdc::zigzag(static_cast<std::int64_t>(offset - expected)));
      const std::uint64_t end = offset + sample().manifest->tree().object_size(i);
      expected = (end + 511) / 512 * 512 + 512;
    }
  });
}

INSTANTIATE_TEST_SUITE_P(
    Places, HostileManifest,
    ::testing::Values(Case{"ObjectBeyondTheFrames", "beyond the last frame",
                           numbers(kObjects, kRawOffsets,
                                   [](Numbers& n) { n.back() += 1u << 20; })},
                      Case{"ObjectWrapsAround", "beyond the last frame",
                           numbers(kObjects, kRawOffsets, [](Numbers& n) { n.back() = kMax; })},
                      Case{"ObjectsOverlap", "object 3: overlaps", object_at(3, 2, 4)},
                      Case{"ObjectsAtOnePlace", "overlaps", object_at(3, 2, 0)},
                      Case{"ObjectInsideAnother", "object 2: overlaps", object_at(2, 1, 5000)},
                      Case{"OffsetMissing", "malformed",
                           numbers(kObjects, kRawOffsets, [](Numbers& n) { n.pop_back(); })},
                      Case{"ChunkCrossesTheEndOfItsFrame", "crosses the end of frame 0",
                           numbers(kFrames, kRawSizes,
                                   [](Numbers& n) {
                                     --n[0];
                                     ++n[1];
                                   })},
                      Case{"FramesEndTooEarly", "beyond the last frame",
                           [](RawManifest& r) {
                             r.section(kFrames).numbers(kFramesOfLayer,
                                                        [](Numbers& n) { n.back() -= 2; });
                             for (const FramesColumn column : {kRawSizes, kStoredSizes}) {
                               r.section(kFrames).numbers(
                                   column, [](Numbers& n) { n.resize(n.size() - 2); });
                             }
                           }},
                      Case{"FrameOfZeroBytes", "0 raw bytes", number(kFrames, kRawSizes, 0, 0)},
                      Case{"FrameTooLarge", "4194305 raw bytes",
                           number(kFrames, kRawSizes, 0, 4194305)},
                      Case{"FrameHuge", "4294967295 raw bytes",
                           number(kFrames, kRawSizes, 0, kMax32)},
                      Case{"StoredZero", "0 stored bytes", number(kFrames, kStoredSizes, 0, 0)},
                      Case{"StoredLessThanPossible", "9 stored bytes",
                           number(kFrames, kStoredSizes, 0, 9)},
                      Case{"StoredMoreThanPossible", "9999 stored bytes",
                           number(kFrames, kStoredSizes, 0, 9999)},
                      Case{"StoredHuge", "stored bytes", number(kFrames, kStoredSizes, 0, kMax32)},
                      Case{"StoredBeyond32Bits", "malformed",
                           number(kFrames, kStoredSizes, 0, kMax32 + 1)},
                      Case{"FramesReachTheManifest", "beyond the frames' end",
                           numbers(kFrames, kStoredSizes, [](Numbers& n) { n.back() += 9; })},
                      Case{"FramesReachBeyondTheirBlob", "beyond the frames' end",
                           [](RawManifest& r) {
                             std::size_t last = 0;
                             r.section(kFrames).numbers(kFramesOfLayer,
                                                        [&](Numbers& n) { last = n[0] - 1; });
                             r.section(kFrames).numbers(kStoredSizes,
                                                        [&](Numbers& n) { ++n[last]; });
                           }},
                      Case{"MoreLayersThanTheAnchorNames", "data layer 2, of 2",
                           numbers(kFrames, kFramesOfLayer,
                                   [](Numbers& n) {
                                     --n[1];
                                     n.push_back(1);
                                   })},
                      Case{"LayerWithoutFrames", "has none",
                           numbers(kFrames, kFramesOfLayer,
                                   [](Numbers& n) { n.insert(n.begin(), 0); })},
                      Case{"FramesBeyondTheLimit", "cannot hold",
                           number(kFrames, kFramesOfLayer, 0, kMax32)},
                      Case{"RawSizesMissing", "0 raw bytes",
                           numbers(kFrames, kRawSizes, [](Numbers& n) { n.back() = 0; })},
                      Case{"StoredSizesMissing", "malformed",
                           numbers(kFrames, kStoredSizes, [](Numbers& n) { n.pop_back(); })},
                      Case{"FramesTooMany", "left over",
                           numbers(kFrames, kRawSizes, [](Numbers& n) { n.push_back(1); })}),
    name_of);

// --- the rest -----------------------------------------------------------------------------------

TEST(ManifestTrust, NothingIsParsedThatTheAnchorDoesNotName) {
  const Bytes& good = sample().manifest_bytes;
  for (std::size_t i = 0; i < good.size(); ++i) {
    Bytes bad = good;
    bad[i] ^= std::byte{0x10};
    const auto manifest = cdc::Manifest::read(bad, sample().anchor);
    ASSERT_FALSE(manifest) << i;
    EXPECT_EQ(manifest.error().code(), Errc::kCorrupt);
    EXPECT_NE(manifest.error().message().find("digest"), std::string::npos) << i;
  }
}

TEST(ManifestTrust, EveryOtherLengthIsRefused) {
  const Bytes& good = sample().manifest_bytes;
  for (std::size_t size = 0; size < good.size(); ++size) {
    EXPECT_FALSE(cdc::Manifest::read(ByteSpan(good).first(size), sample().anchor)) << size;
  }
  Bytes longer = good;
  longer.push_back(std::byte{0});
  EXPECT_FALSE(cdc::Manifest::read(longer, sample().anchor));
}

TEST(ManifestTrust, ContradictoryAnchorsAreRefused) {
  const auto refused = [](auto change) {
    cdc::Anchor anchor = sample().anchor;
    change(anchor);
    return !cdc::Manifest::read(sample().manifest_bytes, anchor);
  };
  EXPECT_TRUE(refused([](cdc::Anchor& a) { a.manifest_layer = 2; }));
  EXPECT_TRUE(refused([](cdc::Anchor& a) { a.manifest_offset = kMax; }));
  EXPECT_TRUE(refused([](cdc::Anchor& a) { a.manifest_size = kMax; }));
  EXPECT_TRUE(refused([](cdc::Anchor& a) { --a.header_size; }));
  EXPECT_TRUE(refused([](cdc::Anchor& a) { a.header_size = a.manifest_size; }));
  EXPECT_TRUE(refused([](cdc::Anchor& a) { a.data_layers.clear(); }));
  EXPECT_TRUE(refused([](cdc::Anchor& a) { a.manifest_offset = 10; }));  // inside the frames
  EXPECT_FALSE(refused([](cdc::Anchor&) {}));
}

TEST(ManifestTrust, UnknownOptionalSectionsAreSkipped) {
  RawManifest raw = take_apart(sample().manifest_bytes);
  RawSection extra;
  extra.flags = 0;
  extra.stored = Bytes(50, std::byte{'?'});
  extra.kind = 20;
  raw.sections.insert(raw.sections.begin() + 1, extra);
  extra.kind = 1000;
  raw.sections.push_back(extra);
  const auto manifest = read(put_together(raw, sample().anchor));
  ASSERT_TRUE(manifest) << manifest.error().message();
  EXPECT_EQ(walk(**manifest), "");
  EXPECT_EQ((*manifest)->header().sections.size(), 6u);
}

TEST(ManifestLimits, AreKept) {
  const PutTogether image = put_together(take_apart(sample().manifest_bytes), sample().anchor);
  const auto refused = [&](auto change) {
    cdc::ManifestLimits limits;
    change(limits);
    const auto manifest = read(image, limits);
    return !manifest && manifest.error().code() == Errc::kInvalid;
  };
  const std::uint64_t chunks = sample().manifest->objects().total_chunks();
  EXPECT_TRUE(refused([](cdc::ManifestLimits& l) { l.entries = 13; }));
  EXPECT_FALSE(refused([](cdc::ManifestLimits& l) { l.entries = 14; }));
  EXPECT_TRUE(refused([&](cdc::ManifestLimits& l) { l.chunks = chunks - 1; }));
  EXPECT_FALSE(refused([&](cdc::ManifestLimits& l) { l.chunks = chunks; }));
  EXPECT_TRUE(refused([](cdc::ManifestLimits& l) { l.section_raw = 100; }));
  EXPECT_TRUE(refused([&](cdc::ManifestLimits& l) { l.manifest_stored = image.bytes.size() - 1; }));
  EXPECT_FALSE(refused([&](cdc::ManifestLimits& l) { l.manifest_stored = image.bytes.size(); }));
}

// A few hundred bytes in the registry that claim terabytes of files: `files` names for one object
// of 2 GiB of zeros.
cdc::ManifestParts bomb(std::uint32_t files, cdc::Tree& tree) {
  constexpr std::uint32_t kPiece = 4u << 20;
  constexpr std::uint32_t kPieces = 512;
  cdc::TreeBuilder builder({});
  const std::uint32_t object = builder.add_object(std::uint64_t{kPiece} * kPieces);
  cdc::TreeBuilder::Attributes file;
  file.type = cdc::NodeType::kRegular;
  file.object = object;
  for (std::uint32_t i = 0; i < files; ++i) {
    builder.add(cdc::TreeBuilder::kRoot, std::to_string(i), file);
  }
  tree = builder.build(nullptr).value();
  cdc::ManifestParts parts;
  parts.chunker = {cdc::ChunkerAlgorithm::kTwoStage, kPiece, kPiece, kPiece};
  parts.tree = &tree;
  parts.objects.resize(1);
  for (std::uint32_t i = 0; i < kPieces; ++i) {
    parts.objects[0].digests.push_back(sha256("zeros"));
    parts.objects[0].sizes.push_back(kPiece);
    parts.frames.push_back({.raw_offset = std::uint64_t{kPiece} * i,
                            .raw_size = kPiece,
                            .stored_size = 150,
                            .stored_offset = 150 * i,
                            .layer = 0});
  }
  return parts;
}

TEST(ManifestLimits, StopChunkBombs) {
  cdc::Tree tree;
  const auto honest = cdc::Manifest::write(bomb(20, tree));
  ASSERT_TRUE(honest) << honest.error().message();
  cdc::Anchor anchor;
  anchor.manifest = honest->digest;
  anchor.header_size = honest->header_size;
  anchor.manifest_size = honest->bytes.size();
  anchor.manifest_offset = 150 * 512;
  anchor.data_layers = {{{}, anchor.manifest_offset + anchor.manifest_size, {}}};
  EXPECT_TRUE(cdc::Manifest::read(honest->bytes, anchor));
  const auto refused = cdc::Manifest::read(honest->bytes, anchor, {.logical_ratio = 19});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Errc::kInvalid);
  EXPECT_NE(refused.error().message().find("the files claim"), std::string::npos);

  const auto dishonest = cdc::Manifest::write(bomb(10'001, tree));
  ASSERT_FALSE(dishonest);
  EXPECT_EQ(dishonest.error().code(), Errc::kInvalid);
}

// A tree of one directory in another, `depth` of them, written by hand.
RawManifest nested(std::uint32_t depth, const std::string& name) {
  RawManifest raw = take_apart(sample().manifest_bytes);
  raw.content_size = 0;
  RawSection& tree = raw.section(kTree);
  tree.columns.assign(19, Bytes());
  tree.columns[kCounts] = column_of({depth + 1, depth, 0, 1, 0});
  for (std::uint32_t i = 0; i < depth; ++i) cdc::put_text(tree.columns[kNames], name);
  tree.columns[kModes] = column_of(Numbers(depth + 1, 0755));
  for (const TreeColumn zero : {kUids, kGids, kTimeOfInode, kXattrSets}) {
    tree.columns[zero].resize(depth + 1);
  }
  tree.columns[kSeconds] = tree.columns[kNanoseconds] = column_of({0});
  Numbers children(depth + 1, 1);
  children.back() = 0;
  tree.columns[kChildren] = column_of(children);
  tree.columns[kLinks].resize(depth);
  for (const std::uint32_t kind : {kObjects, kChunks}) {
    raw.section(kind).plain.clear();
    for (Bytes& column : raw.section(kind).columns) column.clear();
  }
  return raw;
}

TEST(ManifestLimits, DepthAndPathLengthAreBounded) {
  const auto try_out = [](std::uint32_t depth, std::size_t name_size) {
    const RawManifest raw = nested(depth, std::string(name_size, 'd'));
    const auto manifest = read(put_together(raw, sample().anchor));
    return manifest ? walk(**manifest) : manifest.error().message();
  };
  EXPECT_EQ(try_out(1024, 2), "");
  EXPECT_NE(try_out(1025, 2).find("more than 1024 names"), std::string::npos);
  EXPECT_EQ(try_out(16, 255), "");  // 16 * 255 + 15 = 4095 bytes
  EXPECT_NE(try_out(17, 255).find("longer than 4095"), std::string::npos);
  EXPECT_NE(try_out(200'000, 1).find("more than 1024 names"), std::string::npos);
}

// Whatever is accepted must be safe to use: walk() uses all of it.
void expect_safe(const PutTogether& image, const std::string& what) {
  const auto manifest = read(image);
  if (manifest) {
    EXPECT_EQ(walk(**manifest), "") << what;
  } else {
    const Errc code = manifest.error().code();
    EXPECT_TRUE(code == Errc::kCorrupt || code == Errc::kInvalid) << what;
  }
}

TEST(ManifestMutations, EveryByteOfTheHeader) {
  const Bytes& good = sample().manifest_bytes;
  for (std::size_t i = 0; i < sample().anchor.header_size; ++i) {
    for (const unsigned flip : {0x01u, 0x80u, 0xffu}) {
      PutTogether image{good, sample().anchor};
      image.bytes[i] ^= static_cast<std::byte>(flip);
      image.anchor.manifest = sha256(ByteSpan(image.bytes).first(image.anchor.header_size));
      expect_safe(image, "byte " + std::to_string(i));
    }
  }
}

// Changes one byte: sets it, flips a bit, removes it, or doubles it.
void mutate(Bytes& bytes, std::mt19937_64& generator) {
  if (bytes.empty()) {
    bytes.push_back(static_cast<std::byte>(generator()));
    return;
  }
  const auto at = bytes.begin() + static_cast<std::ptrdiff_t>(generator() % bytes.size());
  switch (generator() % 4) {
    case 0: *at = static_cast<std::byte>(generator()); break;
    case 1: *at ^= std::byte{1} << (generator() % 8); break;
    case 2: bytes.erase(at); break;
    default: bytes.insert(at, *at); break;
  }
}

TEST(ManifestMutations, RandomBytesOfColumnsAndDigests) {
  const std::uint64_t seed = std::random_device{}();
  std::mt19937_64 generator(seed);
  const RawManifest good = take_apart(sample().manifest_bytes);
  for (int round = 0; round < 10'000; ++round) {
    RawManifest raw = good;
    for (std::uint64_t changes = 1 + generator() % 3; changes > 0; --changes) {
      RawSection& section = raw.sections[generator() % raw.sections.size()];
      const std::size_t column = generator() % (section.columns.size() + 1);
      mutate(column < section.columns.size() ? section.columns[column] : section.plain, generator);
    }
    expect_safe(put_together(raw, sample().anchor),
                "seed " + std::to_string(seed) + ", round " + std::to_string(round));
  }
}

TEST(ManifestMutations, RandomBytesOfStoredSections) {
  const std::uint64_t seed = std::random_device{}();
  std::mt19937_64 generator(seed);
  const RawManifest good = take_apart(sample().manifest_bytes);
  const auto rows = sample().manifest->header().sections;
  for (int round = 0; round < 3'000; ++round) {
    RawManifest raw = good;
    const std::size_t index = generator() % rows.size();
    const ByteSpan stored =
        ByteSpan(sample().manifest_bytes).subspan(rows[index].offset, rows[index].stored_size);
    raw.sections[index].stored = Bytes(stored.begin(), stored.end());
    mutate(*raw.sections[index].stored, generator);
    expect_safe(put_together(raw, sample().anchor),
                "seed " + std::to_string(seed) + ", round " + std::to_string(round));
  }
}

}  // namespace
}  // namespace imsy::test
