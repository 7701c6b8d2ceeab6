#include "fuse/ops.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include "common/log.h"
#include "fuse/reply.h"
#include "fuse/server.h"
#include "fuse/waiting_read.h"

namespace imsy::fuse {
namespace {

// Nothing in an image changes, so the kernel may remember it, absent names included. A day bounds
// what a bug could do.
constexpr double kDay = 24 * 60 * 60;
constexpr Timeouts kInImage{.name = kDay, .attributes = kDay};
// In the root directory images come and go.
constexpr Timeouts kInRoot{.name = 0, .attributes = kDay};

constexpr std::size_t kNameMax = 255;  // bytes

// Read-ahead beyond what a program asks for costs the network; 128 KiB is the kernel's default.
constexpr unsigned kReadAhead = 128u << 10;
// Read-ahead requests that wait for the network must not use up what the kernel grants, or reads
// of present content would wait with them. From the threshold on, the kernel sends only those that
// a program waits for.
constexpr unsigned kBackgroundRequests = 4096;
constexpr unsigned kCongestionThreshold = 256;

// Asynchronous direct reads are left out on purpose: the kernel waits for them where no signal
// reaches, so a reader of absent content could not be killed.
constexpr unsigned kWanted = FUSE_CAP_ASYNC_READ         // several reads of one file at a time
                             | FUSE_CAP_PARALLEL_DIROPS  // lookups beside each other
                             | FUSE_CAP_READDIRPLUS      // attributes with the names, always
                             | FUSE_CAP_CACHE_SYMLINKS   // links never change
                             | FUSE_CAP_POSIX_ACL;       // the kernel heeds an image's ACLs

void on_init(void*, fuse_conn_info* connection) {
  if ((connection->capable & kWanted) != kWanted) {
    log::warn("the kernel's FUSE lacks some abilities missing={:#x}",
              kWanted & ~connection->capable);
  }
  connection->want = kWanted & connection->capable;
  connection->max_readahead = std::min(connection->max_readahead, kReadAhead);
  connection->max_background = kBackgroundRequests;
  connection->congestion_threshold = kCongestionThreshold;
}

// Where C meets C++: finds the server, and lets no exception into libfuse. `op` answers the Reply
// or passes it on; what it leaves behind answers EIO.
template <typename Op>
void serve(fuse_req_t request, fuse_ino_t node, Op op) noexcept {
  Server& server = *static_cast<Server*>(fuse_req_userdata(request));
  server.count_request();
  Reply reply(server, request, node);
  try {
    op(server, reply);
  } catch (...) {
    // ~Reply answers.
  }
}

void on_lookup(fuse_req_t request, fuse_ino_t parent, const char* name) {
  serve(request, parent, [&](Server& server, Reply& reply) {
    const std::string_view wanted(name);
    if (wanted.size() > kNameMax) return reply.refuse(ENAMETOOLONG);
    const bool in_root = parent == kRootId;
    const auto found = server.fs().lookup(parent, wanted);
    if (found) return reply.entry(*found, in_root ? kInRoot : kInImage);
    if (found.error().code() != Errc::kNotFound) return reply.error(found.error());
    // The image may be gone while its directory is still open somewhere: then the absence is the
    // directory's, and nothing to remember.
    const bool lasting = !in_root && server.fs().attributes(parent).has_value();
    reply.no_entry(lasting ? kDay : 0);
  });
}

void on_getattr(fuse_req_t request, fuse_ino_t node, fuse_file_info*) {
  serve(request, node, [&](Server& server, Reply& reply) {
    const auto found = server.fs().attributes(node);
    if (!found) return reply.error(found.error());
    reply.attributes(*found, node == kRootId ? 0 : kDay);
  });
}

void on_readlink(fuse_req_t request, fuse_ino_t node) {
  serve(request, node, [&](Server& server, Reply& reply) {
    const auto target = server.fs().read_link(node);
    target ? reply.link(*target) : reply.error(target.error());
  });
}

// Answered with ENOSYS, which tells the kernel that files need no opening: it asks once and then
// opens and closes files alone, keeping their pages.
void on_open(fuse_req_t request, fuse_ino_t node, fuse_file_info* info) {
  serve(request, node, [&](Server&, Reply& reply) {
    const bool reading = (info->flags & O_ACCMODE) == O_RDONLY && (info->flags & O_TRUNC) == 0;
    reply.refuse(reading ? ENOSYS : EROFS);
  });
}

void on_read(fuse_req_t request, fuse_ino_t node, std::size_t size, off_t offset, fuse_file_info*) {
  serve(request, node, [&](Server& server, Reply& reply) {
    WaitingRead::start(server, std::move(reply), node, static_cast<std::uint64_t>(offset),
                       static_cast<std::uint32_t>(size));
  });
}

void on_opendir(fuse_req_t request, fuse_ino_t node, fuse_file_info* info) {
  serve(request, node, [&](Server&, Reply& reply) {
    info->cache_readdir = node != kRootId;
    info->keep_cache = node != kRootId;
    reply.open(*info);
  });
}

// Entries from `offset` on, as many as fit into `size` bytes. `add` writes one of them to the
// rest of the buffer and returns its length, which is more than the room when it does not fit.
template <typename Add>
void list_directory(Server& server, Reply& reply, NodeId node, std::size_t size, off_t offset,
                    std::size_t smallest, const Add& add) {
  const auto entries =
      server.fs().read_directory(node, static_cast<std::uint64_t>(offset), size / smallest + 1);
  if (!entries) return reply.error(entries.error());
  Bytes buffer(size);
  std::size_t used = 0;
  for (const DirectoryEntry& entry : *entries) {
    const std::size_t length =
        add(reinterpret_cast<char*>(buffer.data()) + used, size - used, entry);
    if (length > size - used) break;
    used += length;
  }
  reply.data(std::span(buffer).first(used));
}

void on_readdir(fuse_req_t request, fuse_ino_t node, std::size_t size, off_t offset,
                fuse_file_info*) {
  serve(request, node, [&](Server& server, Reply& reply) {
    const std::size_t smallest = fuse_add_direntry(request, nullptr, 0, ".", nullptr, 0);
    list_directory(server, reply, node, size, offset, smallest,
                   [&](char* to, std::size_t room, const DirectoryEntry& entry) {
                     struct stat st {};
                     st.st_ino = entry.node;
                     st.st_mode = entry.type;
                     return fuse_add_direntry(request, to, room, entry.name.c_str(), &st,
                                              static_cast<off_t>(entry.next));
                   });
  });
}

// With the attributes of each entry, so that a walk over the tree asks once per directory.
void on_readdirplus(fuse_req_t request, fuse_ino_t node, std::size_t size, off_t offset,
                    fuse_file_info*) {
  serve(request, node, [&](Server& server, Reply& reply) {
    const Timeouts timeouts = node == kRootId ? kInRoot : kInImage;
    const std::size_t smallest = fuse_add_direntry_plus(request, nullptr, 0, ".", nullptr, 0);
    list_directory(server, reply, node, size, offset, smallest,
                   [&](char* to, std::size_t room, const DirectoryEntry& entry) {
                     fuse_entry_param param{};
                     param.attr.st_ino = entry.node;
                     param.attr.st_mode = entry.type;
                     // Number 0: a name without attributes, as "." and ".." must be.
                     const auto found = entry.name == "." || entry.name == ".."
                                            ? Result<struct stat>(Error(Errc::kNotFound, ""))
                                            : server.fs().attributes(entry.node);
                     if (found) {
                       param.ino = entry.node;
                       param.attr = *found;
                       param.attr_timeout = timeouts.attributes;
                       param.entry_timeout = timeouts.name;
                     }
                     return fuse_add_direntry_plus(request, to, room, entry.name.c_str(), &param,
                                                   static_cast<off_t>(entry.next));
                   });
  });
}

void on_getxattr(fuse_req_t request, fuse_ino_t node, const char* name, std::size_t room) {
  serve(request, node, [&](Server& server, Reply& reply) {
    const auto value = server.fs().get_xattr(node, name);
    if (value) return reply.xattr(*value, room);
    if (value.error().code() == Errc::kNotFound) return reply.refuse(ENODATA);
    reply.error(value.error());
  });
}

void on_listxattr(fuse_req_t request, fuse_ino_t node, std::size_t room) {
  serve(request, node, [&](Server& server, Reply& reply) {
    const auto names = server.fs().list_xattrs(node);
    if (!names) return reply.error(names.error());
    std::string list;
    for (const std::string& name : *names) list.append(name).push_back('\0');
    reply.xattr(list, room);
  });
}

void on_statfs(fuse_req_t request, fuse_ino_t node) {
  serve(request, node, [&](Server& server, Reply& reply) {
    constexpr std::uint64_t kBlock = 4096;
    const ImageFsTotals totals = server.fs().totals();
    struct statvfs numbers {};
    numbers.f_bsize = kBlock;
    numbers.f_frsize = kBlock;
    numbers.f_blocks = (totals.content_bytes + kBlock - 1) / kBlock;
    numbers.f_files = totals.inodes + 1;
    numbers.f_namemax = kNameMax;
    reply.file_system(numbers);
  });
}

}  // namespace

const fuse_lowlevel_ops& image_ops() {
  // Only what a read-only image needs. The rest libfuse answers with ENOSYS, after which the kernel
  // does it alone (flush, lseek, access) or fails it; changes do not get past the read-only mount.
  // Without forget there is nothing to do when the kernel drops an inode: libfuse sends no answer.
  static const fuse_lowlevel_ops ops = [] {
    fuse_lowlevel_ops table{};
    table.init = on_init;
    table.lookup = on_lookup;
    table.getattr = on_getattr;
    table.readlink = on_readlink;
    table.open = on_open;
    table.read = on_read;
    table.opendir = on_opendir;
    table.readdir = on_readdir;
    table.readdirplus = on_readdirplus;
    table.getxattr = on_getxattr;
    table.listxattr = on_listxattr;
    table.statfs = on_statfs;
    return table;
  }();
  return ops;
}

}  // namespace imsy::fuse
