// Everything that is decoded before the peer is known: frame headers, handshake messages, grants.
#include <cstring>

#include "farwarp/transport/channel.h"
#include "farwarp/wire/handshake.h"

namespace {

// What decodes must encode to the same bytes: there is one form of each message.
template <typename Message>
void Check(std::span<const std::byte> payload) {
  const auto message = Message::Decode(payload);
  if (!message.ok()) return;
  const farwarp::wire::Buffer again = message->Encode();
  if (again.size() != payload.size()) __builtin_trap();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::span<const std::byte> payload(reinterpret_cast<const std::byte*>(data) + 1, size - 1);
  switch (data[0] % 7) {
    case 0:
      Check<farwarp::wire::Hello>(payload);
      break;
    case 1:
      Check<farwarp::wire::Challenge>(payload);
      break;
    case 2:
      Check<farwarp::wire::Proof>(payload);
      break;
    case 3:
      Check<farwarp::wire::Welcome>(payload);
      break;
    case 4:
      Check<farwarp::wire::Farewell>(payload);
      break;
    case 5: {
      farwarp::wire::FrameHeader header;
      if (payload.size() < sizeof header) return 0;
      std::memcpy(&header, payload.data(), sizeof header);
      static_cast<void>(farwarp::transport::CheckHeader(header));
      static_cast<void>(farwarp::transport::CheckOrder(header, {1, 2, 3}));
      break;
    }
    default: {
      const std::string_view text(reinterpret_cast<const char*>(payload.data()), payload.size());
      const auto grant = farwarp::wire::ParseGrant(text);
      if (grant.ok() && !farwarp::wire::ParseGrant(farwarp::wire::FormatGrant(*grant)).ok()) {
        __builtin_trap();
      }
    }
  }
  return 0;
}
