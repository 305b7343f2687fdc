// cuInit, versions, and what is refused to NVIDIA's own runtime.
#include <dlfcn.h>
#include <unistd.h>

#include <atomic>
#include <string>

#include "client/custom.h"
#include "client/driver/process.h"
#include "client/driver/unsupported.h"
#include "farwarp/base/log.h"

namespace farwarp::client {
namespace {

thread_local const void* export_caller = nullptr;

// Says once, whatever the log level, which module needs relinking and how. Only an NVIDIA runtime,
// or a library with one inside, asks for private tables.
void AdviseRelinking(const void* caller) noexcept {
  static std::atomic<bool> said{false};
  if (said.exchange(true)) return;
  Dl_info info{};
  const bool known = ::dladdr(caller, &info) != 0 && info.dli_fname != nullptr;
  try {
    const std::string line =
        std::string("farwarp: ") +
        (known && *info.dli_fname != '\0' ? info.dli_fname : "this program") +
        " contains NVIDIA's CUDA runtime, which runs only on NVIDIA's own driver; relink it with "
        "nvcc --cudart shared to use Farwarp's\n";
    static_cast<void>(!::write(STDERR_FILENO, line.data(), line.size()));
  } catch (...) {
  }
}

}  // namespace

void SetExportCaller(const void* address) noexcept {
  export_caller = address;
}

namespace custom {

CUresult cuInit(unsigned int Flags) {
  if (Flags != 0) return CUDA_ERROR_INVALID_VALUE;
  return Process::Start();
}

CUresult cuDriverGetVersion(int* driverVersion) {
  if (driverVersion == nullptr) return CUDA_ERROR_INVALID_VALUE;
  // It may be asked before cuInit, and only the server knows. Without a server, the version of the
  // API that this library offers: cuInit then says what is wrong.
  *driverVersion =
      Process::Start() == CUDA_SUCCESS ? Process::Get()->driver_version() : int{CUDA_VERSION};
  return CUDA_SUCCESS;
}

CUresult cuGetExportTable(const void** ppExportTable, const CUuuid* /*pExportTableId*/) {
  if (ppExportTable != nullptr) *ppExportTable = nullptr;
  AdviseRelinking(export_caller);
  return CUDA_ERROR_NOT_SUPPORTED;
}

CUresult cuProfilerInitialize(const char* /*configFile*/, const char* /*outputFile*/,
                              CUoutput_mode /*outputMode*/) {
  return CUDA_SUCCESS;
}
CUresult cuProfilerStart() {
  return CUDA_SUCCESS;
}
CUresult cuProfilerStop() {
  return CUDA_SUCCESS;
}

}  // namespace custom
}  // namespace farwarp::client

void FarwarpSayUnsupported(const char* name, const char* reason) noexcept {
  // One line per name: the set of names is small and fixed, the pointers are literals.
  static std::atomic<const char*> said[1024];
  for (auto& slot : said) {
    const char* there = slot.load(std::memory_order_relaxed);
    if (there == name) return;
    if (there == nullptr && slot.compare_exchange_strong(there, name)) {
      FARWARP_LOG(kWarn, "%s: %s", name, reason);
      return;
    }
    if (there == name) return;
  }
}
