#include "server/worker/device_facts.h"

#include <algorithm>
#include <cstring>

#include "farwarp/base/bytes.h"
#include "server/worker/probe_driver.h"

namespace farwarp::server {
Result<DeviceFacts> ReadDevice(const driver::Table& driver, int ordinal) {
  DeviceFacts facts;
  const auto failed = [&](const char* what, CUresult result) {
    return Status::Unavailable("device " + std::to_string(ordinal) + ": " + what + " gives " +
                               DescribeError(driver, result));
  };
  if (const CUresult result = driver.cuDeviceGet(&facts.device, ordinal); result != CUDA_SUCCESS) {
    return failed("cuDeviceGet", result);
  }
  char name[256] = "";
  if (const CUresult result = driver.cuDeviceGetName(name, sizeof name - 1, facts.device);
      result != CUDA_SUCCESS) {
    return failed("cuDeviceGetName", result);
  }
  facts.name = name;
  std::replace_if(
      facts.name.begin(), facts.name.end(), [](unsigned char c) { return c < ' '; }, ' ');
  std::size_t bytes = 0;
  if (const CUresult result = driver.cuDeviceTotalMem_v2(&bytes, facts.device);
      result != CUDA_SUCCESS) {
    return failed("cuDeviceTotalMem", result);
  }
  facts.memory_bytes = bytes;
  CUuuid uuid{};
  if (const CUresult result = driver.cuDeviceGetUuid_v2(&uuid, facts.device);
      result != CUDA_SUCCESS) {
    return failed("cuDeviceGetUuid", result);
  }
  static_assert(sizeof uuid == sizeof facts.uuid);
  std::memcpy(facts.uuid.data(), &uuid, sizeof uuid);
  const auto read = [&](CUdevice_attribute attribute, std::uint32_t* to) {
    int value = 0;
    const CUresult result = driver.cuDeviceGetAttribute(&value, attribute, facts.device);
    if (result == CUDA_SUCCESS && value >= 0) *to = static_cast<std::uint32_t>(value);
    return result == CUDA_SUCCESS && value >= 0;
  };
  std::uint32_t major = 0;
  std::uint32_t minor = 0;
  if (!read(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, &major) ||
      !read(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, &minor) ||
      !read(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, &facts.sm_count)) {
    return failed("cuDeviceGetAttribute", CUDA_ERROR_INVALID_VALUE);
  }
  facts.compute_capability = 10 * major + minor;
  return facts;
}

std::string FormatUuid(const Uuid& uuid) {
  std::string text = HexEncode(uuid);
  for (const std::size_t dash : {20u, 16u, 12u, 8u}) text.insert(dash, "-");
  return "GPU-" + text;
}

}  // namespace farwarp::server
