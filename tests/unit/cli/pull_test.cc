#include "cli/seed/pull.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <map>

#include "cli/seed/list.h"
#include "tests/support/fake_registry.h"
#include "tests/unit/cli/support.h"

namespace imsy::cli {
namespace {

using test::FakeRegistry;
using test::FakeRequest;
using test::FakeResponse;
using ::testing::HasSubstr;

const std::string kRandomList = "656e9a608f543fc917d682577452566d2448360b9a32f40da6f1c4abe1115163";

Ran pull_from(const std::string& url, const TempDir& temp, const std::string& list,
              const std::stop_token& stop = {}) {
  return run_imsy({"-dir", temp / "cas", "-addr", url, "-o", temp / "out", "pull", list}, "", stop);
}

void expect_only_good_objects(const std::filesystem::path& cas) {
  for (const std::string& name : names_in(cas)) {
    EXPECT_EQ(sha256(read_all(cas / name)).hex(), name);
  }
}

TEST(Hits, ArePercentages) {
  EXPECT_EQ(seed::to_string({3, 5}), "hits: 37.50% 62.50%");
  EXPECT_EQ(seed::to_string({0, 7}), "hits: 0.00% 100.00%");
  EXPECT_EQ(seed::to_string({2, 1}), "hits: 66.67% 33.33%");
  EXPECT_EQ(seed::to_string({0, 0}), "hits: 0.00% 0.00%");
}

TEST(Pull, MakesTheFileAgain) {
  TempDir temp;
  ASSERT_EQ(prepare_in(temp / "server", random_text()), kRandomList);
  ServeThread server(temp / "server");
  const Ran ran = pull_from(server.url(), temp, kRandomList);
  EXPECT_EQ(ran.code, kExitDone) << ran.err;
  EXPECT_EQ(ran.out, "");
  EXPECT_THAT(ran.err, HasSubstr("hits: 0.00% 100.00%\n"));
  EXPECT_TRUE(read_all(temp / "out") == random_text());
  EXPECT_EQ(names_in(temp / "cas"), names_in(temp / "server"));
  EXPECT_EQ(server.end(), kExitDone);
  EXPECT_EQ(server.requests(), 12u);
}

TEST(Pull, FetchesOnlyWhatIsMissing) {
  TempDir temp;
  prepare_in(temp / "server", random_text());
  // The last megabyte is new here, and with it the last two chunks.
  prepare_in(temp / "cas", random_text().substr(0, 7 << 20));
  ServeThread server(temp / "server");
  const Ran ran = pull_from(server.url(), temp, kRandomList);
  EXPECT_EQ(ran.code, kExitDone) << ran.err;
  EXPECT_THAT(ran.err, HasSubstr("hits: 75.00% 25.00%\n"));
  EXPECT_TRUE(read_all(temp / "out") == random_text());
  server.end();
  EXPECT_EQ(server.requests(), 3u) << server.log();
}

TEST(Pull, FetchesARepeatedChunkOnce) {
  TempDir temp;
  const std::string text(4 << 20, '\0');
  const std::string list = prepare_in(temp / "server", text);
  ServeThread server(temp / "server");
  const Ran ran = pull_from(server.url(), temp, list);
  EXPECT_EQ(ran.code, kExitDone) << ran.err;
  EXPECT_THAT(ran.err, HasSubstr("hits: 96.92% 3.08%\n"));  // 63 and 2 of 65
  EXPECT_TRUE(read_all(temp / "out") == text);
  server.end();
  EXPECT_EQ(server.requests(), 2u);
}

TEST(Pull, NeedsNoServerForWhatIsHere) {
  TempDir temp;
  prepare_in(temp / "cas", random_text());
  const Ran ran = pull_from("http://127.0.0.1:1", temp, kRandomList);
  EXPECT_EQ(ran.code, kExitDone) << ran.err;
  EXPECT_THAT(ran.err, HasSubstr("hits: 100.00% 0.00%\n"));
  EXPECT_TRUE(read_all(temp / "out") == random_text());
}

TEST(Pull, MakesAnEmptyFile) {
  TempDir temp;
  const std::string list = prepare_in(temp / "server", "");
  ServeThread server(temp / "server");
  EXPECT_EQ(pull_from(server.url() + "/", temp, list).code, kExitDone);
  EXPECT_EQ(read_all(temp / "out"), "");
  EXPECT_TRUE(std::filesystem::exists(temp / "out"));
}

TEST(Pull, RepairsDamagedLocalObjects) {
  TempDir temp;
  prepare_in(temp / "server", "hello\n");
  const std::string list = prepare_in(temp / "cas", "hello\n");
  write_file(temp / "cas" / sha256("hello\n").hex(), "hellO\n");
  write_file(temp / "cas" / list, "");
  ServeThread server(temp / "server");
  const Ran ran = pull_from(server.url(), temp, list);
  EXPECT_EQ(ran.code, kExitDone) << ran.err;
  EXPECT_THAT(ran.err, HasSubstr("fetching again: " + list));
  EXPECT_THAT(ran.err, HasSubstr("fetching again: " + sha256("hello\n").hex()));
  EXPECT_EQ(read_all(temp / "out"), "hello\n");
  expect_only_good_objects(temp / "cas");
}

TEST(Pull, RefusesADamagedChunkOfTheServer) {
  TempDir temp;
  prepare_in(temp / "server", random_text());
  const std::string chunk = sha256(random_text().substr(3 << 20, 350406)).hex();
  std::string bytes = read_all(temp / "server" / chunk);
  bytes[1000] = static_cast<char>(bytes[1000] ^ 1);
  write_file(temp / "server" / chunk, bytes);
  write_file(temp / "out", "before");
  {
    ServeThread server(temp / "server");
    const Ran ran = pull_from(server.url(), temp, kRandomList);
    EXPECT_EQ(ran.code, kExitFailed);
    EXPECT_THAT(ran.err, HasSubstr(chunk));
    EXPECT_THAT(ran.err, HasSubstr("do not match"));
  }
  EXPECT_EQ(read_all(temp / "out"), "before");
  EXPECT_EQ(names_in(temp / ""), (std::set<std::string>{"cas", "out", "server"}));
  EXPECT_EQ(names_in(temp / "cas").count(chunk), 0u);
  expect_only_good_objects(temp / "cas");

  // Once the server's copy is right again, the rest is all that is fetched.
  const std::size_t kept = names_in(temp / "cas").size();
  prepare_in(temp / "server", random_text());
  ServeThread server(temp / "server");
  EXPECT_EQ(pull_from(server.url(), temp, kRandomList).code, kExitDone);
  EXPECT_TRUE(read_all(temp / "out") == random_text());
  server.end();
  EXPECT_EQ(server.requests(), 12 - kept);
}

TEST(Pull, SaysWhatTheServerLacks) {
  TempDir temp;
  const std::string list = prepare_in(temp / "server", "hello\n");
  std::filesystem::remove(temp / "server" / sha256("hello\n").hex());
  ServeThread server(temp / "server");
  const Ran ran = pull_from(server.url(), temp, list);
  EXPECT_EQ(ran.code, kExitFailed);
  EXPECT_THAT(ran.err, HasSubstr(sha256("hello\n").hex() + ": not found"));
  EXPECT_FALSE(std::filesystem::exists(temp / "out"));
}

TEST(Pull, RefusesTheDigestOfAChunk) {
  TempDir temp;
  prepare_in(temp / "cas", "hello\n");
  const Ran ran = pull_from("http://127.0.0.1:1", temp, sha256("hello\n").hex());
  EXPECT_EQ(ran.code, kExitFailed);
  EXPECT_THAT(ran.err, HasSubstr("not a list of chunks"));
  EXPECT_FALSE(std::filesystem::exists(temp / "out"));
}

TEST(Pull, RefusesWhatIsNoDigest) {
  TempDir temp;
  for (const std::string& list :
       {std::string("x"), std::string("../../etc/passwd"), kRandomList.substr(1)}) {
    const Ran ran = pull_from("http://127.0.0.1:1", temp, list);
    EXPECT_EQ(ran.code, kExitFailed);
    EXPECT_THAT(ran.err, HasSubstr("64 lower-case hexadecimal digits"));
  }
}

// Servers that the test makes up. Each keeps objects by their path.
class PullFromFake : public ::testing::Test {
 protected:
  void TearDown() override { server_.clear_faults(); }

  // Adds an object and returns its digest.
  std::string add(const std::string& bytes) {
    const std::string name = sha256(bytes).hex();
    objects_["/" + name] = bytes;
    return name;
  }
  // A list of these chunks, added with them.
  std::string add_list(const std::vector<std::string>& chunks) {
    std::string list;
    for (const std::string& chunk : chunks) list += add(chunk) + "\n";
    return add(list);
  }
  // Serves the objects as the original does: with chunked framing.
  void serve_objects() {
    server_.fault("GET", "/", FakeRegistry::kAlways,
                  [this](const FakeRequest& request, FakeResponse& response) {
                    const auto found = objects_.find(request.path);
                    response = FakeResponse{};
                    response.status = found == objects_.end() ? 404 : 200;
                    response.body = found == objects_.end() ? "not found\n" : found->second;
                    response.framing = FakeResponse::Framing::kChunked;
                  });
  }
  // Answers requests for this object in another way, a number of times.
  void misbehave(const std::string& name, const FakeResponse& response,
                 int times = FakeRegistry::kAlways) {
    server_.fault("GET", "/" + name, times,
                  [response](const FakeRequest&, FakeResponse& changed) { changed = response; });
  }
  Ran pull(const std::string& list, const std::stop_token& stop = {}) {
    return pull_from(server_.endpoint(), temp_, list, stop);
  }
  std::size_t count(const std::string& name) { return server_.count("GET", name); }

  TempDir temp_;
  std::map<std::string, std::string> objects_;
  FakeRegistry server_;
};

TEST_F(PullFromFake, ReadsWhatTheOriginalServes) {
  const std::string list = add_list({"one", "two", "one"});
  serve_objects();
  EXPECT_EQ(pull(list).code, kExitDone);
  EXPECT_EQ(read_all(temp_ / "out"), "onetwoone");
}

TEST_F(PullFromFake, ReadsLargerChunksThanItMakes) {
  const std::string large(seed::kPulledChunkSizeMax, 'x');
  const std::string list = add_list({large});
  serve_objects();
  EXPECT_EQ(pull(list).code, kExitDone);
  EXPECT_TRUE(read_all(temp_ / "out") == large);
}

TEST_F(PullFromFake, ReadsNoEndlessChunk) {
  const std::string list = add_list({"one"});
  FakeResponse endless;
  endless.body = std::string(1 << 20, 'x');
  endless.framing = FakeResponse::Framing::kUntilClose;
  endless.endless = true;
  misbehave(sha256("one").hex(), endless);
  serve_objects();
  EXPECT_EQ(pull(list).code, kExitFailed);
  EXPECT_EQ(names_in(temp_ / "cas"), std::set<std::string>{list});
}

TEST_F(PullFromFake, TriesAgainWhatMayPass) {
  const std::string list = add_list({"one", "two"});
  FakeResponse busy;
  busy.status = 503;
  misbehave(sha256("one").hex(), busy, 2);
  FakeResponse cut;
  cut.body = "two";
  cut.send_at_most = 1;
  cut.end = FakeResponse::End::kReset;
  misbehave(sha256("two").hex(), cut, 1);
  serve_objects();
  const Ran ran = pull(list);
  EXPECT_EQ(ran.code, kExitDone) << ran.err;
  EXPECT_EQ(read_all(temp_ / "out"), "onetwo");
  EXPECT_EQ(count(sha256("one").hex()), 3u);
  EXPECT_EQ(count(sha256("two").hex()), 2u);
}

TEST_F(PullFromFake, GivesUpInTheEnd) {
  const std::string list = add_list({"one"});
  FakeResponse broken;
  broken.status = 500;
  misbehave(sha256("one").hex(), broken);
  serve_objects();
  const Ran ran = pull(list);
  EXPECT_EQ(ran.code, kExitFailed);
  EXPECT_THAT(ran.err, HasSubstr("status 200 expected, got 500"));
  EXPECT_EQ(count(sha256("one").hex()), 4u);
  EXPECT_FALSE(std::filesystem::exists(temp_ / "out"));
}

TEST_F(PullFromFake, DoesNotRepeatWhatWillNotChange) {
  const std::string list = add_list({"one"});
  FakeResponse moved = FakeResponse::redirect("/elsewhere");
  misbehave(sha256("one").hex(), moved);
  serve_objects();
  const Ran ran = pull(list);
  EXPECT_EQ(ran.code, kExitFailed);
  EXPECT_THAT(ran.err, HasSubstr("status 200 expected, got 307"));
  EXPECT_EQ(count(sha256("one").hex()), 1u);
  EXPECT_EQ(count("/elsewhere"), 0u);
}

TEST_F(PullFromFake, RefusesAnEmptyAnswerThatHidesAnError) {
  const std::string list = add_list({"one"});
  misbehave(sha256("one").hex(), FakeResponse{});
  serve_objects();
  const Ran ran = pull(list);
  EXPECT_EQ(ran.code, kExitFailed);
  EXPECT_THAT(ran.err, HasSubstr("0 bytes that do not match"));
}

TEST_F(PullFromFake, RefusesAListThatIsNotTheOneAskedFor) {
  const std::string good = add_list({"one"});
  const std::string other = add_list({"two"});
  objects_["/" + good] = objects_["/" + other];
  serve_objects();
  const Ran ran = pull(good);
  EXPECT_EQ(ran.code, kExitFailed);
  EXPECT_TRUE(names_in(temp_ / "cas").empty());
  EXPECT_EQ(count(sha256("two").hex()), 0u);
}

TEST_F(PullFromFake, HasManyRequestsInFlight) {
  // No answer comes before ten chunks were asked for: one request at a time would never end.
  std::vector<std::string> chunks;
  for (int i = 0; i < 10; ++i) chunks.push_back("chunk " + std::to_string(i));
  const std::string list = add_list(chunks);
  std::mutex mu;
  std::condition_variable all_here;
  int waiting = 0;
  server_.fault("GET", "/", FakeRegistry::kAlways,
                [&](const FakeRequest& request, FakeResponse& response) {
                  response = FakeResponse{};
                  response.body = objects_.at(request.path);
                  if (request.path == "/" + list) return;
                  std::unique_lock lock(mu);
                  ++waiting;
                  all_here.notify_all();
                  all_here.wait(lock, [&] { return waiting == 10; });
                });
  EXPECT_EQ(pull(list).code, kExitDone);
}

TEST_F(PullFromFake, KeepsWhatItHasWhenItIsInterrupted) {
  const std::string list = add_list({"one", "two"});
  std::stop_source stop;
  FakeResponse stalled;
  stalled.body = "two";
  stalled.send_at_most = 1;
  stalled.end = FakeResponse::End::kStall;
  server_.fault("GET", sha256("two").hex(), 1, [&](const FakeRequest&, FakeResponse& response) {
    // The first chunk is stored before the stop is asked for.
    while (names_in(temp_ / "cas").count(sha256("one").hex()) == 0) {
      std::this_thread::yield();
    }
    stop.request_stop();
    response = stalled;
  });
  serve_objects();
  write_file(temp_ / "out", "before");
  const Ran ran = pull(list, stop.get_token());
  EXPECT_EQ(ran.code, kExitFailed);
  EXPECT_THAT(ran.err, HasSubstr("interrupted"));
  EXPECT_EQ(read_all(temp_ / "out"), "before");
  EXPECT_EQ(names_in(temp_ / "cas"), (std::set<std::string>{list, sha256("one").hex()}));

  server_.clear_log();
  EXPECT_EQ(pull(list).code, kExitDone);
  EXPECT_EQ(read_all(temp_ / "out"), "onetwo");
  EXPECT_EQ(server_.log().size(), 1u);
}

TEST_F(PullFromFake, FailsWhenNothingCanBeStored) {
  const std::string list = add_list({"one"});
  serve_objects();
  std::filesystem::create_directories(temp_ / "cas" / sha256("one").hex());
  EXPECT_EQ(pull(list).code, kExitFailed);
  EXPECT_FALSE(std::filesystem::exists(temp_ / "out"));
}

TEST(Pull, SaysWhenNobodyAnswers) {
  TempDir temp;
  int closed_port = 0;
  {
    const FakeRegistry gone;
    closed_port = std::stoi(gone.host().substr(gone.host().find(':') + 1));
  }
  const std::string url = "http://127.0.0.1:" + std::to_string(closed_port);
  const Ran ran = pull_from(url, temp, kRandomList);
  EXPECT_EQ(ran.code, kExitFailed);
  EXPECT_THAT(ran.err, HasSubstr("127.0.0.1:" + std::to_string(closed_port)));
}

}  // namespace
}  // namespace imsy::cli
