// cuDevice*: all of it came with the handshake.
#include <algorithm>
#include <cstdio>
#include <cstring>

#include "client/custom.h"
#include "client/driver/process.h"

namespace farwarp::client::custom {
namespace {

CUresult Find(CUdevice number, Caller* caller, Device** device) {
  if (const CUresult result = Enter(caller); result != CUDA_SUCCESS) return result;
  *device = caller->process->FindDevice(number);
  return *device != nullptr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

CUresult Uuid(CUuuid* uuid, CUdevice dev) {
  Caller caller;
  Device* device;
  if (const CUresult result = Find(dev, &caller, &device); result != CUDA_SUCCESS) return result;
  if (uuid == nullptr) return CUDA_ERROR_INVALID_VALUE;
  static_assert(sizeof uuid->bytes == sizeof device->facts.uuid);
  std::memcpy(uuid->bytes, device->facts.uuid.data(), sizeof uuid->bytes);
  return CUDA_SUCCESS;
}

// Copies as much as fits and always terminates.
void CopyText(const std::string& text, char* to, int capacity) {
  const std::size_t bytes = std::min(text.size(), static_cast<std::size_t>(capacity) - 1);
  std::memcpy(to, text.data(), bytes);
  to[bytes] = '\0';
}

// "[domain:]bus:device[.function]" in hexadecimal.
struct BusId {
  unsigned domain = 0, bus = 0, device = 0, function = 0;
  friend bool operator==(const BusId&, const BusId&) = default;
};
bool ParseBusId(const char* text, BusId* id) {
  *id = {};
  if (std::sscanf(text, "%x:%x:%x.%x", &id->domain, &id->bus, &id->device, &id->function) >= 3) {
    return true;
  }
  *id = {};
  return std::sscanf(text, "%x:%x.%x", &id->bus, &id->device, &id->function) >= 2;
}

}  // namespace

CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  FARWARP_ENTER(caller);
  if (device == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (caller.process->FindDevice(ordinal) == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  *device = ordinal;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int* count) {
  FARWARP_ENTER(caller);
  if (count == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *count = static_cast<int>(caller.process->devices().size());
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetName(char* name, int len, CUdevice dev) {
  Caller caller;
  Device* device;
  if (const CUresult result = Find(dev, &caller, &device); result != CUDA_SUCCESS) return result;
  if (name == nullptr || len <= 0) return CUDA_ERROR_INVALID_VALUE;
  CopyText(device->facts.name, name, len);
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid(CUuuid* uuid, CUdevice dev) {
  return Uuid(uuid, dev);
}
CUresult cuDeviceGetUuid_v2(CUuuid* uuid, CUdevice dev) {
  return Uuid(uuid, dev);
}

CUresult cuDeviceTotalMem_v2(size_t* bytes, CUdevice dev) {
  Caller caller;
  Device* device;
  if (const CUresult result = Find(dev, &caller, &device); result != CUDA_SUCCESS) return result;
  if (bytes == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *bytes = device->facts.total_memory_bytes;
  return CUDA_SUCCESS;
}

CUresult cuDeviceTotalMem(unsigned int* bytes, CUdevice dev) {
  size_t total = 0;
  if (bytes == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const CUresult result = cuDeviceTotalMem_v2(&total, dev);
  if (result == CUDA_SUCCESS) *bytes = static_cast<unsigned>(std::min<size_t>(total, 0xffffffffu));
  return result;
}

CUresult cuDeviceGetAttribute(int* pi, CUdevice_attribute attrib, CUdevice dev) {
  Caller caller;
  Device* device;
  if (const CUresult result = Find(dev, &caller, &device); result != CUDA_SUCCESS) return result;
  if (pi == nullptr || attrib <= 0 || attrib >= CU_DEVICE_ATTRIBUTE_MAX) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  *pi = device->Attribute(attrib);
  return CUDA_SUCCESS;
}

CUresult cuDeviceComputeCapability(int* major, int* minor, CUdevice dev) {
  Caller caller;
  Device* device;
  if (const CUresult result = Find(dev, &caller, &device); result != CUDA_SUCCESS) return result;
  if (major == nullptr || minor == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *major = device->Attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
  *minor = device->Attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetProperties(CUdevprop* prop, CUdevice dev) {
  Caller caller;
  Device* device;
  if (const CUresult result = Find(dev, &caller, &device); result != CUDA_SUCCESS) return result;
  if (prop == nullptr) return CUDA_ERROR_INVALID_VALUE;
  prop->maxThreadsPerBlock = device->limits.max_threads_per_block;
  for (int i = 0; i < 3; ++i) {
    prop->maxThreadsDim[i] = device->launch_limits.block[i];
    prop->maxGridSize[i] = device->launch_limits.grid[i];
  }
  prop->sharedMemPerBlock = device->limits.shared_per_block;
  prop->totalConstantMemory = device->Attribute(CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY);
  prop->SIMDWidth = device->limits.warp_size;
  prop->memPitch = device->Attribute(CU_DEVICE_ATTRIBUTE_MAX_PITCH);
  prop->regsPerBlock = device->limits.registers_per_block;
  prop->clockRate = device->Attribute(CU_DEVICE_ATTRIBUTE_CLOCK_RATE);
  prop->textureAlign = device->Attribute(CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT);
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetPCIBusId(char* pciBusId, int len, CUdevice dev) {
  Caller caller;
  Device* device;
  if (const CUresult result = Find(dev, &caller, &device); result != CUDA_SUCCESS) return result;
  if (pciBusId == nullptr || len <= 0) return CUDA_ERROR_INVALID_VALUE;
  CopyText(device->facts.pci_bus_id, pciBusId, len);
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetByPCIBusId(CUdevice* dev, const char* pciBusId) {
  FARWARP_ENTER(caller);
  BusId wanted;
  if (dev == nullptr || pciBusId == nullptr || !ParseBusId(pciBusId, &wanted)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  auto& devices = caller.process->devices();
  for (std::size_t i = 0; i < devices.size(); ++i) {
    BusId id;
    if (ParseBusId(devices[i]->facts.pci_bus_id.c_str(), &id) && id == wanted) {
      *dev = static_cast<CUdevice>(i);
      return CUDA_SUCCESS;
    }
  }
  return CUDA_ERROR_INVALID_DEVICE;
}

CUresult cuDeviceCanAccessPeer(int* canAccessPeer, CUdevice dev, CUdevice peerDev) {
  FARWARP_ENTER(caller);
  if (canAccessPeer == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (caller.process->FindDevice(dev) == nullptr ||
      caller.process->FindDevice(peerDev) == nullptr) {
    return CUDA_ERROR_INVALID_DEVICE;
  }
  *canAccessPeer = 0;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetP2PAttribute(int* value, CUdevice_P2PAttribute attrib, CUdevice srcDevice,
                                 CUdevice dstDevice) {
  FARWARP_ENTER(caller);
  if (value == nullptr || attrib < CU_DEVICE_P2P_ATTRIBUTE_PERFORMANCE_RANK ||
      attrib > CU_DEVICE_P2P_ATTRIBUTE_ONLY_PARTIAL_NATIVE_ATOMIC_SUPPORTED) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (caller.process->FindDevice(srcDevice) == nullptr ||
      caller.process->FindDevice(dstDevice) == nullptr || srcDevice == dstDevice) {
    return CUDA_ERROR_INVALID_DEVICE;
  }
  *value = 0;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetTexture1DLinearMaxWidth(size_t* maxWidthInElements, CUarray_format /*format*/,
                                            unsigned numChannels, CUdevice dev) {
  Caller caller;
  Device* device;
  if (const CUresult result = Find(dev, &caller, &device); result != CUDA_SUCCESS) return result;
  if (maxWidthInElements == nullptr || numChannels == 0 || numChannels > 4) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  *maxWidthInElements = static_cast<size_t>(
      std::max(device->Attribute(CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE1D_LINEAR_WIDTH), 0));
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetExecAffinitySupport(int* pi, CUexecAffinityType type, CUdevice dev) {
  Caller caller;
  Device* device;
  if (const CUresult result = Find(dev, &caller, &device); result != CUDA_SUCCESS) return result;
  if (pi == nullptr || type < 0 || type >= CU_EXEC_AFFINITY_TYPE_MAX) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  *pi = 0;
  return CUDA_SUCCESS;
}

}  // namespace farwarp::client::custom
