// Devices: count, names, attributes, peers, primary contexts.
#include <cstdio>
#include <cstring>

#include "server/softgpu/api/context/current.h"
#include "server/softgpu/api/driver.h"

using namespace farwarp::softgpu;

namespace {

// Runs body(Device&) for a device that exists.
template <typename Body>
CUresult CallDevice(CUdevice device, Body&& body) noexcept {
  return CallDriver([&](Driver& driver) -> CUresult {
    Device* found = driver.FindDevice(device);
    return found == nullptr ? CUDA_ERROR_INVALID_DEVICE : body(*found);
  });
}

constexpr unsigned kContextFlags = CU_CTX_FLAGS_MASK;

bool ValidContextFlags(unsigned flags) {
  const unsigned schedule = flags & CU_CTX_SCHED_MASK;
  return (flags & ~kContextFlags) == 0 &&
         (schedule == CU_CTX_SCHED_AUTO || schedule == CU_CTX_SCHED_SPIN ||
          schedule == CU_CTX_SCHED_YIELD || schedule == CU_CTX_SCHED_BLOCKING_SYNC);
}

// Ends the primary context; the handle stays for the next one, and so does what has been retained.
void EndPrimary(Driver& driver, Device& device) {
  std::shared_ptr<Context> context;
  {
    const farwarp::MutexLock lock(device.primary_mutex);
    Device::Primary& primary = device.primary;
    context = std::move(primary.context);
    primary.context = nullptr;
    if (primary.handle != nullptr) driver.contexts.Replace(primary.handle, nullptr);
  }
  if (context != nullptr) driver.DestroyContext(context);
}

CUresult PeerAttribute(CUdevice_P2PAttribute attribute, bool same, int* value) {
  switch (attribute) {
    case CU_DEVICE_P2P_ATTRIBUTE_PERFORMANCE_RANK:
      *value = 0;
      return CUDA_SUCCESS;
    case CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED:
    case CU_DEVICE_P2P_ATTRIBUTE_NATIVE_ATOMIC_SUPPORTED:
      *value = same ? 0 : 1;
      return CUDA_SUCCESS;
    case CU_DEVICE_P2P_ATTRIBUTE_CUDA_ARRAY_ACCESS_SUPPORTED:
    case CU_DEVICE_P2P_ATTRIBUTE_ONLY_PARTIAL_NATIVE_ATOMIC_SUPPORTED:
      *value = 0;
      return CUDA_SUCCESS;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}

}  // namespace

extern "C" {

CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  return CallDevice(ordinal, [&](Device&) {
    if (device == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *device = ordinal;
    return CUDA_SUCCESS;
  });
}

CUresult cuDeviceGetCount(int* count) {
  return CallDriver([&](Driver& driver) {
    if (count == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *count = static_cast<int>(driver.devices.size());
    return CUDA_SUCCESS;
  });
}

CUresult cuDeviceGetName(char* name, int len, CUdevice dev) {
  return CallDevice(dev, [&](Device& device) {
    if (name == nullptr || len <= 0) return CUDA_ERROR_INVALID_VALUE;
    std::snprintf(name, static_cast<std::size_t>(len), "%s", device.name().c_str());
    return CUDA_SUCCESS;
  });
}

CUresult cuDeviceGetUuid_v2(CUuuid* uuid, CUdevice dev) {
  return CallDevice(dev, [&](Device& device) {
    if (uuid == nullptr) return CUDA_ERROR_INVALID_VALUE;
    std::memcpy(uuid->bytes, device.uuid().data(), sizeof uuid->bytes);
    return CUDA_SUCCESS;
  });
}
CUresult cuDeviceGetUuid(CUuuid* uuid, CUdevice dev) {
  return cuDeviceGetUuid_v2(uuid, dev);
}

CUresult cuDeviceTotalMem_v2(size_t* bytes, CUdevice dev) {
  return CallDevice(dev, [&](Device& device) {
    if (bytes == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *bytes = device.budget().total();
    return CUDA_SUCCESS;
  });
}
CUresult cuDeviceTotalMem(unsigned int* bytes, CUdevice dev) {
  return CallDevice(dev, [&](Device& device) {
    if (bytes == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *bytes = static_cast<unsigned>(std::min<std::uint64_t>(device.budget().total(), 0xffffffffu));
    return CUDA_SUCCESS;
  });
}

CUresult cuDeviceGetAttribute(int* pi, CUdevice_attribute attrib, CUdevice dev) {
  return CallDevice(dev, [&](Device& device) {
    int value = 0;
    if (pi == nullptr || !device.Attribute(attrib, &value)) return CUDA_ERROR_INVALID_VALUE;
    *pi = value;
    return CUDA_SUCCESS;
  });
}

CUresult cuDeviceComputeCapability(int* major, int* minor, CUdevice dev) {
  return CallDevice(dev, [&](Device& device) {
    if (major == nullptr || minor == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *major = device.compute_capability() / 10;
    *minor = device.compute_capability() % 10;
    return CUDA_SUCCESS;
  });
}

CUresult cuDeviceGetProperties(CUdevprop* prop, CUdevice dev) {
  return CallDevice(dev, [&](Device&) {
    if (prop == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *prop = {kMaxThreadsPerBlock,
             {kMaxThreadsPerBlock, kMaxThreadsPerBlock, kMaxBlockZ},
             {0x7fffffff, kMaxGridYZ, kMaxGridYZ},
             kSharedPerBlock,
             65536,
             kWarpSize,
             0x7fffffff,
             kRegisters,
             1000000,
             kTextureAlignment};
    return CUDA_SUCCESS;
  });
}

CUresult cuDeviceGetPCIBusId(char* pciBusId, int len, CUdevice dev) {
  return CallDevice(dev, [&](Device& device) {
    const std::string id = device.PciBusId();
    if (pciBusId == nullptr || len <= 0) return CUDA_ERROR_INVALID_VALUE;
    std::snprintf(pciBusId, static_cast<std::size_t>(len), "%s", id.c_str());
    return CUDA_SUCCESS;
  });
}

CUresult cuDeviceGetByPCIBusId(CUdevice* dev, const char* pciBusId) {
  return CallDriver([&](Driver& driver) {
    if (dev == nullptr || pciBusId == nullptr) return CUDA_ERROR_INVALID_VALUE;
    // [domain]:[bus]:[device].[function], [domain]:[bus]:[device] or [bus]:[device].[function].
    unsigned domain = 0, bus = 0, slot = 0, function = 0;
    if (std::sscanf(pciBusId, "%x:%x:%x.%x", &domain, &bus, &slot, &function) < 3) {
      domain = 0;
      if (std::sscanf(pciBusId, "%x:%x.%x", &bus, &slot, &function) != 3) {
        return CUDA_ERROR_INVALID_VALUE;
      }
    }
    for (const auto& device : driver.devices) {
      int known = 0;
      device->Attribute(CU_DEVICE_ATTRIBUTE_PCI_BUS_ID, &known);
      if (domain == 0 && slot == 0 && function == 0 && static_cast<unsigned>(known) == bus) {
        *dev = device->ordinal();
        return CUDA_SUCCESS;
      }
    }
    return CUDA_ERROR_INVALID_DEVICE;
  });
}

CUresult cuDeviceGetTexture1DLinearMaxWidth(size_t* maxWidthInElements, CUarray_format,
                                            unsigned int, CUdevice dev) {
  return CallDevice(dev, [&](Device& device) {
    int value = 0;
    if (maxWidthInElements == nullptr) return CUDA_ERROR_INVALID_VALUE;
    device.Attribute(CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE1D_LINEAR_WIDTH, &value);
    *maxWidthInElements = static_cast<std::size_t>(value);
    return CUDA_SUCCESS;
  });
}

CUresult cuDeviceGetExecAffinitySupport(int* pi, CUexecAffinityType, CUdevice dev) {
  return CallDevice(dev, [&](Device&) {
    if (pi == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *pi = 0;
    return CUDA_SUCCESS;
  });
}

CUresult cuDeviceCanAccessPeer(int* canAccessPeer, CUdevice dev, CUdevice peerDev) {
  return CallDriver([&](Driver& driver) {
    if (canAccessPeer == nullptr) return CUDA_ERROR_INVALID_VALUE;
    if (driver.FindDevice(dev) == nullptr || driver.FindDevice(peerDev) == nullptr) {
      return CUDA_ERROR_INVALID_DEVICE;
    }
    *canAccessPeer = dev != peerDev;
    return CUDA_SUCCESS;
  });
}

CUresult cuDeviceGetP2PAttribute(int* value, CUdevice_P2PAttribute attrib, CUdevice srcDevice,
                                 CUdevice dstDevice) {
  return CallDriver([&](Driver& driver) {
    if (value == nullptr) return CUDA_ERROR_INVALID_VALUE;
    if (driver.FindDevice(srcDevice) == nullptr || driver.FindDevice(dstDevice) == nullptr ||
        srcDevice == dstDevice) {
      return CUDA_ERROR_INVALID_DEVICE;
    }
    return PeerAttribute(attrib, srcDevice == dstDevice, value);
  });
}

CUresult cuDevicePrimaryCtxRetain(CUcontext* pctx, CUdevice dev) {
  return CallDriver([&](Driver& driver) {
    Device* device = driver.FindDevice(dev);
    if (device == nullptr) return CUDA_ERROR_INVALID_DEVICE;
    if (pctx == nullptr) return CUDA_ERROR_INVALID_VALUE;
    const farwarp::MutexLock lock(device->primary_mutex);
    Device::Primary& primary = device->primary;
    if (primary.context == nullptr) {
      primary.context = driver.NewContext(*device, primary.flags, true);
      if (primary.handle == nullptr) {
        primary.handle = driver.contexts.Add(primary.context);
      } else {
        driver.contexts.Replace(primary.handle, primary.context);
      }
      primary.context->set_handle(primary.handle);
    }
    ++primary.retained;
    *pctx = primary.handle;
    return CUDA_SUCCESS;
  });
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice dev) {
  return CallDriver([&](Driver& driver) {
    Device* device = driver.FindDevice(dev);
    if (device == nullptr) return CUDA_ERROR_INVALID_DEVICE;
    {
      const farwarp::MutexLock lock(device->primary_mutex);
      Device::Primary& primary = device->primary;
      if (primary.retained == 0) return CUDA_ERROR_INVALID_CONTEXT;
      if (--primary.retained != 0) return CUDA_SUCCESS;
    }
    EndPrimary(driver, *device);
    return CUDA_SUCCESS;
  });
}
CUresult cuDevicePrimaryCtxRelease(CUdevice dev) {
  return cuDevicePrimaryCtxRelease_v2(dev);
}

CUresult cuDevicePrimaryCtxReset_v2(CUdevice dev) {
  return CallDriver([&](Driver& driver) {
    Device* device = driver.FindDevice(dev);
    if (device == nullptr) return CUDA_ERROR_INVALID_DEVICE;
    EndPrimary(driver, *device);
    return CUDA_SUCCESS;
  });
}
CUresult cuDevicePrimaryCtxReset(CUdevice dev) {
  return cuDevicePrimaryCtxReset_v2(dev);
}

CUresult cuDevicePrimaryCtxSetFlags_v2(CUdevice dev, unsigned int flags) {
  return CallDevice(dev, [&](Device& device) {
    if (!ValidContextFlags(flags)) return CUDA_ERROR_INVALID_VALUE;
    const farwarp::MutexLock lock(device.primary_mutex);
    device.primary.flags = flags;
    if (device.primary.context != nullptr) device.primary.context->set_flags(flags);
    return CUDA_SUCCESS;
  });
}
CUresult cuDevicePrimaryCtxSetFlags(CUdevice dev, unsigned int flags) {
  return cuDevicePrimaryCtxSetFlags_v2(dev, flags);
}

CUresult cuDevicePrimaryCtxGetState(CUdevice dev, unsigned int* flags, int* active) {
  return CallDevice(dev, [&](Device& device) {
    if (flags == nullptr || active == nullptr) return CUDA_ERROR_INVALID_VALUE;
    const farwarp::MutexLock lock(device.primary_mutex);
    *flags = device.primary.flags;
    *active = device.primary.context != nullptr;
    return CUDA_SUCCESS;
  });
}

}  // extern "C"
