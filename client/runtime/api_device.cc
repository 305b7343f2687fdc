// Devices: choosing one, its limits and preferences, and its relations to peers.
#include <cstring>

#include "client/runtime/api.h"
#include "client/runtime/array_format.h"

using namespace farwarp::runtime;  // NOLINT(google-build-using-namespace): exports are global

namespace {

// Resolves two device numbers at once.
cudaError_t Devices(int first, int second, CUdevice* a, CUdevice* b) {
  const Process& process = Process::Get();
  if (const cudaError_t error = process.Device(first, a); error != cudaSuccess) return error;
  return process.Device(second, b);
}

CUdevice CurrentHandle() {
  Process& process = Process::Get();
  CUdevice device = 0;
  process.Device(process.CurrentDevice(), &device);
  return device;
}

}  // namespace

extern "C" FARWARP_EXPORT cudaError_t cudaGetDeviceCount(int* count) {
  return WithDriver(
      [&](const Driver&) -> Outcome {
        if (count == nullptr) return cudaErrorInvalidValue;
        *count = Process::Get().device_count();
        return cudaSuccess;
      },
      // Programs look at the count without looking at the error.
      [&] {
        if (count != nullptr) *count = 0;
      });
}

extern "C" FARWARP_EXPORT cudaError_t cudaSetDevice(int device) {
  Process& process = Process::Get();
  return process.Record(process.SetDevice(device));
}

RT_API_INIT(cudaGetDevice, (int* device), {
  if (device == nullptr) return cudaErrorInvalidValue;
  *device = Process::Get().CurrentDevice();
  return cudaSuccess;
})

RT_API_INIT(cudaSetValidDevices, (int* device_arr, int len), {
  Process& process = Process::Get();
  ThreadState& thread = CurrentThread();
  if (len < 0 || len > process.device_count() || len > ThreadState::kMaxValidDevices ||
      (len > 0 && device_arr == nullptr)) {
    return cudaErrorInvalidValue;
  }
  for (int i = 0; i < len; ++i) {
    if (device_arr[i] < 0 || device_arr[i] >= process.device_count()) return cudaErrorInvalidDevice;
  }
  // No list means the default one: every device, in order.
  thread.valid_device_count = len;
  for (int i = 0; i < len; ++i) thread.valid_devices[i] = device_arr[i];
  return cudaSuccess;
})

RT_API_INIT(cudaInitDevice, (int device, unsigned int deviceFlags, unsigned int flags), {
  Process& process = Process::Get();
  CUdevice handle = 0;
  if (flags != 0 && flags != cudaInitDeviceFlagsAreValid) return cudaErrorInvalidValue;
  if (const cudaError_t error = process.Device(device, &handle); error != cudaSuccess) return error;
  if (flags == cudaInitDeviceFlagsAreValid) {
    const Outcome set = d.DevicePrimaryCtxSetFlags(handle, deviceFlags);
    if (!set.ok()) return set;
  }
  CUcontext context = nullptr;
  return process.RetainPrimary(device, &context);
})

RT_API_INIT(cudaSetDeviceFlags, (unsigned int flags), {
  if ((flags & ~static_cast<unsigned>(cudaDeviceMask)) != 0) return cudaErrorInvalidValue;
  return d.DevicePrimaryCtxSetFlags(CurrentHandle(), flags);
})

RT_API_INIT(cudaGetDeviceFlags, (unsigned int* flags), {
  if (flags == nullptr) return cudaErrorInvalidValue;
  unsigned value = 0;
  if (d.CtxGetFlags(&value) != CUDA_SUCCESS) {
    int active = 0;
    const Outcome state = d.DevicePrimaryCtxGetState(CurrentHandle(), &value, &active);
    if (!state.ok()) return state;
  }
  // Mapping host memory needs no flag since unified addressing; it is always reported.
  *flags = value | cudaDeviceMapHost;
  return cudaSuccess;
})

extern "C" FARWARP_EXPORT cudaError_t cudaDeviceReset(void) {
  Process& process = Process::Get();
  return process.Record(process.ResetDevice());
}

RT_API(cudaDeviceSynchronize, (), { return d.CtxSynchronize(); })

RT_API_INIT(cudaDeviceGetAttribute, (int* value, cudaDeviceAttr attr, int device), {
  CUdevice handle = 0;
  if (value == nullptr) return cudaErrorInvalidValue;
  if (const cudaError_t error = Process::Get().Device(device, &handle); error != cudaSuccess) {
    return error;
  }
  return Pass(d.DeviceGetAttribute, value, attr, handle);
})

RT_API_INIT(cudaDeviceGetByPCIBusId, (int* device, const char* pciBusId), {
  if (device == nullptr || pciBusId == nullptr) return cudaErrorInvalidValue;
  CUdevice handle = 0;
  const Outcome found = d.DeviceGetByPCIBusId(&handle, pciBusId);
  return found.ok() ? Process::Get().Ordinal(handle, device) : found.error;
})

RT_API_INIT(cudaDeviceGetPCIBusId, (char* pciBusId, int len, int device), {
  CUdevice handle = 0;
  if (pciBusId == nullptr || len <= 0) return cudaErrorInvalidValue;
  if (const cudaError_t error = Process::Get().Device(device, &handle); error != cudaSuccess) {
    return error;
  }
  return d.DeviceGetPCIBusId(pciBusId, len, handle);
})

RT_API_INIT(cudaDeviceGetP2PAttribute,
            (int* value, cudaDeviceP2PAttr attr, int srcDevice, int dstDevice), {
              CUdevice source = 0, target = 0;
              const cudaError_t error = Devices(srcDevice, dstDevice, &source, &target);
              if (error != cudaSuccess) return error;
              return Pass(d.DeviceGetP2PAttribute, value, attr, source, target);
            })

RT_API_INIT(cudaDeviceGetP2PAtomicCapabilities,
            (unsigned int* capabilities, const cudaAtomicOperation* operations, unsigned int count,
             int srcDevice, int dstDevice),
            {
              CUdevice source = 0, target = 0;
              const cudaError_t error = Devices(srcDevice, dstDevice, &source, &target);
              if (error != cudaSuccess) return error;
              return Pass(d.DeviceGetP2PAtomicCapabilities, capabilities, operations, count, source,
                          target);
            })

RT_API_INIT(cudaDeviceGetHostAtomicCapabilities,
            (unsigned int* capabilities, const cudaAtomicOperation* operations, unsigned int count,
             int device),
            {
              CUdevice handle = 0;
              const cudaError_t error = Process::Get().Device(device, &handle);
              if (error != cudaSuccess) return error;
              return Pass(d.DeviceGetHostAtomicCapabilities, capabilities, operations, count,
                          handle);
            })

RT_API_INIT(cudaDeviceCanAccessPeer, (int* canAccessPeer, int device, int peerDevice), {
  CUdevice handle = 0, peer = 0;
  if (canAccessPeer == nullptr) return cudaErrorInvalidValue;
  const cudaError_t error = Devices(device, peerDevice, &handle, &peer);
  if (error != cudaSuccess) return error;
  return d.DeviceCanAccessPeer(canAccessPeer, handle, peer);
})

RT_API(cudaDeviceEnablePeerAccess, (int peerDevice, unsigned int flags), {
  CUcontext peer = nullptr;
  const cudaError_t error = Process::Get().RetainPrimary(peerDevice, &peer);
  return error == cudaSuccess ? Outcome(d.CtxEnablePeerAccess(peer, flags)) : error;
})

RT_API(cudaDeviceDisablePeerAccess, (int peerDevice), {
  CUcontext peer = nullptr;
  const cudaError_t error = Process::Get().RetainPrimary(peerDevice, &peer);
  return error == cudaSuccess ? Outcome(d.CtxDisablePeerAccess(peer)) : error;
})

RT_API(cudaDeviceSetLimit, (cudaLimit limit, size_t value),
       { return Pass(d.CtxSetLimit, limit, value); })
RT_API(cudaDeviceGetLimit, (size_t* pValue, cudaLimit limit), {
  if (pValue == nullptr) return cudaErrorInvalidValue;
  return Pass(d.CtxGetLimit, pValue, limit);
})
RT_API(cudaDeviceGetCacheConfig, (cudaFuncCache * pCacheConfig), {
  if (pCacheConfig == nullptr) return cudaErrorInvalidValue;
  return Pass(d.CtxGetCacheConfig, pCacheConfig);
})
RT_API(cudaDeviceSetCacheConfig, (cudaFuncCache cacheConfig),
       { return Pass(d.CtxSetCacheConfig, cacheConfig); })
RT_API(cudaDeviceGetStreamPriorityRange, (int* leastPriority, int* greatestPriority),
       { return d.CtxGetStreamPriorityRange(leastPriority, greatestPriority); })
RT_API(cudaCtxResetPersistingL2Cache, (), { return d.CtxResetPersistingL2Cache(); })
RT_API(cudaDeviceFlushGPUDirectRDMAWrites,
       (cudaFlushGPUDirectRDMAWritesTarget target, cudaFlushGPUDirectRDMAWritesScope scope),
       { return Pass(d.FlushGPUDirectRDMAWrites, target, scope); })

// Bank sizes of shared memory are not configurable on any device that CUDA 13 supports: the only
// value is the default, which the settings may keep.
RT_API(cudaDeviceGetSharedMemConfig, (cudaSharedMemConfig * pConfig), {
  if (pConfig == nullptr) return cudaErrorInvalidValue;
  *pConfig = cudaSharedMemBankSizeFourByte;
  return cudaSuccess;
})
RT_API(cudaDeviceSetSharedMemConfig, (cudaSharedMemConfig config),
       { return config > cudaSharedMemBankSizeEightByte ? cudaErrorInvalidValue : cudaSuccess; })

RT_API(cudaDeviceGetTexture1DLinearMaxWidth,
       (size_t* maxWidthInElements, const cudaChannelFormatDesc* fmtDesc, int device), {
         CUdevice handle = 0;
         if (maxWidthInElements == nullptr || fmtDesc == nullptr) return cudaErrorInvalidValue;
         const cudaError_t error = Process::Get().Device(device, &handle);
         if (error != cudaSuccess) return error;
         CUarray_format format;
         unsigned channels = 0;
         if (!ToArrayFormat(*fmtDesc, &format, &channels)) return cudaErrorInvalidChannelDescriptor;
         return d.DeviceGetTexture1DLinearMaxWidth(maxWidthInElements, format, channels, handle);
       })

RT_API_INIT(cudaDeviceRegisterAsyncNotification,
            (int device, cudaAsyncCallback callbackFunc, void* userData,
             cudaAsyncCallbackHandle_t* callback),
            {
              CUdevice handle = 0;
              const cudaError_t error = Process::Get().Device(device, &handle);
              if (error != cudaSuccess) return error;
              return Pass(d.DeviceRegisterAsyncNotification, handle, callbackFunc, userData,
                          callback);
            })
RT_API_INIT(cudaDeviceUnregisterAsyncNotification, (int device, cudaAsyncCallbackHandle_t callback),
            {
              CUdevice handle = 0;
              const cudaError_t error = Process::Get().Device(device, &handle);
              if (error != cudaSuccess) return error;
              return Pass(d.DeviceUnregisterAsyncNotification, handle, callback);
            })
