// Frames, and the messages inside the two ordered ones: commands and replies.
//
//   frame    := header payload
//   header   := kind:u8 flags:u8 reserved:u16 bytes:u32 sequence:u64 acknowledged:u64        (24
//   bytes) payload  := `bytes` bytes; the next frame follows at once (bytes is a multiple of 8
//   except in kBulk)
//
//   kCommands payload := command*        command := id:u32 bytes:u32 ticket:u64 body[bytes]
//   kReplies  payload := reply*          reply   := ticket:u64 result:i32 bytes:u32 body[bytes]
//   kBulk     payload := transfer:u64 offset:u64 data[bytes - 16]
//
// `sequence` counts the resumable frames of one direction from 1 (commands, replies, bulk, push);
// it is 0 in the others. `acknowledged` is the highest sequence that the sender has processed in
// the other direction. A ticket of 0 means that no reply is wanted; other tickets are dense numbers
// from the client. All of it little endian.
#pragma once

#include <cstddef>
#include <cstdint>

namespace farwarp::wire {

inline constexpr std::uint32_t kProtocolVersion = 1;

enum class FrameKind : std::uint8_t {
  kHello = 1,      // client → server: versions, table hash, lease id, transports on offer.
  kChallenge = 2,  // server → client: versions, table, nonce.
  kProof = 3,      // client → server: HMAC with the lease secret over all that was said, table.
  kWelcome = 4,  // server → client: negotiated version, driver and device snapshot, address window,
                 // credit.
  kRefused = 5,  // server → client: a code and a sentence; the connection ends.
  kCommands = 6,  // client → server, ordered.
  kReplies = 7,   // server → client, ordered.
  kBulk = 8,      // both, ordered: bytes of a transfer.
  kPush = 9,      // server → client, ordered: asynchronous errors, completions, output of kernels.
  kAck = 10,      // both: only the acknowledgement.
  kPing = 11,     // both: heartbeat; answered by kAck.
  kGoodbye = 12,  // both: an orderly end, with a reason.
};

struct FrameHeader {
  FrameKind kind;
  std::uint8_t flags;
  std::uint16_t reserved;
  std::uint32_t bytes;
  std::uint64_t sequence;
  std::uint64_t acknowledged;
};
static_assert(sizeof(FrameHeader) == 24);

struct CommandHeader {
  std::uint32_t id;
  std::uint32_t bytes;
  std::uint64_t ticket;
};
static_assert(sizeof(CommandHeader) == 16);

struct ReplyHeader {
  std::uint64_t ticket;
  std::int32_t result;  // a CUresult
  std::uint32_t bytes;
};
static_assert(sizeof(ReplyHeader) == 16);

struct BulkHeader {
  std::uint64_t transfer;
  std::uint64_t offset;
};
static_assert(sizeof(BulkHeader) == 16);

}  // namespace farwarp::wire
