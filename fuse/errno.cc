#include "fuse/errno.h"

#include <cerrno>

namespace imsy::fuse {

int to_errno(Errc code) {
  switch (code) {
    case Errc::kInvalid: return EINVAL;
    case Errc::kNotFound: return ENOENT;
    case Errc::kAlreadyExists: return EEXIST;
    case Errc::kFailedPrecondition: return EINVAL;
    case Errc::kCorrupt: return EIO;
    case Errc::kUnavailable: return EIO;
    case Errc::kNoSpace: return EIO;
    case Errc::kDenied: return EIO;
    case Errc::kCancelled: return EINTR;
    case Errc::kTimeout: return EIO;
    case Errc::kInternal: return EIO;
  }
  return EIO;
}

}  // namespace imsy::fuse
