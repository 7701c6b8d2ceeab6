// imsy-convert's command line.
#pragma once

#include <iosfwd>

namespace imsy::converter {

// Runs the program. Exit codes: 0 done, 1 failed (one line on `err`), 2 usage.
int run(int argc, const char* const* argv, std::ostream& out, std::ostream& err);

}  // namespace imsy::converter
