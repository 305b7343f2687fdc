#include "server/session/vgpu_identity.h"

#include <cstring>
#include <span>

#include "farwarp/base/hmac.h"
#include "farwarp/wire/encoder.h"

namespace farwarp::server {

Uuid DeriveUuid(const wire::LeaseId& lease, std::uint32_t ordinal, const Uuid& device) {
  wire::Buffer message;
  wire::Encoder encoder(message);
  encoder.PutString("farwarp vgpu uuid 1");
  encoder.Put(ordinal);
  encoder.PutRaw(device.data(), device.size());
  const Digest digest = HmacSha256(std::as_bytes(std::span(lease)), message);
  Uuid uuid{};
  std::memcpy(uuid.data(), digest.data(), uuid.size());
  uuid[6] = static_cast<std::uint8_t>((uuid[6] & 0x0f) | 0x80);  // Version 8: made by a rule.
  uuid[8] = static_cast<std::uint8_t>((uuid[8] & 0x3f) | 0x80);
  return uuid;
}

}  // namespace farwarp::server
