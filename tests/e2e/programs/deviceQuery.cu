// Prints every property of every device, its limits, and what the driver and runtime say about
// themselves.
#include <cstring>

#include "common.h"

static void PrintList(const char* name, const int* values, int count) {
  std::printf("  %s", name);
  for (int i = 0; i < count; ++i) std::printf(" %d", values[i]);
  std::printf("\n");
}

static void PrintBytes(const char* name, const char* bytes, size_t count) {
  std::printf("  %s ", name);
  for (size_t i = 0; i < count; ++i) std::printf("%02x", static_cast<unsigned char>(bytes[i]));
  std::printf("\n");
}

static void PrintProperties(const cudaDeviceProp& p) {
  std::printf("  name %s\n", p.name);
  PrintBytes("uuid", p.uuid.bytes, sizeof(p.uuid));
  PrintBytes("luid", p.luid, sizeof(p.luid));
  std::printf("  luidDeviceNodeMask %u\n", p.luidDeviceNodeMask);
  std::printf("  totalGlobalMem %zu\n", p.totalGlobalMem);
  std::printf("  sharedMemPerBlock %zu\n", p.sharedMemPerBlock);
  std::printf("  regsPerBlock %d\n", p.regsPerBlock);
  std::printf("  warpSize %d\n", p.warpSize);
  std::printf("  memPitch %zu\n", p.memPitch);
  std::printf("  maxThreadsPerBlock %d\n", p.maxThreadsPerBlock);
  PrintList("maxThreadsDim", p.maxThreadsDim, 3);
  PrintList("maxGridSize", p.maxGridSize, 3);
  std::printf("  totalConstMem %zu\n", p.totalConstMem);
  std::printf("  major %d\n", p.major);
  std::printf("  minor %d\n", p.minor);
  std::printf("  textureAlignment %zu\n", p.textureAlignment);
  std::printf("  texturePitchAlignment %zu\n", p.texturePitchAlignment);
  std::printf("  multiProcessorCount %d\n", p.multiProcessorCount);
  std::printf("  integrated %d\n", p.integrated);
  std::printf("  canMapHostMemory %d\n", p.canMapHostMemory);
  std::printf("  maxTexture1D %d\n", p.maxTexture1D);
  std::printf("  maxTexture1DMipmap %d\n", p.maxTexture1DMipmap);
  PrintList("maxTexture2D", p.maxTexture2D, 2);
  PrintList("maxTexture2DMipmap", p.maxTexture2DMipmap, 2);
  PrintList("maxTexture2DLinear", p.maxTexture2DLinear, 3);
  PrintList("maxTexture2DGather", p.maxTexture2DGather, 2);
  PrintList("maxTexture3D", p.maxTexture3D, 3);
  PrintList("maxTexture3DAlt", p.maxTexture3DAlt, 3);
  std::printf("  maxTextureCubemap %d\n", p.maxTextureCubemap);
  PrintList("maxTexture1DLayered", p.maxTexture1DLayered, 2);
  PrintList("maxTexture2DLayered", p.maxTexture2DLayered, 3);
  PrintList("maxTextureCubemapLayered", p.maxTextureCubemapLayered, 2);
  std::printf("  maxSurface1D %d\n", p.maxSurface1D);
  PrintList("maxSurface2D", p.maxSurface2D, 2);
  PrintList("maxSurface3D", p.maxSurface3D, 3);
  PrintList("maxSurface1DLayered", p.maxSurface1DLayered, 2);
  PrintList("maxSurface2DLayered", p.maxSurface2DLayered, 3);
  std::printf("  maxSurfaceCubemap %d\n", p.maxSurfaceCubemap);
  PrintList("maxSurfaceCubemapLayered", p.maxSurfaceCubemapLayered, 2);
  std::printf("  surfaceAlignment %zu\n", p.surfaceAlignment);
  std::printf("  concurrentKernels %d\n", p.concurrentKernels);
  std::printf("  ECCEnabled %d\n", p.ECCEnabled);
  std::printf("  pciBusID %d\n", p.pciBusID);
  std::printf("  pciDeviceID %d\n", p.pciDeviceID);
  std::printf("  pciDomainID %d\n", p.pciDomainID);
  std::printf("  tccDriver %d\n", p.tccDriver);
  std::printf("  asyncEngineCount %d\n", p.asyncEngineCount);
  std::printf("  unifiedAddressing %d\n", p.unifiedAddressing);
  std::printf("  memoryBusWidth %d\n", p.memoryBusWidth);
  std::printf("  l2CacheSize %d\n", p.l2CacheSize);
  std::printf("  persistingL2CacheMaxSize %d\n", p.persistingL2CacheMaxSize);
  std::printf("  maxThreadsPerMultiProcessor %d\n", p.maxThreadsPerMultiProcessor);
  std::printf("  streamPrioritiesSupported %d\n", p.streamPrioritiesSupported);
  std::printf("  globalL1CacheSupported %d\n", p.globalL1CacheSupported);
  std::printf("  localL1CacheSupported %d\n", p.localL1CacheSupported);
  std::printf("  sharedMemPerMultiprocessor %zu\n", p.sharedMemPerMultiprocessor);
  std::printf("  regsPerMultiprocessor %d\n", p.regsPerMultiprocessor);
  std::printf("  managedMemory %d\n", p.managedMemory);
  std::printf("  isMultiGpuBoard %d\n", p.isMultiGpuBoard);
  std::printf("  multiGpuBoardGroupID %d\n", p.multiGpuBoardGroupID);
  std::printf("  hostNativeAtomicSupported %d\n", p.hostNativeAtomicSupported);
  std::printf("  pageableMemoryAccess %d\n", p.pageableMemoryAccess);
  std::printf("  concurrentManagedAccess %d\n", p.concurrentManagedAccess);
  std::printf("  computePreemptionSupported %d\n", p.computePreemptionSupported);
  std::printf("  canUseHostPointerForRegisteredMem %d\n", p.canUseHostPointerForRegisteredMem);
  std::printf("  cooperativeLaunch %d\n", p.cooperativeLaunch);
  std::printf("  sharedMemPerBlockOptin %zu\n", p.sharedMemPerBlockOptin);
  std::printf("  pageableMemoryAccessUsesHostPageTables %d\n",
              p.pageableMemoryAccessUsesHostPageTables);
  std::printf("  directManagedMemAccessFromHost %d\n", p.directManagedMemAccessFromHost);
  std::printf("  maxBlocksPerMultiProcessor %d\n", p.maxBlocksPerMultiProcessor);
  std::printf("  accessPolicyMaxWindowSize %d\n", p.accessPolicyMaxWindowSize);
  std::printf("  reservedSharedMemPerBlock %zu\n", p.reservedSharedMemPerBlock);
  std::printf("  hostRegisterSupported %d\n", p.hostRegisterSupported);
  std::printf("  sparseCudaArraySupported %d\n", p.sparseCudaArraySupported);
  std::printf("  hostRegisterReadOnlySupported %d\n", p.hostRegisterReadOnlySupported);
  std::printf("  timelineSemaphoreInteropSupported %d\n", p.timelineSemaphoreInteropSupported);
  std::printf("  memoryPoolsSupported %d\n", p.memoryPoolsSupported);
  std::printf("  gpuDirectRDMASupported %d\n", p.gpuDirectRDMASupported);
  std::printf("  gpuDirectRDMAFlushWritesOptions %u\n", p.gpuDirectRDMAFlushWritesOptions);
  std::printf("  gpuDirectRDMAWritesOrdering %d\n", p.gpuDirectRDMAWritesOrdering);
  std::printf("  memoryPoolSupportedHandleTypes %u\n", p.memoryPoolSupportedHandleTypes);
  std::printf("  deferredMappingCudaArraySupported %d\n", p.deferredMappingCudaArraySupported);
  std::printf("  ipcEventSupported %d\n", p.ipcEventSupported);
  std::printf("  clusterLaunch %d\n", p.clusterLaunch);
  std::printf("  unifiedFunctionPointers %d\n", p.unifiedFunctionPointers);
  std::printf("  deviceNumaConfig %d\n", p.deviceNumaConfig);
  std::printf("  deviceNumaId %d\n", p.deviceNumaId);
  std::printf("  mpsEnabled %d\n", p.mpsEnabled);
  std::printf("  hostNumaId %d\n", p.hostNumaId);
  std::printf("  gpuPciDeviceID %u\n", p.gpuPciDeviceID);
  std::printf("  gpuPciSubsystemID %u\n", p.gpuPciSubsystemID);
  std::printf("  hostNumaMultinodeIpcSupported %d\n", p.hostNumaMultinodeIpcSupported);
}

static void PrintLimits() {
  const struct {
    const char* name;
    cudaLimit limit;
  } limits[] = {{"stack size", cudaLimitStackSize},
                {"printf buffer", cudaLimitPrintfFifoSize},
                {"malloc heap", cudaLimitMallocHeapSize}};
  for (const auto& entry : limits) {
    size_t value = 0;
    CHECK(cudaDeviceGetLimit(&value, entry.limit));
    std::printf("  limit of %s %zu\n", entry.name, value);
  }
}

// What must hold on any device, whatever the numbers are.
static bool Plausible(const cudaDeviceProp& p, int device) {
  int value = 0;
  bool ok = p.warpSize == 32 && p.major >= 5 && p.multiProcessorCount > 0;
  ok = ok && p.maxThreadsPerBlock >= 1024 && p.maxGridSize[0] == 2147483647;
  ok = ok && p.totalGlobalMem > 0 && p.sharedMemPerBlock >= 48u << 10 && p.name[0] != '\0';
  CHECK(cudaDeviceGetAttribute(&value, cudaDevAttrMultiProcessorCount, device));
  ok = ok && value == p.multiProcessorCount;
  CHECK(cudaDeviceGetAttribute(&value, cudaDevAttrComputeCapabilityMajor, device));
  ok = ok && value == p.major;

  // The bus id leads back to the same device.
  char bus_id[32] = "";
  int found = -1;
  CHECK(cudaDeviceGetPCIBusId(bus_id, sizeof(bus_id), device));
  CHECK(cudaDeviceGetByPCIBusId(&found, bus_id));
  ok = ok && found == device;

  size_t free_bytes = 0, total_bytes = 0;
  CHECK(cudaSetDevice(device));
  CHECK(cudaMemGetInfo(&free_bytes, &total_bytes));
  return ok && free_bytes <= total_bytes && total_bytes > 0;
}

int main() {
  int driver = 0, runtime = 0, count = 0;
  CHECK(cudaDriverGetVersion(&driver));
  CHECK(cudaRuntimeGetVersion(&runtime));
  CHECK(cudaGetDeviceCount(&count));
  std::printf("driver supports CUDA %d.%d, runtime is CUDA %d.%d, devices %d\n", driver / 1000,
              driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10, count);
  bool ok = count > 0 && driver >= runtime / 1000 * 1000;
  for (int device = 0; device < count; ++device) {
    cudaDeviceProp properties;
    std::memset(&properties, 0xee, sizeof(properties));
    CHECK(cudaGetDeviceProperties(&properties, device));
    std::printf("device %d\n", device);
    PrintProperties(properties);
    ok = Plausible(properties, device) && ok;
    PrintLimits();
    int least = 0, greatest = 0;
    CHECK(cudaDeviceGetStreamPriorityRange(&least, &greatest));
    std::printf("  stream priorities %d to %d\n", least, greatest);
    ok = ok && greatest <= least;
    for (int peer = 0; peer < count; ++peer) {
      int access = -1;
      if (peer != device) CHECK(cudaDeviceCanAccessPeer(&access, device, peer));
      if (peer != device) std::printf("  can access device %d: %d\n", peer, access);
    }
  }
  return Finish("deviceQuery", ok);
}
