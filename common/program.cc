#include "common/program.h"

#include <exception>
#include <iostream>
#include <new>

#include "common/log.h"

namespace imsy {
namespace {

constexpr int kFailed = 1;

}  // namespace

int run_program(std::string_view program, const std::function<int()>& body) noexcept {
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
