// Push: what the server says without being asked, in order with replies and copies.
//
//   push payload := type:u64 body
//     kError        context:handle result:i32 command:u32    an asynchronous command failed
//     kOutput       blob                                     bytes that kernels printed
//     kHostCallback callback:u64                             a stream reached a host function
//     kTaken        command_bytes:u64 bulk_bytes:u64         credit that comes back (credit.h)
//     kLog          level:u32 blob                           what the driver says of an error
//
// Value type.
#pragma once

#include <cstdint>

namespace farwarp::wire {

enum class PushType : std::uint64_t {
  kError = 1,
  kOutput = 2,
  kHostCallback = 3,
  kTaken = 4,
  kLog = 5
};

}  // namespace farwarp::wire
