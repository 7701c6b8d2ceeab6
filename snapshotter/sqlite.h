// Sqlite: one connection to a SQLite database, with errors as values.
//
// Threads: a connection and its statements belong to one thread at a time.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "common/result.h"

struct sqlite3;
struct sqlite3_stmt;

namespace imsy::snapshotter {

class Sqlite {
 public:
  // Opens `path`, which exists, for reading and writing. Symbolic links are refused.
  static Result<Sqlite> open(const std::filesystem::path& path);
  Sqlite(Sqlite&& other) noexcept;
  Sqlite& operator=(Sqlite&&) = delete;
  ~Sqlite();

  // Runs statements that return no rows.
  Status run(const std::string& sql);

  std::int64_t last_insert_id() const;
  // Rows that the last statement inserted, changed or deleted.
  std::int64_t changes() const;

 private:
  friend class Statement;
  explicit Sqlite(sqlite3* db) : db_(db) {}
  sqlite3* db_;
};

// One statement: bind the parameters in order, then step through its rows. Errors of prepare and
// bind are kept and come out of the first step.
class Statement {
 public:
  Statement(Sqlite& db, std::string_view sql);
  ~Statement();
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  Statement& bind(std::int64_t value);
  Statement& bind(std::string_view value);
  Statement& bind_optional(const std::optional<std::int64_t>& value);  // nullopt is NULL
  Statement& bind_optional(const std::optional<std::string>& value);

  // True when there is a row, false at the end.
  Result<bool> step();
  // For statements without rows: bind, then run to the end.
  Status run();
  // Ready to bind and run again.
  void reset();

  // Columns of the current row, from 0. Text is copied.
  std::int64_t number(int column) const;
  std::string text(int column) const;
  bool is_null(int column) const;

 private:
  int next_parameter() { return ++bound_; }
  sqlite3* db_;
  sqlite3_stmt* statement_ = nullptr;
  int bound_ = 0;
  int error_ = 0;
};

// BEGIN IMMEDIATE ... COMMIT; rolls back unless commit() succeeded.
class Transaction {
 public:
  static Result<Transaction> begin(Sqlite& db);
  // Sees one state of the database from its first statement to its end.
  static Result<Transaction> begin_read(Sqlite& db);
  Transaction(Transaction&& other) noexcept : db_(other.db_) { other.db_ = nullptr; }
  Transaction& operator=(Transaction&&) = delete;
  ~Transaction();
  // Durable when it returns success, provided the database runs with synchronous=FULL.
  Status commit();

 private:
  explicit Transaction(Sqlite& db) : db_(&db) {}
  Sqlite* db_;
};

}  // namespace imsy::snapshotter
