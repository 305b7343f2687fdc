// What modules and libraries have in common: a handle that is minted before its image is loaded, a
// table of kernels that came with it, and variables that are asked for once.
//
// `Record` is Module or Library. Thread-safe as those are.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "client/driver/module/image_load.h"
#include "client/driver/module/module.h"
#include "client/driver/process.h"

namespace farwarp::client {

// Mints a handle for `record` in `objects`; `load(session, handle, record)` announces it to the
// server and fills in the table. On failure nothing is left.
template <typename Objects, typename Record, typename Load>
CUresult MintLoaded(const Caller& caller, Objects& objects, std::unique_ptr<Record> record,
                    Load load, wire::Handle* handle) {
  Record& minted = *record;
  const wire::Handle candidate = objects.Mint(std::move(record));
  if (candidate.bits() == 0) return CUDA_ERROR_OUT_OF_MEMORY;
  minted.handle = candidate;
  const CUresult result = load(caller.session(), candidate, minted);
  if (result != CUDA_SUCCESS) {
    static_cast<void>(objects.Remove(candidate));
    return result;
  }
  *handle = candidate;
  return CUDA_SUCCESS;
}

// The number of kernels in `record`, which is nullptr for a handle that means nothing.
template <typename Record>
CUresult CountKernels(const Record* record, unsigned* count) {
  if (count == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (record == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  *count = static_cast<unsigned>(record->table->kernels().size());
  return CUDA_SUCCESS;
}

// `at(caller, record, index, handle)` is FunctionAt or KernelAt.
template <typename Record, typename Object, typename At>
CUresult NameKernel(const Caller& caller, Record* record, const char* name, At at, Object* out) {
  if (out == nullptr || name == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (record == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  const auto index = record->table->Find(name);
  if (!index.has_value()) return CUDA_ERROR_NOT_FOUND;
  wire::Handle handle;
  const CUresult result = at(caller, *record, *index, &handle);
  if (result == CUDA_SUCCESS) *out = wire::ToPointer<Object>(handle);
  return result;
}

template <typename Record, typename Object, typename At>
CUresult ListKernels(const Caller& caller, Record* record, unsigned count, At at, Object* out) {
  if (out == nullptr && count > 0) return CUDA_ERROR_INVALID_VALUE;
  if (record == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  for (std::uint32_t i = 0; i < count && i < record->table->kernels().size(); ++i) {
    wire::Handle handle;
    if (const CUresult result = at(caller, *record, i, &handle); result != CUDA_SUCCESS) {
      return result;
    }
    out[i] = wire::ToPointer<Object>(handle);
  }
  return CUDA_SUCCESS;
}

// The variable `name` of `record` in `context`, which the record keeps under `key`; asks the server
// with `question` the first time.
template <typename Record, typename Key>
CUresult FindVariable(const Caller& caller, Record& record, wire::InternalCommand question,
                      wire::Handle context, const char* name, const Key& key, CUdeviceptr* address,
                      std::size_t* bytes) {
  Variable variable;
  bool known = false;
  {
    const MutexLock lock(record.mutex);
    const auto found = record.globals.find(key);
    known = found != record.globals.end();
    if (known) variable = found->second;
  }
  if (!known) {
    const CUresult result = AskVariable(caller.session(), question, record.handle, name,
                                        &variable.address, &variable.bytes);
    if (result != CUDA_SUCCESS) return result;
    caller.process->globals.Add(
        {variable.address, variable.bytes, record.handle.bits(), context.bits()});
    const MutexLock lock(record.mutex);
    record.globals.emplace(key, variable);
  }
  if (address != nullptr) *address = variable.address;
  if (bytes != nullptr) *bytes = variable.bytes;
  return CUDA_SUCCESS;
}

}  // namespace farwarp::client
