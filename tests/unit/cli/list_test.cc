#include "cli/seed/list.h"

#include <gtest/gtest.h>

#include <string>

namespace imsy::cli::seed {
namespace {

const std::string kOne = sha256("one").hex();
const std::string kTwo = sha256("two").hex();

TEST(HashList, IsReadAsItIsWritten) {
  const std::string text = format_list({sha256("one"), sha256("two"), sha256("one")});
  EXPECT_EQ(text, kOne + "\n" + kTwo + "\n" + kOne + "\n");
  const auto chunks = parse_list(as_bytes(text));
  ASSERT_TRUE(chunks);
  EXPECT_EQ(*chunks, (std::vector<Digest>{sha256("one"), sha256("two"), sha256("one")}));
}

TEST(HashList, MayBeEmpty) {
  EXPECT_EQ(format_list({}), "");
  const auto chunks = parse_list({});
  ASSERT_TRUE(chunks);
  EXPECT_TRUE(chunks->empty());
}

TEST(HashList, NamesTheLineThatIsWrong) {
  const std::string upper = "A" + kOne.substr(1);
  for (const std::string& bad : {kTwo,                         // no newline
                                 kTwo.substr(1) + "\n",        // too short
                                 kTwo + "0\n",                 // too long
                                 kTwo + "\r\n",                // another line end
                                 upper + "\n",                 // upper case
                                 std::string(64, 'g') + "\n",  // not hexadecimal
                                 std::string("\n"),            // nothing
                                 std::string(65, '\0')}) {
    const auto chunks = parse_list(as_bytes(kOne + "\n" + bad));
    ASSERT_FALSE(chunks) << bad;
    EXPECT_EQ(chunks.error().code(), Errc::kInvalid);
    EXPECT_NE(chunks.error().message().find("line 2 "), std::string::npos);
  }
}

}  // namespace
}  // namespace imsy::cli::seed
