#include <iostream>

#include "common/program.h"
#include "converter/cli.h"

int main(int argc, char** argv) {
  return imsy::run_program("imsy-convert",
                           [&] { return imsy::converter::run(argc, argv, std::cout, std::cerr); });
}
