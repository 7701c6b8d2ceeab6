// Converts an image in an OCI layout into another tag of the same layout:
//
//   convert_layout DIR TAG NEWTAG
#include <iostream>

#include "converter/convert.h"

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: convert_layout DIR TAG NEWTAG\n";
    return 2;
  }
  namespace converter = imsy::converter;
  const std::string layout = std::string("oci:") + argv[1] + ":";
  const auto source = converter::Location::parse(layout + argv[2]);
  const auto target = converter::Location::parse(layout + argv[3]);
  if (!source || !target) {
    std::cerr << "the layout's name cannot be parsed\n";
    return 2;
  }
  imsy::oci::HttpClient http;
  converter::ConvertOptions options;
  options.temporary = std::filesystem::temp_directory_path();
  const converter::OpenOptions open{http, false, options.temporary, {}};
  const auto from = converter::open_source(*source, open);
  const auto to = converter::open_target(*target, open);
  if (!from || !to) {
    std::cerr << (from ? to.error() : from.error()).message() << '\n';
    return 1;
  }
  converter::Progress progress(false);
  const auto report = converter::convert(**from, *source, **to, *target, options, progress);
  if (!report) {
    std::cerr << report.error().message() << '\n';
    return 1;
  }
  std::cout << report->digest.to_string() << '\n';
  return 0;
}
