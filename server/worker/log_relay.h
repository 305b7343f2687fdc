// LogRelay: hands on what the driver says of errors (cuLogs*) to the client, whose program's they
// are. A driver that is older than that part of CUDA says nothing.
//
// One per session, and that one's lifetime lies within the session's. The driver calls from
// whatever thread met the error.
#pragma once

#include <atomic>

#include "cuda/driver_table.h"
#include "server/session/session.h"

namespace farwarp::server {

class LogRelay {
 public:
  LogRelay(const driver::Table& driver, Session& session);
  // The driver does not call any more.
  ~LogRelay();
  LogRelay(const LogRelay&) = delete;
  LogRelay& operator=(const LogRelay&) = delete;

 private:
  static void OnMessage(void* self, CUlogLevel level, char* message, std::size_t length);

  const driver::Table& driver_;
  Session& session_;
  CUlogsCallbackHandle handle_ = nullptr;
  std::atomic<unsigned> told_{0};
};

}  // namespace farwarp::server
