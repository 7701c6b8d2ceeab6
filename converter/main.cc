#include <iostream>

#include "converter/cli.h"

int main(int argc, char** argv) {
  return imsy::converter::run(argc, argv, std::cout, std::cerr);
}
