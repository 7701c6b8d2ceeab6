// The tar reader on archives that are right, odd, and wrong.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "oci/tar/tar.h"
#include "tests/unit/oci/tar_bytes.h"

namespace imsy::oci::tar {
namespace {

using ::testing::HasSubstr;

struct Entry {
  Header header;
  std::string content;
};

Result<std::string> read_content(Reader& reader, std::size_t step = 1 << 16) {
  std::string content;
  Bytes buffer(step);
  for (;;) {
    IMSY_TRY_ASSIGN(const std::size_t got, reader.read(buffer));
    if (got == 0) return content;
    content += as_text(std::span(buffer).first(got));
  }
}

Result<std::vector<Entry>> list(const std::string& archive, std::size_t input_step = SIZE_MAX,
                                const ReaderLimits& limits = {}) {
  StringReader input(archive, input_step);
  Reader reader(input, limits);
  std::vector<Entry> entries;
  for (;;) {
    Entry entry;
    IMSY_TRY_ASSIGN(const bool more, reader.next(entry.header));
    if (!more) break;
    IMSY_TRY_ASSIGN(entry.content, read_content(reader));
    entries.push_back(std::move(entry));
  }
  EXPECT_TRUE(input.ended()) << "the input was not read to its end";
  return entries;
}

// The only entry of an archive that has to be good.
Entry only(const std::string& archive) {
  auto entries = list(archive);
  if (!entries) {
    ADD_FAILURE() << entries.error().message();
    return {};
  }
  EXPECT_EQ(entries->size(), 1u);
  return entries->empty() ? Entry() : entries->front();
}

Error failure(const std::string& archive, const ReaderLimits& limits = {}) {
  auto entries = list(archive, SIZE_MAX, limits);
  if (entries) {
    ADD_FAILURE() << "accepted";
    return Error(Errc::kInternal, "accepted");
  }
  return entries.error();
}

TEST(TarReader, ReadsEveryFieldOfUstar) {
  const auto file = only(Block("dir/file", '0', 5)
                             .put(100, octal(04755, 8))
                             .put(108, octal(1000, 8))
                             .put(116, octal(100, 8))
                             .put(136, octal(1700000000, 12))
                             .put(345, "a/prefix")
                             .str() +
                         padded("hello") + end());
  EXPECT_EQ(file.header.name, "a/prefix/dir/file");
  EXPECT_EQ(file.header.type, Type::kRegular);
  EXPECT_EQ(file.header.mode, 04755u);
  EXPECT_EQ(file.header.uid, 1000u);
  EXPECT_EQ(file.header.gid, 100u);
  EXPECT_EQ(file.header.size, 5u);
  EXPECT_EQ(file.header.mtime_s, 1700000000);
  EXPECT_EQ(file.header.mtime_ns, 0u);
  EXPECT_EQ(file.content, "hello");
}

TEST(TarReader, ReadsEveryType) {
  const auto entries = list(Block("l", '1').link("f").str() + Block("s", '2').link("/t").str() +
                            Block("c", '3').put(329, octal(5, 8)).put(337, octal(1, 8)).str() +
                            Block("b", '4').put(329, octal(8, 8)).str() + Block("d/", '5').str() +
                            Block("p", '6').str() + end());
  ASSERT_TRUE(entries) << entries.error().message();
  std::vector<Type> types;
  for (const auto& entry : *entries) types.push_back(entry.header.type);
  EXPECT_EQ(types, (std::vector{Type::kHardLink, Type::kSymlink, Type::kCharDevice,
                                Type::kBlockDevice, Type::kDirectory, Type::kFifo}));
  EXPECT_EQ((*entries)[0].header.link, "f");
  EXPECT_EQ((*entries)[1].header.link, "/t");
  EXPECT_EQ((*entries)[2].header.device_major, 5u);
  EXPECT_EQ((*entries)[2].header.device_minor, 1u);
  EXPECT_EQ((*entries)[4].header.name, "d/");
}

TEST(TarReader, KeepsWhatDoesNotBelongToATypeOutOfItsHeader) {
  const auto file =
      only(Block("f").link("elsewhere").put(329, octal(1, 8)).put(337, octal(2, 8)).str() + end());
  EXPECT_EQ(file.header.link, "");
  EXPECT_EQ(file.header.device_major, 0u);
  EXPECT_EQ(file.header.device_minor, 0u);
}

TEST(TarReader, ReadsOlderLayouts) {
  const auto v7 = only(Block("old", '0').v7().put(329, "junk").str() + end());
  EXPECT_EQ(v7.header.name, "old");
  const auto star =
      only(Block("f").put(345, "prefix").put(476, octal(1, 12)).put(508, "tar").str() + end());
  EXPECT_EQ(star.header.name, "prefix/f");
  // The GNU layout has times where ustar has its prefix.
  const auto gnu = only(Block("f").gnu().put(345, octal(1, 12)).str() + end());
  EXPECT_EQ(gnu.header.name, "f");
  const auto gnu_without_second =
      only(Block("f").gnu().put(345, octal(1, 12)).put(358, "junk").str() + end());
  EXPECT_EQ(gnu_without_second.header.name, "f");
  const auto gnu_with_strange_prefix = only(Block("f").gnu().put(345, "\xc3\xbc").str() + end());
  EXPECT_EQ(gnu_with_strange_prefix.header.name, "f");
  const auto gnu_with_prefix = only(Block("f").gnu().put(345, "prefix").str() + end());
  EXPECT_EQ(gnu_with_prefix.header.name, "prefix/f");
}

TEST(TarReader, TakesAnOldFileWithASlashForADirectory) {
  EXPECT_EQ(only(Block("d/", '\0').str() + end()).header.type, Type::kDirectory);
  EXPECT_EQ(only(Block("f", '\0').str() + end()).header.type, Type::kRegular);
  EXPECT_EQ(only(Block("f/", '0').str() + end()).header.type, Type::kRegular);
  // The long name decides, not the short one.
  EXPECT_EQ(only(gnu_long("d/") + Block("f", '\0').str() + end()).header.type, Type::kDirectory);
}

TEST(TarReader, ReadsLargeAndNegativeNumbers) {
  const auto file = only(Block("f")
                             .put(108, base256(2147483648, 8))
                             .put(116, base256(4294967294, 8))
                             .put(136, base256(-5, 12))
                             .str() +
                         end());
  EXPECT_EQ(file.header.uid, 2147483648u);
  EXPECT_EQ(file.header.gid, 4294967294u);
  EXPECT_EQ(file.header.mtime_s, -5);
  const auto sized = only(Block("f").put(124, base256(3, 12)).str() + padded("abc") + end());
  EXPECT_EQ(sized.content, "abc");
}

TEST(TarReader, ReadsNumbersInStrangeDress) {
  const auto file = only(Block("f")
                             .put(108, std::string_view("  12  \0\0", 8))
                             .put(116, std::string_view("\0\0 \0\0\0\0\0", 8))
                             .put(100, std::string_view("000755\0x", 8))
                             .str() +
                         end());
  EXPECT_EQ(file.header.uid, 012u);
  EXPECT_EQ(file.header.gid, 0u);
  EXPECT_EQ(file.header.mode, 0755u);
}

TEST(TarReader, AcceptsASignedChecksumAndNoOther) {
  const Block block("caf\xc3\xa9");
  EXPECT_EQ(only(block.str(/*sign=*/true) + end()).header.name, "caf\xc3\xa9");
  std::string wrong = block.str();
  wrong[0] = 'C';
  const auto error = failure(wrong + end());
  EXPECT_EQ(error.code(), Errc::kCorrupt);
  EXPECT_THAT(error.message(), HasSubstr("checksum"));
}

TEST(TarReader, KeepsTheBytesOfNames) {
  const std::string name = "a\n\x80\xff\\\"b";
  EXPECT_EQ(only(Block(name).str() + end()).header.name, name);
  EXPECT_EQ(only(pax(record("path", name)) + Block("x").str() + end()).header.name, name);
}

TEST(TarReader, AppliesPaxRecords) {
  const std::string value("\x01\x00\x00\x02", 4);
  const auto file =
      only(pax(record("path", "long/name") + record("uid", "70000") + record("gid", "+70001") +
               record("size", "3") + record("mtime", "-1.5") +
               record("SCHILY.xattr.user.a", value) + record("SCHILY.xattr.user.empty", "") +
               record("comment", "none") + record("LIBARCHIVE.xattr.user.b", "Yg==")) +
           Block("short", '0', 100).str() + padded("abc") + end());
  EXPECT_EQ(file.header.name, "long/name");
  EXPECT_EQ(file.header.uid, 70000u);
  EXPECT_EQ(file.header.gid, 70001u);
  EXPECT_EQ(file.header.size, 3u);
  EXPECT_EQ(file.content, "abc");
  EXPECT_EQ(file.header.mtime_s, -2);
  EXPECT_EQ(file.header.mtime_ns, 500'000'000u);
  EXPECT_EQ(file.header.xattrs,
            (std::map<std::string, std::string>{{"user.a", value}, {"user.empty", ""}}));
  EXPECT_EQ(file.header.records, (std::map<std::string, std::string>{
                                     {"comment", "none"}, {"LIBARCHIVE.xattr.user.b", "Yg=="}}));
  EXPECT_EQ(
      only(pax(record("linkpath", "far")) + Block("l", '2').link("near").str() + end()).header.link,
      "far");
}

TEST(TarReader, ReadsTimesToTheNanosecond) {
  struct Case {
    std::string text;
    std::int64_t s;
    std::uint32_t ns;
  };
  for (const Case& c : {Case{"12.5", 12, 500'000'000}, Case{"12.", 12, 0}, Case{"+7", 7, 0},
                        Case{"-0.25", -1, 750'000'000}, Case{"-3", -3, 0}, Case{"-3.000", -3, 0},
                        Case{"1.0000000019", 1, 1}, Case{"9223372036854775807", INT64_MAX, 0},
                        Case{"0.000000001", 0, 1}}) {
    const auto file = only(pax(record("mtime", c.text)) + Block("f").str() + end());
    EXPECT_EQ(file.header.mtime_s, c.s) << c.text;
    EXPECT_EQ(file.header.mtime_ns, c.ns) << c.text;
  }
}

TEST(TarReader, LetsAnEmptyPaxValueChangeNothing) {
  const auto file = only(pax(record("path", "") + record("uid", "") + record("mtime", "")) +
                         Block("f").put(108, octal(7, 8)).put(136, octal(9, 12)).str() + end());
  EXPECT_EQ(file.header.name, "f");
  EXPECT_EQ(file.header.uid, 7u);
  EXPECT_EQ(file.header.mtime_s, 9);
}

TEST(TarReader, ForgetsPaxRecordsAfterTheirEntry) {
  const auto entries = list(pax(record("path", "long") + record("uid", "5")) + Block("a").str() +
                            Block("b").str() + end());
  ASSERT_TRUE(entries);
  EXPECT_EQ((*entries)[1].header.name, "b");
  EXPECT_EQ((*entries)[1].header.uid, 0u);
}

TEST(TarReader, CombinesExtendedHeadersAsGoDoes) {
  const std::string block = Block("short").str() + end();
  // Of two pax headers the last one counts, as a whole.
  const auto twice =
      only(pax(record("path", "p1") + record("uid", "1")) + pax(record("gid", "2")) + block);
  EXPECT_EQ(twice.header.name, "short");
  EXPECT_EQ(twice.header.uid, 0u);
  EXPECT_EQ(twice.header.gid, 2u);
  // GNU's long name wins over pax, in either order.
  EXPECT_EQ(only(pax(record("path", "p1")) + gnu_long("p2") + block).header.name, "p2");
  EXPECT_EQ(only(gnu_long("p2") + pax(record("path", "p1")) + block).header.name, "p2");
  EXPECT_EQ(only(gnu_long("p2") + gnu_long("p3") + block).header.name, "p3");
  EXPECT_EQ(only(gnu_long("p2") + gnu_long("") + block).header.name, "short");
  EXPECT_EQ(only(gnu_long(std::string_view("cut\0here", 8)) + block).header.name, "cut");
  const auto link = only(gnu_long(std::string(300, 't'), 'K') + Block("l", '2').str() + end());
  EXPECT_EQ(link.header.link, std::string(300, 't'));
}

TEST(TarReader, IgnoresGlobalPaxHeadersAndWhatStandsBeforeThem) {
  const std::string global =
      pax(record("path", "everywhere") + record("size", "1") + record("uid", "9"), 'g');
  const std::string block = Block("f", '0', 3).str() + padded("abc") + end();
  const auto plain = only(global + block);
  EXPECT_EQ(plain.header.name, "f");
  EXPECT_EQ(plain.header.uid, 0u);
  EXPECT_EQ(plain.content, "abc");
  EXPECT_EQ(only(pax(record("path", "lost")) + gnu_long("lost too") + global + block).header.name,
            "f");
  EXPECT_EQ(failure(pax("junk", 'g') + block).code(), Errc::kCorrupt);
}

TEST(TarReader, RefusesMalformedPax) {
  const std::string block = Block("f").str() + end();
  for (const std::string records :
       {"13 path=abcd", "12 path=abcd\n", "14 path=abcd\n", "99 path=abcd\n", "0 a=b\n", "4 =\n",
        "-6 a=b\n", " 6 a=b\n", "x a=b\n", "6 ab\n\n", "5 =b\n", "6\n", "6", "3 \n", "06a=b\n"}) {
    EXPECT_EQ(failure(pax(records) + block).code(), Errc::kCorrupt) << records;
  }
  for (const std::string& records :
       {record("uid", "abc"), record("uid", "0x10"), record("gid", "9223372036854775808"),
        record("gid", "+-1"), record("size", "1.5"), record("mtime", ".5"), record("mtime", "1.x"),
        record("atime", "now"), record("ctime", "1,5"), record("mtime", "-9223372036854775808.5"),
        record("path", std::string_view("a\0b", 3)), record("uname", std::string_view("\0", 1)),
        record(std::string_view("k\0", 2), "v")}) {
    EXPECT_EQ(failure(pax(records) + block).code(), Errc::kCorrupt) << records;
  }
}

TEST(TarReader, RefusesAnExtendedHeaderWithoutAnEntry) {
  for (const std::string& last :
       {pax(record("path", "p")), gnu_long("p"), gnu_long("p", 'K'), pax("")}) {
    for (const std::string& ending : {end(), std::string(512, '\0'), std::string()}) {
      EXPECT_EQ(failure(Block("f").str() + last + ending).code(), Errc::kCorrupt);
    }
  }
}

TEST(TarReader, RefusesALongExtendedHeaderBeforeReadingIt) {
  const std::uint64_t size = (1u << 20) + 1;
  for (const char type : {'x', 'g', 'L', 'K'}) {
    // There are no bytes behind the header: the size alone is enough.
    const auto error = failure(Block("x", type, size).str());
    EXPECT_EQ(error.code(), Errc::kInvalid);
    EXPECT_THAT(error.message(), HasSubstr("1048577"));
  }
  const std::string longest = record("comment", std::string((1 << 20) - 17, 'c'));
  ASSERT_EQ(longest.size(), 1u << 20);
  EXPECT_EQ(only(pax(longest) + Block("f").str() + end()).header.name, "f");
  EXPECT_EQ(failure(pax(std::string(600, 'x')) + end(), {.pax_bytes = 599}).code(), Errc::kInvalid);
}

TEST(TarReader, RefusesNumbersOutOfRange) {
  const auto code = [](const std::string& entry) { return failure(entry + end()).code(); };
  EXPECT_EQ(code(Block("f").put(108, base256(-1, 8)).str()), Errc::kInvalid);
  EXPECT_EQ(code(Block("f").put(108, base256(4294967295, 8)).str()), Errc::kInvalid);
  EXPECT_EQ(code(Block("f").put(116, base256(4294967296, 8)).str()), Errc::kInvalid);
  EXPECT_EQ(code(Block("f").put(100, base256(-1, 8)).str()), Errc::kInvalid);
  EXPECT_EQ(code(Block("f").put(124, base256(-1, 12)).str()), Errc::kInvalid);
  EXPECT_EQ(code(Block("c", '3').put(329, base256(4294967296, 8)).str()), Errc::kInvalid);
  EXPECT_EQ(code(Block("b", '4').put(337, base256(-1, 8)).str()), Errc::kInvalid);
  EXPECT_EQ(code(pax(record("uid", "4294967295")) + Block("f").str()), Errc::kInvalid);
  EXPECT_EQ(code(pax(record("gid", "-1")) + Block("f").str()), Errc::kInvalid);
  EXPECT_EQ(code(pax(record("size", "-1")) + Block("f").str()), Errc::kInvalid);
  // Beyond 63 bits a number is no number any more.
  EXPECT_EQ(code(Block("f").put(124, std::string_view("\x80\0\0\0\x80\0\0\0\0\0\0\0", 12)).str()),
            Errc::kCorrupt);
  EXPECT_EQ(code(Block("f").put(124, "\x80\1\1\1\1\1\1\1\1\1\1\1").str()), Errc::kCorrupt);
  EXPECT_EQ(code(Block("f").put(108, "12 34").str()), Errc::kCorrupt);
  EXPECT_EQ(code(Block("f").put(116, "8").str()), Errc::kCorrupt);
  EXPECT_EQ(code(Block("f").put(329, "junk").str()), Errc::kCorrupt);
  EXPECT_EQ(code(Block("f").put(476, "junk").put(508, "tar").str()), Errc::kCorrupt);
}

TEST(TarReader, RefusesUnknownTypes) {
  for (const char type : {'7', '8', 'A', 'D', 'M', 'N', 'V', 'X', '\xff'}) {
    const auto error = failure(Block("f", type).str() + end());
    EXPECT_EQ(error.code(), Errc::kInvalid) << type;
    EXPECT_THAT(error.message(), HasSubstr("type"));
  }
}

TEST(TarReader, GivesEntriesWithoutContentNoContent) {
  for (const char type : {'1', '2', '3', '4', '5', '6'}) {
    // What the size claims is the next header, not content.
    const auto entries =
        list(Block("a", type, 512).link("t").str() + entry("next", "data") + end());
    ASSERT_TRUE(entries) << entries.error().message();
    ASSERT_EQ(entries->size(), 2u) << type;
    EXPECT_EQ((*entries)[0].header.size, 0u);
    EXPECT_EQ((*entries)[0].content, "");
    EXPECT_EQ((*entries)[1].content, "data");
  }
}

TEST(TarReader, FollowsThePaxSizeThroughASmuggledArchive) {
  const std::string inner = entry("smuggled", "evil");
  const auto hidden = list(pax(record("size", std::to_string(inner.size()))) + Block("f").str() +
                           inner + entry("last", "") + end());
  ASSERT_TRUE(hidden);
  ASSERT_EQ(hidden->size(), 2u);
  EXPECT_EQ((*hidden)[0].content, inner);
  EXPECT_EQ((*hidden)[1].header.name, "last");
  // The size of a pax header itself is never changed by the one before it.
  const auto chained =
      list(pax(record("size", "0")) + pax(record("path", "p")) + Block("f").str() + end());
  ASSERT_TRUE(chained) << chained.error().message();
  EXPECT_EQ((*chained)[0].header.name, "p");
}

TEST(TarReader, SkipsWhatTheCallerDidNotRead) {
  StringReader input(entry("a", std::string(1000, 'a')) + entry("b", "bb") + end());
  Reader reader(input);
  Header header;
  ASSERT_TRUE(reader.next(header).value_or(false));
  std::byte few[10];
  EXPECT_EQ(reader.read(few).value_or(0), 10u);
  ASSERT_TRUE(reader.next(header).value_or(false));
  EXPECT_EQ(header.name, "b");
  EXPECT_EQ(read_content(reader).value_or(""), "bb");
  EXPECT_EQ(reader.read(few).value_or(1), 0u);
  EXPECT_FALSE(reader.next(header).value_or(true));
  EXPECT_FALSE(reader.next(header).value_or(true));
  EXPECT_EQ(reader.read(few).value_or(1), 0u);
}

TEST(TarReader, ReadsTheSameInAnyStep) {
  std::string large;
  for (int i = 0; i < 40'000; ++i) large += std::to_string(i) + " ";
  const std::string archive = pax(record("path", "p")) + entry("large", large) +
                              entry("small", "s") + end() + std::string(9000, '\0');
  for (const std::size_t input_step : {std::size_t{1}, std::size_t{511}, SIZE_MAX}) {
    const auto entries = list(archive, input_step);
    ASSERT_TRUE(entries) << entries.error().message();
    ASSERT_EQ(entries->size(), 2u);
    EXPECT_EQ((*entries)[0].content, large);
    EXPECT_EQ((*entries)[1].content, "s");
  }
  for (const std::size_t step : {std::size_t{1}, std::size_t{700}, std::size_t{1} << 20}) {
    StringReader input(archive);
    Reader reader(input);
    Header header;
    ASSERT_TRUE(reader.next(header).value_or(false));
    EXPECT_EQ(read_content(reader, step).value_or(""), large);
  }
}

TEST(TarReader, EndsAtZeroBlocksOrAtTheEndOfTheInput) {
  const std::string file = entry("f", "content");
  EXPECT_EQ(only(file + end()).content, "content");
  EXPECT_EQ(only(file + std::string(512, '\0')).content, "content");
  EXPECT_EQ(only(file).content, "content");
  EXPECT_EQ(only(Block("f", '0', 7).str() + "content").content, "content") << "padding left out";
  EXPECT_EQ(only(file + end() + "anything" + file).content, "content") << "not read as entries";
  for (const std::string& empty : {std::string(), std::string(512, '\0'), end()}) {
    const auto entries = list(empty);
    ASSERT_TRUE(entries);
    EXPECT_TRUE(entries->empty());
  }
}

TEST(TarReader, RefusesAnArchiveThatIsCutShort) {
  const std::string archive = pax(record("path", "p")) + entry("f", "content");
  for (std::size_t size = 1; size < archive.size() - 505; ++size) {
    const auto entries = list(archive.substr(0, size));
    ASSERT_FALSE(entries) << size;
    EXPECT_EQ(entries.error().code(), Errc::kCorrupt);
  }
  EXPECT_EQ(failure(std::string(512, '\0') + entry("f", "")).code(), Errc::kCorrupt);
  EXPECT_EQ(failure(std::string(700, '\0')).code(), Errc::kCorrupt);
  EXPECT_EQ(failure("<html>" + std::string(600, ' ')).code(), Errc::kCorrupt);
}

TEST(TarReader, NamesTheEntryAndItsPlace) {
  const std::string name = "bad\n\"" + std::string(300, 'n');
  const auto error =
      failure(entry("good", "x") + pax(record("path", name)) + Block("f", '7').str() + end());
  EXPECT_THAT(error.message(), HasSubstr(R"("bad\x0a\x22nnn)"));
  EXPECT_THAT(error.message(), HasSubstr("n...\" at byte 2048: "));
  EXPECT_LT(error.message().size(), 400u);
}

TEST(TarReader, StaysFailed) {
  StringReader input(Block("f", '7').str() + entry("good", "") + end());
  Reader reader(input);
  Header header;
  std::byte buffer[8];
  EXPECT_FALSE(reader.next(header));
  const auto again = reader.next(header);
  ASSERT_FALSE(again);
  EXPECT_THAT(again.error().message(), HasSubstr("\"f\""));
  EXPECT_FALSE(reader.read(buffer));
}

TEST(TarReader, PassesErrorsOfTheInputOn) {
  for (const std::string& archive :
       {std::string(), Block("f", '0', 600).str() + "half", entry("f", "c") + end()}) {
    StringReader input(archive);
    input.fail_at_end();
    Reader reader(input);
    Header header;
    Result<bool> more = true;
    while (more && *more) more = reader.next(header);
    ASSERT_FALSE(more) << "the failure behind the archive was not seen";
    EXPECT_EQ(more.error().code(), Errc::kUnavailable);
  }
}

// Sparse files: content "abc" at 2 and "de" at 8 of 12 bytes.
const std::string kExpanded("\0\0abc\0\0\0de\0\0", 12);

std::string old_gnu(std::vector<std::pair<std::uint64_t, std::uint64_t>> map, std::uint64_t size,
                    const std::string& content) {
  Block block("sparse", 'S', content.size());
  block.gnu().put(483, octal(size, 12));
  std::string extensions;
  std::size_t i = 0;
  for (; i < map.size() && i < 4; ++i) {
    block.put(386 + 24 * i, octal(map[i].first, 12) + octal(map[i].second, 12));
  }
  if (i < map.size()) block.put(482, "\1");
  while (i < map.size()) {
    std::string extension(512, '\0');
    for (std::size_t k = 0; k < 21 && i < map.size(); ++k, ++i) {
      extension.replace(24 * k, 24, octal(map[i].first, 12) + octal(map[i].second, 12));
    }
    if (i < map.size()) extension[504] = '\1';
    extensions += extension;
  }
  return block.str() + extensions + padded(content);
}

std::string sparse_10(const std::string& map, const std::string& size, const std::string& content) {
  return pax(record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0") +
             record("GNU.sparse.name", "sparse") + record("GNU.sparse.realsize", size)) +
         entry("GNUSparseFile.0/sparse", padded(map) + content);
}

std::string sparse_01(const std::string& blocks, const std::string& map, const std::string& size,
                      const std::string& content) {
  return pax(record("GNU.sparse.size", size) + record("GNU.sparse.numblocks", blocks) +
             record("GNU.sparse.name", "sparse") + record("GNU.sparse.map", map)) +
         entry("GNUSparseFile.0/sparse", content);
}

TEST(TarReader, ExpandsSparseFilesOfAllFormats) {
  const std::string sparse_00 =
      pax(record("GNU.sparse.size", "12") + record("GNU.sparse.numblocks", "2") +
          record("GNU.sparse.offset", "2") + record("GNU.sparse.numbytes", "3") +
          record("GNU.sparse.offset", "8") + record("GNU.sparse.numbytes", "2")) +
      entry("sparse", "abcde");
  for (const std::string& archive :
       {old_gnu({{2, 3}, {8, 2}}, 12, "abcde"), sparse_00, sparse_01("2", "2,3,8,2", "12", "abcde"),
        sparse_10("2\n2\n3\n8\n2\n", "12", "abcde")}) {
    for (const std::size_t step : {std::size_t{1}, std::size_t{5}, std::size_t{100}}) {
      StringReader input(archive + entry("next", "n") + end());
      Reader reader(input);
      Header header;
      ASSERT_TRUE(reader.next(header).value_or(false));
      EXPECT_EQ(header.name, "sparse");
      EXPECT_EQ(header.type, Type::kRegular);
      EXPECT_EQ(header.size, 12u);
      EXPECT_TRUE(header.records.empty());
      EXPECT_EQ(read_content(reader, step).value_or(""), kExpanded);
      ASSERT_TRUE(reader.next(header).value_or(false));
      EXPECT_EQ(header.name, "next");
    }
    const auto skipped = list(archive + entry("next", "n") + end());
    ASSERT_TRUE(skipped);
    EXPECT_EQ(skipped->back().content, "n");
  }
}

TEST(TarReader, ExpandsSparseFilesWithManyRegions) {
  std::vector<std::pair<std::uint64_t, std::uint64_t>> map;
  std::string text = "1000\n";
  std::string content;
  std::string expanded;
  for (std::uint64_t i = 0; i < 1000; ++i) {
    map.emplace_back(2 * i + 1, 1);
    text += std::to_string(2 * i + 1) + "\n1\n";
    content += static_cast<char>('a' + i % 26);
    expanded += std::string(1, '\0') + content.back();
  }
  EXPECT_EQ(only(old_gnu(map, 2000, content) + end()).content, expanded);
  EXPECT_EQ(only(sparse_10(text, "2000", content) + end()).content, expanded);
}

TEST(TarReader, StartsEverySparseFileAnew) {
  const auto entries = list(old_gnu({{2, 3}, {8, 2}}, 12, "abcde") + old_gnu({{0, 1}}, 3, "x") +
                            sparse_10("1\n1\n1\n", "2", "y") + end());
  ASSERT_TRUE(entries) << entries.error().message();
  ASSERT_EQ(entries->size(), 3u);
  EXPECT_EQ((*entries)[0].content, kExpanded);
  EXPECT_EQ((*entries)[1].content, std::string("x\0\0", 3));
  EXPECT_EQ((*entries)[2].content, std::string("\0y", 2));
}

TEST(TarReader, ReadsASparseMapToTheEndOfItsLastLine) {
  // The newline of the last line is the first byte of a second block.
  const std::string map = "1\n" + std::string(507, '0') + "1\n1\n";
  ASSERT_EQ(map.size(), 513u);
  EXPECT_EQ(only(sparse_10(map, "2", "y") + end()).content, std::string("\0y", 2));
}

TEST(TarReader, ExpandsSparseFilesOfNothingButHoles) {
  EXPECT_EQ(only(old_gnu({}, 5, "") + end()).content, std::string(5, '\0'));
  EXPECT_EQ(only(sparse_10("0\n", "5", "") + end()).content, std::string(5, '\0'));
  EXPECT_EQ(only(sparse_01("1", "5,0", "5", "") + end()).content, std::string(5, '\0'));
  EXPECT_EQ(only(old_gnu({}, 0, "") + end()).content, "");
}

TEST(TarReader, RefusesSparseMapsThatLie) {
  const std::string c = "abcde";
  for (const std::string& archive : {
           old_gnu({{8, 2}, {2, 3}}, 12, c),
           old_gnu({{2, 3}, {4, 2}}, 12, c),
           old_gnu({{2, 3}, {8, 2}}, 9, c),
           old_gnu({{2, 3}}, 12, c),
           old_gnu({{2, 3}, {8, 3}}, 12, c),
           Block("s", 'S', 0).str(),
           Block("s", 'S', 0).gnu().put(483, "junk").str(),
           Block("s", 'S', 0).gnu().put(386, "junk").str(),
           sparse_01("2", "2,3,8", "12", c),
           sparse_01("3", "2,3,8,2", "12", c),
           sparse_01("-1", "2,3", "12", c),
           sparse_01("", "2,5", "12", c),
           sparse_01("1", "2,x", "12", c),
           sparse_01("1", "-2,5", "12", c),
           sparse_01("1", "9223372036854775807,5", "12", c),
           sparse_01("1", "0,5", "x", c),
           sparse_01("1", "0,5", "-12", c),
           sparse_10("2\n2\n3\n8\n", "12", c),
           sparse_10("x\n", "12", c),
           sparse_10("-1\n", "12", c),
           sparse_10("9223372036854775807\n", "12", c),
           sparse_10("1\n2\n9\n", "12", c),
           pax(record("GNU.sparse.numbytes", "5") + record("GNU.sparse.offset", "0")) +
               entry("s", c),
           pax(record("GNU.sparse.offset", "0,1")) + entry("s", c),
           pax(record("GNU.sparse.map", "0,0") + record("GNU.sparse.numblocks", "1")) +
               Block("d/", '5').str(),
       }) {
    EXPECT_EQ(failure(archive + end()).code(), Errc::kCorrupt);
  }
  // The next block of the map is not there.
  EXPECT_EQ(failure(Block("s", 'S').gnu().put(482, "\1").str()).code(), Errc::kCorrupt);
  const std::string nul("a\0b", 3);
  EXPECT_EQ(failure(pax(record("GNU.sparse.map", "0,1") + record("GNU.sparse.numblocks", "1") +
                        record("GNU.sparse.name", nul)) +
                    entry("s", "x") + end())
                .code(),
            Errc::kInvalid);
}

TEST(TarReader, TakesAnUnknownSparseVersionForAPlainFile) {
  const auto file = only(pax(record("GNU.sparse.major", "2") + record("GNU.sparse.map", "0,1")) +
                         entry("f", "plain") + end());
  EXPECT_EQ(file.content, "plain");
  EXPECT_TRUE(file.header.records.empty());
  // Without a version only a map that is not empty makes a sparse file.
  EXPECT_EQ(only(sparse_01("0", "", "99", "plain") + end()).content, "plain");
}

TEST(TarReader, BoundsSparseMaps) {
  std::string million = "10000000\n";
  while (million.size() < (2u << 20)) million += "1\n0\n";
  EXPECT_EQ(failure(sparse_10(million, "12", "") + end()).code(), Errc::kInvalid);
  const std::vector<std::pair<std::uint64_t, std::uint64_t>> map(50'000, {1, 0});
  EXPECT_EQ(failure(old_gnu(map, 12, "") + end()).code(), Errc::kInvalid);
  EXPECT_EQ(failure(old_gnu({{2, 3}, {8, 2}}, 12, "abcde") + end(), {.sparse_bytes = 90}).code(),
            Errc::kInvalid);
}

TEST(TarReader, BoundsWhatSparseFilesExpandTo) {
  const std::string sparse = old_gnu({}, 60, "");
  const ReaderLimits limits{.sparse_expanded = 120};
  EXPECT_TRUE(list(sparse + sparse + end(), SIZE_MAX, limits));
  const auto error = failure(sparse + sparse + old_gnu({}, 1, "") + end(), limits);
  EXPECT_EQ(error.code(), Errc::kInvalid);
  EXPECT_THAT(error.message(), HasSubstr("120"));
  EXPECT_EQ(failure(sparse_10("0\n", "9223372036854775807", "") + end()).code(), Errc::kInvalid);
}

TEST(TarReader, RefusesAnAttributeWithoutAName) {
  EXPECT_EQ(failure(pax(record("SCHILY.xattr.", "v")) + Block("f").str() + end()).code(),
            Errc::kInvalid);
}

}  // namespace
}  // namespace imsy::oci::tar
