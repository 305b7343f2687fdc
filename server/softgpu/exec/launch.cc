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
constexpr uint32_t kSharedAlign = 128;
constexpr size_t kSpareParties = 4;
constexpr uint64_t kGuardBytes = AddressSpace::kPage;

// What all threads that work on one launch share.
struct Grid {
  const LaunchRequest* request = nullptr;
  const DecodedKernel* kernel = nullptr;
  AddressSpace* space = nullptr;
  Dim3 cluster;   // In blocks.
  Dim3 clusters;  // Of the grid.
  bool explicit_cluster = false;
  uint64_t parties = 0;  // Clusters, or blocks where there are none.
  uint32_t threads = 0;
  uint32_t shared_bytes = 0;
  uint32_t reserved_offset = 0;
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
  // The next party to begin; `parties` if there is none.
  uint64_t Take() {
    if (next.load(std::memory_order_relaxed) >= parties) return parties;
    const uint64_t number = next.fetch_add(1);
    if (number >= parties || request->schedule_seed == 0) return std::min(number, parties);
    const uint64_t window = number / kShuffledBlocks * kShuffledBlocks;
    const uint64_t size = std::min(kShuffledBlocks, parties - window);
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
  bool finished = false;
  bool blocked = false;  // Since the cluster's progress was:
  uint64_t blocked_at = 0;
};

// The blocks of one cluster, which begin together, or a block by itself. None gives its memory back
// before all have finished: the others may still read it.
struct Party {
  Cluster cluster;
  std::vector<std::unique_ptr<Resident>> members;
};

// Parties that the calling thread has used and may use again.
thread_local std::vector<std::unique_ptr<Party>> spare;
std::atomic<uint32_t> next_worker{0};
thread_local const uint32_t worker_number = next_worker.fetch_add(1);

// Block `rank` of the party.
Status Begin(Grid& grid, Party& party, Resident& resident, uint32_t rank) {
  const LaunchRequest& request = *grid.request;
  FARWARP_RETURN_IF_ERROR(resident.scratch.Fit(
      *grid.space, request.params.size(), grid.shared_bytes, grid.local_stride * grid.threads));
  const Cluster& cluster = party.cluster;
  const Dim3& size = cluster.size;
  Block& block = resident.block;
  block.request = &request;
  block.kernel = grid.kernel;
  block.id = {cluster.id.x * size.x + rank % size.x, cluster.id.y * size.y + rank / size.x % size.y,
              cluster.id.z * size.z + rank / size.x / size.y};
  block.cluster = &party.cluster;
  block.rank = rank;
  party.cluster.blocks.push_back(&block);
  resident.blocked = false;
  block.shared_base = resident.scratch.shared();
  block.shared_bytes = grid.shared_bytes;
  block.reserved_offset = grid.reserved_offset;
  block.local_base = resident.scratch.local();
  block.local_stride = grid.local_stride;
  block.param_base = resident.scratch.params();
  block.space_base = grid.space->base();
  block.space_mask = grid.space->mask();
  block.threads = grid.threads;
  block.worker = worker_number;
  block.fault = Fault{};
  const uint64_t number =
      block.id.x + (block.id.y + uint64_t{block.id.z} * request.grid.y) * request.grid.x;
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

// Parties that one thread has begun and not finished: more than one only if they wait for others.
class Share {
 public:
  explicit Share(Grid& grid) : grid_(grid) {}
  ~Share() {
    while (!parties_.empty()) Retire(0);
  }

  void Work() {
    const LaunchRequest& request = *grid_.request;
    const size_t most =
        request.cooperative
            ? ~size_t{0}
            : std::max<size_t>(request.schedule_seed != 0 ? kShuffledBlocks : 1,
                               request.limits.resident_blocks_per_worker / grid_.cluster.count());
    for (;;) {
      if (request.cancel != nullptr && request.cancel->load(std::memory_order_relaxed)) Cancel();
      if (request.time_limit.count() > 0 && std::chrono::steady_clock::now() > grid_.until) {
        TimeOut();
      }
      if (grid_.stop.load(std::memory_order_relaxed)) return;
      bool waiting = true;
      for (size_t k = 0; k < parties_.size();) {
        const bool gone = StepAll(*parties_[k], &waiting);
        if (grid_.stop.load(std::memory_order_relaxed)) return;
        if (gone) {
          Retire(k);
        } else {
          ++k;
        }
      }
      const bool room =
          grid_.frame_bytes_left.load(std::memory_order_relaxed) >
              grid_.frame_bytes_of_block * static_cast<int64_t>(grid_.cluster.count()) ||
          request.cooperative;
      if (parties_.empty() || (waiting && parties_.size() < most && room)) {
        const uint64_t number = grid_.Take();
        if (number < grid_.parties) {
          Start(number);
        } else if (parties_.empty()) {
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
    parties_.reserve(parties_.size() + 1);
    if (spare.empty()) {
      parties_.push_back(std::make_unique<Party>());
    } else {
      parties_.push_back(std::move(spare.back()));
      spare.pop_back();
    }
    Party& party = *parties_.back();
    Cluster& cluster = party.cluster;
    cluster.blocks.clear();
    cluster.progress = 0;
    cluster.size = grid_.cluster;
    cluster.count = grid_.clusters;
    cluster.is_explicit = grid_.explicit_cluster;
    cluster.id = {static_cast<uint32_t>(number % cluster.count.x),
                  static_cast<uint32_t>(number / cluster.count.x % cluster.count.y),
                  static_cast<uint32_t>(number / cluster.count.x / cluster.count.y)};
    const auto blocks = static_cast<uint32_t>(cluster.size.count());
    cluster.blocks.reserve(blocks);
    party.members.resize(blocks);
    for (auto& member : party.members) {
      if (member == nullptr) member = std::make_unique<Resident>();
      member->finished = true;  // Not begun yet.
    }
    for (uint32_t rank = 0; rank < blocks; ++rank) {
      if (!StartBlockOf(party, rank)) return;
    }
  }

  bool StartBlockOf(Party& party, uint32_t rank) {
    const int64_t left = grid_.frame_bytes_left.fetch_sub(grid_.frame_bytes_of_block);
    if (left < grid_.frame_bytes_of_block && (grid_.request->cooperative || left <= 0)) {
      grid_.frame_bytes_left.fetch_add(grid_.frame_bytes_of_block);
      NoMemory(Status::Limit("too many registers"));
      return false;
    }
    party.members[rank]->finished = false;
    const Status status = Begin(grid_, party, *party.members[rank], rank);
    if (!status.ok()) NoMemory(status);
    return status.ok();
  }

  void NoMemory(const Status& status) {
    Fault fault;
    fault.kind = FaultKind::kOutOfMemory;
    fault.kernel = grid_.kernel->name;
    fault.text = "no memory for a block of " + fault.kernel + ": " + status.message();
    grid_.Fail(std::move(fault));
  }

  // Runs each block of the party for a turn. True if all have finished.
  bool StepAll(Party& party, bool* waiting) {
    bool all = true;
    for (const auto& resident : party.members) {
      if (!resident->finished) Step(party, *resident, waiting);
      if (grid_.stop.load(std::memory_order_relaxed)) return false;
      all &= resident->finished;
    }
    if (all || !AllBlocked(party)) return all;
    for (const auto& resident : party.members) {
      if (resident->finished) continue;
      Deadlock(resident->block);
      break;
    }
    return false;
  }

  void Step(Party& party, Resident& resident, bool* waiting) {
    Block& block = resident.block;
    const StepResult result = GuardedStep(block);
    if (!block.fault.ok()) return grid_.Fail(block.fault);
    resident.blocked = result == StepResult::kBlocked;
    resident.blocked_at = party.cluster.progress;
    if (result == StepResult::kYielded || result == StepResult::kBlocked) return;
    *waiting = false;
    if (result == StepResult::kDeadlock) return Deadlock(block);
    resident.finished = true;
    grid_.frame_bytes_left.fetch_add(grid_.frame_bytes_of_block);
    TrimBlock(block);
  }

  // Whether no block of the party has done anything since it found that it waits for others.
  static bool AllBlocked(const Party& party) {
    for (const auto& resident : party.members) {
      if (resident->finished) continue;
      if (!resident->blocked || resident->blocked_at != party.cluster.progress) return false;
    }
    return true;
  }

  void Deadlock(const Block& block) {
    Fault fault;
    fault.kind = FaultKind::kDeadlock;
    fault.kernel = grid_.kernel->name;
    fault.block = block.id;
    fault.text = "deadlock in kernel " + fault.kernel + ", block (" + std::to_string(block.id.x) +
                 "," + std::to_string(block.id.y) + "," + std::to_string(block.id.z) +
                 "): " + DescribeWaiting(block);
    grid_.Fail(std::move(fault));
  }

  void Retire(size_t k) {
    for (auto& resident : parties_[k]->members) {
      if (resident->finished) continue;
      grid_.frame_bytes_left.fetch_add(grid_.frame_bytes_of_block);
      TrimBlock(resident->block);
    }
    if (spare.size() < kSpareParties) spare.push_back(std::move(parties_[k]));
    parties_.erase(parties_.begin() + static_cast<std::ptrdiff_t>(k));
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
    if (!parties_.empty() && !parties_[0]->members.empty()) {
      const Block& block = Unfinished(*parties_[0]);
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

  static const Block& Unfinished(const Party& party) {
    for (const auto& resident : party.members) {
      if (!resident->finished) return resident->block;
    }
    return party.members.front()->block;
  }

  Grid& grid_;
  std::vector<std::unique_ptr<Party>> parties_;
};

Fault Impossible(const LaunchRequest& request, std::string why) {
  Fault fault;
  fault.kind = FaultKind::kInvalidLaunch;
  fault.kernel = request.kernel == nullptr ? "" : request.kernel->info().name;
  fault.text = std::move(why);
  return fault;
}

// The grid's division into clusters.
Status SetClusters(const LaunchRequest& request, const KernelInfo& info, Grid& grid) {
  const Dim3 wanted = request.cluster.x != 0 ? request.cluster : info.reqncluster;
  grid.explicit_cluster = wanted.x != 0;
  if (grid.explicit_cluster) grid.cluster = wanted;
  const Dim3& size = grid.cluster;
  const Dim3& whole = request.grid;
  if (size.x == 0 || size.y == 0 || size.z == 0 || size.x > kMaxClusterBlocks ||
      size.y > kMaxClusterBlocks || size.z > kMaxClusterBlocks || size.count() > kMaxClusterBlocks)
    return Status::Invalid("a cluster has 1 to 16 blocks");
  if (whole.x % size.x != 0 || whole.y % size.y != 0 || whole.z % size.z != 0)
    return Status::Invalid("the grid is no multiple of the cluster");
  grid.clusters = {whole.x / size.x, whole.y / size.y, whole.z / size.z};
  grid.parties = grid.clusters.count();
  return Status::Ok();
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
    // A single party gains nothing from helpers.
    const bool shared = grid.parties > 1 && !threads_.empty();
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
      if (entry->grid->next.load(std::memory_order_relaxed) < entry->grid->parties &&
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
  if (Status status = SetClusters(request, info, grid); !status.ok())
    return Impossible(request, status.message());
  grid.threads = static_cast<uint32_t>(threads);
  grid.shared_bytes = grid.kernel->static_shared_bytes + request.dynamic_shared_bytes;
  if (grid.kernel->reserved_shared) {
    grid.reserved_offset = (grid.shared_bytes + kSharedAlign - 1) / kSharedAlign * kSharedAlign;
    grid.shared_bytes = grid.reserved_offset + kReservedSharedBytes;
  }
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
