// What a pointer is.
#include <cstring>

#include "server/softgpu/api/driver.h"

using namespace farwarp::softgpu;

namespace {

template <typename T>
CUresult Put(void* data, T value) {
  std::memcpy(data, &value, sizeof value);
  return CUDA_SUCCESS;
}

bool IsHost(const Allocation& a) {
  return a.kind == MemoryKind::kPinned || a.kind == MemoryKind::kRegistered;
}

// The context that owns an allocation; VMM memory and variables have none.
CUcontext ContextOf(Driver& driver, const Allocation& allocation) {
  for (const auto& context : driver.contexts.All()) {
    if (context->id() == allocation.context) return context->handle();
  }
  return nullptr;
}

CUresult Describe(Driver& driver, const Allocation& a, CUdeviceptr pointer,
                  CUpointer_attribute attribute, void* data) {
  switch (attribute) {
    case CU_POINTER_ATTRIBUTE_CONTEXT: {
      const CUcontext context = ContextOf(driver, a);
      if (context == nullptr) return CUDA_ERROR_INVALID_VALUE;
      return Put(data, context);
    }
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
      return Put(data,
                 static_cast<unsigned>(IsHost(a) ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE));
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
      if (a.kind == MemoryKind::kRegistered) return CUDA_ERROR_INVALID_VALUE;
      return Put(data, pointer);
    case CU_POINTER_ATTRIBUTE_HOST_POINTER:
      if (!IsHost(a) && a.kind != MemoryKind::kManaged) return CUDA_ERROR_INVALID_VALUE;
      return Put(data, reinterpret_cast<void*>(pointer));
    case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
      return Put(data, static_cast<unsigned>(a.sync_memops));
    case CU_POINTER_ATTRIBUTE_BUFFER_ID:
    case CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID:
      return Put(data, static_cast<unsigned long long>(a.id));
    case CU_POINTER_ATTRIBUTE_IS_MANAGED:
      return Put(data, static_cast<unsigned>(a.kind == MemoryKind::kManaged));
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
      return Put(data, a.device);
    case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
    case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR:
      return Put(data, a.address);
    case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
    case CU_POINTER_ATTRIBUTE_MAPPING_SIZE:
      return Put(data, static_cast<std::size_t>(a.bytes));
    case CU_POINTER_ATTRIBUTE_MAPPED:
      return Put(data, a.readable);
    case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
    case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
    case CU_POINTER_ATTRIBUTE_IS_HW_DECOMPRESS_CAPABLE:
      return Put(data, false);
    case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
      return Put(data, static_cast<unsigned long long>(CU_MEM_HANDLE_TYPE_NONE));
    case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS:
      return Put(data, static_cast<unsigned>(a.writable ? CU_POINTER_ATTRIBUTE_ACCESS_FLAG_READWRITE
                                             : a.readable ? CU_POINTER_ATTRIBUTE_ACCESS_FLAG_READ
                                                          : CU_POINTER_ATTRIBUTE_ACCESS_FLAG_NONE));
    case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
      return Put(data, reinterpret_cast<CUmemoryPool>(a.pool));
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}

// What cuPointerGetAttributes writes for a pointer that the driver does not know.
void DescribeUnknown(CUpointer_attribute attribute, void* data) {
  switch (attribute) {
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
    case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
    case CU_POINTER_ATTRIBUTE_IS_MANAGED:
    case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS:
      Put(data, 0u);
      return;
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
      Put(data, static_cast<int>(CU_DEVICE_INVALID));
      return;
    case CU_POINTER_ATTRIBUTE_MAPPED:
    case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
    case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
    case CU_POINTER_ATTRIBUTE_IS_HW_DECOMPRESS_CAPABLE:
      Put(data, false);
      return;
    case CU_POINTER_ATTRIBUTE_P2P_TOKENS:
      return;
    default:
      Put(data, std::uint64_t{0});
  }
}

}  // namespace

extern "C" {

CUresult cuPointerGetAttribute(void* data, CUpointer_attribute attribute, CUdeviceptr ptr) {
  return CallDriver([&](Driver& driver) {
    if (data == nullptr) return CUDA_ERROR_INVALID_VALUE;
    const std::optional<Allocation> found = driver.allocations.Find(ptr);
    if (!found) return CUDA_ERROR_INVALID_VALUE;
    return Describe(driver, *found, ptr, attribute, data);
  });
}

CUresult cuPointerGetAttributes(unsigned int numAttributes, CUpointer_attribute* attributes,
                                void** data, CUdeviceptr ptr) {
  return CallDriver([&](Driver& driver) {
    if (attributes == nullptr || data == nullptr || numAttributes == 0) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    const std::optional<Allocation> found = driver.allocations.Find(ptr);
    for (unsigned i = 0; i < numAttributes; ++i) {
      if (data[i] == nullptr) return CUDA_ERROR_INVALID_VALUE;
      if (attributes[i] < CU_POINTER_ATTRIBUTE_CONTEXT ||
          attributes[i] > CU_POINTER_ATTRIBUTE_IS_HW_DECOMPRESS_CAPABLE) {
        return CUDA_ERROR_INVALID_VALUE;
      }
      if (!found || Describe(driver, *found, ptr, attributes[i], data[i]) != CUDA_SUCCESS) {
        DescribeUnknown(attributes[i], data[i]);
      }
    }
    return CUDA_SUCCESS;
  });
}

CUresult cuPointerSetAttribute(const void* value, CUpointer_attribute attribute, CUdeviceptr ptr) {
  return CallDriver([&](Driver& driver) {
    if (value == nullptr || attribute != CU_POINTER_ATTRIBUTE_SYNC_MEMOPS) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    unsigned on;
    std::memcpy(&on, value, sizeof on);
    const std::optional<Allocation> found = driver.allocations.Find(ptr);
    if (!found || !driver.allocations.Update(found->address, [&](Allocation& allocation) {
          allocation.sync_memops = on != 0;
        })) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    return CUDA_SUCCESS;
  });
}

}  // extern "C"
