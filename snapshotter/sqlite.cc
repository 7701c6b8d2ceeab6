#include "snapshotter/sqlite.h"

#include <sqlite3.h>

#include <utility>

namespace imsy::snapshotter {
namespace {

Errc kind_of(int code) {
  switch (code & 0xff) {
    case SQLITE_FULL: return Errc::kNoSpace;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: return Errc::kCorrupt;
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return Errc::kUnavailable;
    case SQLITE_PERM:
    case SQLITE_AUTH:
    case SQLITE_READONLY: return Errc::kDenied;
    case SQLITE_CONSTRAINT: return Errc::kFailedPrecondition;
    case SQLITE_TOOBIG: return Errc::kInvalid;
    default: return Errc::kInternal;
  }
}

Error error_of(sqlite3* db, int code) {
  std::string message = "database: ";
  message += db != nullptr ? sqlite3_errmsg(db) : sqlite3_errstr(code);
  return Error(kind_of(code), std::move(message), db != nullptr ? sqlite3_system_errno(db) : 0);
}

}  // namespace

Result<Sqlite> Sqlite::open(const std::filesystem::path& path) {
  sqlite3* db = nullptr;
  const int code =
      sqlite3_open_v2(path.c_str(), &db,
                      SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW, nullptr);
  Sqlite opened(db);
  if (code != SQLITE_OK) return error_of(db, code).with_context(path.string());
  sqlite3_extended_result_codes(db, 1);
  sqlite3_busy_timeout(db, 5'000);
  return opened;
}

Sqlite::Sqlite(Sqlite&& other) noexcept : db_(std::exchange(other.db_, nullptr)) {}

Sqlite::~Sqlite() {
  sqlite3_close_v2(db_);
}

Status Sqlite::run(const std::string& sql) {
  const int code = sqlite3_exec(db_, sql.c_str(), nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) return error_of(db_, code);
  return {};
}

std::int64_t Sqlite::last_insert_id() const {
  return sqlite3_last_insert_rowid(db_);
}
std::int64_t Sqlite::changes() const {
  return sqlite3_changes64(db_);
}

Statement::Statement(Sqlite& db, std::string_view sql) : db_(db.db_) {
  error_ = sqlite3_prepare_v2(db_, sql.data(), static_cast<int>(sql.size()), &statement_, nullptr);
}

Statement::~Statement() {
  sqlite3_finalize(statement_);
}

Statement& Statement::bind(std::int64_t value) {
  if (error_ == SQLITE_OK) error_ = sqlite3_bind_int64(statement_, next_parameter(), value);
  return *this;
}

Statement& Statement::bind(std::string_view value) {
  // An empty view may have no address, which SQLite would take for NULL.
  const char* data = value.data() != nullptr ? value.data() : "";
  if (error_ == SQLITE_OK) {
    error_ = sqlite3_bind_text64(statement_, next_parameter(), data, value.size(), SQLITE_TRANSIENT,
                                 SQLITE_UTF8);
  }
  return *this;
}

Statement& Statement::bind_optional(const std::optional<std::int64_t>& value) {
  if (value) return bind(*value);
  if (error_ == SQLITE_OK) error_ = sqlite3_bind_null(statement_, next_parameter());
  return *this;
}

Statement& Statement::bind_optional(const std::optional<std::string>& value) {
  if (value) return bind(std::string_view(*value));
  if (error_ == SQLITE_OK) error_ = sqlite3_bind_null(statement_, next_parameter());
  return *this;
}

Result<bool> Statement::step() {
  if (error_ != SQLITE_OK) return error_of(db_, error_);
  const int code = sqlite3_step(statement_);
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  return error_of(db_, code);
}

Status Statement::run() {
  IMSY_TRY_ASSIGN(const bool row, step());
  if (row) return Error(Errc::kInternal, "database: a statement returned an unexpected row");
  return {};
}

void Statement::reset() {
  sqlite3_reset(statement_);
  bound_ = 0;
}

std::int64_t Statement::number(int column) const {
  return sqlite3_column_int64(statement_, column);
}

std::string Statement::text(int column) const {
  const unsigned char* data = sqlite3_column_text(statement_, column);
  const int size = sqlite3_column_bytes(statement_, column);
  if (data == nullptr) return {};
  return {reinterpret_cast<const char*>(data), static_cast<std::size_t>(size)};
}

bool Statement::is_null(int column) const {
  return sqlite3_column_type(statement_, column) == SQLITE_NULL;
}

Result<Transaction> Transaction::begin(Sqlite& db) {
  IMSY_TRY(db.run("BEGIN IMMEDIATE"));
  return Transaction(db);
}

Result<Transaction> Transaction::begin_read(Sqlite& db) {
  IMSY_TRY(db.run("BEGIN"));
  return Transaction(db);
}

Transaction::~Transaction() {
  if (db_ != nullptr) ignore(db_->run("ROLLBACK"), "nothing of it is kept either way");
}

Status Transaction::commit() {
  // After a failure the destructor rolls back.
  IMSY_TRY(db_->run("COMMIT"));
  db_ = nullptr;
  return {};
}

}  // namespace imsy::snapshotter
