// DeviceSnapshot: everything about one vGPU that does not change while a session lives, sent once.
// Value type.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "farwarp/wire/decoder.h"
#include "farwarp/wire/encoder.h"
#include "farwarp/wire/frame.h"

namespace farwarp::wire {

struct DeviceSnapshot {
  std::string name;
  std::array<std::uint8_t, 16> uuid{};
  std::string pci_bus_id;                // "0000:01:00.0"
  std::uint64_t total_memory_bytes = 0;  // The vGPU's quota.
  std::uint64_t memory_credit_bytes =
      0;  // Of the quota, already charged: the client may map so much without asking.
  std::uint32_t compute_percent = 100;
  std::vector<std::pair<std::int32_t, std::int32_t>>
      attributes;  // CUdevice_attribute and its value.

  void EncodeTo(Encoder& encoder) const;
  static DeviceSnapshot DecodeFrom(Decoder& decoder);
};

inline constexpr std::size_t kMaxAttributes = 512;

}  // namespace farwarp::wire
