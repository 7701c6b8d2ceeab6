// Database, Statement: SQLite with Results. Internal to cas.
//
// Threads: a database and its statements belong to one thread at a time; the owner's mutex sees to
// that. All calls may wait for the disk.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "common/bytes.h"
#include "common/digest.h"
#include "common/result.h"

struct sqlite3;
struct sqlite3_stmt;

namespace imsy::cas {

// Values are numbered from 1 when bound and from 0 when read, as SQLite does. Blobs and texts that
// are bound must live until the statement has run; those that are read, until the next step.
class Statement {
 public:
  Statement() = default;

  Statement& bind(int index, std::int64_t value);
  Statement& bind(int index, ByteSpan blob);
  Statement& bind(int index, const Digest& digest) { return bind(index, ByteSpan(digest.bytes())); }
  Statement& bind(int index, std::string_view text);
  Statement& bind_null(int index);

  // True: there is a row. False: the end; the statement is ready to run again.
  Result<bool> step();
  // Runs to the end; rows are not looked at.
  Status run();
  // The first row's first value. kNotFound when there is no row.
  Result<std::int64_t> run_for_integer();
  // Ends a run that did not come to its end.
  void reset();

  std::int64_t integer(int column) const;
  ByteSpan blob(int column) const;
  std::string text(int column) const;
  bool is_null(int column) const;
  // The digest in the column. kCorrupt when it has another size.
  Result<Digest> digest(int column) const;

 private:
  friend class Database;
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const;
  };
  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
};

class Database {
 public:
  enum class Mode {
    kCreate,     // read and write, made when missing
    kRead,       // read only, together with a process that writes
    kImmutable,  // read only; nobody writes
  };
  // A symlink in the file's place is refused. kCorrupt: not a database.
  static Result<Database> open(const std::string& path, Mode mode);

  // One or several statements without values or rows that matter.
  Status run(const char* sql);
  Result<Statement> prepare(std::string_view sql);

 private:
  struct Close {
    void operator()(sqlite3* database) const;
  };
  std::unique_ptr<sqlite3, Close> database_;
};

// BEGIN IMMEDIATE now; ROLLBACK unless commit() was called and worked.
class Transaction {
 public:
  static Result<Transaction> begin(Database& database);
  Transaction(Transaction&& other) noexcept;
  Transaction& operator=(Transaction&&) = delete;
  ~Transaction();
  Status commit();

 private:
  explicit Transaction(Database& database) : database_(&database) {}
  Database* database_;  // null: over
};

}  // namespace imsy::cas
