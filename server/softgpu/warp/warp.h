// The warp machine's state: a block, its warps, and in each warp the groups of lanes that are at
// the same place.
//
// A group is a program counter, a set of lanes and a call frame. A branch on which lanes disagree
// splits a group; groups that meet at the same place in the same frame become one again. The group
// with the lowest program counter runs first, so that lanes reconverge where structured code does;
// a group that keeps jumping back has to let the others go on.
//
// Ownership: a Block owns its warps, a warp its frames. All of a block is touched by one thread at
// a time.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "server/softgpu/exec/launch.h"
#include "server/softgpu/warp/decoded.h"

namespace farwarp::softgpu {

struct Block;

// One call's registers. Groups that split inside a call share its frame.
struct Frame {
  std::byte* registers = nullptr;
  uint32_t function = 0;
  uint32_t local = 0;           // Offset of this call's variables in each thread's local memory.
  std::vector<uint32_t> stack;  // Bytes that each lane took by alloca; empty: none did.
  uint32_t references = 0;      // Groups in this frame plus frames called from it.
  uint32_t return_pc = 0;
  uint32_t depth = 0;  // Calls from the kernel to here.
  Frame* caller = nullptr;
  std::vector<uint32_t> params;  // Offsets in local memory, by parameter.
  std::vector<uint32_t> returns;
  std::vector<std::byte> storage;
};

// kAtMbarrier: in mbarrier.try_wait, whose instruction runs again when its phase has completed.
enum class GroupState : uint8_t { kReady, kAtBarrier, kAtWarpSync, kAtMbarrier, kAtClusterBarrier };

struct Group {
  uint32_t pc = 0;
  uint32_t mask = 0;
  Frame* frame = nullptr;
  GroupState state = GroupState::kReady;
  uint32_t wanted = 0;  // kAtWarpSync: lanes that must arrive. kAtBarrier: barrier number.
};

// Why the interpreter's inner loop ended.
enum class Event : uint8_t { kNone, kReschedule, kYield, kParked, kExited };

struct Warp {
  // The running group, unpacked.
  std::byte* regs = nullptr;
  uint32_t pc = 0;
  uint32_t mask = 0;
  uint32_t active = 0;  // mask, narrowed by the instruction's guard.
  Frame* frame = nullptr;

  Event event = Event::kNone;
  uint32_t live = 0;     // Lanes that have not exited.
  uint32_t limit = ~0u;  // Another group waits there: stop and look.
  uint32_t budget = 0;   // Backward jumps until others get a turn; 0: to be renewed.
  uint32_t turn = 0;     // Counts those of groups that spin.
  bool rotate = false;
  bool had_turn = false;    // Used up a turn since StepBlock began.
  uint32_t carry = 0;       // CC.CF of each lane.
  uint32_t at_cluster = 0;  // Lanes that have arrived at the cluster's barrier.
  uint32_t index = 0;       // %warpid
  Block* block = nullptr;
  const DecodedKernel* kernel = nullptr;
  std::vector<Group> waiting;  // All groups but the running one.
  std::vector<std::unique_ptr<Frame>> frames;
  std::vector<std::unique_ptr<Frame>> free_frames;

  template <typename T>
  T* Reg(uint32_t offset) {
    return reinterpret_cast<T*>(regs + offset);
  }
  template <typename T>
  const T* Reg(uint32_t offset) const {
    return reinterpret_cast<const T*>(regs + offset);
  }
  bool finished() const { return live == 0; }
};

struct Barrier {
  uint32_t arrived = 0;   // Threads.
  uint32_t expected = 0;  // 0: all threads that have not exited.
  uint32_t popc = 0;
  bool all = true;
  bool any = false;
};

// The blocks that share their shared memories and a barrier; without clusters, one block by itself.
// All of them are run by one thread, so that what they share needs no atomics.
struct Cluster {
  std::vector<Block*> blocks;  // By rank.
  Dim3 size;                   // In blocks.
  Dim3 id{0, 0, 0};
  Dim3 count;                // Clusters of the grid.
  bool is_explicit = false;  // The launch or the kernel asked for clusters.
  uint64_t progress = 0;     // Counts what may let threads of other blocks go on.
};
// Addresses in the window shared::cluster: those of a block's own shared memory, and those of the
// block with rank r from (r + 1) << kClusterShift.
inline constexpr uint32_t kClusterShift = 24;

// Shared memory behind a block's own that the toolkit's headers find by special registers: two
// regions, as on hardware, where they lie in front.
inline constexpr uint32_t kReservedSharedBytes = 1024;

// What is known about a block in which nothing but mbarrier.try_wait is left to run.
struct IdleState {
  uint32_t rounds = 0;
  uint64_t progress = 0;  // Of the cluster when it began.
  std::chrono::steady_clock::time_point since;
  bool traced = false;     // Instructions are watched:
  bool observed = false;   // one depended on, or changed, more than registers,
  bool read_time = false;  // or was told the time.
};

struct Block {
  const LaunchRequest* request = nullptr;
  const DecodedKernel* kernel = nullptr;
  Dim3 id{0, 0, 0};
  uint64_t shared_base = 0;
  uint32_t shared_bytes = 0;     // What is reserved included.
  uint32_t reserved_offset = 0;  // Of the reserved memory, if the kernel asks for it.
  uint64_t local_base = 0;       // Thread t's local memory begins at local_base + t * local_stride.
  uint64_t local_stride = 0;
  uint64_t param_base = 0;  // The parameters, inside the address space.
  uint64_t space_base = 0;  // Of the address space: (address & space_mask) == space_base.
  uint64_t space_mask = 0;
  uint32_t threads = 0;
  uint32_t live = 0;  // Threads that have not exited.
  uint32_t worker = 0;
  Cluster* cluster = nullptr;
  uint32_t rank = 0;  // In the cluster.
  IdleState idle;
  std::vector<Warp> warps;
  std::array<Barrier, 16> barriers;
  Fault fault;  // Set by RaiseFault, which does not return.
  // Test mode: state of the generator that makes the order random; 0: the usual order.
  uint32_t random = 0;
  // The launch is to end: another block failed, or it was cancelled, or its time is over.
  const std::atomic<bool>* stop = nullptr;
  std::chrono::steady_clock::time_point until = std::chrono::steady_clock::time_point::max();
  // Bytes that frames of calls may still take, shared by all blocks of the launch.
  std::atomic<int64_t>* frame_bytes_left = nullptr;

  bool interrupted() const {
    return (stop != nullptr && stop->load(std::memory_order_relaxed)) ||
           (request->cancel != nullptr && request->cancel->load(std::memory_order_relaxed)) ||
           (until != std::chrono::steady_clock::time_point::max() &&
            std::chrono::steady_clock::now() > until);
  }
  // The next random number below `limit`.
  uint32_t Random(uint32_t limit) {
    random ^= random << 13;
    random ^= random >> 17;
    random ^= random << 5;
    return random % limit;
  }
};

// kBlocked: nothing can go on unless another block of the cluster does something.
enum class StepResult : uint8_t { kFinished, kYielded, kBlocked, kDeadlock };

// Prepares the block to run from its beginning.
void StartBlock(Block& block);
// Runs until the block has finished, all its groups wait for each other, or each of them has used
// up its turn. Faults leave through RaiseFault.
StepResult StepBlock(Block& block);
// Gives back what frames of calls have kept for later.
void TrimBlock(Block& block);
// Names the barriers that threads wait at, for the deadlock report.
std::string DescribeWaiting(const Block& block);

// Ends the block with a fault of the warp's current instruction: jumps to where the executor
// started it (exec/guard.h).
[[noreturn]] void RaiseFault(Warp& warp, FaultKind kind, uint64_t address, uint32_t lanes,
                             const char* what);

// The warp that the calling thread runs, for the fault handler.
void SetCurrentWarp(Warp* warp) noexcept;

// A new frame for a call from the running group's place: the caller's frame, kept by what the group
// holds of it, and where in local memory its parameters and results lie.
struct CallSite;
Frame* PushFrame(Warp& warp, const CallSite& site, uint32_t function, uint32_t lanes);
// `lanes` of the running group become a group of their own at `pc`; the rest stays.
void SplitGroup(Warp& warp, uint32_t lanes, uint32_t pc);

// Whether a group in mbarrier.try_wait may go on (handlers_mbarrier.cc).
bool MbarrierCompleted(Warp& warp, const Group& group);
// Lets all groups of the block that are in mbarrier.try_wait go on with what they have. False if
// there are none.
bool ExpireTryWaits(Block& block);
// The first of them, for the deadlock report; "" if there is none.
std::string DescribeMbarrier(const Block& block);
// The cluster's barrier lets its groups go on if all threads of all blocks have arrived.
void CheckClusterBarrier(Cluster& cluster);

// A barrier that may have become complete lets its groups go on.
void CheckBarrier(Block& block, uint32_t number);

}  // namespace farwarp::softgpu
