#include "farwarp/transport/channel.h"

#include "farwarp/wire/limits.h"

namespace farwarp::transport {

Status CheckHeader(const wire::FrameHeader& header) {
  const auto kind = static_cast<unsigned>(header.kind);
  if (kind < static_cast<unsigned>(wire::FrameKind::kHello) ||
      kind > static_cast<unsigned>(wire::FrameKind::kGoodbye)) {
    return Status::Invalid("frame of unknown kind " + std::to_string(kind));
  }
  if (header.flags != 0 || header.reserved != 0)
    return Status::Invalid("frame with reserved bits set");
  const bool handshake =
      header.kind < wire::FrameKind::kCommands && header.kind != wire::FrameKind::kWelcome;
  const std::size_t most = handshake ? wire::kMaxHandshakeBytes : wire::kMaxFrameBytes;
  if (header.bytes > most) {
    return Status::Invalid("frame of " + std::to_string(header.bytes) + " bytes, limit " +
                           std::to_string(most));
  }
  if (header.kind != wire::FrameKind::kBulk && header.bytes % 8 != 0) {
    return Status::Invalid("frame of " + std::to_string(header.bytes) +
                           " bytes is not a multiple of 8");
  }
  return Status::Ok();
}

Status CheckOrder(const wire::FrameHeader& header, const Order& order) {
  const bool counted =
      header.kind >= wire::FrameKind::kCommands && header.kind <= wire::FrameKind::kPush;
  if (header.sequence != (counted ? order.received + 1 : 0)) {
    return Status::Invalid("frame out of order: number " + std::to_string(header.sequence) +
                           " after " + std::to_string(order.received));
  }
  // Who says goodbye in a dead worker's place knows of no frame.
  if (header.kind == wire::FrameKind::kGoodbye) return Status::Ok();
  if (header.acknowledged < order.acknowledged || header.acknowledged > order.sent) {
    return Status::Invalid("the peer acknowledges frame " + std::to_string(header.acknowledged) +
                           ", which is not between " + std::to_string(order.acknowledged) +
                           " and " + std::to_string(order.sent));
  }
  return Status::Ok();
}

}  // namespace farwarp::transport
