// libfuse's low-level interface, in the version that this project is written against. The only
// include of libfuse; Debian 12 has 3.14.
#pragma once

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>
