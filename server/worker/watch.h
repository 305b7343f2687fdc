// Watch: sees that the worker's end has begun - the client has gone, or the daemon asks for it -
// whatever the session and the driver are doing, and bounds it.
//
// From BeginEnd on the driver has a short time to give everything back in order; then the process
// exits, which gives it back in any case. A kernel that never ends therefore cannot keep the memory
// of a client that is dead.
//
// One per process; the thread it owns runs until its destructor. BeginEnd: any thread.
#pragma once

#include <chrono>
#include <functional>
#include <thread>

#include "farwarp/base/status.h"
#include "farwarp/base/unique_fd.h"
#include "farwarp/wire/handshake.h"

namespace farwarp::server {

// Lets the process exit with `exit_code` after `patience`. Of several calls the last one counts.
void BeginEnd(std::chrono::milliseconds patience, int exit_code) noexcept;

class Watch {
 public:
  // Both descriptors outlive the watch. `on_farewell` runs on the watch's thread, at most once.
  static Result<std::unique_ptr<Watch>> Start(
      int socket_fd, int control_fd, std::function<void(const wire::Farewell&)> on_farewell);
  ~Watch();
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

 private:
  Watch(UniqueFd stop, int socket_fd, int control_fd,
        std::function<void(const wire::Farewell&)> on_farewell);
  void Run();

  const UniqueFd stop_;  // An eventfd.
  const int socket_fd_;
  const int control_fd_;
  const std::function<void(const wire::Farewell&)> on_farewell_;
  std::thread thread_;
};

}  // namespace farwarp::server
