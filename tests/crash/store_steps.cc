// One step after the other of a store's life, for tests that take its disk away meanwhile.
//
//     store_steps ROOT STEP...               prints after each step what is acknowledged by now,
//                                            and waits for a line before the next one
//     store_steps ROOT check [PROMISE...]    exit code 1, and a line for all that is wrong, unless
//                                            these promises hold
#include <cstdio>
#include <functional>
#include <iostream>
#include <map>
#include <string>

#include "common/log.h"
#include "tests/crash/store_life.h"

namespace imsy::test {
namespace {

using Steps = std::map<std::string, std::function<void(StoreLife&)>>;

const Steps& steps() {
  static const Steps all{
      {"open", [](StoreLife& life) { life.open(); }},
      {"add-first", [](StoreLife& life) { life.add_first(); }},
      {"add-second", [](StoreLife& life) { life.add_second(); }},
      {"put-first", [](StoreLife& life) { life.put_first(); }},
      {"put-second", [](StoreLife& life) { life.put_second(); }},
      {"mark-first", [](StoreLife& life) { life.mark_first_resident(); }},
      {"remove-second", [](StoreLife& life) { life.remove_second(); }},
      {"collect", [](StoreLife& life) { life.collect(); }},
      {"close", [](StoreLife& life) { life.close(); }},
  };
  return all;
}

std::map<std::string, bool*> promises(StoreLife& life) {
  return {{"first-kept", &life.of_first().kept},
          {"first-resident", &life.of_first().resident},
          {"second-kept", &life.of_second().kept},
          {"second-gone", &life.of_second().gone}};
}

int run(StoreLife& life, int count, char** names) {
  for (int i = 0; i < count; ++i) {
    const auto step = steps().find(names[i]);
    if (step == steps().end()) {
      std::cerr << "store_steps: no such step: " << names[i] << "\n";
      return 2;
    }
    step->second(life);
    std::cout << names[i];
    for (const auto& [name, holds] : promises(life)) {
      if (*holds) std::cout << " " << name;
    }
    std::cout << std::endl;
    std::string line;
    std::getline(std::cin, line);
  }
  return 0;
}

int check(StoreLife& life, int count, char** names) {
  const auto known = promises(life);
  for (int i = 0; i < count; ++i) *known.at(names[i]) = true;
  const auto wrong = life.check(/*unreadable=*/false);
  for (const std::string& line : wrong) std::cerr << line << "\n";
  return wrong.empty() ? 0 : 1;
}

}  // namespace
}  // namespace imsy::test

int main(int count, char** words) {
  if (count < 3) {
    std::cerr << "usage: store_steps ROOT STEP... | check PROMISE...\n";
    return 2;
  }
  imsy::ignore(imsy::log::configure("error"), "the word is right");
  imsy::test::StoreLife life(words[1]);
  const bool checks = std::string(words[2]) == "check";
  return checks ? imsy::test::check(life, count - 3, words + 3)
                : imsy::test::run(life, count - 2, words + 2);
}
