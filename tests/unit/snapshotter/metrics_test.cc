#include "snapshotter/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "snapshotter/calls.h"
#include "snapshotter/health.h"

namespace imsy::snapshotter {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(Metrics, TrafficIsByPlaceAndPurpose) {
  Numbers numbers;
  numbers.version = "1.2.3";
  numbers.stats.traffic["registry.example/a"][oci::Purpose::kDemand] = {3, 4096};
  numbers.stats.traffic["registry.example/a"][oci::Purpose::kLogin] = {1, 100};
  numbers.stats.bytes_gap = 17;
  const std::string text = to_prometheus(numbers, {});
  EXPECT_THAT(text, HasSubstr("# TYPE imsy_fetched_bytes_total counter\n"));
  EXPECT_THAT(text, HasSubstr("imsy_fetched_bytes_total{place=\"registry.example/a\","
                              "purpose=\"demand\"} 4096\n"));
  EXPECT_THAT(text,
              HasSubstr("imsy_requests_total{place=\"registry.example/a\",purpose=\"login\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("imsy_useless_bytes_total{reason=\"gap\"} 17\n"));
  EXPECT_THAT(text, HasSubstr("imsy_build_info{version=\"1.2.3\"} 1\n"));
}

TEST(Metrics, NamesOfPlacesCannotBreakTheFormat) {
  Numbers numbers;
  numbers.stats.traffic["a\"} 1\nforged 2"][oci::Purpose::kDemand] = {1, 1};
  EXPECT_THAT(to_prometheus(numbers, {}), Not(HasSubstr("\nforged")));
}

TEST(Metrics, ImagesAndSnapshotsAreCounted) {
  Numbers numbers;
  numbers.stats.images.resize(3);
  numbers.stats.images[1].resident = true;
  numbers.snapshots[Kind::kActive] = 2;
  numbers.healthy = false;
  const std::string text = to_prometheus(numbers, {});
  EXPECT_THAT(text, HasSubstr("imsy_images{resident=\"true\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("imsy_images{resident=\"false\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("imsy_snapshots{kind=\"active\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("imsy_snapshots{kind=\"view\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("imsy_healthy 0\n"));
}

TEST(Metrics, TheProcessKnowsItself) {
  const auto numbers = read_process_numbers();
  ASSERT_TRUE(numbers) << numbers.error().message();
  EXPECT_GT(numbers->resident_bytes, 1U << 20);
  EXPECT_GE(numbers->threads, 1U);
  EXPECT_GE(numbers->open_files, 3U);
  EXPECT_GT(numbers->open_files_max, numbers->open_files);
  EXPECT_GT(numbers->start_time, 1.6e9);
}

TEST(Calls, AreCountedByMethodAndCode) {
  Calls calls;
  const auto run = [&](const char* method, const Status& outcome) {
    return calls.run({method, "key", "trace"}, [&] { return outcome; });
  };
  EXPECT_TRUE(run("Stat", {}).ok());
  EXPECT_TRUE(run("Stat", {}).ok());
  EXPECT_EQ(run("Stat", Error(Errc::kNotFound, "no")).error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_TRUE(run("Remove", {}).ok());
  const std::string text = to_prometheus({}, calls.metrics());
  EXPECT_THAT(text, HasSubstr("imsy_rpc_ended_total{code=\"OK\",method=\"Stat\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("imsy_rpc_ended_total{code=\"NOT_FOUND\",method=\"Stat\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("imsy_rpc_duration_seconds_count{method=\"Stat\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("imsy_rpc_duration_seconds_count{method=\"Remove\"} 1\n"));
}

TEST(Health, SaysOkOrALineForEach) {
  EXPECT_EQ(Health().to_text(), "ok\n");
  const Health health = {{"disk\nforged: x"}, {"tree"}};
  EXPECT_EQ(health.to_text(), "broken: disk\\x0aforged: x\ndegraded: tree\n");
}

}  // namespace
}  // namespace imsy::snapshotter
