// Reference: the name of an image, parsed and normalised as Docker and containerd do.
//
// Source: github.com/distribution/reference grammar: "ubuntu" is docker.io/library/ubuntu:latest,
// "127.0.0.1:5000/a/b:tag@sha256:..." keeps its port. Upper case in a repository, a bad tag, a
// short digest, more than 255 characters are kInvalid.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "common/digest.h"
#include "common/result.h"

namespace imsy::oci {

struct Reference {
  std::string host;        // as written, with port: "127.0.0.1:5000", "docker.io"
  std::string repository;  // "library/ubuntu"
  std::string tag;         // empty only when a digest is given
  std::optional<Digest> digest;

  static Result<Reference> parse(std::string_view text);

  std::string name() const;       // host/repository
  std::string to_string() const;  // name[:tag][@digest]
  // What to ask a registry for: the digest when there is one, else the tag.
  std::string object() const;
};

// Whether the text is a tag, or a repository's name without host, as in a reference.
bool is_tag(std::string_view text);
bool is_repository(std::string_view text);

}  // namespace imsy::oci
