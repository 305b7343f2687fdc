// cuInit, versions, look-up of entry points, error texts, the error log, profiler control, and the
// answer to what is not supported.
#include <dlfcn.h>

#include <atomic>
#include <cstdio>
#include <set>
#include <string>

#include "cuda/proc_address.h"
#include "farwarp/base/log.h"
#include "farwarp/base/thread_annotations.h"
#include "proto/cuda/driver_log.h"
#include "server/softgpu/api/driver.h"

using farwarp::cuda::DriverLog;
using namespace farwarp::softgpu;

// Called by the generated stubs; the names are literals.
void FarwarpSoftgpuUnsupported(const char* name, const char* reason) noexcept {
  try {
    // Never destroyed: programs call CUDA from their exit handlers too.
    static auto* mutex = new farwarp::Mutex;
    static auto* said = new std::set<std::string>;
    const farwarp::MutexLock lock(*mutex);
    if (!said->insert(name).second) return;
  } catch (const std::bad_alloc&) {
    return;
  }
  FARWARP_LOG(kWarn, "softgpu: %s: %s", name, reason);
}

namespace {

struct Text {
  CUresult result;
  const char* name;
  const char* text;
};
constexpr Text kTexts[] = {
#define X(name, text) {name, #name, text},
#include "proto/cuda/driver_errors.inc"
#undef X
};

const Text* FindText(CUresult result) noexcept {
  for (const Text& text : kTexts) {
    if (text.result == result) return &text;
  }
  return nullptr;
}

// Flags: 0 and 1 mean the plain entry points, 2 the per-thread ones.
CUresult LookUp(const char* symbol, void** function, int version, cuuint64_t flags,
                farwarp::cuda::ProcAddressStatus* status) noexcept {
  if (symbol == nullptr || function == nullptr || version > kDriverVersion || flags > 2) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const auto found = farwarp::cuda::FindProcAddress(
      symbol, version, flags == CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM);
  *function = found.function;
  *status = found.status;
  return CUDA_SUCCESS;
}

// Says once, whatever the log level, which module needs relinking and how: only an NVIDIA runtime,
// or a library with one inside, asks for private tables.
void AdviseRelinking(const void* caller) noexcept {
  static std::atomic<bool> said{false};
  if (said.exchange(true)) return;
  Dl_info info{};
  const bool known =
      dladdr(caller, &info) != 0 && info.dli_fname != nullptr && *info.dli_fname != '\0';
  std::fprintf(stderr,
               "farwarp: %s contains NVIDIA's CUDA runtime, which runs only on NVIDIA's own "
               "driver; relink it with nvcc --cudart shared to use Farwarp's\n",
               known ? info.dli_fname : "this program");
}

// Runs body(DriverLog&), which needs no cuInit.
template <typename Body>
CUresult CallLog(Body&& body) noexcept {
  try {
    return body(DriverLog::Get());
  } catch (...) {
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
}

}  // namespace

extern "C" {

CUresult cuInit(unsigned int Flags) {
  return Flags != 0 ? CUDA_ERROR_INVALID_VALUE : Driver::Init();
}

CUresult cuDriverGetVersion(int* driverVersion) {
  if (driverVersion == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *driverVersion = kDriverVersion;
  return CUDA_SUCCESS;
}

CUresult cuGetErrorName(CUresult error, const char** pStr) {
  if (pStr == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const Text* text = FindText(error);
  *pStr = text == nullptr ? nullptr : text->name;
  return text == nullptr ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

CUresult cuGetErrorString(CUresult error, const char** pStr) {
  if (pStr == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const Text* text = FindText(error);
  *pStr = text == nullptr ? nullptr : text->text;
  return text == nullptr ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

CUresult cuLogsRegisterCallback(CUlogsCallback callbackFunc, void* userData,
                                CUlogsCallbackHandle* callback_out) {
  return CallLog(
      [&](DriverLog& log) { return log.Register(callbackFunc, userData, callback_out); });
}

CUresult cuLogsUnregisterCallback(CUlogsCallbackHandle callback) {
  return CallLog([&](DriverLog& log) { return log.Unregister(callback); });
}

CUresult cuLogsCurrent(CUlogIterator* iterator_out, unsigned int flags) {
  return CallLog([&](DriverLog& log) { return log.Current(iterator_out, flags); });
}

CUresult cuLogsDumpToFile(CUlogIterator* iterator, const char* pathToFile, unsigned int flags) {
  return CallLog([&](DriverLog& log) { return log.DumpToFile(iterator, pathToFile, flags); });
}

CUresult cuLogsDumpToMemory(CUlogIterator* iterator, char* buffer, size_t* size,
                            unsigned int flags) {
  return CallLog([&](DriverLog& log) { return log.DumpToMemory(iterator, buffer, size, flags); });
}

CUresult cuGetProcAddress(const char* symbol, void** pfn, int cudaVersion, cuuint64_t flags) {
  farwarp::cuda::ProcAddressStatus status;
  const CUresult result = LookUp(symbol, pfn, cudaVersion, flags, &status);
  if (result != CUDA_SUCCESS) return result;
  return *pfn == nullptr ? CUDA_ERROR_NOT_FOUND : CUDA_SUCCESS;
}

CUresult cuGetProcAddress_v2(const char* symbol, void** pfn, int cudaVersion, cuuint64_t flags,
                             CUdriverProcAddressQueryResult* symbolStatus) {
  farwarp::cuda::ProcAddressStatus status;
  const CUresult result = LookUp(symbol, pfn, cudaVersion, flags, &status);
  if (result != CUDA_SUCCESS) return result;
  if (symbolStatus == nullptr) return *pfn == nullptr ? CUDA_ERROR_NOT_FOUND : CUDA_SUCCESS;
  *symbolStatus = static_cast<CUdriverProcAddressQueryResult>(status);
  return CUDA_SUCCESS;
}

// No table is served: they are private to NVIDIA's own libraries.
CUresult cuGetExportTable(const void** ppExportTable, const CUuuid*) {
  if (ppExportTable != nullptr) *ppExportTable = nullptr;
  AdviseRelinking(__builtin_return_address(0));
  return CUDA_ERROR_NOT_SUPPORTED;
}

CUresult cuProfilerInitialize(const char*, const char*, CUoutput_mode) {
  return CUDA_ERROR_NOT_SUPPORTED;
}
CUresult cuProfilerStart(void) {
  return CallContext([](Driver&, Context&) { return CUDA_SUCCESS; });
}
CUresult cuProfilerStop(void) {
  return CallContext([](Driver&, Context&) { return CUDA_SUCCESS; });
}

}  // extern "C"
