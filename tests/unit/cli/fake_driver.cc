// A libcuda.so.1 with as many devices as FAKE_DRIVER_DEVICES says (default 2) of 4 GiB: just what a
// probe asks. FAKE_DRIVER_CRASH makes cuInit crash.
#include <cstddef>
#include <cstdio>
#include <cstdlib>

extern "C" {

[[gnu::visibility("default")]] int cuInit(unsigned) {
  if (std::getenv("FAKE_DRIVER_CRASH") != nullptr) std::abort();
  return 0;
}
[[gnu::visibility("default")]] int cuDriverGetVersion(int* version) {
  *version = 13000;
  return 0;
}
[[gnu::visibility("default")]] int cuDeviceGetCount(int* count) {
  const char* devices = std::getenv("FAKE_DRIVER_DEVICES");
  *count = devices == nullptr ? 2 : std::atoi(devices);
  return 0;
}
[[gnu::visibility("default")]] int cuDeviceGet(int* device, int ordinal) {
  *device = ordinal;
  return 0;
}
[[gnu::visibility("default")]] int cuDeviceGetName(char* name, int bytes, int device) {
  std::snprintf(name, static_cast<std::size_t>(bytes), "Fake GPU %d", device);
  return 0;
}
[[gnu::visibility("default")]] int cuDeviceTotalMem_v2(std::size_t* bytes, int) {
  *bytes = std::size_t{4} << 30;
  return 0;
}

}  // extern "C"
