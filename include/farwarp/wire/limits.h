// Hard limits on everything that is taken from the wire. A peer that exceeds one is cut off; our
// own side checks before it sends. Change a value only with a protocol version (docs/protocol.md).
#pragma once

#include <cstddef>
#include <cstdint>

namespace farwarp::wire {

inline constexpr std::size_t kMaxFrameBytes = std::size_t{4} << 20;  // Payload of one frame.
inline constexpr std::size_t kMaxHandshakeBytes = std::size_t{64}
                                                  << 10;  // Before the proof is accepted.
inline constexpr std::size_t kMaxCommandBytes =
    kMaxFrameBytes - 4096;  // One command with its inline data.
inline constexpr std::size_t kInlineDataBytes = std::size_t{16}
                                                << 10;  // Larger host buffers travel as bulk.
inline constexpr std::size_t kBulkChunkBytes = std::size_t{1} << 20;  // Payload of one bulk frame.
inline constexpr std::size_t kMaxStringBytes = 4096;                  // Names, paths, options.
inline constexpr std::size_t kMaxImageBytes = std::size_t{1} << 30;   // One module image.
inline constexpr std::size_t kMaxLinkInputs = 4096;                   // Of one link.
inline constexpr std::size_t kMaxLinkNameBytes = 255;                 // The name of one of them.
inline constexpr std::size_t kMaxLinkedInReply = std::size_t{1} << 20;  // Longer ones are fetched.
inline constexpr std::size_t kMaxLogBytes = std::size_t{64} << 10;      // JIT info or error log.
inline constexpr std::size_t kMaxDriverMessageBytes = 1024;  // One line of the driver's error log.
inline constexpr std::size_t kMaxKernelParameterBytes =
    32768;  // PTX ISA: 32764 bytes from sm_70 on.
inline constexpr std::uint32_t kMaxHandlesPerKind =
    1u << 20;  // Live streams, events, … of one session.
inline constexpr std::uint32_t kMaxModuleEntries = 1u << 16;  // Kernels of one module.
inline constexpr std::uint32_t kMaxDevices = 64;              // vGPUs of one lease.
inline constexpr std::uint32_t kMaxOutstandingCalls = 4096;   // Blocking calls without a reply yet.

}  // namespace farwarp::wire
