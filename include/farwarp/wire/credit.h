// Credit: how much a client may have under way to its server, so that the server can always
// receive. The one stream carries commands, bytes and the news that a host function has run. If the
// server had to stop reading until a stream has used its bytes, it would never hear of the host
// function that the stream waits for.
//
// The Welcome names two credits. The client spends and the server gives back (PushType::kTaken):
//   command_bytes   payload of Commands frames, until each frame has been executed.
//   HostFunctionDone
//                   does not wait for credit, but is counted.
//   bulk_bytes      transfers to the server, until the device has them. Each counts BulkCharge, so
//                   that there are never more than kCreditTransfers. What a host function fetches
//                   does not wait, but is counted with its bytes.
// What has become free comes back once it is a quarter of the credit, so an idle client lacks less
// than that, and BulkCharge leaves that much.
//
// In the other direction a client has at most bulk_bytes of copies registered that have not
// arrived.
//
// Value types.
#pragma once

#include <algorithm>
#include <cstdint>

#include "farwarp/wire/internal_command.h"

namespace farwarp::wire {

struct Credit {
  std::uint64_t command_bytes = std::uint64_t{12} << 20;
  std::uint64_t bulk_bytes = std::uint64_t{192} << 20;

  bool operator==(const Credit&) const = default;
};
// With less nothing could be sent.
inline constexpr std::uint64_t kLeastCredit = std::uint64_t{64} << 10;

// What comes back at once when it is free.
constexpr std::uint64_t CreditStep(std::uint64_t credit) {
  return credit / 4;
}
// Transfers for which the credit is enough, however small they are.
inline constexpr std::uint64_t kCreditTransfers = 4096;
// What a transfer counts. A large one, such as an image, may be more than there is credit; a small
// one costs the server more than its bytes.
constexpr std::uint64_t BulkCharge(const Credit& credit, std::uint64_t bytes) {
  return std::min(std::max(bytes, credit.bulk_bytes / kCreditTransfers),
                  credit.bulk_bytes - CreditStep(credit.bulk_bytes));
}
// The same by number: what a host function fetches counts no more than its bytes.
constexpr std::uint64_t BulkCharge(const Credit& credit, std::uint64_t transfer,
                                   std::uint64_t bytes) {
  return (transfer & kFetchedBit) == 0 ? BulkCharge(credit, bytes)
                                       : std::min(bytes, BulkCharge(credit, bytes));
}

}  // namespace farwarp::wire
