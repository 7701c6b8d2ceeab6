#include "fuse/reply.h"

#include <cerrno>

#include "fuse/errno.h"
#include "fuse/server.h"

namespace imsy::fuse {
namespace {

fuse_entry_param entry_param(const struct stat& attributes, const Timeouts& timeouts) {
  fuse_entry_param entry{};
  entry.ino = attributes.st_ino;
  entry.attr = attributes;
  entry.attr_timeout = timeouts.attributes;
  entry.entry_timeout = timeouts.name;
  return entry;
}

}  // namespace

Reply::~Reply() {
  if (request_ == nullptr) return;
  try {
    error(Error(Errc::kInternal, "the request was dropped without an answer"));
  } catch (...) {
    if (request_ != nullptr) fuse_reply_err(take(), EIO);
  }
}

void Reply::entry(const struct stat& attributes, const Timeouts& timeouts) {
  const fuse_entry_param entry = entry_param(attributes, timeouts);
  fuse_reply_entry(take(), &entry);
}

void Reply::no_entry(double seconds) {
  if (seconds == 0) return refuse(ENOENT);
  fuse_entry_param entry{};  // number 0: no such name
  entry.entry_timeout = seconds;
  fuse_reply_entry(take(), &entry);
}

void Reply::attributes(const struct stat& attributes, double seconds) {
  fuse_reply_attr(take(), &attributes, seconds);
}

void Reply::link(const std::string& target) {
  fuse_reply_readlink(take(), target.c_str());
}

void Reply::open(const fuse_file_info& info) {
  fuse_reply_open(take(), &info);
}

void Reply::data(ByteSpan bytes) {
  fuse_reply_buf(take(), reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

void Reply::xattr(std::string_view value, std::size_t room) {
  if (room == 0) {
    fuse_reply_xattr(take(), value.size());
  } else if (room < value.size()) {
    refuse(ERANGE);
  } else {
    data(as_bytes(value));
  }
}

void Reply::file_system(const struct statvfs& numbers) {
  fuse_reply_statfs(take(), &numbers);
}

void Reply::error(const Error& error) {
  const int err = to_errno(error.code());
  refuse(err);  // before the log line, which takes its time
  if (err == EIO) server_.report_eio(node_, error);
}

void Reply::refuse(int err) {
  fuse_reply_err(take(), err);
}

}  // namespace imsy::fuse
