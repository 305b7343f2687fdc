#include "controller/pool/placement.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <set>
#include <string>
#include <tuple>

#include "farwarp/base/bytes.h"

namespace farwarp::pool {
namespace {

// Enough for every arrangement that people ask for; a bound on what a hostile request can cost.
constexpr int kMaxSearchSteps = 20'000;

class Search {
 public:
  Search(std::span<const VgpuAsk> asks, std::span<const DeviceRoom> rooms)
      : asks_(asks), rooms_(rooms.begin(), rooms.end()), chosen_(asks.size()) {
    std::uint64_t largest = 0;
    for (const DeviceRoom& room : rooms_) largest = std::max(largest, room.total_bytes);
    order_.resize(asks.size());
    std::iota(order_.begin(), order_.end(), std::size_t{0});
    // Large ones first; equal ones stay in the order in which they were asked.
    std::sort(order_.begin(), order_.end(), [&](std::size_t a, std::size_t b) {
      const Vgpu left = ResolveAsk(asks_[a], largest);
      const Vgpu right = ResolveAsk(asks_[b], largest);
      return std::tie(left.memory_bytes, left.compute_percent, b) >
             std::tie(right.memory_bytes, right.compute_percent, a);
    });
  }

  bool Run() { return PlaceFrom(0); }

  Placement Take() {
    Placement placement;
    std::set<std::uint32_t> used;
    for (std::size_t i = 0; i < asks_.size(); ++i) {
      const DeviceRoom& room = rooms_[chosen_[i]];
      Vgpu vgpu = ResolveAsk(asks_[i], room.total_bytes);
      vgpu.ordinal = static_cast<std::uint32_t>(i);
      vgpu.device_ordinal = room.device->ordinal;
      vgpu.device_uuid = room.device->uuid;
      placement.vgpus.push_back(std::move(vgpu));
      if (used.insert(room.device->ordinal).second) placement.leftover_bytes += room.free_bytes;
    }
    return placement;
  }

 private:
  struct Candidate {
    std::uint64_t left_bytes;
    std::uint32_t left_percent;
    std::size_t room;
    auto operator<=>(const Candidate&) const = default;
  };

  std::vector<Candidate> Candidates(const VgpuAsk& ask) const {
    std::vector<Candidate> candidates;
    for (std::size_t i = 0; i < rooms_.size(); ++i) {
      const DeviceRoom& room = rooms_[i];
      const Vgpu vgpu = ResolveAsk(ask, room.total_bytes);
      if (vgpu.memory_bytes > room.free_bytes || vgpu.compute_percent > room.free_percent) continue;
      candidates.push_back(
          {room.free_bytes - vgpu.memory_bytes, room.free_percent - vgpu.compute_percent, i});
    }
    std::sort(candidates.begin(), candidates.end());
    return candidates;
  }

  bool PlaceFrom(std::size_t depth) {
    if (depth == order_.size()) return true;
    const VgpuAsk& ask = asks_[order_[depth]];
    std::set<std::tuple<std::uint64_t, std::uint64_t, std::uint32_t>> tried;
    for (const Candidate& candidate : Candidates(ask)) {
      if (++steps_ > kMaxSearchSteps) return false;
      DeviceRoom& room = rooms_[candidate.room];
      // A device that looks the same as one that led nowhere leads nowhere.
      if (!tried.insert({room.total_bytes, room.free_bytes, room.free_percent}).second) continue;
      const DeviceRoom before = room;
      room.free_bytes = candidate.left_bytes;
      room.free_percent = candidate.left_percent;
      chosen_[order_[depth]] = candidate.room;
      if (PlaceFrom(depth + 1)) return true;
      room = before;
    }
    return false;
  }

  std::span<const VgpuAsk> asks_;
  std::vector<DeviceRoom> rooms_;
  std::vector<std::size_t> order_;
  std::vector<std::size_t> chosen_;
  int steps_ = 0;
};

Status CheckLabels(const Labels& labels, const char* what) {
  if (labels.size() > kMaxLabels) {
    return Status::Invalid(std::string("more than ") + std::to_string(kMaxLabels) + " " + what);
  }
  for (const auto& [key, value] : labels) {
    if (key.empty() || key.size() > kMaxNameBytes || value.size() > kMaxNameBytes) {
      return Status::Invalid(std::string("one of the ") + what +
                             " has an empty key or is longer than " +
                             std::to_string(kMaxNameBytes) + " characters");
    }
  }
  return Status::Ok();
}

}  // namespace

Status CheckRequest(const Request& request) {
  if (request.vgpus.empty() || request.vgpus.size() > kMaxVgpusPerLease) {
    return Status::Invalid("a lease has 1 to " + std::to_string(kMaxVgpusPerLease) +
                           " vGPUs, not " + std::to_string(request.vgpus.size()));
  }
  for (const VgpuAsk& ask : request.vgpus) {
    if (ask.memory_bytes != 0 && ask.memory_percent != 0) {
      return Status::Invalid("a vGPU's memory is given in bytes or in percent, not both");
    }
    if (ask.memory_bytes > kMaxMemoryBytes) {
      return Status::Invalid("a vGPU of more than 1 EiB was asked for");
    }
    if (ask.memory_percent > kWholeDevicePercent || ask.compute_percent > kWholeDevicePercent) {
      return Status::Invalid("a percentage is above 100");
    }
  }
  if (request.wait < Time::zero()) return Status::Invalid("the time to wait is negative");
  FARWARP_RETURN_IF_ERROR(CheckLabels(request.node_labels, "node labels"));
  FARWARP_RETURN_IF_ERROR(CheckLabels(request.client.labels, "client labels"));
  for (const std::string* text : {&request.client.user, &request.client.host,
                                  &request.client.program, &request.client.version}) {
    if (text->size() > kMaxTextBytes) {
      return Status::Invalid("a client description is longer than " +
                             std::to_string(kMaxTextBytes) + " bytes");
    }
  }
  return Status::Ok();
}

Vgpu ResolveAsk(const VgpuAsk& ask, std::uint64_t total_bytes) {
  Vgpu vgpu;
  if (ask.memory_bytes != 0) {
    vgpu.memory_bytes = (ask.memory_bytes + kMemoryUnit - 1) / kMemoryUnit * kMemoryUnit;
  } else {
    const std::uint64_t percent = ask.memory_percent != 0 ? ask.memory_percent : 100;
    vgpu.memory_bytes =
        std::max(kMemoryUnit, total_bytes / kMemoryUnit * percent / 100 * kMemoryUnit);
  }
  if (ask.compute_percent != 0) {
    vgpu.compute_percent = ask.compute_percent;
  } else if (ask.memory_bytes == 0) {
    vgpu.compute_percent = ask.memory_percent != 0 ? ask.memory_percent : kWholeDevicePercent;
  } else {
    // Rounded down, so that vGPUs that share a device's memory also share its compute.
    const std::uint64_t total_mib = std::max<std::uint64_t>(1, total_bytes / kMiB);
    const std::uint64_t percent = vgpu.memory_bytes / kMiB * 100 / total_mib;
    vgpu.compute_percent =
        static_cast<std::uint32_t>(std::clamp<std::uint64_t>(percent, 1, kWholeDevicePercent));
  }
  return vgpu;
}

std::optional<Placement> Place(std::span<const VgpuAsk> asks, std::span<const DeviceRoom> rooms) {
  if (asks.empty() || rooms.empty()) return std::nullopt;
  Search search(asks, rooms);
  if (!search.Run()) return std::nullopt;
  return search.Take();
}

}  // namespace farwarp::pool
