// StoreLife: a store with two images, what it has acknowledged, and whether that holds.
//
// Any step may fail, and the next ones go on. Whatever is read is compared with what was put in.
// Threads: belongs to one thread.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "cas/store.h"
#include "tests/support/image_maker.h"

namespace imsy::test {

// What the store has acknowledged of an image.
struct Promise {
  bool kept = false;      // it is there
  bool gone = false;      // it is not there
  bool resident = false;  // all of it can be read
};

class StoreLife {
 public:
  explicit StoreLife(std::filesystem::path root);

  // --- steps
  void open();  // closes it before, if it is open
  void close() { store_.reset(); }
  void add_first() { add(first_, of_first_); }
  void add_second() { add(second_, of_second_); }
  void put_first() { put_all(first_); }
  void put_second() { put_all(second_); }
  void read_first() { read_all(first_); }
  void mark_first_resident();
  void remove_second();
  void collect();
  // Goes on with what is on the disk while the store is in use, at another place.
  void crash();

  const std::filesystem::path& root() const { return root_; }
  Promise& of_first() { return of_first_; }
  Promise& of_second() { return of_second_; }

  // Opens the store: all promises hold, everything can be done, nothing is left behind then.
  // `unreadable`: the disk did not give back something, which need not be on record any more; when
  // that was a part of the index, nothing is. Returns all that was wrong since the beginning.
  std::vector<std::string> check(bool unreadable);

 private:
  void add(const MadeImage& image, Promise& promise);
  void put_all(const MadeImage& image);
  std::size_t read_all(const MadeImage& image);
  void check_promise(const std::string& name, const MadeImage& image, const Promise& promise,
                     bool unreadable);
  void expect_no_finding();
  void bring_back(const std::string& name, const MadeImage& image);
  void leave_nothing();
  void expect(bool condition, const std::string& otherwise);
  void expect(const Status& done, const std::string& what);

  std::filesystem::path root_;
  const MadeImage first_;
  const MadeImage second_;
  Promise of_first_;
  Promise of_second_;
  std::unique_ptr<cas::Store> store_;
  std::vector<std::string> wrong_;
};

}  // namespace imsy::test
