#include "common/program.h"

#include <fcntl.h>
#include <unistd.h>

#include <exception>
#include <iostream>
#include <new>

#include "common/log.h"

namespace imsy {
namespace {

constexpr int kFailed = 1;

// What the program opens must not get the number of a standard stream that is closed, or what is
// written to the stream would end up there. This takes the number, and every use of it fails.
void occupy_closed_streams() {
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(stream, F_GETFD) >= 0) continue;
    static_cast<void>(::open("/dev/null", stream == STDIN_FILENO ? O_WRONLY : O_RDONLY));
  }
}

}  // namespace

int run_program(std::string_view program, const std::function<int()>& body) noexcept {
  occupy_closed_streams();
  try {
    return body();
  } catch (const std::bad_alloc&) {
    std::cerr << program << ": out of memory\n";
  } catch (const std::exception& exception) {
    std::cerr << program << ": " << log::printable(exception.what()) << '\n';
  } catch (...) {
    std::cerr << program << ": failed for a reason that cannot be told\n";
  }
  return kFailed;
}

}  // namespace imsy
