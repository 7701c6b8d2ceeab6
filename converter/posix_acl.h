// POSIX ACLs as the extended attributes system.posix_acl_access and system.posix_acl_default.
//
// Format: linux/posix_acl_xattr.h. A header with version 2, then entries of 8 bytes (tag,
// permissions, owner), all numbers little endian.
// Threads: free functions.
#pragma once

#include <string_view>

namespace imsy::converter {

// Whether a kernel lets the attribute `name` of an inode be set to `value`, as far as ACLs are
// concerned: other attributes always; an access ACL if it is well-formed; a default ACL also only
// on a directory.
bool is_settable_acl(std::string_view name, std::string_view value, bool directory);

}  // namespace imsy::converter
