// What graphs keep alive: user objects, and the memory of allocation nodes.
#include <algorithm>
#include <utility>

#include "farwarp/graph/graphs.h"
#include "proto/graph/model.h"

namespace farwarp::graph {

void Graphs::Unreference(UserObject* object, std::uint64_t count, Orphans* orphans) {
  object->references -= std::min(object->references, count);
  if (object->references != 0) return;
  const auto found = objects_.find(object->id);
  orphans->objects.push_back(std::move(found->second));
  objects_.erase(found);
}

// By value: what is buried ends here.  NOLINTNEXTLINE(performance-unnecessary-value-param)
void Graphs::Bury(Orphans orphans) {
  for (const auto& object : orphans.objects) object->destroy(object->data);
}

void Graphs::TakeReferences(Graph& graph, References* references) {
  for (const auto& [object, count] : graph.objects) (*references)[object] += count;
  graph.objects.clear();
  for (const auto& node : graph.nodes) {
    if (node->child != nullptr) TakeReferences(*node->child, references);
  }
}

void Graphs::Release(const References& references) {
  Orphans orphans;
  {
    const MutexLock lock(mutex_);
    for (const auto& [object, count] : references) Unreference(object, count, &orphans);
  }
  Bury(std::move(orphans));
}

CUresult Graphs::CreateObject(CUuserObject* out, void* data, CUhostFn destroy, unsigned references,
                              unsigned flags) {
  constexpr unsigned kMaxReferences = 0x7fffffff;
  if (out == nullptr || destroy == nullptr || references == 0 || references > kMaxReferences ||
      flags != CU_USER_OBJECT_NO_DESTRUCTOR_SYNC) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const MutexLock lock(mutex_);
  auto object = std::make_unique<UserObject>();
  object->id = NewId(kObject);
  object->data = data;
  object->destroy = destroy;
  object->references = references;
  *out = ToHandle<CUuserObject>(object->id);
  objects_[object->id] = std::move(object);
  return CUDA_SUCCESS;
}

CUresult Graphs::RetainObject(CUuserObject handle, unsigned count) {
  const MutexLock lock(mutex_);
  UserObject* object = FindObject(handle);
  if (object == nullptr || count == 0) return CUDA_ERROR_INVALID_VALUE;
  object->references += count;
  return CUDA_SUCCESS;
}

CUresult Graphs::ReleaseObject(CUuserObject handle, unsigned count) {
  Orphans orphans;
  {
    const MutexLock lock(mutex_);
    UserObject* object = FindObject(handle);
    if (object == nullptr || count == 0) return CUDA_ERROR_INVALID_VALUE;
    Unreference(object, count, &orphans);
  }
  Bury(std::move(orphans));
  return CUDA_SUCCESS;
}

CUresult Graphs::GraphRetains(CUgraph graph_handle, CUuserObject handle, unsigned count,
                              unsigned flags) {
  if ((flags & ~unsigned{CU_GRAPH_USER_OBJECT_MOVE}) != 0 || count == 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const MutexLock lock(mutex_);
  Graph* graph = FindGraph(graph_handle);
  UserObject* object = FindObject(handle);
  if (graph == nullptr || object == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if ((flags & CU_GRAPH_USER_OBJECT_MOVE) == 0) object->references += count;
  graph->objects[object] += count;
  return CUDA_SUCCESS;
}

CUresult Graphs::GraphReleases(CUgraph graph_handle, CUuserObject handle, unsigned count) {
  Orphans orphans;
  {
    const MutexLock lock(mutex_);
    Graph* graph = FindGraph(graph_handle);
    UserObject* object = FindObject(handle);
    if (graph == nullptr || object == nullptr || count == 0) return CUDA_ERROR_INVALID_VALUE;
    const auto found = graph->objects.find(object);
    if (found == graph->objects.end() || found->second < count) return CUDA_ERROR_INVALID_VALUE;
    found->second -= count;
    if (found->second == 0) graph->objects.erase(found);
    Unreference(object, count, &orphans);
  }
  Bury(std::move(orphans));
  return CUDA_SUCCESS;
}

std::shared_ptr<GraphMemory> Graphs::FindMemory(CUdeviceptr address) {
  const auto found = memory_.find(address);
  if (found == memory_.end()) return nullptr;
  auto memory = found->second.lock();
  if (memory != nullptr && backend_.Holds(*memory)) return memory;
  memory_.erase(found);
  return nullptr;
}

bool Graphs::Free(CUdeviceptr address, CUresult* result) {
  std::shared_ptr<GraphMemory> memory;  // Goes after the lock: it may be the last to refer to it.
  const MutexLock lock(mutex_);
  memory = FindMemory(address);
  if (memory == nullptr) return false;
  *result = memory->live ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  memory->live = false;
  return true;
}

CUresult Graphs::MemoryAttribute(CUdevice device, CUgraphMem_attribute attribute, void* value) {
  Orphans held;  // Goes after the lock.
  const MutexLock lock(mutex_);
  if (!backend_.IsDevice(device)) return CUDA_ERROR_INVALID_DEVICE;
  if (value == nullptr) return CUDA_ERROR_INVALID_VALUE;
  std::uint64_t used = 0, reserved = 0;
  for (const auto& [address, weak] : memory_) {
    const auto memory = weak.lock();
    if (memory == nullptr) continue;
    held.memory.push_back(memory);
    if (memory->device != device) continue;
    reserved += memory->bytes;
    if (memory->live) used += memory->bytes;
  }
  std::uint64_t& high = memory_high_[device];
  high = std::max(high, used);
  auto* out = static_cast<cuuint64_t*>(value);
  switch (attribute) {
    case CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT:
      *out = used;
      return CUDA_SUCCESS;
    case CU_GRAPH_MEM_ATTR_USED_MEM_HIGH:
      *out = high;
      return CUDA_SUCCESS;
    case CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT:
      *out = reserved;
      return CUDA_SUCCESS;
    case CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH:
      *out = std::max(reserved, high);
      return CUDA_SUCCESS;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}

CUresult Graphs::SetMemoryAttribute(CUdevice device, CUgraphMem_attribute attribute, void* value) {
  const MutexLock lock(mutex_);
  if (!backend_.IsDevice(device)) return CUDA_ERROR_INVALID_DEVICE;
  // Only a reset of the high-water marks is possible.
  if (value == nullptr || *static_cast<const cuuint64_t*>(value) != 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (attribute != CU_GRAPH_MEM_ATTR_USED_MEM_HIGH &&
      attribute != CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  memory_high_[device] = 0;
  return CUDA_SUCCESS;
}

CUresult Graphs::TrimMemory(CUdevice device) {
  const MutexLock lock(mutex_);
  // Nothing is kept that no graph refers to.
  std::erase_if(memory_, [](const auto& entry) { return entry.second.expired(); });
  return backend_.IsDevice(device) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

}  // namespace farwarp::graph
