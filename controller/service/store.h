// Store: what survives a restart of the controller, in one SQLite file.
//
//   leases (lease_id BLOB(16) primary key, secret BLOB(32), node, endpoint, created_unix_ms,
//           client BLOB: a ClientInfo message)
//   vgpus  (lease_id, ordinal, device_ordinal, device_uuid, memory_bytes, compute_percent)
//   drained_nodes (name primary key)
//
// The schema's number is SQLite's user_version. The file holds secrets: it is created for its owner
// only. One process at a time: a second one is refused.
//
// Thread-safety: external lock.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "controller/pool/actions.h"
#include "farwarp/base/status.h"

struct sqlite3;

namespace farwarp::controller {

struct Stored {
  std::vector<pool::Lease> leases;
  std::set<std::string> drained_nodes;
};

class Store {
 public:
  // Opens or creates the file and its folder. ":memory:" keeps nothing.
  static Result<std::unique_ptr<Store>> Open(const std::string& path);
  ~Store();
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  Result<Stored> Load();
  // The SaveLease, EraseLease and SaveDrain among the actions, in one transaction that is on disk
  // when this returns. Nothing is written when there is none.
  Status Apply(const pool::Actions& actions);
  // Everything anew; after an Apply that failed.
  Status Rewrite(const Stored& all);

 private:
  Store(std::string path, sqlite3* database);
  Status Prepare();
  Status Execute(const char* sql);
  Status Error(const std::string& what) const;
  Status WriteLease(const pool::Lease& lease);
  Status EraseLease(const pool::LeaseId& lease);
  Status WriteDrain(const std::string& node, bool draining);
  Status LoadVgpus(std::vector<pool::Lease>& leases);
  template <typename Body>
  Status InTransaction(Body body);

  const std::string path_;
  sqlite3* database_;
};

}  // namespace farwarp::controller
