// Place: where a command's argument says that an image is, opened for reading.
//
// What is read of blobs is shown as progress.
//
// Threads: belongs to one thread. Everything waits for the network or the disk; a stop request ends
//   that with kCancelled.
#pragma once

#include <functional>
#include <memory>
#include <stop_token>
#include <string>

#include "converter/location.h"
#include "converter/progress.h"
#include "converter/source_image.h"

namespace imsy::cli::image {

// What watches over everything that is read. Outlives the places.
struct Watch {
  const std::stop_token& stop;
  converter::Progress& progress;
};

class Place {
 public:
  // `text`: as converter/location.h says. Errors name it.
  static Result<Place> open(const std::string& text, const converter::OpenOptions& options,
                            const Watch& watch);

  // As given, for messages.
  const std::string& text() const { return location_.text; }
  // Outlives this object. Not to be asked for what `text` names: the functions below do that.
  oci::ImageSource& source() const { return *source_; }

  using Visit = std::function<Status(converter::SourceImage image)>;
  // Visits the image that is named, or each one of an index, in order; only that for `platform`
  // unless it is "". kNotFound when there is none. Errors name the platform, where there are
  // several, and the place.
  Status each_image(const std::string& platform, const Visit& visit) const;

  // The image that is named; of an index that for `platform`, which may be "" when it has just one.
  // kInvalid, with the platforms that there are: which one is meant?
  Result<converter::SourceImage> image_for(const std::string& platform) const;

  // What the location names, as it is: a manifest or an index.
  Result<oci::Document> document() const;

 private:
  Place(converter::Location location, std::shared_ptr<oci::ImageSource> source)
      : location_(std::move(location)), source_(std::move(source)) {}
  Result<converter::SourceImage> read(const oci::Descriptor& entry) const;
  Status visit_entries(const oci::Document& index, const std::string& platform,
                       const Visit& visit) const;

  converter::Location location_;
  std::shared_ptr<oci::ImageSource> source_;
};

}  // namespace imsy::cli::image
