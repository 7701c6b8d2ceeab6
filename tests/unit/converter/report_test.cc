// What people see of a conversion.
#include "converter/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

namespace imsy::converter {
namespace {

TEST(ReportTest, ShowsTheFirstWarningsToPeople) {
  ConvertReport report;
  ImageReport image;
  image.platform = "linux/amd64";
  image.data_layer.anchor.data_layers.emplace_back();
  image.warnings.whiteout_devices = 3;
  report.images = {image};
  EXPECT_THAT(to_text(report),
              testing::EndsWith("\nwarning: linux/amd64: 3 character devices 0:0 are taken as "
                                "whiteouts\n"));
  report.images.assign(12, image);
  const std::string text = to_text(report);
  EXPECT_THAT(text, testing::EndsWith("\nand 2 more warnings, see --report\n"));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 12 + 10 + 1);
  image.warnings = {};
  report.images = {image};
  EXPECT_THAT(to_text(report), testing::Not(testing::HasSubstr("warning")));
}

TEST(ProgressTest, ShowsNothingBeforeAnImageHasAName) {
  testing::internal::CaptureStderr();
  {
    Progress progress(true);
    progress.add_read(2'000'000);
    EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
    testing::internal::CaptureStderr();
    progress.begin_image("linux/amd64", 3'000'000);
  }
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              testing::HasSubstr("linux/amd64  read 0.0/3.0 MB"));
}

}  // namespace
}  // namespace imsy::converter
