#include "server/softgpu/api/driver.h"

#include <pthread.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <thread>

#include "farwarp/base/log.h"
#include "proto/cuda/driver_log.h"
#include "server/softgpu/api/launch/graph_backend.h"
#include "server/softgpu/api/memory/device_memory.h"
#include "server/softgpu/api/memory/memory_pool.h"
#include "server/softgpu/api/module/module.h"

namespace farwarp::softgpu {
namespace {

std::atomic<Driver*> the_driver{nullptr};

// In a forked child no thread of the driver lives on; CUDA refuses to work there.
void ForgetDriverInChild() {
  the_driver.store(nullptr, std::memory_order_relaxed);
}

// Seen whatever the log level: without it a user would only see an error number.
void Complain(const std::string& message) {
  const std::string line = "farwarp: " + message + "\n";
  const ssize_t written = write(STDERR_FILENO, line.data(), line.size());
  static_cast<void>(written);
}

CUresult Start() noexcept {
  try {
    cuda::DriverLog::Get();
    const char* text = std::getenv("FARWARP_SOFTGPU");
    Result<SoftGpuConfig> config = SoftGpuConfig::Parse(text == nullptr ? "" : text);
    if (!config.ok()) {
      Complain(config.status().message());
      return CUDA_ERROR_INVALID_VALUE;
    }
    if (config->devices == 0) return CUDA_ERROR_NO_DEVICE;
    if (const Status cpu = CheckCpu(); !cpu.ok()) {
      Complain(cpu.message());
      return CUDA_ERROR_SYSTEM_NOT_READY;
    }
    const Result<AddressSpace*> space = AddressSpace::Get();
    if (!space.ok()) {
      Complain(space.status().message());
      return CUDA_ERROR_OPERATING_SYSTEM;
    }
    auto driver = std::make_unique<Driver>(*std::move(config), **space);
    pthread_atfork(nullptr, nullptr, ForgetDriverInChild);
    the_driver.store(driver.release(), std::memory_order_release);
    return CUDA_SUCCESS;
  } catch (const std::bad_alloc&) {
    return CUDA_ERROR_OUT_OF_MEMORY;
  } catch (...) {
    return CUDA_ERROR_OPERATING_SYSTEM;
  }
}

}  // namespace

CUresult Driver::Init() noexcept {
  static const CUresult started = Start();
  static const pid_t owner = getpid();
  if (started == CUDA_SUCCESS && owner != getpid()) return CUDA_ERROR_NOT_INITIALIZED;
  return started;
}

Driver* Driver::Get() noexcept {
  return the_driver.load(std::memory_order_acquire);
}

Driver::Driver(SoftGpuConfig c, AddressSpace& s) : config(std::move(c)), space(s) {
  for (int ordinal = 0; ordinal < config.devices; ++ordinal) {
    auto device = std::make_unique<Device>(ordinal, config);
    device->default_pool = pools.Add(std::make_shared<MemoryPool>(ordinal, true));
    device->current_pool = device->default_pool;
    devices.push_back(std::move(device));
  }
}

Device* Driver::FindDevice(CUdevice device) noexcept {
  if (device < 0 || static_cast<std::size_t>(device) >= devices.size()) return nullptr;
  return devices[static_cast<std::size_t>(device)].get();
}

WorkerPool& Driver::workers() {
  std::call_once(workers_once_, [this] {
    // The thread that launches works too.
    workers_ = std::make_unique<WorkerPool>(config.threads == 0
                                                ? WorkerPool::DefaultThreads()
                                                : static_cast<unsigned>(config.threads) - 1);
  });
  return *workers_;
}

std::shared_ptr<Context> Driver::NewContext(Device& device, unsigned flags, bool primary) {
  auto context = std::make_shared<Context>(device, executor, next_context_++, flags, primary);
  context->Open();
  return context;
}

void Driver::DestroyContext(const std::shared_ptr<Context>& context) {
  const auto mine = [&](const auto& object) { return object.context() == context; };
  ForgetCapturedContext(context->handle());
  context->Finish();
  streams.RemoveIf(mine);
  events.RemoveIf(mine);
  for (const auto& library : libraries.All()) library->Forget(context->id());
  functions.RemoveIf(mine);
  modules.RemoveIf(mine);
  context->Synchronize(nullptr);
  context->heap().Close();
  ForgetTextures(*this, context->id());
  for (const Allocation& allocation : allocations.RemoveOwnedBy(context->id())) {
    FreeMemory(*this, allocation);
  }
}

void Driver::WaitForUsers(std::uint64_t context) {
  for (const auto& one : contexts.All()) {
    if (one->id() == context) static_cast<void>(one->Synchronize(nullptr));
  }
}

CUresult FindStream(Driver& driver, CUstream handle, std::shared_ptr<Stream>* stream,
                    std::shared_ptr<Context>* context) {
  if (handle == nullptr || handle == CU_STREAM_LEGACY || handle == CU_STREAM_PER_THREAD) {
    const CUresult result = CurrentContext(driver, context);
    if (result != CUDA_SUCCESS) return result;
    *stream = handle == CU_STREAM_PER_THREAD ? (*context)->PerThread() : (*context)->legacy();
    return CUDA_SUCCESS;
  }
  *stream = driver.streams.Find(handle);
  if (*stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  *context = (*stream)->context();
  return *context == nullptr ? CUDA_ERROR_CONTEXT_IS_DESTROYED : CUDA_SUCCESS;
}

}  // namespace farwarp::softgpu
