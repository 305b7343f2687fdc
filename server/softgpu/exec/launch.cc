// Run: a grid's blocks over the threads of a pool.
#include "server/softgpu/exec/launch.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>

#include "server/softgpu/exec/guard.h"
#include "server/softgpu/memory/address_space.h"

namespace farwarp::softgpu {
namespace {

// What the registers of a launch's blocks may take; one block has at most 32 warps.
constexpr int64_t kMaxFrameBytesOfLaunch = int64_t{1} << 30;
// Test mode: blocks begin in random order within windows of this many.
constexpr uint64_t kShuffledBlocks = 8;
// Frames hold what real calls keep in registers too: arguments and results. So the stack is larger
// than the limit, by which programs have been written that fit it on hardware.
constexpr uint64_t kStackOfRecursion = 2;
constexpr uint64_t kMinStackBytes = 1024;
constexpr uint64_t kGuardBytes = AddressSpace::kPage;

// What all threads that work on one launch share.
struct Grid {
  const LaunchRequest* request = nullptr;
  const DecodedKernel* kernel = nullptr;
  AddressSpace* space = nullptr;
  uint64_t blocks = 0;
  uint32_t threads = 0;
  uint32_t shared_bytes = 0;
  uint64_t local_stride = 0;
  std::atomic<uint64_t> next{0};
  std::atomic<bool> stop{false};
  std::atomic<int64_t> frame_bytes_left{kMaxFrameBytesOfLaunch};
  int64_t frame_bytes_of_block = 0;
  std::chrono::steady_clock::time_point until = std::chrono::steady_clock::time_point::max();
  std::mutex mutex;
  Fault fault;

  uint32_t Mix(uint64_t number) const {
    uint64_t x = (request->schedule_seed + number) * 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 32) * 0xd6e8feb86659fd93u;
    return static_cast<uint32_t>(x >> 32);
  }
  // The next block to begin; `blocks` if there is none.
  uint64_t Take() {
    if (next.load(std::memory_order_relaxed) >= blocks) return blocks;
    const uint64_t number = next.fetch_add(1);
    if (number >= blocks || request->schedule_seed == 0) return std::min(number, blocks);
    const uint64_t window = number / kShuffledBlocks * kShuffledBlocks;
    const uint64_t size = std::min(kShuffledBlocks, blocks - window);
    const uint32_t random = Mix(window);
    const uint64_t at = (number - window + random / 2) % size;
    return window + (random % 2 == 0 ? at : size - 1 - at);
  }
  void Fail(Fault f) {
    const std::lock_guard lock(mutex);
    if (fault.ok()) fault = std::move(f);
    stop.store(true);
  }
};

// Memory of one resident block inside the address space: parameters, shared and local memory, guard
// pages between them. Kept by its thread for the next block and the next launch.
class Scratch {
 public:
  ~Scratch() { Drop(); }
  Status Fit(AddressSpace& space, uint64_t param_bytes, uint64_t shared_bytes,
             uint64_t local_bytes) {
    const auto pages = [](uint64_t bytes) {
      return (bytes + AddressSpace::kPage - 1) / AddressSpace::kPage * AddressSpace::kPage;
    };
    param_ = pages(std::max<uint64_t>(param_bytes, 1));
    shared_ = pages(std::max<uint64_t>(shared_bytes, 1));
    local_ = pages(std::max<uint64_t>(local_bytes, 1));
    if (param_ <= param_room_ && shared_ <= shared_room_ && local_ <= local_room_)
      return Status::Ok();
    Drop();
    const uint64_t whole = param_ + shared_ + local_ + 3 * kGuardBytes;
    auto base = space.Reserve(whole);
    if (!base.ok()) return base.status();
    space_ = &space;
    base_ = *base;
    param_room_ = param_;
    shared_room_ = shared_;
    local_room_ = local_;
    Status status = space.Commit(params(), param_);
    if (status.ok()) status = space.Commit(shared(), shared_);
    if (status.ok()) status = space.Commit(local(), local_);
    if (!status.ok()) Drop();  // What is not committed may not be taken for room.
    return status;
  }
  uint64_t params() const { return base_; }
  uint64_t shared() const { return base_ + param_room_ + kGuardBytes; }
  uint64_t local() const { return shared() + shared_room_ + kGuardBytes; }

 private:
  void Drop() {
    if (base_ != 0) static_cast<void>(space_->Release(base_));
    base_ = 0;
    param_room_ = shared_room_ = local_room_ = 0;
  }
  AddressSpace* space_ = nullptr;
  uint64_t base_ = 0;
  uint64_t param_ = 0, shared_ = 0, local_ = 0;
  uint64_t param_room_ = 0, shared_room_ = 0, local_room_ = 0;
};

struct Resident {
  Block block;
  Scratch scratch;
};

// Residents that the calling thread has used and may use again.
thread_local std::vector<std::unique_ptr<Resident>> spare;
std::atomic<uint32_t> next_worker{0};
thread_local const uint32_t worker_number = next_worker.fetch_add(1);

Status Begin(Grid& grid, Resident& resident, uint64_t number) {
  const LaunchRequest& request = *grid.request;
  FARWARP_RETURN_IF_ERROR(resident.scratch.Fit(
      *grid.space, request.params.size(), grid.shared_bytes, grid.local_stride * grid.threads));
  Block& block = resident.block;
  block.request = &request;
  block.kernel = grid.kernel;
  block.id = {static_cast<uint32_t>(number % request.grid.x),
              static_cast<uint32_t>(number / request.grid.x % request.grid.y),
              static_cast<uint32_t>(number / request.grid.x / request.grid.y)};
  block.shared_base = resident.scratch.shared();
  block.shared_bytes = grid.shared_bytes;
  block.local_base = resident.scratch.local();
  block.local_stride = grid.local_stride;
  block.param_base = resident.scratch.params();
  block.space_base = grid.space->base();
  block.space_mask = grid.space->mask();
  block.threads = grid.threads;
  block.worker = worker_number;
  block.fault = Fault{};
  block.random = request.schedule_seed == 0 ? 0 : grid.Mix(number) | 1;
  block.stop = &grid.stop;
  block.until = grid.until;
  block.frame_bytes_left = &grid.frame_bytes_left;
  if (!request.params.empty())
    std::memcpy(reinterpret_cast<void*>(block.param_base), request.params.data(),
                request.params.size());
  StartBlock(block);
  return Status::Ok();
}

// Blocks that one thread has begun and not finished: more than one only if they wait for others.
class Share {
 public:
  explicit Share(Grid& grid) : grid_(grid) {}
  ~Share() {
    while (!residents_.empty()) Retire(0);
  }

  void Work() {
    const LaunchRequest& request = *grid_.request;
    const size_t most = request.cooperative
                            ? ~size_t{0}
                            : std::max<size_t>(request.schedule_seed != 0 ? kShuffledBlocks : 1,
                                               request.limits.resident_blocks_per_worker);
    for (;;) {
      if (request.cancel != nullptr && request.cancel->load(std::memory_order_relaxed)) Cancel();
      if (request.time_limit.count() > 0 && std::chrono::steady_clock::now() > grid_.until) {
        TimeOut();
      }
      if (grid_.stop.load(std::memory_order_relaxed)) return;
      bool waiting = true;
      for (size_t k = 0; k < residents_.size();) {
        if (!Step(k, &waiting)) ++k;
        if (grid_.stop.load(std::memory_order_relaxed)) return;
      }
      const bool room =
          grid_.frame_bytes_left.load(std::memory_order_relaxed) > grid_.frame_bytes_of_block ||
          request.cooperative;
      if (residents_.empty() || (waiting && residents_.size() < most && room)) {
        const uint64_t number = grid_.Take();
        if (number < grid_.blocks) {
          Start(number);
        } else if (residents_.empty()) {
          return;
        } else {
          std::this_thread::yield();  // What these blocks wait for runs on another thread.
        }
      }
    }
  }

 private:
  void Start(uint64_t number) {
    try {
      TryStart(number);
    } catch (const std::bad_alloc&) {
      NoMemory(Status::Limit("registers"));
    }
  }

  void TryStart(uint64_t number) {
    std::unique_ptr<Resident> resident;
    residents_.reserve(residents_.size() + 1);
    const int64_t left = grid_.frame_bytes_left.fetch_sub(grid_.frame_bytes_of_block);
    if (left < grid_.frame_bytes_of_block && (grid_.request->cooperative || left <= 0)) {
      grid_.frame_bytes_left.fetch_add(grid_.frame_bytes_of_block);
      return NoMemory(Status::Limit("too many registers"));
    }
    if (spare.empty()) {
      resident = std::make_unique<Resident>();
    } else {
      resident = std::move(spare.back());
      spare.pop_back();
    }
    if (Status status = Begin(grid_, *resident, number); !status.ok()) {
      NoMemory(status);
    }
    residents_.push_back(std::move(resident));
  }

  void NoMemory(const Status& status) {
    Fault fault;
    fault.kind = FaultKind::kOutOfMemory;
    fault.kernel = grid_.kernel->name;
    fault.text = "no memory for a block of " + fault.kernel + ": " + status.message();
    grid_.Fail(std::move(fault));
  }

  // Runs resident k for a turn. True if it is gone.
  bool Step(size_t k, bool* waiting) {
    Block& block = residents_[k]->block;
    const StepResult result = GuardedStep(block);
    if (!block.fault.ok()) {
      grid_.Fail(block.fault);
      return false;
    }
    if (result == StepResult::kYielded) return false;
    *waiting = false;
    if (result == StepResult::kDeadlock) {
      Fault fault;
      fault.kind = FaultKind::kDeadlock;
      fault.kernel = grid_.kernel->name;
      fault.block = block.id;
      fault.text = "deadlock in kernel " + fault.kernel + ", block (" + std::to_string(block.id.x) +
                   "," + std::to_string(block.id.y) + "," + std::to_string(block.id.z) +
                   "): " + DescribeWaiting(block);
      grid_.Fail(std::move(fault));
      return false;
    }
    Retire(k);
    return true;
  }

  void Retire(size_t k) {
    grid_.frame_bytes_left.fetch_add(grid_.frame_bytes_of_block);
    TrimBlock(residents_[k]->block);
    if (spare.size() < 4) spare.push_back(std::move(residents_[k]));
    residents_.erase(residents_.begin() + static_cast<std::ptrdiff_t>(k));
  }

  void Cancel() {
    Fault fault;
    fault.kind = FaultKind::kCancelled;
    fault.kernel = grid_.kernel->name;
    fault.text = "kernel " + fault.kernel + " was cancelled";
    grid_.Fail(std::move(fault));
  }

  void TimeOut() {
    Fault fault;
    fault.kind = FaultKind::kTimeout;
    fault.kernel = grid_.kernel->name;
    fault.text = "kernel " + fault.kernel + " ran longer than " +
                 std::to_string(grid_.request->time_limit.count()) + " ms";
    if (!residents_.empty()) {
      const Block& block = residents_[0]->block;
      fault.block = block.id;
      fault.text += "; block (" + std::to_string(block.id.x) + "," + std::to_string(block.id.y) +
                    "," + std::to_string(block.id.z) + ") is one that had not ended";
      for (const Warp& warp : block.warps) {
        if (warp.waiting.empty()) continue;
        const size_t pc = std::min<size_t>(warp.waiting[0].pc, grid_.kernel->code.size() - 1);
        fault.ptx_line = grid_.kernel->code[pc].line;
        fault.text += ", its warp " + std::to_string(warp.index) + " was at ptx line " +
                      std::to_string(fault.ptx_line);
        break;
      }
    }
    grid_.Fail(std::move(fault));
  }

  Grid& grid_;
  std::vector<std::unique_ptr<Resident>> residents_;
};

Fault Impossible(const LaunchRequest& request, std::string why) {
  Fault fault;
  fault.kind = FaultKind::kInvalidLaunch;
  fault.kernel = request.kernel == nullptr ? "" : request.kernel->info().name;
  fault.text = std::move(why);
  return fault;
}

}  // namespace

// Threads wait for grids to help with; several grids may be open.
class WorkerPool::Impl {
 public:
  explicit Impl(unsigned threads) {
    for (unsigned i = 0; i < threads; ++i) threads_.emplace_back([this] { Loop(); });
  }
  ~Impl() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  void Execute(Grid& grid) {
    Entry entry{&grid, 0};
    // A single block gains nothing from helpers.
    const bool shared = grid.blocks > 1 && !threads_.empty();
    if (shared) {
      const std::lock_guard lock(mutex_);
      open_.push_back(&entry);
    }
    if (shared) wake_.notify_all();
    Share(grid).Work();
    if (!shared) return;
    std::unique_lock lock(mutex_);
    std::erase(open_, &entry);
    idle_.wait(lock, [&] { return entry.helpers == 0; });
  }

 private:
  struct Entry {
    Grid* grid;
    unsigned helpers;
  };

  Entry* Find() {
    for (Entry* entry : open_) {
      if (entry->grid->next.load(std::memory_order_relaxed) < entry->grid->blocks &&
          !entry->grid->stop.load())
        return entry;
    }
    return nullptr;
  }

  void Loop() {
    std::unique_lock lock(mutex_);
    for (;;) {
      Entry* entry = nullptr;
      wake_.wait(lock, [&] { return stopping_ || (entry = Find()) != nullptr; });
      if (stopping_) return;
      ++entry->helpers;
      lock.unlock();
      Share(*entry->grid).Work();
      lock.lock();
      if (--entry->helpers == 0) idle_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable idle_;
  std::vector<Entry*> open_;
  std::vector<std::thread> threads_;
  bool stopping_ = false;
};

WorkerPool::WorkerPool(unsigned threads) : impl_(std::make_unique<Impl>(threads)) {}
WorkerPool::~WorkerPool() = default;

unsigned WorkerPool::DefaultThreads() {
  const unsigned cores = std::thread::hardware_concurrency();
  return cores > 1 ? cores - 1 : 0;
}

const char* FaultKindName(FaultKind kind) noexcept {
  switch (kind) {
    case FaultKind::kNone:
      return "none";
    case FaultKind::kIllegalAddress:
      return "illegal address";
    case FaultKind::kMisaligned:
      return "misaligned address";
    case FaultKind::kIllegalInstruction:
      return "illegal instruction";
    case FaultKind::kInvalidPc:
      return "invalid program counter";
    case FaultKind::kTrap:
      return "trap";
    case FaultKind::kAssert:
      return "assertion";
    case FaultKind::kStackOverflow:
      return "stack overflow";
    case FaultKind::kDeadlock:
      return "deadlock";
    case FaultKind::kTimeout:
      return "timeout";
    case FaultKind::kCancelled:
      return "cancelled";
    case FaultKind::kOutOfMemory:
      return "out of memory";
    case FaultKind::kInvalidLaunch:
      return "invalid launch";
  }
  return "unknown";
}

Status CheckCpu() {
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("f16c")) {
    return Status::Ok();
  }
  return Status::Unavailable("the software GPU needs a CPU with AVX2, FMA, F16C and BMI2");
}

Fault Run(const LaunchRequest& request, WorkerPool& pool) {
  if (request.kernel == nullptr) return Impossible(request, "no kernel");
  if (Status status = CheckCpu(); !status.ok()) return Impossible(request, status.message());
  if (Status status = request.kernel->Prepare(); !status.ok()) {
    Fault fault = Impossible(request, status.message());
    fault.kind = FaultKind::kIllegalInstruction;
    return fault;
  }
  const KernelInfo& info = request.kernel->info();
  const uint64_t threads = request.block.count();
  if (threads == 0 || threads > 1024 || request.grid.count() == 0)
    return Impossible(request, "grid or block out of range");
  if (request.params.size() < info.param_bytes)
    return Impossible(request, "the parameters are too short");
  auto space = AddressSpace::Get();
  if (!space.ok()) return Impossible(request, space.status().message());
  if (Status status = InstallFaultHandlers(); !status.ok())
    return Impossible(request, status.message());

  Grid grid;
  grid.request = &request;
  grid.kernel = request.kernel->decoded();
  grid.space = *space;
  grid.blocks = request.grid.count();
  grid.threads = static_cast<uint32_t>(threads);
  grid.shared_bytes = info.static_shared_bytes + request.dynamic_shared_bytes;
  const uint64_t warps = (threads + kLanes - 1) / kLanes;
  grid.frame_bytes_of_block =
      static_cast<int64_t>(warps * (grid.kernel->functions[0].frame_bytes + 64));
  if (grid.frame_bytes_of_block > kMaxFrameBytesOfLaunch)
    return Impossible(request, "the registers of a block take too much memory");
  if (request.time_limit.count() > 0)
    grid.until = std::chrono::steady_clock::now() + request.time_limit;
  uint64_t local = grid.kernel->stack_bytes;
  if (grid.kernel->open_stack)
    local += kStackOfRecursion * std::max(request.limits.stack_bytes, kMinStackBytes);
  grid.local_stride = (local + 15) & ~uint64_t{15};
  pool.impl().Execute(grid);
  return grid.fault;
}

}  // namespace farwarp::softgpu
