// Launches: checks a configuration as CUDA does, packs the parameters, queues the kernel, and turns
// the engine's faults into CUDA's errors.
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <tuple>
#include <vector>

#include "farwarp/base/log.h"
#include "farwarp/graph/parameters.h"
#include "server/softgpu/api/launch/graph_backend.h"
#include "server/softgpu/api/launch/launch.h"
#include "server/softgpu/api/launch/occupancy.h"
#include "server/softgpu/api/module/module.h"

using namespace farwarp::softgpu;
namespace graph = farwarp::graph;

namespace {

struct Shape {
  Dim3 grid;
  Dim3 block;
  unsigned shared_bytes = 0;
  bool cooperative = false;
  Dim3 cluster{0, 0, 0};  // Zeros: not given.
};

std::atomic<std::uint64_t> next_grid{1};

// Clusters have more than 8 blocks only if a kernel allows it.
constexpr std::uint64_t kPortableClusterBlocks = 8;

bool Match(const Dim3& a, const Dim3& b) {
  return a.x == b.x && a.y == b.y && a.z == b.z;
}

// The cluster that the launch gives, or the kernel; clusters of one block are no clusters.
CUresult CheckCluster(const Function& function, const Shape& shape) {
  const KernelInfo& info = function.kernel().info();
  const bool required = info.reqncluster.x != 0;
  const bool given = shape.cluster.x != 0;
  if (required && given && !Match(info.reqncluster, shape.cluster))
    return CUDA_ERROR_INVALID_CLUSTER_SIZE;
  if (!required && !given)
    return info.explicit_cluster ? CUDA_ERROR_INVALID_CLUSTER_SIZE : CUDA_SUCCESS;
  const Dim3& size = given ? shape.cluster : info.reqncluster;
  if (size.x > kMaxClusterBlocks || size.y > kMaxClusterBlocks || size.z > kMaxClusterBlocks)
    return CUDA_ERROR_INVALID_CLUSTER_SIZE;
  const std::uint64_t blocks = size.count();
  if (blocks > 1 && function.context()->device().compute_capability() < kFirstWithClusters)
    return CUDA_ERROR_NOT_SUPPORTED;
  const std::uint64_t most = function.settings().non_portable_cluster.load() != 0
                                 ? kMaxClusterBlocks
                                 : kPortableClusterBlocks;
  if (blocks > most || (info.max_cluster_rank != 0 && blocks > info.max_cluster_rank))
    return CUDA_ERROR_INVALID_CLUSTER_SIZE;
  return shape.grid.x % size.x == 0 && shape.grid.y % size.y == 0 && shape.grid.z % size.z == 0
             ? CUDA_SUCCESS
             : CUDA_ERROR_INVALID_VALUE;
}

CUresult CheckShape(const Function& function, const Shape& shape) {
  const auto [gx, gy, gz] = shape.grid;
  const auto [bx, by, bz] = shape.block;
  if (gx == 0 || gy == 0 || gz == 0 || bx == 0 || by == 0 || bz == 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (gx > 0x7fffffffu || gy > kMaxGridYZ || gz > kMaxGridYZ) return CUDA_ERROR_INVALID_VALUE;
  if (bx > kMaxThreadsPerBlock || by > kMaxThreadsPerBlock || bz > kMaxBlockZ ||
      shape.block.count() > kMaxThreadsPerBlock) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const KernelInfo& info = function.kernel().info();
  if (info.reqntid.x != 0 && !Match(info.reqntid, shape.block)) return CUDA_ERROR_INVALID_VALUE;
  if (shape.block.count() > info.max_threads) return CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
  if (static_cast<std::uint64_t>(shape.shared_bytes) >
      static_cast<std::uint64_t>(MaxDynamicShared(info, function.settings()))) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (const CUresult result = CheckCluster(function, shape); result != CUDA_SUCCESS) return result;
  if (!shape.cooperative) return CUDA_SUCCESS;
  KernelUse use;
  use.registers = static_cast<int>(info.registers);
  use.static_shared = static_cast<int>(info.static_shared_bytes);
  use.max_dynamic_shared = MaxDynamicShared(info, function.settings());
  use.max_threads = static_cast<int>(info.max_threads);
  const int per_multiprocessor =
      ActiveBlocks(use, static_cast<int>(shape.block.count()), shape.shared_bytes);
  const auto resident = static_cast<std::uint64_t>(per_multiprocessor) *
                        static_cast<std::uint64_t>(function.context()->device().multiprocessors());
  return shape.grid.count() > resident ? CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE : CUDA_SUCCESS;
}

CUresult ResultOf(FaultKind kind) {
  switch (kind) {
    case FaultKind::kNone:
      return CUDA_SUCCESS;
    case FaultKind::kIllegalAddress:
      return CUDA_ERROR_ILLEGAL_ADDRESS;
    case FaultKind::kMisaligned:
      return CUDA_ERROR_MISALIGNED_ADDRESS;
    case FaultKind::kIllegalInstruction:
      return CUDA_ERROR_ILLEGAL_INSTRUCTION;
    case FaultKind::kInvalidPc:
      return CUDA_ERROR_INVALID_PC;
    case FaultKind::kAssert:
      return CUDA_ERROR_ASSERT;
    case FaultKind::kStackOverflow:
      return CUDA_ERROR_HARDWARE_STACK_ERROR;
    case FaultKind::kDeadlock:
    case FaultKind::kTimeout:
      return CUDA_ERROR_LAUNCH_TIMEOUT;
    case FaultKind::kOutOfMemory:
      return CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
    case FaultKind::kCancelled:
      return CUDA_ERROR_CONTEXT_IS_DESTROYED;
    case FaultKind::kTrap:
    case FaultKind::kInvalidLaunch:
      return CUDA_ERROR_LAUNCH_FAILED;
  }
  return CUDA_ERROR_LAUNCH_FAILED;
}

// What the blocks of a cooperative grid meet at, as the toolkit's headers expect it: the size of
// the workspace and a barrier that begins with zero. Zeroed memory that only this grid knows.
class GridWorkspace {
 public:
  GridWorkspace(AddressSpace& space, bool needed) : space_(space) {
    constexpr std::uint32_t kBytes = 8;
    if (!needed) return;
    const farwarp::Result<std::uint64_t> at = space.Reserve(AddressSpace::kPage);
    if (!at.ok()) return;
    if (!space.Commit(*at, AddressSpace::kPage).ok()) {
      static_cast<void>(space.Release(*at));
      return;
    }
    address_ = *at;
    std::memcpy(reinterpret_cast<void*>(address_), &kBytes, sizeof kBytes);
  }
  ~GridWorkspace() {
    if (address_ != 0) static_cast<void>(space_.Release(address_));
  }
  GridWorkspace(const GridWorkspace&) = delete;
  GridWorkspace& operator=(const GridWorkspace&) = delete;
  std::uint64_t address() const noexcept { return address_; }

 private:
  AddressSpace& space_;
  std::uint64_t address_ = 0;
};

// What a wrong address may have been meant for: "; nearest is the allocation of 400 bytes at 0x…,
// whose end is 4 bytes before".
std::string NearestText(Driver& driver, Context& context, const Fault& fault) {
  const std::uint64_t address = fault.address;
  if (!fault.device_address || (address & driver.space.mask()) != driver.space.base()) return "";
  std::uint64_t begin = 0;
  std::uint64_t bytes = 0;
  if (const auto block = context.heap().BlockAt(address)) {
    std::tie(begin, bytes) = *block;
  } else if (const auto found = driver.allocations.Nearest(address)) {
    begin = found->address;
    bytes = found->bytes;
  } else {
    return "; nothing is allocated";
  }
  char where[64];
  if (address < begin) {
    std::snprintf(where, sizeof where, "begins %" PRIu64 " bytes behind", begin - address);
  } else if (address - begin < bytes) {
    std::snprintf(where, sizeof where, "holds it at offset %" PRIu64, address - begin);
  } else {
    std::snprintf(where, sizeof where, "ended %" PRIu64 " bytes before", address - begin - bytes);
  }
  char text[160];
  std::snprintf(text, sizeof text,
                "; the nearest allocation, %" PRIu64 " bytes at 0x%" PRIx64 ", %s", bytes, begin,
                where);
  return text;
}

// Runs on an executor thread. The parts it needs are kept alive by the work's body.
void Execute(Driver& driver, const Function& function, const Shape& shape,
             const std::vector<std::byte>& params) {
  Context& context = *function.context();
  LaunchRequest request;
  request.kernel = &function.kernel();
  request.grid = shape.grid;
  request.block = shape.block;
  request.cluster = shape.cluster;
  request.dynamic_shared_bytes = shape.shared_bytes;
  request.params = params;
  request.limits = context.KernelLimits();
  request.limits.grid_id = next_grid.fetch_add(1, std::memory_order_relaxed);
  const GridWorkspace workspace(driver.space, shape.cooperative);
  request.limits.grid_workspace = workspace.address();
  request.cooperative = shape.cooperative;
  request.cancel = &context.cancelled();
  request.time_limit = driver.config.watchdog;
  request.schedule_seed = driver.config.seed;
  request.heap = &context.heap();
  request.print = &context.print();
  const Fault fault = Run(request, driver.workers());
  if (fault.ok()) return;
  if (fault.kind == FaultKind::kCancelled) {
    // Not at fault itself: its context has failed already, and why is in the log.
    FARWARP_LOG(kInfo, "softgpu: device %d: %s", context.device().ordinal(), fault.text.c_str());
  } else {
    FARWARP_LOG(kError, "softgpu: device %d: %s: %s%s", context.device().ordinal(),
                FaultKindName(fault.kind), fault.text.c_str(),
                NearestText(driver, context, fault).c_str());
  }
  context.Fail(ResultOf(fault.kind));
}

void LogRefusal(const Function& function, const Shape& shape, CUresult result) {
  const KernelInfo& info = function.kernel().info();
  FARWARP_LOG(kInfo,
              "softgpu: launch of %s refused with error %d: grid %u,%u,%u block %u,%u,%u dynamic "
              "shared %u; at most %u threads per block and %d bytes",
              info.name.c_str(), static_cast<int>(result), shape.grid.x, shape.grid.y, shape.grid.z,
              shape.block.x, shape.block.y, shape.block.z, shape.shared_bytes, info.max_threads,
              MaxDynamicShared(info, function.settings()));
}

// The function of a launch, ready to run, if its shape is allowed.
CUresult FindReady(Driver& driver, const std::shared_ptr<Context>& context, CUfunction handle,
                   const Shape& shape, std::shared_ptr<Function>* function) {
  CUresult result = FindFunction(driver, handle, context, function);
  if (result != CUDA_SUCCESS) return result;
  if ((*function)->context() != context) return CUDA_ERROR_INVALID_HANDLE;
  if (const farwarp::Status ready = (*function)->kernel().Prepare(); !ready.ok()) {
    FARWARP_LOG(kError, "softgpu: %s", ready.message().c_str());
    return CUDA_ERROR_INVALID_PTX;
  }
  result = CheckShape(**function, shape);
  if (result != CUDA_SUCCESS) LogRefusal(**function, shape, result);
  return result;
}

CUresult Launch(Driver& driver, Context& context, const std::shared_ptr<Stream>& stream,
                CUfunction handle, const Shape& shape, void** kernel_params, void** extra) {
  std::shared_ptr<Function> function;
  CUresult result = FindReady(driver, context.shared_from_this(), handle, shape, &function);
  if (result != CUDA_SUCCESS) return result;
  std::vector<std::byte> params;
  const KernelInfo& info = function->kernel().info();
  result = graph::PackParameters(info.params, info.param_bytes, kernel_params, extra, &params);
  if (result != CUDA_SUCCESS) {
    FARWARP_LOG(kInfo, "softgpu: launch of %s refused: parameters are missing or too short",
                info.name.c_str());
    return result;
  }
  context.Enqueue(stream, Lane::kKernel,
                  [&driver, function = std::move(function), shape, params = std::move(params)] {
                    Execute(driver, *function, shape, params);
                  });
  return CUDA_SUCCESS;
}

// Attributes that only hint at performance are ignored; what would change results is refused.
CUresult ApplyAttributes(const CUlaunchConfig& config, Shape* shape) {
  if (config.numAttrs != 0 && config.attrs == nullptr) return CUDA_ERROR_INVALID_VALUE;
  for (unsigned i = 0; i < config.numAttrs; ++i) {
    const CUlaunchAttribute& attribute = config.attrs[i];
    switch (attribute.id) {
      case CU_LAUNCH_ATTRIBUTE_COOPERATIVE:
        shape->cooperative = attribute.value.cooperative != 0;
        break;
      case CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION: {
        const auto& cluster = attribute.value.clusterDim;
        if (cluster.x == 0 || cluster.y == 0 || cluster.z == 0) return CUDA_ERROR_INVALID_VALUE;
        shape->cluster = {cluster.x, cluster.y, cluster.z};
        break;
      }
      case CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT:
      case CU_LAUNCH_ATTRIBUTE_LAUNCH_COMPLETION_EVENT:
      case CU_LAUNCH_ATTRIBUTE_DEVICE_UPDATABLE_KERNEL_NODE:
        FARWARP_LOG(kWarn, "softgpu: launch attribute %d is not supported yet",
                    static_cast<int>(attribute.id));
        return CUDA_ERROR_NOT_SUPPORTED;
      default:
        if (attribute.id >= CU_LAUNCH_ATTRIBUTE_MAX) return CUDA_ERROR_INVALID_VALUE;
    }
  }
  return CUDA_SUCCESS;
}

// A launch as the parameters of a node.
CUDA_KERNEL_NODE_PARAMS NodeOf(CUfunction function, const Shape& shape, void** kernel_params,
                               void** extra) {
  CUDA_KERNEL_NODE_PARAMS node{};
  node.func = function;
  node.gridDimX = shape.grid.x;
  node.gridDimY = shape.grid.y;
  node.gridDimZ = shape.grid.z;
  node.blockDimX = shape.block.x;
  node.blockDimY = shape.block.y;
  node.blockDimZ = shape.block.z;
  node.sharedMemBytes = shape.shared_bytes;
  node.kernelParams = kernel_params;
  node.extra = extra;
  return node;
}

CUlaunchAttribute CooperativeAttribute() {
  CUlaunchAttribute attribute{};
  attribute.id = CU_LAUNCH_ATTRIBUTE_COOPERATIVE;
  attribute.value.cooperative = 1;
  return attribute;
}

Shape ShapeOf(const graph::KernelWork& kernel) {
  return {{kernel.grid[0], kernel.grid[1], kernel.grid[2]},
          {kernel.block[0], kernel.block[1], kernel.block[2]},
          kernel.shared_bytes,
          false,
          {0, 0, 0}};
}

}  // namespace

namespace farwarp::softgpu {

CUresult DescribeLaunch(Driver& driver, const std::shared_ptr<Context>& context,
                        const graph::KernelWork& kernel, std::vector<graph::ParameterPlace>* places,
                        std::size_t* bytes) {
  std::shared_ptr<Function> function;
  const CUresult result = FindReady(driver, context, kernel.target(), ShapeOf(kernel), &function);
  if (result != CUDA_SUCCESS) return result;
  const KernelInfo& info = function->kernel().info();
  places->clear();
  for (const KernelParam& param : info.params) places->push_back({param.offset, param.bytes});
  *bytes = info.param_bytes;
  return CUDA_SUCCESS;
}

CUresult PrepareLaunch(Driver& driver, const std::shared_ptr<Context>& context,
                       const graph::KernelWork& kernel, Work::Body* body) {
  CUlaunchConfig config{};
  auto attributes = kernel.attributes;
  config.attrs = attributes.data();
  config.numAttrs = static_cast<unsigned>(attributes.size());
  Shape shape = ShapeOf(kernel);
  CUresult result = ApplyAttributes(config, &shape);
  if (result != CUDA_SUCCESS) return result;
  std::shared_ptr<Function> function;
  result = FindReady(driver, context, kernel.target(), shape, &function);
  if (result != CUDA_SUCCESS) return result;
  *body = [&driver, function = std::move(function), shape, params = kernel.parameters] {
    Execute(driver, *function, shape, params);
  };
  return CUDA_SUCCESS;
}

}  // namespace farwarp::softgpu

extern "C" {

CUresult cuLaunchKernel(CUfunction f, unsigned int gridDimX, unsigned int gridDimY,
                        unsigned int gridDimZ, unsigned int blockDimX, unsigned int blockDimY,
                        unsigned int blockDimZ, unsigned int sharedMemBytes, CUstream hStream,
                        void** kernelParams, void** extra) {
  return CallStream(hStream, [&](Driver& driver, Context& context, std::shared_ptr<Stream>& s) {
    const Shape shape{{gridDimX, gridDimY, gridDimZ},
                      {blockDimX, blockDimY, blockDimZ},
                      sharedMemBytes,
                      false,
                      {0, 0, 0}};
    if (CUresult captured;
        CaptureLaunch(hStream, NodeOf(f, shape, kernelParams, extra), {}, &captured)) {
      return captured;
    }
    return Launch(driver, context, s, f, shape, kernelParams, extra);
  });
}
CUresult cuLaunchKernel_ptsz(CUfunction f, unsigned int gridDimX, unsigned int gridDimY,
                             unsigned int gridDimZ, unsigned int blockDimX, unsigned int blockDimY,
                             unsigned int blockDimZ, unsigned int sharedMemBytes, CUstream hStream,
                             void** kernelParams, void** extra) {
  return cuLaunchKernel(f, gridDimX, gridDimY, gridDimZ, blockDimX, blockDimY, blockDimZ,
                        sharedMemBytes, PerThread(hStream), kernelParams, extra);
}

CUresult cuLaunchCooperativeKernel(CUfunction f, unsigned int gridDimX, unsigned int gridDimY,
                                   unsigned int gridDimZ, unsigned int blockDimX,
                                   unsigned int blockDimY, unsigned int blockDimZ,
                                   unsigned int sharedMemBytes, CUstream hStream,
                                   void** kernelParams) {
  return CallStream(hStream, [&](Driver& driver, Context& context, std::shared_ptr<Stream>& s) {
    const Shape shape{{gridDimX, gridDimY, gridDimZ},
                      {blockDimX, blockDimY, blockDimZ},
                      sharedMemBytes,
                      true,
                      {0, 0, 0}};
    const CUlaunchAttribute cooperative = CooperativeAttribute();
    if (CUresult captured; CaptureLaunch(hStream, NodeOf(f, shape, kernelParams, nullptr),
                                         {&cooperative, 1}, &captured)) {
      return captured;
    }
    return Launch(driver, context, s, f, shape, kernelParams, nullptr);
  });
}
CUresult cuLaunchCooperativeKernel_ptsz(CUfunction f, unsigned int gridDimX, unsigned int gridDimY,
                                        unsigned int gridDimZ, unsigned int blockDimX,
                                        unsigned int blockDimY, unsigned int blockDimZ,
                                        unsigned int sharedMemBytes, CUstream hStream,
                                        void** kernelParams) {
  return cuLaunchCooperativeKernel(f, gridDimX, gridDimY, gridDimZ, blockDimX, blockDimY, blockDimZ,
                                   sharedMemBytes, PerThread(hStream), kernelParams);
}

CUresult cuLaunchKernelEx(const CUlaunchConfig* config, CUfunction f, void** kernelParams,
                          void** extra) {
  if (config == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return CallStream(
      config->hStream, [&](Driver& driver, Context& context, std::shared_ptr<Stream>& s) {
        Shape shape{{config->gridDimX, config->gridDimY, config->gridDimZ},
                    {config->blockDimX, config->blockDimY, config->blockDimZ},
                    config->sharedMemBytes,
                    false,
                    {0, 0, 0}};
        const CUresult result = ApplyAttributes(*config, &shape);
        if (result != CUDA_SUCCESS) return result;
        if (CUresult captured; CaptureLaunch(config->hStream, NodeOf(f, shape, kernelParams, extra),
                                             {config->attrs, config->numAttrs}, &captured)) {
          return captured;
        }
        return Launch(driver, context, s, f, shape, kernelParams, extra);
      });
}
CUresult cuLaunchKernelEx_ptsz(const CUlaunchConfig* config, CUfunction f, void** kernelParams,
                               void** extra) {
  if (config == nullptr) return CUDA_ERROR_INVALID_VALUE;
  CUlaunchConfig own = *config;
  own.hStream = PerThread(own.hStream);
  return cuLaunchKernelEx(&own, f, kernelParams, extra);
}

}  // extern "C"
