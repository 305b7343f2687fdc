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

}  // namespace farwarp::transport
