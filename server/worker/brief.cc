#include "server/worker/brief.h"

#include <cstring>

#include "farwarp/wire/decoder.h"

namespace farwarp::server {

wire::Buffer WorkerBrief::Encode() const {
  wire::Buffer payload;
  wire::Encoder encoder(payload);
  encoder.Put(daemon_pid);
  encoder.PutString(driver);
  encoder.Put(fresh_memory);
  encoder.PutRaw(lease.data(), lease.size());
  encoder.Put(quota_slot);
  encoder.Put(log_level);
  encoder.Put(memory_limit);
  encoder.Put(heartbeat_ms);
  encoder.Put(client_pause_ms);
  encoder.Put(std::uint64_t{vgpus.size()});
  for (const BriefVgpu& vgpu : vgpus) {
    encoder.Put(vgpu.device);
    encoder.Put(vgpu.memory_bytes);
    encoder.Put(vgpu.compute_percent);
  }
  encoder.PutBlob(hello.data(), hello.size());
  encoder.PutBlob(proof.data(), proof.size());
  return payload;
}

Result<WorkerBrief> WorkerBrief::Decode(std::span<const std::byte> payload) {
  wire::Decoder decoder(payload);
  WorkerBrief brief;
  brief.daemon_pid = decoder.Get<std::uint32_t>();
  brief.driver = decoder.GetString();
  brief.fresh_memory = decoder.Get<bool>();
  const auto lease = decoder.GetRaw(brief.lease.size());
  if (!lease.empty()) std::memcpy(brief.lease.data(), lease.data(), lease.size());
  brief.quota_slot = decoder.Get<std::uint32_t>();
  brief.log_level = decoder.Get<std::uint32_t>();
  brief.memory_limit = decoder.Get<std::uint64_t>();
  brief.heartbeat_ms = decoder.Get<std::uint32_t>();
  brief.client_pause_ms = decoder.Get<std::uint32_t>();
  brief.vgpus.resize(decoder.GetCount(wire::kMaxDevices, 24));
  for (BriefVgpu& vgpu : brief.vgpus) {
    vgpu.device = decoder.Get<std::uint32_t>();
    vgpu.memory_bytes = decoder.Get<std::uint64_t>();
    vgpu.compute_percent = decoder.Get<std::uint32_t>();
  }
  const auto hello = decoder.GetBlob(wire::kMaxHandshakeBytes);
  brief.hello.assign(hello.begin(), hello.end());
  const auto proof = decoder.GetBlob(wire::kMaxHandshakeBytes);
  brief.proof.assign(proof.begin(), proof.end());
  if (!decoder.finished() || brief.vgpus.empty()) {
    return Status::Invalid("the daemon's brief is malformed");
  }
  return brief;
}

}  // namespace farwarp::server
