// The compiler's options as a command carries them, and what the compiler has to say. The option
// arrays point into the object, which therefore stays where it is. Dispatch thread only.
#pragma once

#include <chrono>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "cuda/driver_api.h"
#include "server/session/call.h"

namespace farwarp::server {

class JitRequest {
 public:
  JitRequest() = default;
  JitRequest(const JitRequest&) = delete;
  JitRequest& operator=(const JitRequest&) = delete;

  // Reads `options` (wire/internal_command.h); what is not allowed makes the call bad.
  void Read(Call& call);
  // After the last argument was read: makes room for the logs.
  void Open();
  unsigned count() const noexcept { return static_cast<unsigned>(options_.size()); }
  CUjit_option* options() noexcept { return options_.data(); }
  void** values() noexcept { return values_.data(); }
  // Writes `logs`, with the time since Open.
  void Answer(Call& call) const;

 private:
  void AddLog(CUjit_option buffer, CUjit_option size, std::string& log);

  std::vector<CUjit_option> options_;
  std::vector<void*> values_;
  std::uint64_t info_bytes_ = 0;
  std::uint64_t error_bytes_ = 0;
  std::string info_log_;
  std::string error_log_;
  std::chrono::steady_clock::time_point start_{};
};

// False for code in which the driver would follow an address, or read behind the end: it may be
// given no length, and believes what the code says.
bool IsContained(std::span<const std::byte> code);

}  // namespace farwarp::server
