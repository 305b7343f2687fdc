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

// What the driver gets when nobody waits for answers any more. A dead client's memory must be free
// within 100 ms: most of that is for the operating system, which has the process's pages to free.
inline constexpr std::chrono::milliseconds kGivingBackPatience{20};

// Lets the process exit after `patience`, or after what is left of an earlier call's if that is
// less: a process waits once. The exit code is the last call's.
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
