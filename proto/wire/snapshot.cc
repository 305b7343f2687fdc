#include "farwarp/wire/snapshot.h"

#include <algorithm>

namespace farwarp::wire {

void DeviceSnapshot::EncodeTo(Encoder& encoder) const {
  encoder.PutString(name);
  encoder.PutRaw(uuid.data(), uuid.size());
  encoder.PutString(pci_bus_id);
  encoder.Put(total_memory_bytes);
  encoder.Put(memory_credit_bytes);
  encoder.Put(compute_percent);
  encoder.Put(std::uint64_t{attributes.size()});
  for (const auto& [attribute, value] : attributes) {
    encoder.Put(attribute);
    encoder.Put(value);
  }
}

DeviceSnapshot DeviceSnapshot::DecodeFrom(Decoder& decoder) {
  DeviceSnapshot device;
  device.name = decoder.GetString(256);
  const auto uuid = decoder.GetRaw(device.uuid.size());
  std::transform(uuid.begin(), uuid.end(), device.uuid.begin(),
                 [](std::byte b) { return std::to_integer<std::uint8_t>(b); });
  device.pci_bus_id = decoder.GetString(64);
  device.total_memory_bytes = decoder.Get<std::uint64_t>();
  device.memory_credit_bytes = decoder.Get<std::uint64_t>();
  device.compute_percent = decoder.Get<std::uint32_t>();
  device.attributes.resize(decoder.GetCount(kMaxAttributes, 16));
  for (auto& [attribute, value] : device.attributes) {
    attribute = decoder.Get<std::int32_t>();
    value = decoder.Get<std::int32_t>();
  }
  return device;
}

}  // namespace farwarp::wire
