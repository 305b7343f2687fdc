#include "controller/service/convert.h"

#include <algorithm>

namespace farwarp::controller {
namespace {

pool::Labels LabelsFrom(const google::protobuf::Map<std::string, std::string>& labels) {
  return {labels.begin(), labels.end()};
}

pool::Vgpu VgpuFrom(const v1::HeldVgpu& held) {
  pool::Vgpu vgpu;
  vgpu.ordinal = held.vgpu().ordinal();
  vgpu.device_ordinal = held.vgpu().device_ordinal();
  vgpu.device_uuid = held.vgpu().device_uuid();
  vgpu.memory_bytes = held.vgpu().memory_bytes();
  vgpu.compute_percent = held.vgpu().compute_percent();
  vgpu.memory_used_bytes = held.memory_used_bytes();
  return vgpu;
}

}  // namespace

v1::ClientInfo ToProto(const pool::Client& client) {
  v1::ClientInfo out;
  out.set_user(client.user);
  out.set_host(client.host);
  out.set_pid(client.pid);
  out.set_program(client.program);
  out.set_farwarp_version(client.version);
  out.mutable_labels()->insert(client.labels.begin(), client.labels.end());
  return out;
}

pool::Client FromProto(const v1::ClientInfo& client) {
  pool::Client out;
  out.user = client.user();
  out.host = client.host();
  out.pid = client.pid();
  out.program = client.program();
  out.version = client.farwarp_version();
  out.labels = LabelsFrom(client.labels());
  return out;
}

v1::Vgpu ToProto(const pool::Vgpu& vgpu) {
  v1::Vgpu out;
  out.set_ordinal(vgpu.ordinal);
  out.set_device_ordinal(vgpu.device_ordinal);
  out.set_device_uuid(vgpu.device_uuid);
  out.set_memory_bytes(vgpu.memory_bytes);
  out.set_compute_percent(vgpu.compute_percent);
  return out;
}

v1::Device ToProto(const pool::Device& device) {
  v1::Device out;
  out.set_ordinal(device.ordinal);
  out.set_uuid(device.uuid);
  out.set_name(device.name);
  out.set_memory_bytes(device.memory_bytes);
  out.set_compute_capability(device.compute_capability);
  out.set_sm_count(device.sm_count);
  return out;
}

v1::VgpuRequest ToProto(const pool::VgpuAsk& ask) {
  v1::VgpuRequest out;
  out.set_memory_bytes(ask.memory_bytes);
  out.set_memory_percent(ask.memory_percent);
  out.set_compute_percent(ask.compute_percent);
  return out;
}

v1::Grant ToProto(const pool::TellGranted& granted) {
  v1::Grant out;
  out.set_lease_id(ToBytes(granted.lease));
  out.set_secret(std::string(granted.secret.begin(), granted.secret.end()));
  for (const pool::Vgpu& vgpu : granted.vgpus) {
    v1::GrantedVgpu& item = *out.add_vgpus();
    item.set_endpoint(granted.endpoint);
    item.set_node(granted.node);
    item.set_device_uuid(vgpu.device_uuid);
    item.set_ordinal(vgpu.ordinal);
    item.set_memory_bytes(vgpu.memory_bytes);
    item.set_compute_percent(vgpu.compute_percent);
  }
  return out;
}

std::string ToBytes(const pool::LeaseId& lease) {
  return {lease.bytes.begin(), lease.bytes.end()};
}

Result<pool::Request> FromProto(const v1::AcquireRequest& request) {
  if (request.vgpus_size() > static_cast<int>(pool::kMaxVgpusPerLease)) {
    return Status::Invalid("a lease has 1 to " + std::to_string(pool::kMaxVgpusPerLease) +
                           " vGPUs, not " + std::to_string(request.vgpus_size()));
  }
  pool::Request out;
  for (const v1::VgpuRequest& vgpu : request.vgpus())
    out.vgpus.push_back({vgpu.memory_bytes(), vgpu.memory_percent(), vgpu.compute_percent()});
  // A year is for ever; the pool knows no longer waits.
  constexpr std::uint64_t kYearMs = std::uint64_t{365} * 24 * 3600 * 1000;
  out.wait = pool::Time{static_cast<std::int64_t>(std::min(request.wait_ms(), kYearMs))};
  out.client = FromProto(request.client());
  out.node_labels = LabelsFrom(request.node_labels());
  return out;
}

Result<pool::NodeInfo> FromProto(const v1::NodeHello& hello) {
  pool::NodeInfo info;
  info.name = hello.name();
  info.instance_id = hello.instance_id();
  info.data_endpoint = hello.data_endpoint();
  info.driver_version = hello.driver_version();
  info.version = hello.farwarp_version();
  info.labels = LabelsFrom(hello.labels());
  if (hello.devices_size() > static_cast<int>(pool::kMaxDevicesPerNode)) {
    return Status::Invalid("a node has at most " + std::to_string(pool::kMaxDevicesPerNode) +
                           " devices");
  }
  for (const v1::Device& device : hello.devices()) {
    info.devices.push_back({device.ordinal(), device.uuid(), device.name(), device.memory_bytes(),
                            device.compute_capability(), device.sm_count()});
  }
  return info;
}

Result<std::vector<pool::HeldLease>> FromProto(
    const google::protobuf::RepeatedPtrField<v1::HeldLease>& leases) {
  if (leases.size() > static_cast<int>(pool::kMaxLeasesPerNode)) {
    return Status::Invalid("a node holds at most " + std::to_string(pool::kMaxLeasesPerNode) +
                           " leases");
  }
  std::vector<pool::HeldLease> out;
  for (const v1::HeldLease& lease : leases) {
    const Result<pool::LeaseId> id = LeaseIdFrom(lease.lease_id());
    if (!id.ok()) return id.status();
    if (lease.vgpus_size() > static_cast<int>(pool::kMaxVgpusPerLease)) {
      return Status::Invalid("a lease has at most " + std::to_string(pool::kMaxVgpusPerLease) +
                             " vGPUs");
    }
    pool::HeldLease& held = out.emplace_back();
    held.id = *id;
    held.connections = lease.connections();
    for (const v1::HeldVgpu& vgpu : lease.vgpus()) held.vgpus.push_back(VgpuFrom(vgpu));
  }
  return out;
}

Result<pool::LeaseId> LeaseIdFrom(const std::string& bytes) {
  pool::LeaseId id;
  if (bytes.size() != id.bytes.size()) return Status::Invalid("a lease id has 16 bytes");
  std::copy(bytes.begin(), bytes.end(), id.bytes.begin());
  return id;
}

Result<pool::Secret> SecretFrom(const std::string& bytes) {
  pool::Secret secret{};
  if (bytes.size() != secret.size()) return Status::Invalid("a lease secret has 32 bytes");
  std::copy(bytes.begin(), bytes.end(), secret.begin());
  return secret;
}

}  // namespace farwarp::controller
