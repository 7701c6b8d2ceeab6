// Docker archives: the files that `docker save` writes.
//
// Source: moby's image/tarexport ("manifest.json": for each image its configuration, its tags and
// its layers, as names of files in the archive). Two shapes are about: <id>/layer.tar, where an
// equal layer may be a link to another one, and blobs/sha256/<hex> as in an OCI layout.
// Threads: the source belongs to one thread.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "oci/repository.h"

namespace imsy::oci {

// docker, podman and skopeo read this file; containerd reads the layout.
constexpr const char* kDockerArchiveManifest = "manifest.json";

// Opens `file` ("-" is the standard input) to read images by reference ("web:1.2" and
// "docker.io/library/web:1.2" are the same). `temporary` is the directory for what oci/archive.h
// has to keep, and errors are as there.
//
// Such images have no manifest: one is made from the files, the same for the same files. A digest
// in the name of a file is checked, and layers are checked by the caller against the diffIDs of the
// configuration, as with any image.
Result<std::unique_ptr<ImageSource>> open_docker_archive(const std::filesystem::path& file,
                                                         const std::filesystem::path& temporary);

// A new archive of one image as `docker save` writes it today: an OCI archive, as
// oci/oci_archive.h says, with a manifest.json. The image is called `reference` ("web:1.2"), or
// nothing with "". kInvalid: the reference is none, or has a digest.
Result<std::unique_ptr<ImageTarget>> create_docker_archive(const std::filesystem::path& file,
                                                           const std::string& reference,
                                                           const std::filesystem::path& temporary);

}  // namespace imsy::oci
