// Places that hold manifests and blobs: those images are read from, those they are written to, and
// repositories, which are both: a registry's repository, or an OCI layout.
//
// The converter reads from an ImageSource and writes to an ImageTarget and does not know which
// kind. Threads: all methods of a Repository from any thread. A source that is none belongs to one
// thread, but for open_blob(), which several may call at once while nothing else is called; a
// target that is none belongs to one thread. All methods may wait for disk or network.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/stream.h"
#include "oci/descriptor.h"

namespace imsy::oci {

class Repository;

// How a blob that was to be stored came to be there.
enum class Arrival : std::uint8_t {
  kWasThere,
  kMounted,  // the registry took it over from another of its repositories
  kSent,
  kElsewhere,  // it is kept by neither place: see is_foreign_layer()
};

// A blob being written. Nothing is visible before commit(); destroying it instead drops the data.
// write() and commit() answer kFailedPrecondition when the place has lost what was written so far:
// who can make the bytes again begins anew with another writer.
class BlobWriter : public ByteWriter {
 public:
  // Publishes the blob under the digest of all that was written. `digest` is what the caller
  // computed; a place that finds another one answers kCorrupt.
  virtual Result<Arrival> commit(const Digest& digest) = 0;
};

// A place that images are read from.
class ImageSource {
 public:
  virtual ~ImageSource() = default;

  // How this place is called in messages: "127.0.0.1:5000/web" or "oci:/tmp/web".
  virtual std::string name() const = 0;

  // The manifest or index that `object` names: a tag or a digest, or "" for the only image of a
  // place that may hold just one. Its bytes are hashed: a digest asked for is the digest returned.
  // kNotFound when there is none; kInvalid when "" is ambiguous.
  virtual Result<Document> get_manifest(const std::string& object) = 0;

  // The blob as a stream that ends with an error unless exactly descriptor.size bytes with
  // descriptor.digest came: read it to its end before trusting a byte. kNotFound: not here.
  virtual Result<std::unique_ptr<ByteReader>> open_blob(const Descriptor& descriptor) = 0;

  // Bytes [offset, offset+length) of the blob, which must lie inside it, without getting the rest.
  // Unverified: the caller has the digests. kInvalid: this place cannot, or does not answer right.
  virtual Result<Bytes> read_part(const Descriptor& blob, std::uint64_t offset,
                                  std::uint64_t length);

  // The repository that this is of the registry at `origin` ("https://registry.example"); "" when
  // it is none, or lies elsewhere.
  virtual std::string repository_at(std::string_view /*origin*/) const { return {}; }

  // A whole small blob, verified. kInvalid when larger than `limit`.
  Result<std::string> get_blob(const Descriptor& descriptor, std::uint64_t limit);
};

// A place that images are written to.
class ImageTarget {
 public:
  virtual ~ImageTarget() = default;

  virtual std::string name() const = 0;

  virtual Result<std::unique_ptr<BlobWriter>> create_blob() = 0;
  // A whole small blob; nothing is sent when it is there already.
  virtual Result<Arrival> put_blob(ByteSpan data, const Digest& digest) = 0;
  // A blob of `from`; nothing is read when it is there already. kNotFound: `from` has no such blob.
  virtual Result<Arrival> copy_blob(ImageSource& from, const Descriptor& blob);
  // From how many threads at once put_blob() and copy_blob() are best called.
  virtual unsigned parallel_writes() const { return 1; }

  // Writes a manifest or index; with a tag, the tag then names it. All it refers to must be there.
  virtual Status put_manifest(const Document& document, const std::string& tag) = 0;

  // Whether manifests that nothing but their subject leads to have a place here. Programs that read
  // an archive take it for one image, and refuse it when it lists more.
  virtual bool keeps_referrers() const { return false; }
  // Where they have (else kFailedPrecondition): makes `referrer` (whose manifest has been put and
  // names `subject`) discoverable from `subject`: registries with the referrers API do that by
  // themselves; else the tag "sha256-<hex>" names an index of referrers (distribution-spec v1.1,
  // "Referrers Tag Schema").
  virtual Status add_referrer(const Digest& subject, const Descriptor& referrer);

  // Whether only one image can be here, and not an index of several.
  virtual bool holds_one_image() const { return false; }

  // What is here already can be asked for; nullptr where nothing can be.
  virtual Repository* repository() { return nullptr; }

  // Called once, when all is written; `images` are the manifests of the images that were made, not
  // those of artifacts or of what was carried along. A place that shows everything at once does
  // nothing; another shows it all now or, when this was not called, nothing.
  virtual Status finish(const std::vector<Digest>& /*images*/) { return {}; }
};

class Repository : public ImageSource, public ImageTarget {
 public:
  std::string name() const override = 0;
  Repository* repository() final { return this; }

  bool keeps_referrers() const final { return true; }
  Status add_referrer(const Digest& subject, const Descriptor& referrer) override = 0;

  virtual Result<bool> has_blob(const Digest& digest, std::uint64_t size) = 0;
  // The referrers of `subject`, by API or by tag; empty when there are none.
  virtual Result<std::vector<Descriptor>> get_referrers(const Digest& subject) = 0;
};

// All that `reader` gives, committed under `digest`.
Result<Arrival> write_blob(ByteReader& reader, BlobWriter& writer, const Digest& digest);

// Names for a message: at most the first ten, control characters escaped.
std::string list_names(const std::vector<std::string>& names);

}  // namespace imsy::oci
