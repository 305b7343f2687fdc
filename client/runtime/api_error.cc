// Error state, versions and the driver's entry points.
#include "client/runtime/api.h"

using namespace farwarp::runtime;  // NOLINT(google-build-using-namespace): exports are global

namespace {

// The driver is asked as programs of this runtime's version ask it; `default_flags` replaces
// cudaEnableDefault in code compiled for per-thread default streams.
cudaError_t EntryPoint(const char* symbol, void** function, unsigned version,
                       unsigned long long flags, unsigned long long default_flags,
                       cudaDriverEntryPointQueryResult* query_result) {
  return WithDriver([&](const Driver& d) -> Outcome {
    if (symbol == nullptr || function == nullptr || flags > cudaEnablePerThreadDefaultStream) {
      return cudaErrorInvalidValue;
    }
    CUdriverProcAddressQueryResult found = CU_GET_PROC_ADDRESS_SUCCESS;
    void* address = nullptr;
    const CUresult result =
        d.GetProcAddress(symbol, &address, static_cast<int>(version),
                         flags == cudaEnableDefault ? default_flags : flags, &found);
    if (result != CUDA_SUCCESS && result != CUDA_ERROR_NOT_FOUND) return result;
    if (address == nullptr && found == CU_GET_PROC_ADDRESS_SUCCESS) {
      found = CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
    }
    *function = address;
    if (query_result != nullptr) {
      *query_result = static_cast<cudaDriverEntryPointQueryResult>(found);
      return cudaSuccess;
    }
    // Without a place for the reason, the reason is the result.
    return address != nullptr ? cudaSuccess : cudaErrorSymbolNotFound;
  });
}

}  // namespace

extern "C" {

FARWARP_EXPORT cudaError_t cudaGetLastError(void) {
  return Process::Get().LastError(true);
}
FARWARP_EXPORT cudaError_t cudaPeekAtLastError(void) {
  return Process::Get().LastError(false);
}

FARWARP_EXPORT const char* cudaGetErrorName(cudaError_t error) {
  const char* name = ErrorName(error);
  return name != nullptr ? name : "unrecognized error code";
}

FARWARP_EXPORT const char* cudaGetErrorString(cudaError_t error) {
  const char* text = ErrorText(error);
  return text != nullptr ? text : "unrecognized error code";
}

// Works without a driver, and then tells 0.
FARWARP_EXPORT cudaError_t cudaDriverGetVersion(int* driverVersion) {
  Process& process = Process::Get();
  if (driverVersion == nullptr) return process.Record(cudaErrorInvalidValue);
  *driverVersion = process.DriverVersion();
  return cudaSuccess;
}

FARWARP_EXPORT cudaError_t cudaRuntimeGetVersion(int* runtimeVersion) {
  if (runtimeVersion == nullptr) return Process::Get().Record(cudaErrorInvalidValue);
  *runtimeVersion = kRuntimeVersion;
  return cudaSuccess;
}

FARWARP_EXPORT cudaError_t cudaGetDriverEntryPoint(const char* symbol, void** funcPtr,
                                                   unsigned long long flags,
                                                   cudaDriverEntryPointQueryResult* driverStatus) {
  return EntryPoint(symbol, funcPtr, kRuntimeVersion, flags, cudaEnableLegacyStream, driverStatus);
}

FARWARP_EXPORT cudaError_t
cudaGetDriverEntryPoint_ptsz(const char* symbol, void** funcPtr, unsigned long long flags,
                             cudaDriverEntryPointQueryResult* driverStatus) {
  return EntryPoint(symbol, funcPtr, kRuntimeVersion, flags, cudaEnablePerThreadDefaultStream,
                    driverStatus);
}

FARWARP_EXPORT cudaError_t cudaGetDriverEntryPointByVersion(
    const char* symbol, void** funcPtr, unsigned int cudaVersion, unsigned long long flags,
    cudaDriverEntryPointQueryResult* driverStatus) {
  return EntryPoint(symbol, funcPtr, cudaVersion, flags, cudaEnableLegacyStream, driverStatus);
}

FARWARP_EXPORT cudaError_t cudaGetDriverEntryPointByVersion_ptsz(
    const char* symbol, void** funcPtr, unsigned int cudaVersion, unsigned long long flags,
    cudaDriverEntryPointQueryResult* driverStatus) {
  return EntryPoint(symbol, funcPtr, cudaVersion, flags, cudaEnablePerThreadDefaultStream,
                    driverStatus);
}

// Private interfaces are neither offered nor imitated.
FARWARP_EXPORT cudaError_t cudaGetExportTable(const void** ppExportTable,
                                              const cudaUUID_t* /*pExportTableId*/) {
  if (ppExportTable != nullptr) *ppExportTable = nullptr;
  return Process::Get().Record(cudaErrorNotSupported);
}

}  // extern "C"

RT_API(cudaProfilerStart, (), { return d.ProfilerStart(); })
RT_API(cudaProfilerStop, (), { return d.ProfilerStop(); })

RT_API_INIT(cudaLogsRegisterCallback,
            (cudaLogsCallback_t callbackFunc, void* userData, cudaLogsCallbackHandle* callback_out),
            { return Pass(d.LogsRegisterCallback, callbackFunc, userData, callback_out); })
RT_API_INIT(cudaLogsUnregisterCallback, (cudaLogsCallbackHandle callback),
            { return Pass(d.LogsUnregisterCallback, callback); })
RT_API_INIT(cudaLogsCurrent, (cudaLogIterator * iterator_out, unsigned int flags),
            { return Pass(d.LogsCurrent, iterator_out, flags); })
RT_API_INIT(cudaLogsDumpToFile,
            (cudaLogIterator * iterator, const char* pathToFile, unsigned int flags),
            { return Pass(d.LogsDumpToFile, iterator, pathToFile, flags); })
RT_API_INIT(cudaLogsDumpToMemory,
            (cudaLogIterator * iterator, char* buffer, size_t* size, unsigned int flags),
            { return Pass(d.LogsDumpToMemory, iterator, buffer, size, flags); })
