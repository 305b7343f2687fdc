#include "controller/service/store.h"

#include <sqlite3.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>
#include <utility>

#include "controller/service/convert.h"

namespace farwarp::controller {
namespace {

constexpr int kSchema = 1;
constexpr char kCreate[] = R"(
CREATE TABLE leases (
  lease_id BLOB PRIMARY KEY CHECK (length(lease_id) = 16),
  secret BLOB NOT NULL CHECK (length(secret) = 32),
  node TEXT NOT NULL,
  endpoint TEXT NOT NULL,
  created_unix_ms INTEGER NOT NULL,
  client BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE vgpus (
  lease_id BLOB NOT NULL REFERENCES leases (lease_id) ON DELETE CASCADE,
  ordinal INTEGER NOT NULL,
  device_ordinal INTEGER NOT NULL,
  device_uuid TEXT NOT NULL,
  memory_bytes INTEGER NOT NULL,
  compute_percent INTEGER NOT NULL,
  PRIMARY KEY (lease_id, ordinal)
) WITHOUT ROWID;
CREATE TABLE drained_nodes (name TEXT PRIMARY KEY) WITHOUT ROWID;
PRAGMA user_version = 1;
)";

// One prepared statement; finalised at the end of its scope.
class Statement {
 public:
  Statement(sqlite3* database, const char* sql) {
    ok_ = sqlite3_prepare_v2(database, sql, -1, &statement_, nullptr) == SQLITE_OK;
  }
  ~Statement() { sqlite3_finalize(statement_); }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  template <std::size_t N>
  void Bind(int index, const std::array<std::uint8_t, N>& bytes) {
    ok_ =
        ok_ && sqlite3_bind_blob(statement_, index, bytes.data(), N, SQLITE_TRANSIENT) == SQLITE_OK;
  }
  void BindBlob(int index, const std::string& bytes) {
    ok_ = ok_ && sqlite3_bind_blob64(statement_, index, bytes.data(), bytes.size(),
                                     SQLITE_TRANSIENT) == SQLITE_OK;
  }
  void Bind(int index, const std::string& text) {
    ok_ = ok_ && sqlite3_bind_text(statement_, index, text.data(), static_cast<int>(text.size()),
                                   SQLITE_TRANSIENT) == SQLITE_OK;
  }
  void Bind(int index, std::int64_t value) {
    ok_ = ok_ && sqlite3_bind_int64(statement_, index, value) == SQLITE_OK;
  }
  // True while there is a row.
  bool Step() {
    if (!ok_) return false;
    const int code = sqlite3_step(statement_);
    ok_ = code == SQLITE_ROW || code == SQLITE_DONE;
    return code == SQLITE_ROW;
  }
  bool ok() const { return ok_; }

  std::string Text(int column) const {
    const auto* data = static_cast<const char*>(sqlite3_column_blob(statement_, column));
    const int bytes = sqlite3_column_bytes(statement_, column);
    return data == nullptr ? "" : std::string(data, static_cast<std::size_t>(bytes));
  }
  std::int64_t Number(int column) const { return sqlite3_column_int64(statement_, column); }
  template <std::size_t N>
  bool Bytes(int column, std::array<std::uint8_t, N>& out) const {
    if (sqlite3_column_bytes(statement_, column) != static_cast<int>(N)) return false;
    std::memcpy(out.data(), sqlite3_column_blob(statement_, column), N);
    return true;
  }

 private:
  sqlite3_stmt* statement_ = nullptr;
  bool ok_ = false;
};

}  // namespace

Store::Store(std::string path, sqlite3* database) : path_(std::move(path)), database_(database) {}
Store::~Store() {
  sqlite3_close(database_);
}

Status Store::Error(const std::string& what) const {
  const int code = sqlite3_errcode(database_);
  if (code == SQLITE_BUSY) {
    return Status::Unavailable("state file " + path_ + " is in use by another controller");
  }
  if (code == SQLITE_NOTADB) {
    return Status::Invalid("state file " + path_ +
                           " is not a controller's state; move it away or choose another --state");
  }
  return Status::Internal("state file " + path_ + ": " + what + ": " + sqlite3_errmsg(database_));
}

Status Store::Execute(const char* sql) {
  if (sqlite3_exec(database_, sql, nullptr, nullptr, nullptr) == SQLITE_OK) return Status::Ok();
  return Error("cannot be written");
}

Result<std::unique_ptr<Store>> Store::Open(const std::string& path) {
  if (path != ":memory:") {
    std::error_code error;
    const std::filesystem::path folder = std::filesystem::path(path).parent_path();
    if (!folder.empty()) std::filesystem::create_directories(folder, error);
    if (error) {
      return Status::Internal("cannot create the folder of state file " + path + ": " +
                              error.message() + "; choose another one with --state");
    }
  }
  sqlite3* database = nullptr;
  const mode_t before = ::umask(077);
  const int code = sqlite3_open_v2(
      path.c_str(), &database,
      SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE,
      nullptr);
  std::unique_ptr<Store> store(new Store(path, database));
  Status status = code == SQLITE_OK ? store->Prepare() : store->Error("cannot be opened");
  ::umask(before);
  if (!status.ok()) return status;
  return store;
}

Status Store::Prepare() {
  FARWARP_RETURN_IF_ERROR(Execute("PRAGMA locking_mode = EXCLUSIVE"));
  FARWARP_RETURN_IF_ERROR(Execute("PRAGMA journal_mode = WAL"));
  FARWARP_RETURN_IF_ERROR(Execute("PRAGMA synchronous = FULL"));
  FARWARP_RETURN_IF_ERROR(Execute("PRAGMA foreign_keys = ON"));
  std::int64_t schema = 0;
  {
    Statement version(database_, "PRAGMA user_version");
    if (!version.Step()) return Error("cannot be read");
    schema = version.Number(0);
  }
  if (schema > kSchema) {
    return Status::Invalid("state file " + path_ + " was written by a newer controller (schema " +
                           std::to_string(schema) + ", this one knows " + std::to_string(kSchema) +
                           "); upgrade the controller");
  }
  // Takes the lock now, so that a second controller is refused at its start.
  FARWARP_RETURN_IF_ERROR(Execute("BEGIN IMMEDIATE"));
  Status status = schema == kSchema ? Status::Ok() : Execute(kCreate);
  if (status.ok()) status = Execute("COMMIT");
  if (!status.ok()) sqlite3_exec(database_, "ROLLBACK", nullptr, nullptr, nullptr);
  return status;
}

template <typename Body>
Status Store::InTransaction(Body body) {
  FARWARP_RETURN_IF_ERROR(Execute("BEGIN IMMEDIATE"));
  Status status = body();
  if (status.ok()) status = Execute("COMMIT");
  if (!status.ok()) sqlite3_exec(database_, "ROLLBACK", nullptr, nullptr, nullptr);
  return status;
}

Status Store::WriteLease(const pool::Lease& lease) {
  Statement insert(database_, "INSERT OR REPLACE INTO leases VALUES (?, ?, ?, ?, ?, ?)");
  insert.Bind(1, lease.id.bytes);
  insert.Bind(2, lease.secret);
  insert.Bind(3, lease.node);
  insert.Bind(4, lease.endpoint);
  insert.Bind(5, lease.created_unix_ms);
  insert.BindBlob(6, ToProto(lease.client).SerializeAsString());
  insert.Step();
  if (!insert.ok()) return Error("cannot save a lease");
  for (const pool::Vgpu& vgpu : lease.vgpus) {
    Statement row(database_, "INSERT OR REPLACE INTO vgpus VALUES (?, ?, ?, ?, ?, ?)");
    row.Bind(1, lease.id.bytes);
    row.Bind(2, std::int64_t{vgpu.ordinal});
    row.Bind(3, std::int64_t{vgpu.device_ordinal});
    row.Bind(4, vgpu.device_uuid);
    row.Bind(5, static_cast<std::int64_t>(vgpu.memory_bytes));
    row.Bind(6, std::int64_t{vgpu.compute_percent});
    row.Step();
    if (!row.ok()) return Error("cannot save a vGPU");
  }
  return Status::Ok();
}

Status Store::EraseLease(const pool::LeaseId& lease) {
  Statement erase(database_, "DELETE FROM leases WHERE lease_id = ?");
  erase.Bind(1, lease.bytes);
  erase.Step();
  return erase.ok() ? Status::Ok() : Error("cannot erase a lease");
}

Status Store::WriteDrain(const std::string& node, bool draining) {
  Statement write(database_, draining ? "INSERT OR REPLACE INTO drained_nodes VALUES (?)"
                                      : "DELETE FROM drained_nodes WHERE name = ?");
  write.Bind(1, node);
  write.Step();
  return write.ok() ? Status::Ok() : Error("cannot save a drain");
}

Status Store::Apply(const pool::Actions& actions) {
  const auto is_ours = [](const pool::Action& action) {
    return std::holds_alternative<pool::SaveLease>(action) ||
           std::holds_alternative<pool::EraseLease>(action) ||
           std::holds_alternative<pool::SaveDrain>(action);
  };
  if (std::none_of(actions.begin(), actions.end(), is_ours)) return Status::Ok();
  return InTransaction([&]() -> Status {
    for (const pool::Action& action : actions) {
      if (const auto* save = std::get_if<pool::SaveLease>(&action)) {
        FARWARP_RETURN_IF_ERROR(WriteLease(save->lease));
      } else if (const auto* erase = std::get_if<pool::EraseLease>(&action)) {
        FARWARP_RETURN_IF_ERROR(EraseLease(erase->lease));
      } else if (const auto* drain = std::get_if<pool::SaveDrain>(&action)) {
        FARWARP_RETURN_IF_ERROR(WriteDrain(drain->node, drain->draining));
      }
    }
    return Status::Ok();
  });
}

Status Store::Rewrite(const Stored& all) {
  return InTransaction([&]() -> Status {
    FARWARP_RETURN_IF_ERROR(Execute("DELETE FROM leases; DELETE FROM drained_nodes;"));
    for (const pool::Lease& lease : all.leases) FARWARP_RETURN_IF_ERROR(WriteLease(lease));
    for (const std::string& node : all.drained_nodes)
      FARWARP_RETURN_IF_ERROR(WriteDrain(node, true));
    return Status::Ok();
  });
}

Status Store::LoadVgpus(std::vector<pool::Lease>& leases) {
  std::map<pool::LeaseId, pool::Lease*> by_id;
  for (pool::Lease& lease : leases) by_id[lease.id] = &lease;
  Statement rows(database_,
                 "SELECT lease_id, ordinal, device_ordinal, device_uuid, memory_bytes, "
                 "compute_percent FROM vgpus ORDER BY lease_id, ordinal");
  while (rows.Step()) {
    pool::LeaseId id;
    const auto found = rows.Bytes(0, id.bytes) ? by_id.find(id) : by_id.end();
    if (found == by_id.end()) continue;
    pool::Vgpu vgpu;
    vgpu.ordinal = static_cast<std::uint32_t>(rows.Number(1));
    vgpu.device_ordinal = static_cast<std::uint32_t>(rows.Number(2));
    vgpu.device_uuid = rows.Text(3);
    vgpu.memory_bytes = static_cast<std::uint64_t>(rows.Number(4));
    vgpu.compute_percent = static_cast<std::uint32_t>(rows.Number(5));
    found->second->vgpus.push_back(std::move(vgpu));
  }
  return rows.ok() ? Status::Ok() : Error("cannot be read");
}

Result<Stored> Store::Load() {
  Stored stored;
  Statement rows(database_,
                 "SELECT lease_id, secret, node, endpoint, created_unix_ms, client FROM leases");
  while (rows.Step()) {
    pool::Lease lease;
    v1::ClientInfo client;
    if (!rows.Bytes(0, lease.id.bytes) || !rows.Bytes(1, lease.secret) ||
        !client.ParseFromString(rows.Text(5))) {
      return Status::Invalid("state file " + path_ + " is damaged: a lease cannot be read");
    }
    lease.node = rows.Text(2);
    lease.endpoint = rows.Text(3);
    lease.created_unix_ms = rows.Number(4);
    lease.client = FromProto(client);
    stored.leases.push_back(std::move(lease));
  }
  if (!rows.ok()) return Error("cannot be read");
  FARWARP_RETURN_IF_ERROR(LoadVgpus(stored.leases));
  Statement drained(database_, "SELECT name FROM drained_nodes");
  while (drained.Step()) stored.drained_nodes.insert(drained.Text(0));
  if (!drained.ok()) return Error("cannot be read");
  return stored;
}

}  // namespace farwarp::controller
