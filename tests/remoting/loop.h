// Loop: the client library and a server session in one process, over a channel pair, with a fake
// driver behind the server and books of a quota in front of it. What a process of an application
// and its worker are, without the processes.
//
// One at a time in a process.
#pragma once

#include <memory>
#include <thread>
#include <vector>

#include "client/driver/process.h"
#include "cuda/wire_table.h"
#include "farwarp/wire/grant.h"
#include "server/session/quota.h"
#include "server/session/session.h"
#include "tests/remoting/fake_driver.h"

namespace farwarp::tests {

// What each side speaks and knows: the same, unless a test says otherwise.
struct Builds {
  wire::ApiTable client = wire::kApiTable;
  wire::ApiTable server = wire::kApiTable;
  wire::VersionRange client_versions;
  wire::VersionRange server_versions;
  wire::Credit credit;  // What the server gives.
};

class Loop {
 public:
  // `table`: another driver than the fake one; initialised.
  explicit Loop(std::vector<std::uint64_t> limits = {std::uint64_t{1} << 30},
                const server::driver::Table* table = nullptr, const Builds& builds = {});
  ~Loop();

  FakeDriver& driver() { return driver_; }
  server::Quota& quota() { return *quota_; }
  client::Process& process() { return *process_; }
  client::Session& client() { return process_->session(); }
  server::Session& server() { return *server_; }
  // Cuts the connection and waits until the server's session has given everything back.
  void Cut();
  // Round trips since the last call.
  std::uint64_t TakeRoundTrips();

 private:
  void Serve(std::unique_ptr<transport::Channel> channel);

  const Builds builds_;
  FakeDriver driver_;
  const server::driver::Table* const table_;
  server::QuotaBook book_;
  std::unique_ptr<server::Quota> quota_;
  wire::Grant grant_;
  std::size_t vgpus_;
  std::unique_ptr<server::Session> server_;
  std::thread serving_;
  client::Process* process_ = nullptr;
  std::uint64_t round_trips_ = 0;
};

}  // namespace farwarp::tests
