// The server and its callbacks, without a kernel: messages in, replies out.

#include "fuse/server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <fcntl.h>
#include <atomic>
#include <cerrno>
#include <latch>
#include <sstream>
#include <thread>

#include "common/log.h"
#include "tests/unit/fuse/fake_image.h"
#include "tests/unit/fuse/wire.h"

namespace imsy::fuse {
namespace {

using ::testing::ElementsAre;
using testing::FakeImage;
using ::testing::HasSubstr;
using testing::ImageBuilder;
using testing::inode_at;
using ::testing::Not;
using testing::object_at;
using testing::Wire;
using testing::WireReply;

constexpr std::uint64_t kDay = 24 * 60 * 60;
constexpr Slot kServedSlot = 7;

// What was logged while it lives.
class LogCapture {
 public:
  LogCapture() : before_(spdlog::default_logger()) {
    auto sink = std::make_shared<spdlog::sinks::ostream_sink_mt>(text_);
    spdlog::set_default_logger(std::make_shared<spdlog::logger>("test", std::move(sink)));
  }
  ~LogCapture() { spdlog::set_default_logger(before_); }
  std::string text() const { return text_.str(); }
  std::ptrdiff_t lines() const {
    const std::string all = text();
    return std::count(all.begin(), all.end(), '\n');
  }

 private:
  std::shared_ptr<spdlog::logger> before_;
  std::ostringstream text_;
};

class ServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ImageBuilder builder({.mode = 0750});
    const auto bin = builder.directory(ImageBuilder::kRoot, "bin");
    builder.file(bin, "tool", "present content", {.xattrs = {{"user.a", "one"}, {"user.b", ""}}});
    builder.file(bin, "cold", "content that is far away");
    builder.symlink(ImageBuilder::kRoot, "ln", "bin/tool");
    image_ = builder.build();
    cold_ = object_at(*image_, "bin/cold");
    ASSERT_TRUE(fs_.add(kServedSlot, image_));
    wire_ = std::make_unique<Wire>(fs_);
  }

  NodeId at(const std::string& path) const { return node_id(kServedSlot, inode_at(*image_, path)); }
  bool answered(std::uint64_t unique) const { return !wire_->replies(unique).empty(); }

  LogCapture log_;
  ImageFs fs_;
  std::shared_ptr<FakeImage> image_;
  std::uint32_t cold_ = 0;
  std::unique_ptr<Wire> wire_;
};

TEST_F(ServerTest, NegotiatesAlwaysTheSame) {
  const auto init = wire_->reply(wire_->init_unique()).as<fuse_init_out>();
  EXPECT_EQ(init.major, static_cast<unsigned>(FUSE_KERNEL_VERSION));
  // The last three are libfuse's own. It passes parallel lookups on from 3.14.1 only.
  const std::uint32_t expected = FUSE_ASYNC_READ | FUSE_DO_READDIRPLUS | FUSE_CACHE_SYMLINKS |
                                 FUSE_POSIX_ACL | FUSE_BIG_WRITES | FUSE_MAX_PAGES | FUSE_INIT_EXT;
  EXPECT_EQ(init.flags & ~FUSE_PARALLEL_DIROPS, expected);
  EXPECT_EQ(init.flags2, 0u);
  EXPECT_EQ(init.max_readahead, 128u << 10);
  EXPECT_EQ(init.max_background, 4096u);
  EXPECT_EQ(init.congestion_threshold, 256u);
  EXPECT_EQ(init.max_pages, 256u) << "reads of 1 MiB";
  EXPECT_EQ(init.time_gran, 1u);
}

TEST_F(ServerTest, LookupInAnImageIsRememberedForADay) {
  const auto entry = wire_->reply(wire_->lookup(at("bin"), "tool")).as<fuse_entry_out>();
  EXPECT_EQ(entry.nodeid, at("bin/tool"));
  EXPECT_EQ(entry.attr.ino, at("bin/tool"));
  EXPECT_EQ(entry.attr.size, 15u);
  EXPECT_EQ(entry.entry_valid, kDay);
  EXPECT_EQ(entry.attr_valid, kDay);
}

TEST_F(ServerTest, AbsentNamesInAnImageAreRememberedForADay) {
  const WireReply reply = wire_->reply(wire_->lookup(at("bin"), "absent"));
  EXPECT_EQ(reply.error, 0);
  EXPECT_EQ(reply.as<fuse_entry_out>().nodeid, 0u);
  EXPECT_EQ(reply.as<fuse_entry_out>().entry_valid, kDay);
}

TEST_F(ServerTest, NamesInTheRootAreNotRemembered) {
  const auto entry = wire_->reply(wire_->lookup(kRootId, "7")).as<fuse_entry_out>();
  EXPECT_EQ(entry.nodeid, node_id(kServedSlot, 0));
  EXPECT_EQ(entry.entry_valid, 0u);
  EXPECT_EQ(entry.attr_valid, kDay);
  EXPECT_EQ(wire_->reply(wire_->lookup(kRootId, "8")).error, ENOENT);
  EXPECT_EQ(wire_->reply(wire_->lookup(kRootId, "bin")).error, ENOENT);
}

TEST_F(ServerTest, NothingIsRememberedOfAnImageThatIsGone) {
  fs_.remove(kServedSlot);
  EXPECT_EQ(wire_->reply(wire_->lookup(at("bin"), "tool")).error, ENOENT);
}

TEST_F(ServerTest, RefusesNamesThatNoFileCanHave) {
  EXPECT_EQ(wire_->reply(wire_->lookup(at("bin"), std::string(256, 'n'))).error, ENAMETOOLONG);
  EXPECT_EQ(wire_->reply(wire_->lookup(at("bin"), std::string(255, 'n'))).error, 0);
  EXPECT_EQ(wire_->reply(wire_->lookup(at("bin/tool"), "x")).error, EINVAL);
}

TEST_F(ServerTest, AttributesAreRememberedExceptTheRoots) {
  const auto file = wire_->reply(wire_->send(FUSE_GETATTR, at("bin/tool"), fuse_getattr_in{}))
                        .as<fuse_attr_out>();
  EXPECT_EQ(file.attr.ino, at("bin/tool"));
  EXPECT_EQ(file.attr.blksize, 4096u);
  EXPECT_EQ(file.attr_valid, kDay);
  const auto root =
      wire_->reply(wire_->send(FUSE_GETATTR, kRootId, fuse_getattr_in{})).as<fuse_attr_out>();
  EXPECT_EQ(root.attr.nlink, 3u);
  EXPECT_EQ(root.attr_valid, 0u);
  EXPECT_EQ(wire_->reply(wire_->send(FUSE_GETATTR, node_id(8, 0), fuse_getattr_in{})).error,
            ENOENT);
}

TEST_F(ServerTest, ReadsLinks) {
  EXPECT_EQ(wire_->reply(wire_->send(FUSE_READLINK, at("ln"), ByteSpan())).text(), "bin/tool");
  EXPECT_EQ(wire_->reply(wire_->send(FUSE_READLINK, at("bin"), ByteSpan())).error, EINVAL);
}

TEST_F(ServerTest, FilesNeedNoOpeningAndCannotBeOpenedForWriting) {
  const auto open = [&](int flags) {
    fuse_open_in body{};
    body.flags = static_cast<std::uint32_t>(flags);
    return wire_->reply(wire_->send(FUSE_OPEN, at("bin/tool"), body)).error;
  };
  EXPECT_EQ(open(O_RDONLY), ENOSYS);
  EXPECT_EQ(open(O_WRONLY), EROFS);
  EXPECT_EQ(open(O_RDWR), EROFS);
  EXPECT_EQ(open(O_RDONLY | O_TRUNC), EROFS);
}

TEST_F(ServerTest, DirectoriesAreCachedExceptTheRoot) {
  const auto flags = [&](NodeId node) {
    return wire_->reply(wire_->send(FUSE_OPENDIR, node, fuse_open_in{})).as<fuse_open_out>();
  };
  EXPECT_EQ(flags(at("bin")).open_flags, static_cast<unsigned>(FOPEN_CACHE_DIR | FOPEN_KEEP_CACHE));
  EXPECT_EQ(flags(kRootId).open_flags, 0u);
  EXPECT_EQ(flags(at("bin")).fh, 0u) << "handles carry no state";
}

// The entries of a reply to READDIR or READDIRPLUS, as "name" or "name=node".
std::vector<std::string> parse_entries(const WireReply& reply, bool plus, std::uint64_t* next) {
  std::vector<std::string> list;
  const std::size_t head = plus ? sizeof(fuse_entry_out) : 0;
  for (std::size_t at = 0; at < reply.payload.size();) {
    const auto dirent = reply.as<fuse_dirent>(at + head);
    std::string text = reply.text().substr(at + head + FUSE_NAME_OFFSET, dirent.namelen);
    if (plus) text += "=" + std::to_string(reply.as<fuse_entry_out>(at).nodeid & 0xffffffff);
    list.push_back(text);
    *next = dirent.off;
    at += FUSE_DIRENT_ALIGN(head + FUSE_NAME_OFFSET + dirent.namelen);
  }
  return list;
}

TEST_F(ServerTest, ListsDirectories) {
  std::uint64_t next = 0;
  const WireReply reply = wire_->reply(wire_->read_directory(FUSE_READDIR, at("bin"), 0, 4096));
  EXPECT_THAT(parse_entries(reply, false, &next), ElementsAre(".", "..", "cold", "tool"));
  EXPECT_EQ(reply.as<fuse_dirent>().ino, at("bin"));
  EXPECT_EQ(reply.as<fuse_dirent>().type, static_cast<unsigned>(S_IFDIR >> 12));
  EXPECT_EQ(wire_->reply(wire_->read_directory(FUSE_READDIR, at("bin"), next, 4096)).payload.size(),
            0u);
  EXPECT_EQ(wire_->reply(wire_->read_directory(FUSE_READDIR, at("ln"), 0, 4096)).error, EINVAL);
}

TEST_F(ServerTest, ListsDirectoriesWithAttributes) {
  std::uint64_t next = 0;
  const WireReply reply = wire_->reply(wire_->read_directory(FUSE_READDIRPLUS, at(""), 0, 4096));
  const auto number = [&](const char* path) {
    return "=" + std::to_string(inode_at(*image_, path) + 1);
  };
  EXPECT_THAT(parse_entries(reply, true, &next),
              ElementsAre(".=0", "..=0", "bin" + number("bin"), "ln" + number("ln")));
  const std::size_t dots = FUSE_DIRENT_ALIGN(sizeof(fuse_entry_out) + FUSE_NAME_OFFSET + 1) +
                           FUSE_DIRENT_ALIGN(sizeof(fuse_entry_out) + FUSE_NAME_OFFSET + 2);
  const auto bin = reply.as<fuse_entry_out>(dots);
  EXPECT_EQ(bin.attr.mode, S_IFDIR | 0755u);
  EXPECT_EQ(bin.entry_valid, kDay);
  EXPECT_EQ(bin.attr_valid, kDay);
}

TEST_F(ServerTest, EntriesOfTheRootAreNotRemembered) {
  const WireReply reply = wire_->reply(wire_->read_directory(FUSE_READDIRPLUS, kRootId, 2, 4096));
  EXPECT_EQ(reply.as<fuse_entry_out>().nodeid, node_id(kServedSlot, 0));
  EXPECT_EQ(reply.as<fuse_entry_out>().entry_valid, 0u);
}

TEST_F(ServerTest, ListsThroughSmallBuffers) {
  for (const bool plus : {false, true}) {
    std::vector<std::string> all;
    std::uint64_t next = 0;
    for (;;) {
      const WireReply reply = wire_->reply(
          wire_->read_directory(plus ? FUSE_READDIRPLUS : FUSE_READDIR, at("bin"), next, 170));
      ASSERT_EQ(reply.error, 0);
      ASSERT_LE(reply.payload.size(), 170u);
      const auto some = parse_entries(reply, plus, &next);
      if (some.empty()) break;
      all.insert(all.end(), some.begin(), some.end());
    }
    EXPECT_EQ(all.size(), 4u) << "plus=" << plus;
  }
}

TEST_F(ServerTest, XattrsFollowTheSizeProtocol) {
  const auto get = [&](const std::string& name, std::uint32_t room) {
    return wire_->reply(wire_->get_xattr(at("bin/tool"), name, room));
  };
  EXPECT_EQ(get("user.a", 0).as<fuse_getxattr_out>().size, 3u);
  EXPECT_EQ(get("user.a", 3).text(), "one");
  EXPECT_EQ(get("user.a", 100).text(), "one");
  EXPECT_EQ(get("user.a", 2).error, ERANGE);
  EXPECT_EQ(get("user.b", 0).as<fuse_getxattr_out>().size, 0u);
  EXPECT_EQ(get("user.b", 1).text(), "");
  EXPECT_EQ(get("user.c", 100).error, ENODATA);
  EXPECT_EQ(get("trusted.overlay.opaque", 100).error, ENODATA);
  const auto list = [&](std::uint32_t room) {
    fuse_getxattr_in body{};
    body.size = room;
    return wire_->reply(wire_->send(FUSE_LISTXATTR, at("bin/tool"), body));
  };
  EXPECT_EQ(list(0).as<fuse_getxattr_out>().size, 14u);
  EXPECT_EQ(list(14).text(), std::string("user.a\0user.b\0", 14));
  EXPECT_EQ(list(13).error, ERANGE);
}

TEST_F(ServerTest, FileSystemNumbersAreThoseOfTheImages) {
  const auto numbers =
      wire_->reply(wire_->send(FUSE_STATFS, kRootId, ByteSpan())).as<fuse_statfs_out>();
  EXPECT_EQ(numbers.st.bsize, 4096u);
  EXPECT_EQ(numbers.st.blocks, 1u);
  EXPECT_EQ(numbers.st.bfree, 0u);
  EXPECT_EQ(numbers.st.files, 1u + image_->manifest()->tree().inode_count());
  EXPECT_EQ(numbers.st.namelen, 255u);
}

TEST_F(ServerTest, ForgettingNeedsNoAnswerAndTheRestIsNotThere) {
  EXPECT_FALSE(answered(wire_->send(FUSE_FORGET, at("bin"), fuse_forget_in{})));
  for (const std::uint32_t opcode : {FUSE_SETATTR, FUSE_MKDIR, FUSE_UNLINK, FUSE_WRITE, FUSE_FLUSH,
                                     FUSE_CREATE, FUSE_LSEEK, FUSE_SETXATTR, FUSE_ACCESS}) {
    const Bytes body(256);
    EXPECT_EQ(wire_->reply(wire_->send(opcode, at("bin"), ByteSpan(body))).error, ENOSYS) << opcode;
  }
}

TEST_F(ServerTest, ReadsPresentContentAtOnce) {
  EXPECT_EQ(wire_->reply(wire_->read(at("bin/tool"), 0, 4096)).text(), "present content");
  EXPECT_EQ(wire_->reply(wire_->read(at("bin/tool"), 8, 3)).text(), "con");
  EXPECT_EQ(wire_->reply(wire_->read(at("bin/tool"), 100, 3)).text(), "");
  EXPECT_EQ(wire_->reply(wire_->read(at("bin"), 0, 3)).error, EINVAL);
  const SessionStats stats = wire_->server().stats();
  EXPECT_EQ(stats.reads, 3u);
  EXPECT_EQ(stats.read_bytes, 18u);
  EXPECT_EQ(stats.waiting_reads, 0u);
  EXPECT_EQ(stats.eio, 0u);
}

TEST_F(ServerTest, CountsRequests) {
  const auto before = wire_->server().stats().requests;
  wire_->lookup(at("bin"), "tool");
  wire_->read(at("bin/tool"), 0, 1);
  EXPECT_EQ(wire_->server().stats().requests, before + 2);
}

TEST_F(ServerTest, AColdReadIsAnsweredWhenItsContentComes) {
  image_->hold(cold_);
  const auto cold = wire_->read(at("bin/cold"), 0, 7);
  EXPECT_FALSE(answered(cold));
  EXPECT_EQ(wire_->server().stats().waiting_reads, 1u);
  EXPECT_EQ(wire_->reply(wire_->read(at("bin/tool"), 0, 7)).text(), "present")
      << "present content does not queue behind it";
  image_->let_go(cold_);
  EXPECT_EQ(wire_->reply(cold).text(), "content");
  EXPECT_EQ(wire_->server().stats().waiting_reads, 0u);
}

TEST_F(ServerTest, AnInterruptAnswersAtOnce) {
  image_->hold(cold_);
  const auto cold = wire_->read(at("bin/cold"), 0, 7);
  wire_->interrupt(cold);
  EXPECT_EQ(wire_->reply(cold).error, EINTR);
  EXPECT_EQ(image_->cancels(), 1u);
  EXPECT_EQ(image_->waiting(), 0u);
  EXPECT_EQ(wire_->server().stats().waiting_reads, 0u);
  EXPECT_EQ(wire_->server().stats().eio, 0u);
}

TEST_F(ServerTest, AnInterruptDoesNotWaitForTheFetcherToGiveUp) {
  image_->ignore_cancel();
  image_->hold(cold_);
  const auto cold = wire_->read(at("bin/cold"), 0, 7);
  wire_->interrupt(cold);
  EXPECT_EQ(wire_->reply(cold).error, EINTR);
  image_->let_go(cold_);
  EXPECT_EQ(wire_->replies(cold).size(), 1u) << "the late answer finds nothing to do";
}

TEST_F(ServerTest, AnInterruptMayOvertakeItsRead) {
  image_->hold(cold_);
  const auto cold = wire_->reserve();
  wire_->interrupt(cold);
  wire_->read_as(cold, at("bin/cold"), 0, 7);
  EXPECT_EQ(wire_->reply(cold).error, EINTR);
  EXPECT_EQ(image_->waiting(), 0u) << "nothing was asked of the fetcher";
  EXPECT_EQ(wire_->server().stats().waiting_reads, 0u);
}

TEST_F(ServerTest, AnInterruptAfterTheAnswerChangesNothing) {
  const auto read = wire_->read(at("bin/tool"), 0, 7);
  wire_->interrupt(read);
  wire_->lookup(at("bin"), "tool");
  EXPECT_EQ(wire_->replies(read).size(), 1u);
  EXPECT_EQ(image_->cancels(), 0u);
}

TEST_F(ServerTest, InterruptsLeaveOtherReadsAlone) {
  image_->hold(cold_);
  const auto first = wire_->read(at("bin/cold"), 0, 7);
  const auto second = wire_->read(at("bin/cold"), 0, 7);
  wire_->interrupt(first);
  image_->let_go(cold_);
  EXPECT_EQ(wire_->reply(first).error, EINTR);
  EXPECT_EQ(wire_->reply(second).text(), "content");
}

TEST_F(ServerTest, FailuresAreCountedAndLoggedWithFileAndReason) {
  image_->fail(cold_, Error(Errc::kCorrupt, "chunk 3 is\nnot what it claims"));
  EXPECT_EQ(wire_->reply(wire_->read(at("bin/cold"), 4, 3)).error, EIO);
  EXPECT_EQ(wire_->server().stats().eio, 1u);
  EXPECT_EQ(wire_->server().stats().reads, 0u);
  EXPECT_EQ(log_.lines(), 1);
  for (const std::string& part :
       {std::string("file=/bin/cold"), image_->manifest()->digest().to_string(),
        image_->manifest()->objects().id(cold_).hex(), std::string("read at 4"),
        std::string("corrupt"), std::string("chunk 3 is\\x0anot what it claims")}) {
    EXPECT_THAT(log_.text(), HasSubstr(part));
  }
}

TEST_F(ServerTest, ContentThatDoesNotComeIsAlwaysAnInputOutputError) {
  // A blob that is gone, an answer that is nonsense, a fetcher that ends: no fault of the
  // program's.
  for (const Errc code : {Errc::kNotFound, Errc::kInvalid, Errc::kAlreadyExists,
                          Errc::kFailedPrecondition, Errc::kCancelled}) {
    const std::string reason = "reason " + std::to_string(static_cast<int>(code));
    image_->fail(cold_, Error(code, reason));
    EXPECT_EQ(wire_->reply(wire_->read(at("bin/cold"), 0, 7)).error, EIO) << to_string(code);
    EXPECT_THAT(log_.text(), HasSubstr(std::string(to_string(code)) + ": " + reason));
  }
  EXPECT_EQ(wire_->server().stats().eio, 5u);
  EXPECT_EQ(log_.lines(), 5);
}

TEST_F(ServerTest, AReadThatFailedMaySucceedLater) {
  image_->fail(cold_, Error(Errc::kTimeout, "registry"));
  EXPECT_EQ(wire_->reply(wire_->read(at("bin/cold"), 0, 7)).error, EIO);
  image_->fail(cold_, std::nullopt);
  EXPECT_EQ(wire_->reply(wire_->read(at("bin/cold"), 0, 7)).text(), "content");
}

TEST_F(ServerTest, ALongOutageDoesNotFloodTheLog) {
  image_->fail(cold_, Error(Errc::kUnavailable, "registry"));
  for (int i = 0; i < 1000; ++i) {
    ASSERT_EQ(wire_->reply(wire_->read(at("bin/cold"), 0, 7)).error, EIO);
  }
  EXPECT_EQ(wire_->server().stats().eio, 1000u);
  EXPECT_GE(log_.lines(), 20);
  EXPECT_LT(log_.lines(), 500);
}

TEST_F(ServerTest, MissesAreNoErrorsToLog) {
  wire_->lookup(at("bin"), "absent");
  wire_->get_xattr(at("bin"), "user.c", 0);
  wire_->send(FUSE_GETATTR, node_id(8, 0), fuse_getattr_in{});
  EXPECT_EQ(wire_->server().stats().eio, 0u);
  EXPECT_THAT(log_.text(), Not(HasSubstr("EIO")));
}

TEST_F(ServerTest, ClosingAnswersWhatWaits) {
  image_->ignore_cancel();
  image_->hold(cold_);
  const auto first = wire_->read(at("bin/cold"), 0, 7);
  const auto second = wire_->read(at("bin/cold"), 2, 7);
  wire_->server().close();
  EXPECT_EQ(wire_->reply(first).error, EIO);
  EXPECT_EQ(wire_->reply(second).error, EIO);
  EXPECT_EQ(image_->cancels(), 2u);
  wire_.reset();
  image_->let_go(cold_);  // finds neither server nor session
}

// An image whose fetcher runs out of memory.
class ThrowingImage final : public cas::Image {
 public:
  explicit ThrowingImage(std::shared_ptr<const cdc::Manifest> manifest)
      : manifest_(std::move(manifest)) {}
  const std::shared_ptr<const cdc::Manifest>& manifest() const override { return manifest_; }
  std::uint64_t read(std::uint32_t, std::uint64_t, std::uint32_t, ReadDone) override {
    throw std::bad_alloc();
  }
  void cancel(std::uint64_t) override {}
  void fill(std::function<void(Status)>) override {}
  std::string trust_domain() const override { return {}; }
  void prefetch(std::vector<std::uint32_t>) override {}
  cas::FetchStats stats() const override { return {}; }

 private:
  std::shared_ptr<const cdc::Manifest> manifest_;
};

TEST_F(ServerTest, AnExceptionIsAnsweredWithEio) {
  ASSERT_TRUE(fs_.add(8, std::make_shared<ThrowingImage>(image_->manifest())));
  EXPECT_EQ(wire_->reply(wire_->read(node_id(8, inode_at(*image_, "bin/cold")), 0, 7)).error, EIO);
  EXPECT_EQ(wire_->server().stats().eio, 1u);
  EXPECT_EQ(wire_->server().stats().waiting_reads, 0u);
}

// Reads, answers, failures, interrupts and the end all at once: one reply each, whoever is first.
TEST_F(ServerTest, EveryReadIsAnsweredOnceUnderARace) {
  constexpr int kReaders = 3;
  constexpr int kRounds = 400;
  image_->hold(cold_);
  std::vector<std::vector<std::uint64_t>> sent(kReaders);
  std::latch ready(kReaders + 1);
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int reader = 0; reader < kReaders; ++reader) {
    threads.emplace_back([&, reader] {
      ready.arrive_and_wait();
      for (int i = 0; i < kRounds; ++i) {
        const auto unique = wire_->reserve();
        sent[reader].push_back(unique);
        const bool early = i % 7 == 0;
        if (early) wire_->interrupt(unique);
        wire_->read_as(unique, at("bin/cold"), 0, 7);
        if (!early && i % 2 == reader % 2) wire_->interrupt(unique);
      }
    });
  }
  std::thread fetcher([&] {
    ready.arrive_and_wait();
    while (!stop) {
      image_->let_go(cold_);
      image_->hold(cold_);
      image_->fail_waiting(cold_, Error(Errc::kTimeout, "deadline"));
      image_->hold(cold_);
    }
  });
  for (auto& thread : threads) thread.join();
  stop = true;
  fetcher.join();
  wire_->server().close();
  EXPECT_EQ(wire_->server().stats().waiting_reads, 0u);
  for (const auto& list : sent) {
    for (const std::uint64_t unique : list) {
      const auto replies = wire_->replies(unique);
      ASSERT_EQ(replies.size(), 1u) << unique;
      const int error = replies[0].error;
      EXPECT_TRUE(error == EINTR || error == EIO || replies[0].text() == "content") << error;
    }
  }
}

// Answers that arrive while the session closes.
TEST_F(ServerTest, ClosingRacesWithAnswers) {
  for (int round = 0; round < 50; ++round) {
    image_->hold(cold_);
    std::vector<std::uint64_t> sent;
    for (int i = 0; i < 8; ++i) sent.push_back(wire_->read(at("bin/cold"), 0, 7));
    std::latch ready(2);
    std::thread fetcher([&] {
      ready.arrive_and_wait();
      image_->let_go(cold_);
    });
    ready.arrive_and_wait();
    wire_->server().close();
    EXPECT_EQ(wire_->server().stats().waiting_reads, 0u);
    for (const auto unique : sent) EXPECT_EQ(wire_->replies(unique).size(), 1u);
    wire_.reset();
    fetcher.join();
    wire_ = std::make_unique<Wire>(fs_);
  }
}

}  // namespace
}  // namespace imsy::fuse
