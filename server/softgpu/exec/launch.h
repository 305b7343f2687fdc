// Run: executes one grid on the software GPU and waits for it.
//
// Blocks are pulled in grid order by the threads of a WorkerPool and by the calling thread, which
// works too, so that a launch makes progress even when all pool threads are busy with others.
// Whatever a kernel does wrong comes back as a Fault; the process stays alive.
//
// Ownership: everything a LaunchRequest points to is borrowed until Run returns.
// Threads: Run may be called from several threads at once (concurrent kernels).
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "server/softgpu/exec/module.h"

namespace farwarp::softgpu {

// Receives what kernels print, one call per printf of one thread. Called from worker threads, one
// at a time per launch; must not touch device memory.
class TextSink {
 public:
  virtual ~TextSink() = default;
  virtual void Write(std::string_view text) noexcept = 0;
};

class DeviceHeap;

// The device facts that kernels can read or that bound a launch.
struct DeviceLimits {
  uint32_t sm_count = 16;                    // %nsmid
  uint64_t stack_bytes = 1024;               // cuCtxSetLimit(STACK_SIZE): for recursion and alloca.
  uint32_t resident_blocks_per_worker = 32;  // Blocks that may wait for each other on one thread.
  uint64_t grid_id = 0;                      // %gridid
  uint64_t grid_workspace = 0;               // %envreg1 and 2: where cooperative grids meet
};

enum class FaultKind {
  kNone = 0,
  kIllegalAddress,
  kMisaligned,
  kIllegalInstruction,
  kInvalidPc,
  kTrap,
  kAssert,
  kStackOverflow,
  kDeadlock,
  kTimeout,
  kCancelled,
  kOutOfMemory,
  kInvalidLaunch,  // The request itself is impossible (too many threads, parameters too short).
};

// Short lower-case name of a kind, for logs.
const char* FaultKindName(FaultKind kind) noexcept;

struct Fault {
  FaultKind kind = FaultKind::kNone;
  std::string kernel;
  Dim3 block{0, 0, 0};
  Dim3 thread{0, 0, 0};
  uint32_t ptx_line = 0;
  uint64_t address = 0;
  bool device_address = false;  // Of an access to memory that is not a block's own.
  std::string text;             // One sentence with all of the above, and the instruction.

  bool ok() const noexcept { return kind == FaultKind::kNone; }
};

inline constexpr uint32_t kMaxClusterBlocks = 16;

struct LaunchRequest {
  const Kernel* kernel = nullptr;
  Dim3 grid;
  Dim3 block;
  // In blocks; divides the grid. Zeros: what the kernel requires, else no clusters. Blocks of a
  // cluster are resident at the same time.
  Dim3 cluster{0, 0, 0};
  uint32_t dynamic_shared_bytes = 0;
  std::span<const std::byte> params;  // At least info().param_bytes.
  DeviceLimits limits;
  bool cooperative = false;                 // All blocks are resident at the same time.
  std::atomic<bool>* cancel = nullptr;      // Set to true to stop the launch: kCancelled.
  std::chrono::milliseconds time_limit{0};  // 0: none. Else kTimeout for what runs longer.
  DeviceHeap* heap = nullptr;               // Null: malloc in kernels gives nothing.
  TextSink* print = nullptr;                // Null: device printf is formatted and dropped.
  // Test mode: a seed other than 0 makes the order of groups, warps and blocks random, and the
  // number of instructions that each runs before another does. Blocks still begin roughly in order:
  // within windows of a few.
  uint64_t schedule_seed = 0;
};

// Host threads that execute blocks, shared by all devices and streams of a process.
class WorkerPool {
 public:
  // `threads` pool threads besides the callers of Run; 0 is allowed.
  explicit WorkerPool(unsigned threads);
  // One thread less than there are usable cores: the caller of Run is the last.
  static unsigned DefaultThreads();
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  class Impl;
  Impl& impl() { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

// Executes the grid; returns when its last block has ended or the first fault stopped it.
Fault Run(const LaunchRequest& request, WorkerPool& pool);

// Whether this CPU has what the handlers are compiled for (AVX2, FMA, F16C, BMI2); the error names
// what is missing. Run refuses to work without.
Status CheckCpu();

}  // namespace farwarp::softgpu
