// CUDA_VISIBLE_DEVICES: which of the lease's vGPUs the application sees, and in what order.
//
// Pure function, thread-safe.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace farwarp::client {

using DeviceUuid = std::array<unsigned char, 16>;

// "GPU-" and the bytes in the usual 8-4-4-4-12 groups.
std::string UuidText(const DeviceUuid& uuid);

// The vGPUs (indices into `uuids`) that `value` selects; all of them if `value` is null. Entries
// are separated by commas: an index, or a UUID with "GPU-" that may be shortened as long as it is
// unique. The first entry that names no device ends the list; naming a device twice empties it.
std::vector<std::size_t> VisibleDevices(const char* value, std::span<const DeviceUuid> uuids);
// True if `value` selects none whatever devices there are: its first entry has no form of a name.
bool ShowsNone(const char* value);

}  // namespace farwarp::client
