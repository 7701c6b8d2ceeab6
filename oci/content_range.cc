#include "oci/content_range.h"

#include <charconv>
#include <system_error>

namespace imsy::oci {

std::string ContentRange::to_range_header() const {
  return "bytes=" + std::to_string(offset) + "-" + std::to_string(offset + length - 1);
}

std::string ContentRange::to_content_range() const {
  return "bytes " + std::to_string(offset) + "-" + std::to_string(offset + length - 1) + "/" +
         std::to_string(total);
}

Status check_range(const HttpResponse& response, const ContentRange& wanted,
                   const std::string& what) {
  const std::string encoding = response.header("content-encoding");
  if (!encoding.empty() && encoding != "identity") {
    return Error(Errc::kInvalid, what + ": the registry encoded a range, which was not asked for");
  }
  // What it announces can be refused now; what it sends without a word is cut off.
  const std::string announced = response.header("content-length");
  std::uint64_t length = 0;
  const std::errc bad =
      std::from_chars(announced.data(), announced.data() + announced.size(), length).ec;
  if (bad == std::errc::result_out_of_range || (bad == std::errc() && length > wanted.length)) {
    return Error(Errc::kInvalid,
                 what + ": the registry announces more bytes than it was asked for");
  }
  const bool whole = wanted.offset == 0 && wanted.length == wanted.total;
  if (response.status == 200 && whole) return {};
  if (response.status != 206) {
    return Error(Errc::kInvalid, what + ": the registry does not serve ranges (status " +
                                     std::to_string(response.status) + ")");
  }
  const auto values = response.header_values("content-range");
  if (values.size() != 1 || values.front() != wanted.to_content_range()) {
    return Error(Errc::kInvalid, what + ": asked for \"" + wanted.to_content_range() +
                                     "\", the registry answers with another range");
  }
  return {};
}

}  // namespace imsy::oci
