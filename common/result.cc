#include "common/result.h"

#include <cerrno>
#include <cstring>

namespace imsy {

std::string_view to_string(Errc code) {
  switch (code) {
    case Errc::kInvalid: return "invalid";
    case Errc::kNotFound: return "not found";
    case Errc::kAlreadyExists: return "already exists";
    case Errc::kFailedPrecondition: return "failed precondition";
    case Errc::kCorrupt: return "corrupt";
    case Errc::kUnavailable: return "unavailable";
    case Errc::kNoSpace: return "no space";
    case Errc::kDenied: return "denied";
    case Errc::kCancelled: return "cancelled";
    case Errc::kTimeout: return "timeout";
    case Errc::kInternal: return "internal";
  }
  return "unknown";
}

Error Error::from_errno(int err, std::string_view what) {
  Errc code = Errc::kInternal;
  switch (err) {
    case ENOENT:
    case ENOTDIR: code = Errc::kNotFound; break;
    case EEXIST: code = Errc::kAlreadyExists; break;
    case ENOSPC:
    case EDQUOT: code = Errc::kNoSpace; break;
    case EACCES:
    case EPERM:
    case EROFS: code = Errc::kDenied; break;
    case EINVAL:
    case ENAMETOOLONG:
    case ELOOP: code = Errc::kInvalid; break;
    case ECONNREFUSED:
    case ECONNRESET:
    case EPIPE:
    case ENETUNREACH:
    case EHOSTUNREACH:
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case EAGAIN: code = Errc::kUnavailable; break;
    case ETIMEDOUT: code = Errc::kTimeout; break;
    case EBUSY:
    case ENOTEMPTY:
    case EISDIR: code = Errc::kFailedPrecondition; break;
    default: break;
  }
  return Error(code, std::string(what) + ": " + std::strerror(err), err);
}

}  // namespace imsy
