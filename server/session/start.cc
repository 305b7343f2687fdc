// How a session begins: the welcome, with everything about the vGPUs that does not change.
#include <cstring>

#include "farwarp/base/log.h"
#include "farwarp/wire/frame.h"
#include "server/session/commands/state.h"
#include "server/session/quota.h"
#include "server/session/session.h"
#include "server/session/vgpu_identity.h"

namespace farwarp::server {
namespace {

Status DriverFailed(const char* what, CUresult result) {
  return Status::Internal(std::string("the driver failed in ") + what + " with error " +
                          std::to_string(static_cast<int>(result)));
}

Result<wire::DeviceSnapshot> Describe(const driver::Table& driver, CUdevice device) {
  wire::DeviceSnapshot snapshot;
  char text[256] = {};
  if (const CUresult result = driver.cuDeviceGetName(text, sizeof text, device);
      result != CUDA_SUCCESS) {
    return DriverFailed("cuDeviceGetName", result);
  }
  snapshot.name.assign(text, ::strnlen(text, sizeof text));
  CUuuid uuid{};
  if (const CUresult result = driver.cuDeviceGetUuid_v2(&uuid, device); result != CUDA_SUCCESS) {
    return DriverFailed("cuDeviceGetUuid", result);
  }
  std::memcpy(snapshot.uuid.data(), &uuid, sizeof uuid);
  char bus[64] = {};
  if (driver.cuDeviceGetPCIBusId(bus, sizeof bus, device) == CUDA_SUCCESS) {
    snapshot.pci_bus_id.assign(bus, ::strnlen(bus, sizeof bus));
  }
  for (int attribute = 1; attribute < CU_DEVICE_ATTRIBUTE_MAX; ++attribute) {
    int value = 0;
    // A driver that is older than an attribute refuses it.
    if (driver.cuDeviceGetAttribute(&value, static_cast<CUdevice_attribute>(attribute), device) ==
        CUDA_SUCCESS) {
      snapshot.attributes.emplace_back(attribute, value);
    }
  }
  return snapshot;
}

}  // namespace

Result<wire::Welcome> Session::MakeWelcome(const wire::Hello& hello) {
  wire::Welcome welcome;
  welcome.protocol = protocol_;
  welcome.table_hash = options_.table.hash;
  welcome.heartbeat_ms = static_cast<std::uint32_t>(options_.heartbeat.count());
  welcome.credit = options_.credit;
  if (const CUresult result = driver().cuDriverGetVersion(&welcome.driver_version);
      result != CUDA_SUCCESS) {
    return DriverFailed("cuDriverGetVersion", result);
  }
  std::vector<CUdevice> devices;
  for (const int ordinal : options_.device_ordinals) {
    CUdevice device = 0;
    if (const CUresult result = driver().cuDeviceGet(&device, ordinal); result != CUDA_SUCCESS) {
      return DriverFailed("cuDeviceGet", result);
    }
    auto snapshot = Describe(driver(), device);
    if (!snapshot.ok()) return snapshot.status();
    const std::size_t i = devices.size();
    // Two vGPUs of one card are two devices to the program.
    snapshot->uuid = DeriveUuid(options_.lease, static_cast<std::uint32_t>(i), snapshot->uuid);
    snapshot->total_memory_bytes = options_.quota->Limit(static_cast<std::uint32_t>(i));
    if (i < options_.compute_percent.size()) {
      snapshot->compute_percent = options_.compute_percent[i];
    }
    devices.push_back(device);
    welcome.devices.push_back(std::move(*snapshot));
  }
  if (devices.empty()) return Status::Invalid("the lease has no vGPU on this server");
  CUresult result = CUDA_ERROR_NOT_SUPPORTED;
  for (std::uint32_t i = 0; i < hello.windows.size(); ++i) {
    std::vector<std::uint64_t> credit;
    result = state_->Open(devices, hello.windows[i].base, hello.windows[i].bytes, &credit);
    if (result != CUDA_SUCCESS) continue;
    welcome.window = i;
    for (std::size_t d = 0; d < credit.size(); ++d) {
      welcome.devices[d].memory_credit_bytes = credit[d];
    }
    return welcome;
  }
  return Status::Unavailable("the driver can reserve none of the client's address windows (error " +
                             std::to_string(static_cast<int>(result)) +
                             "); it must support virtual memory management");
}

// The same decisions as the client's, from the same tables.
Status Session::Agree(const wire::Hello& hello, std::span<const wire::PeerEntry> client_table) {
  const auto protocol = wire::HighestCommon(hello.versions, options_.versions);
  if (!protocol.has_value()) return wire::NoCommonVersion(hello.versions, options_.versions);
  protocol_ = *protocol;
  auto known = wire::Negotiate(
      options_.table, wire::TablesTravel(hello.table_hash, options_.table.hash), client_table);
  if (!known.ok()) return known.status();
  known_ = std::move(*known);
  if (!known_.all()) {
    FARWARP_LOG(kInfo,
                "the client is of another version: %zu of this one's %zu commands are usable",
                known_.common(), options_.table.entries.size());
  }
  return Status::Ok();
}

Status Session::Start(const wire::Hello& hello, std::span<const wire::PeerEntry> client_table) {
  if (const Status agreed = Agree(hello, client_table); !agreed.ok()) {
    return Refuse(agreed.code() == StatusCode::kVersion ? wire::RefusalCode::kVersion
                                                        : wire::RefusalCode::kMalformed,
                  agreed);
  }
  const auto welcome = MakeWelcome(hello);
  if (!welcome.ok()) return Refuse(wire::RefusalCode::kDriver, welcome.status());
  const wire::Buffer payload = welcome->Encode();
  return channel_->Send(
      {wire::FrameKind::kWelcome, 0, 0, static_cast<std::uint32_t>(payload.size()), 0, 0}, payload,
      {}, Deadline::After(std::chrono::seconds(10)));
}

Status Session::Refuse(wire::RefusalCode code, const Status& status) {
  const wire::Buffer payload = wire::Farewell{code, status.message()}.Encode();
  // Whether or not the client hears it, the session does not begin.
  static_cast<void>(channel_->Send(
      {wire::FrameKind::kRefused, 0, 0, static_cast<std::uint32_t>(payload.size()), 0, 0}, payload,
      {}, Deadline::After(std::chrono::seconds(2))));
  return status;
}

}  // namespace farwarp::server
