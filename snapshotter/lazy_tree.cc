#include "snapshotter/lazy_tree.h"

#include <sys/stat.h>

#include <cerrno>
#include <utility>

#include "common/log.h"

namespace imsy::snapshotter {
namespace {

void add(fuse::SessionStats& sum, const fuse::SessionStats& one) {
  sum.requests += one.requests;
  sum.reads += one.reads;
  sum.read_bytes += one.read_bytes;
  sum.eio += one.eio;
  sum.waiting_reads += one.waiting_reads;
}

}  // namespace

Result<std::unique_ptr<LazyTree>> LazyTree::mount(fuse::ImageFs& fs,
                                                  const std::filesystem::path& directory) {
  // Not looked at before: a mount that a crash left there answers nothing but errors.
  if (mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) {
    return Error::from_errno(errno, "make directory " + directory.string());
  }
  std::unique_ptr<LazyTree> tree(new LazyTree(fs, directory));
  MutexLock lock(tree->mu_);
  IMSY_TRY(tree->mount_once());
  return tree;
}

Status LazyTree::mount_once() {
  IMSY_TRY_ASSIGN(auto session, fuse::Session::mount(fs_, directory_));
  sessions_.push_back(std::move(session));
  return {};
}

Status LazyTree::ensure() {
  MutexLock lock(mu_);
  if (sessions_.back()->is_in_place()) return {};
  const Status mounted = mount_once();
  if (!mounted) {
    return Error(Errc::kUnavailable,
                 "the lazy tree was taken away from " + directory_.string() +
                     " and cannot be mounted again: " + mounted.error().message());
  }
  log::warn("the lazy tree was taken away and is mounted again directory={}", directory_.string());
  std::erase_if(sessions_, [this](const auto& session) IMSY_REQUIRES(mu_) {
    if (!session->is_over()) return false;
    add(ended_, session->stats());
    return true;
  });
  return {};
}

bool LazyTree::is_in_place() const {
  const auto session = [this] {
    MutexLock lock(mu_);
    return sessions_.back();
  }();
  return session->is_in_place();
}

fuse::SessionStats LazyTree::stats() const {
  MutexLock lock(mu_);
  fuse::SessionStats sum = ended_;
  for (const auto& session : sessions_) add(sum, session->stats());
  return sum;
}

void LazyTree::forget_slot(fuse::Slot slot) {
  MutexLock lock(mu_);
  for (const auto& session : sessions_) session->forget_slot(slot);
}

}  // namespace imsy::snapshotter
