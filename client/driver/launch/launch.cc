// cuLaunchKernel and its siblings: checked against what is known of device and kernel, packed, and
// appended to the stream. No round trip, no system call, no allocation.
#include "client/driver/launch/launch.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "client/custom.h"
#include "client/driver/memory/managed.h"
#include "client/driver/process.h"
#include "client/session/command.h"
#include "farwarp/wire/internal_command.h"
#include "farwarp/wire/limits.h"

namespace farwarp::client {
namespace {

// What every device with clusters has, and what the largest have.
constexpr std::uint64_t kPortableClusterBlocks = 8;
constexpr std::uint64_t kMaxClusterBlocks = 16;

bool TooBig(unsigned size, int limit) {
  return size == 0 || size > static_cast<unsigned>(limit);
}

}  // namespace

CUresult CheckLaunchShape(const Device& device, const Launchable& kernel,
                          const wire::LaunchShape& shape) {
  const LaunchLimits& limits = device.launch_limits;
  for (int i = 0; i < 3; ++i) {
    if (TooBig(shape.grid[i], limits.grid[i]) || TooBig(shape.block[i], limits.block[i])) {
      return CUDA_ERROR_INVALID_VALUE;
    }
  }
  const std::uint64_t threads = std::uint64_t{shape.block[0]} * shape.block[1] * shape.block[2];
  const auto& attributes = kernel.info->attributes;
  if (threads > static_cast<std::uint64_t>(device.limits.max_threads_per_block)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (threads > static_cast<std::uint64_t>(attributes[CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK])) {
    return CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
  }
  // Without having asked for more, a block may use what every device has.
  const auto allowed = static_cast<std::uint64_t>(
      std::max(kernel.max_dynamic_shared_bytes.load(std::memory_order_relaxed),
               device.limits.shared_per_block - attributes[CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES]));
  return shape.shared_bytes > allowed ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

CUresult CheckCluster(const Device& device, const Launchable& kernel,
                      const wire::LaunchShape& shape, const CUlaunchAttribute* given) {
  constexpr std::size_t kRequired[] = {CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH,
                                       CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_HEIGHT,
                                       CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_DEPTH};
  const auto& attributes = kernel.info->attributes;
  const bool required = attributes[kRequired[0]] > 0;
  if (given == nullptr && !required) {
    return attributes[CU_FUNC_ATTRIBUTE_CLUSTER_SIZE_MUST_BE_SET] != 0
               ? CUDA_ERROR_INVALID_CLUSTER_SIZE
               : CUDA_SUCCESS;
  }
  std::uint64_t blocks = 1;
  bool divides = true;
  for (int i = 0; i < 3; ++i) {
    const auto fixed = static_cast<unsigned>(attributes[kRequired[i]]);
    unsigned size = fixed;
    if (given != nullptr) {
      const auto& cluster = given->value.clusterDim;
      size = i == 0 ? cluster.x : i == 1 ? cluster.y : cluster.z;
    }
    if (size == 0) return CUDA_ERROR_INVALID_VALUE;
    if ((required && size != fixed) || size > kMaxClusterBlocks) {
      return CUDA_ERROR_INVALID_CLUSTER_SIZE;
    }
    blocks *= size;
    divides = divides && shape.grid[i] % size == 0;
  }
  if (blocks > 1 && device.Attribute(CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH) == 0) {
    return CUDA_ERROR_NOT_SUPPORTED;
  }
  const bool more = kernel.non_portable_cluster.load(std::memory_order_relaxed) != 0;
  if (blocks > (more ? kMaxClusterBlocks : kPortableClusterBlocks)) {
    return CUDA_ERROR_INVALID_CLUSTER_SIZE;
  }
  return divides ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult ReadLaunchAttribute(const CUlaunchAttribute& attribute, wire::LaunchShape* shape,
                             bool* send) {
  *send = false;
  switch (attribute.id) {
    case CU_LAUNCH_ATTRIBUTE_IGNORE:
    case CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW:
    case CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY:
    case CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION:
    case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP:
    case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN:
    case CU_LAUNCH_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
      return CUDA_SUCCESS;
    case CU_LAUNCH_ATTRIBUTE_COOPERATIVE:
      if (attribute.value.cooperative != 0) shape->flags |= wire::kLaunchCooperative;
      return CUDA_SUCCESS;
    case CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION:
      // Clusters of one block are no clusters.
      *send = attribute.value.clusterDim.x > 1 || attribute.value.clusterDim.y > 1 ||
              attribute.value.clusterDim.z > 1;
      return CUDA_SUCCESS;
    case CU_LAUNCH_ATTRIBUTE_PRIORITY:
    case CU_LAUNCH_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
      *send = true;
      return CUDA_SUCCESS;
    default:
      return CUDA_ERROR_NOT_SUPPORTED;
  }
}

}  // namespace farwarp::client

namespace farwarp::client::custom {
namespace {

using wire::IdOf;
using wire::InternalCommand;

constexpr unsigned kMaxLaunchAttributes = 32;

struct Launch {
  CUfunction function = nullptr;
  wire::LaunchShape shape{};
  CUstream stream = nullptr;
  NullStream null = NullStream::kLegacy;
  void** parameters = nullptr;
  void** extra = nullptr;
  const CUlaunchAttribute* attributes = nullptr;
  unsigned attribute_count = 0;
};

// The parameter buffer of an `extra` list; CUDA_ERROR_INVALID_VALUE if the list is malformed.
CUresult ReadExtra(void** extra, const void** buffer, std::size_t* bytes) {
  *buffer = nullptr;
  *bytes = 0;
  for (int i = 0; i < 16; i += 2) {
    if (extra[i] == CU_LAUNCH_PARAM_END) return CUDA_SUCCESS;
    if (extra[i + 1] == nullptr) return CUDA_ERROR_INVALID_VALUE;
    if (extra[i] == CU_LAUNCH_PARAM_BUFFER_POINTER) {
      *buffer = extra[i + 1];
    } else if (extra[i] == CU_LAUNCH_PARAM_BUFFER_SIZE) {
      std::memcpy(bytes, extra[i + 1], sizeof *bytes);
    } else {
      return CUDA_ERROR_INVALID_VALUE;
    }
  }
  return CUDA_ERROR_INVALID_VALUE;
}

// A launch's parameters as they travel.
struct Parameters {
  alignas(16) std::byte packed[1024];
  std::unique_ptr<std::byte[]> large;
  const void* data = nullptr;
  std::size_t bytes = 0;

  std::byte* Room(std::size_t wanted) {
    bytes = wanted;
    if (wanted > sizeof packed) large.reset(new std::byte[wanted]);
    std::byte* room = large != nullptr ? large.get() : packed;
    data = room;
    return room;
  }
};

// Reads the parameters that the application points to. `own`: a copy, whatever form they have.
CUresult ReadParameters(const Launch& launch, const KernelInfo& kernel, bool own,
                        Parameters* parameters) {
  if (launch.extra == nullptr) {
    std::byte* to = parameters->Room(kernel.parameter_bytes);
    return PackParameters(kernel, launch.parameters, to) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  }
  if (launch.parameters != nullptr) return CUDA_ERROR_INVALID_VALUE;
  const void* buffer = nullptr;
  std::size_t bytes = 0;
  const CUresult result = ReadExtra(launch.extra, &buffer, &bytes);
  if (result != CUDA_SUCCESS) return result;
  if (bytes > wire::kMaxKernelParameterBytes || bytes < kernel.parameter_bytes ||
      (buffer == nullptr && bytes != 0)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (own && bytes != 0) {
    std::memcpy(parameters->Room(bytes), buffer, bytes);
  } else {
    parameters->data = buffer;
    parameters->bytes = bytes;
  }
  return CUDA_SUCCESS;
}

// Offers the launch to a capture under way; true if `result` is the call's answer.
bool Captured(const Caller& caller, const Launch& launch, CUresult* result) {
  CUDA_KERNEL_NODE_PARAMS node{};
  node.func = launch.function;
  node.gridDimX = launch.shape.grid[0];
  node.gridDimY = launch.shape.grid[1];
  node.gridDimZ = launch.shape.grid[2];
  node.blockDimX = launch.shape.block[0];
  node.blockDimY = launch.shape.block[1];
  node.blockDimZ = launch.shape.block[2];
  node.sharedMemBytes = launch.shape.shared_bytes;
  node.kernelParams = launch.parameters;
  node.extra = launch.extra;
  std::vector<CUlaunchAttribute> attributes(launch.attributes,
                                            launch.attributes + launch.attribute_count);
  if ((launch.shape.flags & wire::kLaunchCooperative) != 0) {
    CUlaunchAttribute cooperative{};
    cooperative.id = CU_LAUNCH_ATTRIBUTE_COOPERATIVE;
    cooperative.value.cooperative = 1;
    attributes.push_back(cooperative);
  }
  return caller.process->graphs().CaptureLaunch(
      launch.stream, launch.null == NullStream::kPerThread, node, std::move(attributes), result);
}

CUresult Run(Launch launch) {
  FARWARP_ENTER_CONTEXT(caller);
  if (CUresult captured;
      caller.process->graphs().capturing() && Captured(caller, launch, &captured)) {
    return captured;
  }
  const Launchable* kernel = FindLaunchable(caller, launch.function);
  if (kernel == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if (const CUresult result = CheckLaunchShape(caller.device(), *kernel, launch.shape);
      result != CUDA_SUCCESS) {
    return result;
  }
  // Parameters may lie in managed memory: they are read before that goes to the device, and not
  // while the stream's tail is held, which their arrival needs.
  Managed& managed = caller.process->managed();
  Parameters parameters;
  if (const CUresult result = ReadParameters(launch, *kernel->info, managed.any(), &parameters);
      result != CUDA_SUCCESS) {
    return result;
  }
  // Which attributes travel, before the stream's tail is taken.
  std::uint64_t sent = 0;
  const CUlaunchAttribute* cluster = nullptr;
  for (unsigned i = 0; i < launch.attribute_count; ++i) {
    bool send;
    const CUresult result = ReadLaunchAttribute(launch.attributes[i], &launch.shape, &send);
    if (result != CUDA_SUCCESS) return result;
    if (send) sent |= std::uint64_t{1} << i;
    if (launch.attributes[i].id == CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION) {
      cluster = &launch.attributes[i];
    }
  }
  if (const CUresult result = CheckCluster(caller.device(), *kernel, launch.shape, cluster);
      result != CUDA_SUCCESS) {
    return result;
  }
  if (managed.any()) {
    if (const CUresult result = managed.BeforeWork(caller); result != CUDA_SUCCESS) return result;
  }
  StreamUse use;
  if (const CUresult result = ResolveForWork(caller, launch.stream, launch.null, &use);
      result != CUDA_SUCCESS) {
    return result;
  }
  if (use.context != caller.context) return CUDA_ERROR_INVALID_HANDLE;
  {
    Command command(caller.session(), IdOf(InternalCommand::kLaunch));
    wire::Encoder& body = command.body();
    body.PutPointer(launch.function);
    body.PutPointer(use.wire);
    body.PutStruct(launch.shape);
    body.Put(static_cast<std::uint64_t>(__builtin_popcountll(sent)));
    for (unsigned i = 0; i < launch.attribute_count; ++i) {
      if ((sent >> i & 1) == 0) continue;
      body.Put(static_cast<std::int32_t>(launch.attributes[i].id));
      body.PutStruct(launch.attributes[i].value);
    }
    body.PutBlob(parameters.data, parameters.bytes);
    use.context->work.Begin(use.beside_legacy());
    if (const CUresult result = command.Post(); result != CUDA_SUCCESS) return result;
  }
  return caller.process->launch_blocking()
             ? caller.session().AfterWait(SynchronizeStream(*caller.process, use))
             : CUDA_SUCCESS;
}

CUresult RunConfigured(const CUlaunchConfig* config, CUfunction function, void** parameters,
                       void** extra, NullStream null) {
  if (config == nullptr || (config->numAttrs > 0 && config->attrs == nullptr)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (config->numAttrs > kMaxLaunchAttributes) return CUDA_ERROR_INVALID_VALUE;
  Launch launch;
  launch.function = function;
  launch.shape = {{config->gridDimX, config->gridDimY, config->gridDimZ},
                  {config->blockDimX, config->blockDimY, config->blockDimZ},
                  config->sharedMemBytes,
                  0};
  launch.stream = config->hStream;
  launch.null = null;
  launch.parameters = parameters;
  launch.extra = extra;
  launch.attributes = config->attrs;
  launch.attribute_count = config->numAttrs;
  return Run(launch);
}

}  // namespace

CUresult cuLaunchKernel(CUfunction f, unsigned int gridDimX, unsigned int gridDimY,
                        unsigned int gridDimZ, unsigned int blockDimX, unsigned int blockDimY,
                        unsigned int blockDimZ, unsigned int sharedMemBytes, CUstream hStream,
                        void** kernelParams, void** extra) {
  return Run(
      {f,
       {{gridDimX, gridDimY, gridDimZ}, {blockDimX, blockDimY, blockDimZ}, sharedMemBytes, 0},
       hStream,
       NullStream::kLegacy,
       kernelParams,
       extra});
}
CUresult cuLaunchKernel_ptsz(CUfunction f, unsigned int gridDimX, unsigned int gridDimY,
                             unsigned int gridDimZ, unsigned int blockDimX, unsigned int blockDimY,
                             unsigned int blockDimZ, unsigned int sharedMemBytes, CUstream hStream,
                             void** kernelParams, void** extra) {
  return Run(
      {f,
       {{gridDimX, gridDimY, gridDimZ}, {blockDimX, blockDimY, blockDimZ}, sharedMemBytes, 0},
       hStream,
       NullStream::kPerThread,
       kernelParams,
       extra});
}
CUresult cuLaunchCooperativeKernel(CUfunction f, unsigned int gridDimX, unsigned int gridDimY,
                                   unsigned int gridDimZ, unsigned int blockDimX,
                                   unsigned int blockDimY, unsigned int blockDimZ,
                                   unsigned int sharedMemBytes, CUstream hStream,
                                   void** kernelParams) {
  return Run({f,
              {{gridDimX, gridDimY, gridDimZ},
               {blockDimX, blockDimY, blockDimZ},
               sharedMemBytes,
               wire::kLaunchCooperative},
              hStream,
              NullStream::kLegacy,
              kernelParams,
              nullptr});
}
CUresult cuLaunchCooperativeKernel_ptsz(CUfunction f, unsigned int gridDimX, unsigned int gridDimY,
                                        unsigned int gridDimZ, unsigned int blockDimX,
                                        unsigned int blockDimY, unsigned int blockDimZ,
                                        unsigned int sharedMemBytes, CUstream hStream,
                                        void** kernelParams) {
  return Run({f,
              {{gridDimX, gridDimY, gridDimZ},
               {blockDimX, blockDimY, blockDimZ},
               sharedMemBytes,
               wire::kLaunchCooperative},
              hStream,
              NullStream::kPerThread,
              kernelParams,
              nullptr});
}
CUresult cuLaunchKernelEx(const CUlaunchConfig* config, CUfunction f, void** kernelParams,
                          void** extra) {
  return RunConfigured(config, f, kernelParams, extra, NullStream::kLegacy);
}
CUresult cuLaunchKernelEx_ptsz(const CUlaunchConfig* config, CUfunction f, void** kernelParams,
                               void** extra) {
  return RunConfigured(config, f, kernelParams, extra, NullStream::kPerThread);
}

}  // namespace farwarp::client::custom
