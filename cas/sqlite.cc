#include "cas/sqlite.h"

#include <sqlite3.h>

#include <utility>

namespace imsy::cas {
namespace {

// The index is waited for by its own process only; a reader from outside holds it for moments.
constexpr int kBusyTimeoutMs = 5000;

Error error_of(sqlite3* database, int code) {
  const int system = database != nullptr ? sqlite3_system_errno(database) : 0;
  std::string message = "index.db: ";
  message += database != nullptr ? sqlite3_errmsg(database) : sqlite3_errstr(code);
  Errc kind = Errc::kInternal;
  if (code == SQLITE_IOERR_NOMEM) code = SQLITE_NOMEM;
  switch (code & 0xff) {
    case SQLITE_NOMEM: kind = Errc::kUnavailable; break;
    case SQLITE_FULL: kind = Errc::kNoSpace; break;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_FORMAT: kind = Errc::kCorrupt; break;
    case SQLITE_BUSY:
    case SQLITE_LOCKED: kind = Errc::kUnavailable; break;
    case SQLITE_PERM:
    case SQLITE_READONLY:
    case SQLITE_AUTH: kind = Errc::kDenied; break;
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
      if (system != 0) kind = Error::from_errno(system, "").code();
      break;
    default: break;
  }
  return Error(kind, std::move(message), system);
}

}  // namespace

void Statement::Finalize::operator()(sqlite3_stmt* statement) const {
  sqlite3_finalize(statement);
}

Statement& Statement::bind(int index, std::int64_t value) {
  sqlite3_bind_int64(statement_.get(), index, value);
  return *this;
}

Statement& Statement::bind(int index, ByteSpan blob) {
  sqlite3_bind_blob64(statement_.get(), index, blob.data(), blob.size(), SQLITE_STATIC);
  return *this;
}

Statement& Statement::bind(int index, std::string_view text) {
  // A null pointer would be bound as NULL, and an empty text is not that.
  const char* data = text.data() != nullptr ? text.data() : "";
  sqlite3_bind_text64(statement_.get(), index, data, text.size(), SQLITE_STATIC, SQLITE_UTF8);
  return *this;
}

Statement& Statement::bind_null(int index) {
  sqlite3_bind_null(statement_.get(), index);
  return *this;
}

Result<bool> Statement::step() {
  const int code = sqlite3_step(statement_.get());
  if (code == SQLITE_ROW) return true;
  if (code != SQLITE_DONE) {
    Error error = error_of(sqlite3_db_handle(statement_.get()), code);
    reset();
    return error;
  }
  reset();
  return false;
}

Status Statement::run() {
  for (;;) {
    IMSY_TRY_ASSIGN(const bool row, step());
    if (!row) return {};
  }
}

Result<std::int64_t> Statement::run_for_integer() {
  IMSY_TRY_ASSIGN(const bool row, step());
  if (!row) return Error(Errc::kNotFound, "index.db: no such row");
  const std::int64_t value = integer(0);
  IMSY_TRY(run());
  return value;
}

void Statement::reset() {
  sqlite3_reset(statement_.get());
}

std::int64_t Statement::integer(int column) const {
  return sqlite3_column_int64(statement_.get(), column);
}

ByteSpan Statement::blob(int column) const {
  const void* data = sqlite3_column_blob(statement_.get(), column);
  const int size = sqlite3_column_bytes(statement_.get(), column);
  return {static_cast<const std::byte*>(data), static_cast<std::size_t>(size)};
}

std::string Statement::text(int column) const {
  return std::string(as_text(blob(column)));
}

bool Statement::is_null(int column) const {
  return sqlite3_column_type(statement_.get(), column) == SQLITE_NULL;
}

Result<Digest> Statement::digest(int column) const {
  const ByteSpan raw = blob(column);
  if (raw.size() != Digest::kSize) {
    return Error(Errc::kCorrupt, "index.db: a digest of the wrong size");
  }
  return Digest(raw.first<Digest::kSize>());
}

void Database::Close::operator()(sqlite3* database) const {
  // Closes now, or with the last statement that still exists.
  sqlite3_close_v2(database);
}

Result<Database> Database::open(const std::string& path, Mode mode) {
  int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW | SQLITE_OPEN_URI;
  flags |=
      mode == Mode::kCreate ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READONLY;
  // As a URI, so that "immutable" can be said; what has a meaning there is escaped.
  std::string uri = "file:";
  for (const char c : path) {
    if (c == '%' || c == '?' || c == '#') {
      static constexpr char kDigits[] = "0123456789ABCDEF";
      uri += {'%', kDigits[c >> 4], kDigits[c & 15]};
    } else {
      uri += c;
    }
  }
  if (mode == Mode::kImmutable) uri += "?immutable=1";
  sqlite3* raw = nullptr;
  const int code = sqlite3_open_v2(uri.c_str(), &raw, flags, nullptr);
  Database database;
  database.database_.reset(raw);
  if (code != SQLITE_OK) return error_of(raw, code).with_context("open " + path);
  sqlite3_extended_result_codes(raw, 1);
  sqlite3_busy_timeout(raw, kBusyTimeoutMs);
  return database;
}

Status Database::run(const char* sql) {
  const int code = sqlite3_exec(database_.get(), sql, nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) return error_of(database_.get(), code);
  return {};
}

Result<Statement> Database::prepare(std::string_view sql) {
  sqlite3_stmt* raw = nullptr;
  const int code = sqlite3_prepare_v3(database_.get(), sql.data(), static_cast<int>(sql.size()),
                                      SQLITE_PREPARE_PERSISTENT, &raw, nullptr);
  if (code != SQLITE_OK) return error_of(database_.get(), code);
  Statement statement;
  statement.statement_.reset(raw);
  return statement;
}

Result<Transaction> Transaction::begin(Database& database) {
  IMSY_TRY(database.run("BEGIN IMMEDIATE"));
  return Transaction(database);
}

Transaction::Transaction(Transaction&& other) noexcept
    : database_(std::exchange(other.database_, nullptr)) {}

Transaction::~Transaction() {
  if (database_ != nullptr) ignore(database_->run("ROLLBACK"), "nothing was promised yet");
}

Status Transaction::commit() {
  IMSY_TRY(database_->run("COMMIT"));
  database_ = nullptr;
  return {};
}

}  // namespace imsy::cas
