// cuPointerGetAttribute(s): everything about an address is known here.
#include <cstring>

#include "client/custom.h"
#include "client/driver/memory/managed.h"
#include "client/driver/memory/vmm.h"
#include "client/driver/process.h"

namespace farwarp::client::custom {
namespace {

// What is known of one address.
struct Place {
  bool device = false;
  std::uint64_t base = 0;
  std::uint64_t bytes = 0;
  std::uint64_t context = 0;
  std::uint64_t serial = 0;
  int ordinal = 0;
  bool managed = false;
};

bool FindPlace(Process& process, std::uint64_t address, Place* place) {
  if (Device* device = process.DeviceOf(address); device != nullptr) {
    const auto allocation = device->memory.Find(address);
    if (!allocation.has_value()) {
      const auto mapping = process.vmm().Find(address);
      if (!mapping.has_value()) return false;
      *place = {.device = true,
                .base = mapping->address,
                .bytes = mapping->bytes,
                .serial = mapping->serial,
                .ordinal = mapping->ordinal};
      return true;
    }
    *place = {true,
              allocation->address,
              allocation->bytes,
              allocation->owner,
              allocation->serial,
              process.OrdinalOf(*device)};
  } else if (const auto variable = process.globals.Find(address); variable.has_value()) {
    *place = {true, variable->address, variable->bytes, variable->context, variable->address, 0};
  } else if (const auto block = process.host.Find(address); block.has_value()) {
    *place = {false, block->address, block->bytes, block->owner, block->serial, 0};
  } else {
    return false;
  }
  if (const Managed::Range range = process.managed().Find(address); range.address != 0) {
    place->base = range.address;
    place->bytes = range.bytes;
    place->managed = true;
  }
  const Context* context = process.contexts.Find(wire::Handle(place->context));
  if (context != nullptr) place->ordinal = context->ordinal;
  return true;
}

template <typename T>
CUresult Store(void* data, T value) {
  std::memcpy(data, &value, sizeof value);
  return CUDA_SUCCESS;
}

CUresult Answer(const Place& place, CUpointer_attribute attribute, std::uint64_t address,
                void* data) {
  switch (attribute) {
    case CU_POINTER_ATTRIBUTE_CONTEXT:
      return Store(data, reinterpret_cast<CUcontext>(place.context));
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
      return Store(data,
                   static_cast<unsigned>(place.device ? CU_MEMORYTYPE_DEVICE : CU_MEMORYTYPE_HOST));
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
      // Host memory has no address on the device.
      return place.device ? Store(data, static_cast<CUdeviceptr>(address))
                          : CUDA_ERROR_INVALID_VALUE;
    case CU_POINTER_ATTRIBUTE_HOST_POINTER:
      return place.device && !place.managed ? CUDA_ERROR_INVALID_VALUE
                                            : Store(data, reinterpret_cast<void*>(address));
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
      return Store(data, place.ordinal);
    case CU_POINTER_ATTRIBUTE_BUFFER_ID:
    case CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID:
      return Store(data, place.serial);
    case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
    case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR:
      return Store(data, static_cast<CUdeviceptr>(place.base));
    case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
    case CU_POINTER_ATTRIBUTE_MAPPING_SIZE:
      return Store(data, static_cast<size_t>(place.bytes));
    case CU_POINTER_ATTRIBUTE_MAPPED:
      return Store(data, place.device ? 1 : 0);
    case CU_POINTER_ATTRIBUTE_IS_MANAGED:
      return Store(data, place.managed ? 1 : 0);
    case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
    case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
    case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
      return Store(data, 0);
    case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
      return Store(data, std::uint64_t{0});
    case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS:
      return Store(data, static_cast<unsigned>(CU_POINTER_ATTRIBUTE_ACCESS_FLAG_READWRITE));
    case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
      return Store(data, CUmemoryPool{nullptr});
    default:
      return CUDA_ERROR_NOT_SUPPORTED;
  }
}

// The documented answers about an address that nobody allocated through CUDA.
void AnswerUnknown(CUpointer_attribute attribute, void* data) {
  switch (attribute) {
    case CU_POINTER_ATTRIBUTE_CONTEXT:
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
    case CU_POINTER_ATTRIBUTE_HOST_POINTER:
    case CU_POINTER_ATTRIBUTE_BUFFER_ID:
    case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
    case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
    case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
    case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
      Store(data, std::uint64_t{0});
      break;
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
      Store(data, -2);
      break;
    default:
      Store(data, 0);
  }
}

}  // namespace

CUresult cuPointerGetAttribute(void* data, CUpointer_attribute attribute, CUdeviceptr ptr) {
  FARWARP_ENTER(caller);
  if (data == nullptr || attribute < CU_POINTER_ATTRIBUTE_CONTEXT) return CUDA_ERROR_INVALID_VALUE;
  Place place;
  if (!FindPlace(*caller.process, ptr, &place)) return CUDA_ERROR_INVALID_VALUE;
  return Answer(place, attribute, ptr, data);
}

CUresult cuPointerGetAttributes(unsigned int numAttributes, CUpointer_attribute* attributes,
                                void** data, CUdeviceptr ptr) {
  FARWARP_ENTER(caller);
  if (numAttributes == 0 || attributes == nullptr || data == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  Place place;
  const bool known = FindPlace(*caller.process, ptr, &place);
  for (unsigned i = 0; i < numAttributes; ++i) {
    if (data[i] == nullptr) return CUDA_ERROR_INVALID_VALUE;
    if (!known || Answer(place, attributes[i], ptr, data[i]) != CUDA_SUCCESS) {
      AnswerUnknown(attributes[i], data[i]);
    }
  }
  return CUDA_SUCCESS;
}

CUresult cuPointerSetAttribute(const void* value, CUpointer_attribute attribute, CUdeviceptr ptr) {
  FARWARP_ENTER(caller);
  Place place;
  if (value == nullptr || !FindPlace(*caller.process, ptr, &place)) return CUDA_ERROR_INVALID_VALUE;
  // Copies are ordered as this attribute asks for already.
  return attribute == CU_POINTER_ATTRIBUTE_SYNC_MEMOPS ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

}  // namespace farwarp::client::custom
