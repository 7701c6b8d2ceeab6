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

Status check_announced(const HttpResponse& response, std::uint64_t length,
                       const std::string& what) {
  const std::string text = response.header("content-length");
  std::uint64_t announced = 0;
  const std::errc bad = std::from_chars(text.data(), text.data() + text.size(), announced).ec;
  if (bad == std::errc::result_out_of_range || (bad == std::errc() && announced > length)) {
    return Error(Errc::kInvalid, what + ": the registry announces more bytes than were asked for");
  }
  return {};
}

}  // namespace imsy::oci
