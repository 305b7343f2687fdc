// The options of CUDA's compiler and linker on their way to the server: which of them travel, and
// where their answers go: logs and time are written into the application's arrays.
//
//   options := count:u64 (option:i32 value:u64)* info_log_bytes:u64 error_log_bytes:u64
//   logs    := info_log:string error_log:string walltime_us:u64
//
// One thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "client/session/command.h"
#include "cuda/driver_api.h"

namespace farwarp::client {

// An application's options: two parallel arrays, some values of which are written to.
struct JitOptions {
  unsigned count = 0;
  CUjit_option* options = nullptr;
  void** values = nullptr;
};

class JitRequest {
 public:
  JitRequest() = default;
  // CUDA_ERROR_INVALID_VALUE if the arrays are missing or an option is unknown;
  // CUDA_ERROR_NOT_SUPPORTED for symbols at addresses of the application's, which mean nothing
  // elsewhere. The arrays must live until the last answer was written.
  CUresult Read(const JitOptions& options);

  void Put(wire::Encoder& body) const;
  // Reads the logs of a reply and passes them on; errors also go into our own log if `result` is
  // one.
  void Take(wire::Decoder& body, CUresult result);
  // An error that was found here.
  void WriteError(std::string_view text) { error_.Write(text); }

 private:
  // A log buffer of the application's: the buffer and the option that holds its size.
  struct LogBuffer {
    void Write(std::string_view log) const;
    char* text = nullptr;
    void** size = nullptr;
    std::uint64_t capacity = 0;
  };
  struct Forwarded {
    CUjit_option option;
    std::uint64_t value;
  };
  LogBuffer FindBuffer(const JitOptions& options, CUjit_option buffer, CUjit_option size) const;

  std::vector<Forwarded> forwarded_;
  LogBuffer info_;
  LogBuffer error_;
  void** wall_time_ = nullptr;
};

}  // namespace farwarp::client
