// Any bytes as an OCI archive and as a docker archive: no crash, bounded memory, and whatever is
// given out as a blob has the digest it was asked for by.
#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "common/io.h"
#include "oci/docker_archive.h"
#include "oci/oci_archive.h"

namespace imsy::oci {
namespace {

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "archive_fuzz: %s\n", what);
  std::abort();
}

// Reads the configuration and all layers of the only image, if there is one.
void read_image(ImageSource& source) {
  const auto document = source.get_manifest("");
  if (!document) return;
  require(sha256(document->bytes) == document->digest, "a manifest with another digest");
  const auto manifest = parse_manifest(*document);
  if (!manifest) return;
  auto blobs = manifest->layers;
  blobs.push_back(manifest->config);
  for (const Descriptor& blob : blobs) {
    const auto read = source.get_blob(blob, kDocumentLimit);
    require(!read || sha256(*read) == blob.digest, "a blob with another digest");
  }
}

}  // namespace
}  // namespace imsy::oci

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const imsy::UniqueFd file(::memfd_create("archive", MFD_CLOEXEC));
  const auto bytes = std::as_bytes(std::span(data, size));
  if (!imsy::pwrite_all(file.get(), bytes, 0)) return 0;
  const std::string path = "/proc/self/fd/" + std::to_string(file.get());
  for (const auto open : {&imsy::oci::open_oci_archive, &imsy::oci::open_docker_archive}) {
    if (const auto source = open(path, "/tmp")) imsy::oci::read_image(**source);
  }
  return 0;
}
