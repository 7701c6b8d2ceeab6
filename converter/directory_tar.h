// DirectoryTar: a directory tree as a tar stream, for `dir:PATH`.
//
// Everything is taken as it is: owners, modes, mtimes to the nanosecond, extended attributes (also
// of symlinks), devices, fifos, hard links; holes of sparse files read as zeros. Left out with a
// warning are sockets, which no archive can carry, and character devices 0:0, which would be
// whiteouts in a layer.
// The same tree gives the same bytes: names of a directory are sorted as bytes.
//
// No link is ever followed: each name is opened once, without following, as a handle to its inode
// (O_PATH); type, attributes and content then come from that inode, whatever happens to the name.
// Nothing but regular files and directories is opened for reading. Mount points are crossed.
// Threads: one. Waits for the disk.
#pragma once

#include <filesystem>
#include <memory>

#include "common/stream.h"

namespace imsy::converter {

enum class Warn { kYes, kNo };

// `path` itself may be a symlink to the directory. Errors of the stream name the path inside it;
// kInvalid: what no image can carry (a name that begins with ".wh.", more content than an image may
// have: found before that file is read, however sparse it is), kCorrupt: a file that became
// shorter. Keeps one directory per level open.
Result<std::unique_ptr<ByteReader>> open_directory_tar(const std::filesystem::path& path,
                                                       Warn warn);

}  // namespace imsy::converter
