#include "server/worker/probe_driver.h"

#include <dlfcn.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <utility>

#include "farwarp/wire/limits.h"
#include "server/worker/device_facts.h"

namespace farwarp::server {
namespace {

// True if the driver's code comes from the folder of our own client libraries.
bool IsOurClientLibrary(const driver::Table& driver) {
  Dl_info info{};
  if (::dladdr(reinterpret_cast<void*>(driver.cuInit), &info) == 0) return false;
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::path file = fs::weakly_canonical(info.dli_fname, error);
  const fs::path bin = fs::read_symlink("/proc/self/exe", error).parent_path();
  for (const char* folder : {"../lib", "../lib/farwarp"}) {
    if (file.parent_path() == fs::weakly_canonical(bin / folder, error)) return true;
  }
  return false;
}

std::string VersionName(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

}  // namespace

std::string DescribeError(const driver::Table& driver, CUresult result) {
  const char* name = nullptr;
  std::string number = "CUDA error " + std::to_string(static_cast<int>(result));
  if (driver.cuGetErrorName(result, &name) != CUDA_SUCCESS || name == nullptr) return number;
  return number + " (" + name + ")";
}

Result<LoadedDriver> LoadDriver(const std::string& path) {
  Result<std::unique_ptr<driver::Driver>> driver = driver::Driver::Load(path);
  if (!driver.ok()) return driver.status();
  LoadedDriver loaded;
  loaded.driver = std::move(*driver);
  const driver::Table& table = loaded.driver->table();
  if (IsOurClientLibrary(table)) {
    return Status::Invalid(path +
                           " is Farwarp's own client library; name the real driver with "
                           "--driver, or softgpu");
  }
  if (const CUresult result = table.cuInit(0); result != CUDA_SUCCESS) {
    return Status::Unavailable("the driver " + path + " cannot start: cuInit gives " +
                               DescribeError(table, result));
  }
  if (const CUresult result = table.cuDriverGetVersion(&loaded.version); result != CUDA_SUCCESS) {
    return Status::Unavailable("the driver " + path +
                               " does not tell its version: " + DescribeError(table, result));
  }
  if (loaded.version < kOldestDriver) {
    return Status::Invalid("the driver " + path + " is for CUDA " + VersionName(loaded.version) +
                           "; Farwarp needs CUDA " + VersionName(kOldestDriver) + " or newer");
  }
  const CUresult result = table.cuDeviceGetCount(&loaded.device_count);
  if (result != CUDA_SUCCESS || loaded.device_count <= 0) {
    return Status::Unavailable("the driver " + path + " has no device");
  }
  return loaded;
}

std::string ProbeAnswer(const std::string& path) {
  Result<LoadedDriver> loaded = LoadDriver(path);
  if (!loaded.ok()) return "error\t" + loaded.status().message() + "\n";
  const driver::Table& table = loaded->driver->table();
  std::string answer = "version\t" + std::to_string(loaded->version) + "\n";
  for (int ordinal = 0;
       ordinal < loaded->device_count && ordinal < static_cast<int>(wire::kMaxDevices); ++ordinal) {
    Result<DeviceFacts> facts = ReadDevice(table, ordinal);
    if (!facts.ok()) return "error\t" + facts.status().message() + "\n";
    answer += "device\t" + std::to_string(ordinal) + "\t" + std::to_string(facts->memory_bytes) +
              "\t" + std::to_string(facts->compute_capability) + "\t" +
              std::to_string(facts->sm_count) + "\t" + FormatUuid(facts->uuid) + "\t" +
              facts->name + "\n";
  }
  return answer + "end\n";
}

}  // namespace farwarp::server
