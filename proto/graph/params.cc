// What nodes do: reading, handing out and changing their parameters.
#include <algorithm>
#include <cstring>
#include <utility>

#include "farwarp/graph/graphs.h"
#include "farwarp/graph/parameters.h"
#include "proto/graph/model.h"

namespace farwarp::graph {
namespace {

// The parameter buffer from `extra`: pairs of a key and a value, ended by CU_LAUNCH_PARAM_END.
CUresult ReadExtra(void** extra, const void** buffer, std::size_t* bytes) {
  constexpr int kMaxPairs = 8;
  for (int i = 0; i < 2 * kMaxPairs; i += 2) {
    if (extra[i] == CU_LAUNCH_PARAM_END) return CUDA_SUCCESS;
    if (extra[i] == CU_LAUNCH_PARAM_BUFFER_POINTER) {
      *buffer = extra[i + 1];
    } else if (extra[i] == CU_LAUNCH_PARAM_BUFFER_SIZE && extra[i + 1] != nullptr) {
      std::memcpy(bytes, extra[i + 1], sizeof *bytes);
    } else {
      return CUDA_ERROR_INVALID_VALUE;
    }
  }
  return CUDA_ERROR_INVALID_VALUE;
}

}  // namespace

CUresult PackExtra(void** extra, std::size_t needed, std::vector<std::byte>* packed) {
  const void* buffer = nullptr;
  std::size_t bytes = 0;
  const CUresult result = ReadExtra(extra, &buffer, &bytes);
  if (result != CUDA_SUCCESS) return result;
  // Padding behind the last parameter may be missing, a parameter may not.
  if (bytes > kMaxParameterBytes || bytes < needed || (buffer == nullptr && bytes != 0)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (needed != 0) std::memcpy(packed->data(), buffer, needed);
  return CUDA_SUCCESS;
}

CUDA_KERNEL_NODE_PARAMS KernelOf(const CUgraphNodeParams& params) {
  const auto& from = params.kernel;
  return {from.func,         from.gridDimX,  from.gridDimY,  from.gridDimZ,
          from.blockDimX,    from.blockDimY, from.blockDimZ, from.sharedMemBytes,
          from.kernelParams, from.extra,     from.kern,      from.ctx};
}
CUDA_MEMSET_NODE_PARAMS FillOf(const CUgraphNodeParams& params) {
  const auto& from = params.memset;
  return {from.dst, from.pitch, from.value, from.elementSize, from.width, from.height};
}

CUresult Graphs::ReadKernel(const CUDA_KERNEL_NODE_PARAMS* params, NodeWork* work) {
  if (params == nullptr) return CUDA_ERROR_INVALID_VALUE;
  // One of the two says what runs.
  if ((params->func == nullptr) == (params->kern == nullptr)) return CUDA_ERROR_INVALID_VALUE;
  work->type = CU_GRAPH_NODE_TYPE_KERNEL;
  KernelWork& kernel = work->kernel;
  kernel.function = params->func;
  kernel.kernel = params->kern;
  const std::uint32_t grid[] = {params->gridDimX, params->gridDimY, params->gridDimZ};
  const std::uint32_t block[] = {params->blockDimX, params->blockDimY, params->blockDimZ};
  std::copy_n(grid, 3, kernel.grid);
  std::copy_n(block, 3, kernel.block);
  kernel.shared_bytes = params->sharedMemBytes;
  work->context = params->ctx;
  std::size_t bytes = 0;
  const CUresult result = backend_.Describe(kernel, &kernel.places, &bytes, &work->context);
  if (result != CUDA_SUCCESS) return result;
  return PackParameters(kernel.places, bytes, params->kernelParams, params->extra,
                        &kernel.parameters);
}

CUresult Graphs::ReadCopy(const CUDA_MEMCPY3D* params, CUcontext context, NodeWork* work) {
  if (params == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (params->WidthInBytes == 0 || params->Height == 0 || params->Depth == 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  work->type = CU_GRAPH_NODE_TYPE_MEMCPY;
  work->copy = *params;
  work->context = context;
  if (context == nullptr) {
    const CUresult result = backend_.CurrentContext(&work->context);
    if (result != CUDA_SUCCESS) return result;
  }
  return backend_.CheckCopy(*params);
}

CUresult Graphs::ReadFill(const CUDA_MEMSET_NODE_PARAMS* params, CUcontext context,
                          NodeWork* work) {
  if (params == nullptr || params->width == 0 || params->height == 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (params->elementSize != 1 && params->elementSize != 2 && params->elementSize != 4) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  work->type = CU_GRAPH_NODE_TYPE_MEMSET;
  work->fill = *params;
  work->context = context;
  if (context == nullptr) {
    const CUresult result = backend_.CurrentContext(&work->context);
    if (result != CUDA_SUCCESS) return result;
  }
  return backend_.CheckFill(*params);
}

CUresult Graphs::ReadAlloc(const CUDA_MEM_ALLOC_NODE_PARAMS* params, NodeWork* work) {
  if (params == nullptr || params->bytesize == 0 ||
      (params->accessDescCount != 0 && params->accessDescs == nullptr) ||
      params->accessDescCount > 1024) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (params->poolProps.allocType != CU_MEM_ALLOCATION_TYPE_PINNED) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (params->poolProps.location.type != CU_MEM_LOCATION_TYPE_DEVICE ||
      params->poolProps.handleTypes != CU_MEM_HANDLE_TYPE_NONE) {
    return CUDA_ERROR_NOT_SUPPORTED;
  }
  work->type = CU_GRAPH_NODE_TYPE_MEM_ALLOC;
  work->alloc = *params;
  work->alloc_access.assign(params->accessDescs, params->accessDescs + params->accessDescCount);
  const CUresult result = backend_.Allocate(*params, &work->memory);
  if (result == CUDA_SUCCESS) work->alloc.dptr = work->memory->address;
  return result;
}

CUresult Graphs::ReadFree(const Graph* graph, CUdeviceptr address, NodeWork* work) {
  if (graph == nullptr) return CUDA_ERROR_INVALID_VALUE;
  work->type = CU_GRAPH_NODE_TYPE_MEM_FREE;
  work->freed = address;
  work->memory = FindMemory(address);
  if (work->memory == nullptr) return CUDA_ERROR_INVALID_VALUE;
  // An allocation can be freed in one place only.
  for (const auto& node : graph->nodes) {
    if (node->work.type == CU_GRAPH_NODE_TYPE_MEM_FREE && node->work.freed == address) {
      return CUDA_ERROR_INVALID_VALUE;
    }
  }
  return CUDA_SUCCESS;
}

CUresult Graphs::GetKernel(CUgraphNode handle, CUDA_KERNEL_NODE_PARAMS* params) {
  const MutexLock lock(mutex_);
  Node* node = FindNode(handle);
  if (params == nullptr || node == nullptr || node->work.type != CU_GRAPH_NODE_TYPE_KERNEL) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  KernelWork& kernel = node->work.kernel;
  node->parameter_pointers.clear();
  for (const ParameterPlace& place : kernel.places) {
    node->parameter_pointers.push_back(kernel.parameters.data() + place.offset);
  }
  *params = {};
  params->func = kernel.function;
  params->kern = kernel.kernel;
  params->ctx = node->work.context;
  params->gridDimX = kernel.grid[0];
  params->gridDimY = kernel.grid[1];
  params->gridDimZ = kernel.grid[2];
  params->blockDimX = kernel.block[0];
  params->blockDimY = kernel.block[1];
  params->blockDimZ = kernel.block[2];
  params->sharedMemBytes = kernel.shared_bytes;
  params->kernelParams =
      node->parameter_pointers.empty() ? nullptr : node->parameter_pointers.data();
  return CUDA_SUCCESS;
}

// The simple getters: a copy of one member of the node's work.
#define FARWARP_GRAPH_GET(name, value_type, out, node_type, value)                                \
  CUresult Graphs::name(CUgraphNode handle, value_type* out) {                                    \
    const MutexLock lock(mutex_);                                                                 \
    const Node* node = FindNode(handle);                                                          \
    if (out == nullptr || node == nullptr || node->work.type != CU_GRAPH_NODE_TYPE_##node_type) { \
      return CUDA_ERROR_INVALID_VALUE;                                                            \
    }                                                                                             \
    *out = value;                                                                                 \
    return CUDA_SUCCESS;                                                                          \
  }
FARWARP_GRAPH_GET(GetCopy, CUDA_MEMCPY3D, params, MEMCPY, node->work.copy)
FARWARP_GRAPH_GET(GetFill, CUDA_MEMSET_NODE_PARAMS, params, MEMSET, node->work.fill)
FARWARP_GRAPH_GET(GetHost, CUDA_HOST_NODE_PARAMS, params, HOST, node->work.host)
FARWARP_GRAPH_GET(GetChild, CUgraph, child, GRAPH, node->child->handle())
FARWARP_GRAPH_GET(GetFree, CUdeviceptr, address, MEM_FREE, node->work.freed)
#undef FARWARP_GRAPH_GET

CUresult Graphs::GetAlloc(CUgraphNode handle, CUDA_MEM_ALLOC_NODE_PARAMS* params) {
  const MutexLock lock(mutex_);
  const Node* node = FindNode(handle);
  if (params == nullptr || node == nullptr || node->work.type != CU_GRAPH_NODE_TYPE_MEM_ALLOC) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  *params = node->work.alloc;
  params->accessDescs = node->work.alloc_access.empty() ? nullptr : node->work.alloc_access.data();
  return CUDA_SUCCESS;
}

CUresult Graphs::GetEvent(CUgraphNode handle, CUevent* event, CUgraphNodeType type) {
  const MutexLock lock(mutex_);
  const Node* node = FindNode(handle);
  if (event == nullptr || node == nullptr || node->work.type != type) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  *event = node->work.event;
  return CUDA_SUCCESS;
}

CUresult Graphs::Change(CUgraphExec exec_handle, CUgraphNode handle, CUgraphNodeType type,
                        NodeWork work) {
  Node* node = FindNode(handle);
  if (exec_handle == nullptr) {
    if (node == nullptr || node->work.type != type) return CUDA_ERROR_INVALID_VALUE;
    work.kernel.attributes = std::move(node->work.kernel.attributes);
    node->work = std::move(work);
    return CUDA_SUCCESS;
  }
  Exec* exec = FindExec(exec_handle);
  if (exec == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const auto found = exec->nodes.find(IdOf(handle));
  if (found == exec->nodes.end() || found->second->work.type != type) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  node = found->second;
  if (type == CU_GRAPH_NODE_TYPE_KERNEL && work.context != node->work.context) {
    return CUDA_ERROR_INVALID_VALUE;  // A kernel cannot move to another context.
  }
  work.kernel.attributes = std::move(node->work.kernel.attributes);
  node->work = work;
  const std::uint32_t place = exec->places.at(node);
  exec->plan[place].work = std::move(work);
  return exec->executable->Update(exec->plan, place);
}

CUresult Graphs::SetKernel(CUgraphExec exec, CUgraphNode node,
                           const CUDA_KERNEL_NODE_PARAMS* params) {
  const MutexLock lock(mutex_);
  NodeWork work;
  const CUresult result = ReadKernel(params, &work);
  return result != CUDA_SUCCESS ? result
                                : Change(exec, node, CU_GRAPH_NODE_TYPE_KERNEL, std::move(work));
}

CUresult Graphs::SetCopy(CUgraphExec exec, CUgraphNode handle, const CUDA_MEMCPY3D* params,
                         CUcontext context) {
  const MutexLock lock(mutex_);
  NodeWork work;
  const Node* node = FindNode(handle);
  if (context == nullptr && node != nullptr) context = node->work.context;
  const CUresult result = ReadCopy(params, context, &work);
  return result != CUDA_SUCCESS ? result
                                : Change(exec, handle, CU_GRAPH_NODE_TYPE_MEMCPY, std::move(work));
}

CUresult Graphs::SetFill(CUgraphExec exec, CUgraphNode handle,
                         const CUDA_MEMSET_NODE_PARAMS* params, CUcontext context) {
  const MutexLock lock(mutex_);
  NodeWork work;
  const Node* node = FindNode(handle);
  if (context == nullptr && node != nullptr) context = node->work.context;
  const CUresult result = ReadFill(params, context, &work);
  return result != CUDA_SUCCESS ? result
                                : Change(exec, handle, CU_GRAPH_NODE_TYPE_MEMSET, std::move(work));
}

CUresult Graphs::SetHost(CUgraphExec exec, CUgraphNode node, const CUDA_HOST_NODE_PARAMS* params) {
  if (params == nullptr || params->fn == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const MutexLock lock(mutex_);
  NodeWork work;
  work.type = CU_GRAPH_NODE_TYPE_HOST;
  work.host = *params;
  return Change(exec, node, CU_GRAPH_NODE_TYPE_HOST, std::move(work));
}

CUresult Graphs::SetEvent(CUgraphExec exec, CUgraphNode node, CUevent event, CUgraphNodeType type) {
  const MutexLock lock(mutex_);
  if (!backend_.IsEvent(event)) return CUDA_ERROR_INVALID_VALUE;
  NodeWork work;
  work.type = type;
  work.event = event;
  return Change(exec, node, type, std::move(work));
}

CUresult Graphs::SetNode(CUgraphExec exec, CUgraphNode node, CUgraphNodeParams* params) {
  if (params == nullptr) return CUDA_ERROR_INVALID_VALUE;
  switch (params->type) {
    case CU_GRAPH_NODE_TYPE_KERNEL: {
      const CUDA_KERNEL_NODE_PARAMS kernel = KernelOf(*params);
      return SetKernel(exec, node, &kernel);
    }
    case CU_GRAPH_NODE_TYPE_MEMCPY:
      return SetCopy(exec, node, &params->memcpy.copyParams, params->memcpy.copyCtx);
    case CU_GRAPH_NODE_TYPE_MEMSET: {
      const CUDA_MEMSET_NODE_PARAMS fill = FillOf(*params);
      return SetFill(exec, node, &fill, params->memset.ctx);
    }
    case CU_GRAPH_NODE_TYPE_HOST: {
      const CUDA_HOST_NODE_PARAMS host{params->host.fn, params->host.userData};
      return SetHost(exec, node, &host);
    }
    case CU_GRAPH_NODE_TYPE_GRAPH:
      // A child graph in a graph is changed through its own nodes.
      return exec == nullptr ? CUDA_ERROR_NOT_SUPPORTED : SetChild(exec, node, params->graph.graph);
    case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
      return SetEvent(exec, node, params->eventWait.event, params->type);
    case CU_GRAPH_NODE_TYPE_EVENT_RECORD:
      return SetEvent(exec, node, params->eventRecord.event, params->type);
    default:
      return CUDA_ERROR_NOT_SUPPORTED;
  }
}

namespace {

CUlaunchAttribute* FindAttribute(KernelWork& kernel, CUlaunchAttributeID id) {
  for (CUlaunchAttribute& attribute : kernel.attributes) {
    if (attribute.id == id) return &attribute;
  }
  return nullptr;
}

}  // namespace

CUresult Graphs::CopyAttributes(CUgraphNode to_handle, CUgraphNode from_handle) {
  const MutexLock lock(mutex_);
  Node* to = FindNode(to_handle);
  const Node* from = FindNode(from_handle);
  if (to == nullptr || from == nullptr || to->work.type != CU_GRAPH_NODE_TYPE_KERNEL ||
      from->work.type != CU_GRAPH_NODE_TYPE_KERNEL || to->work.context != from->work.context) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const auto attributes = from->work.kernel.attributes;
  to->work.kernel.attributes = attributes;
  return CUDA_SUCCESS;
}

CUresult Graphs::GetAttribute(CUgraphNode handle, CUkernelNodeAttrID id,
                              CUkernelNodeAttrValue* value) {
  const MutexLock lock(mutex_);
  Node* node = FindNode(handle);
  if (value == nullptr || node == nullptr || node->work.type != CU_GRAPH_NODE_TYPE_KERNEL ||
      id <= CU_LAUNCH_ATTRIBUTE_IGNORE || id >= CU_LAUNCH_ATTRIBUTE_MAX) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const CUlaunchAttribute* found = FindAttribute(node->work.kernel, id);
  *value = found != nullptr ? found->value : CUkernelNodeAttrValue{};
  return CUDA_SUCCESS;
}

CUresult Graphs::SetAttribute(CUgraphNode handle, CUkernelNodeAttrID id,
                              const CUkernelNodeAttrValue* value) {
  const MutexLock lock(mutex_);
  Node* node = FindNode(handle);
  if (value == nullptr || node == nullptr || node->work.type != CU_GRAPH_NODE_TYPE_KERNEL ||
      id <= CU_LAUNCH_ATTRIBUTE_IGNORE || id >= CU_LAUNCH_ATTRIBUTE_MAX) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (CUlaunchAttribute* found = FindAttribute(node->work.kernel, id); found != nullptr) {
    found->value = *value;
    return CUDA_SUCCESS;
  }
  CUlaunchAttribute attribute{};
  attribute.id = id;
  attribute.value = *value;
  node->work.kernel.attributes.push_back(attribute);
  return CUDA_SUCCESS;
}

}  // namespace farwarp::graph
