// CommandState: what the command handlers remember of one session beyond the handle table: mapped
// ranges and their physical memory, credit, loaded modules and libraries, variables that were asked
// for, host functions under way.
//
// Dispatch thread only, except HostFunctions, which is thread-safe. Destroyed after the driver has
// finished the session's work and before its contexts are.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "cuda/driver_api.h"
#include "farwarp/base/thread_annotations.h"
#include "farwarp/wire/handle.h"
#include "farwarp/wire/internal_command.h"
#include "server/driver/table.h"
#include "server/session/commands/finisher.h"
#include "server/session/commands/graphs.h"
#include "server/session/commands/scrubs.h"
#include "server/session/commands/staging.h"
#include "server/session/commands/wait.h"
#include "server/session/host_budget.h"

namespace farwarp::server {

class Call;
class HandleTable;
class Quota;

// The memory of one vGPU.
struct VgpuMemory {
  struct Range {
    std::uint64_t bytes;
    CUmemGenericAllocationHandle physical;
    std::uint64_t number = 0;  // Of the application's own physical memory; 0: the range's.
  };

  CUdevice device = 0;
  std::uint64_t window_base = 0;
  std::uint64_t window_bytes = 0;
  std::uint64_t charged = 0;  // Charged to the lease by this session: mapped and credit.
  std::uint64_t mapped = 0;
  // On their way through the finisher: of `mapped`, what it will take away, and of `charged`, what
  // it will give back to the lease.
  std::uint64_t unmapping = 0;
  std::uint64_t returning = 0;
  std::map<std::uint64_t, Range> ranges;           // By address.
  std::map<std::uint64_t, std::uint64_t> leaving;  // Being unmapped: bytes, by address.

  // Of several vGPUs on one device the first has its primary context. Each other one has a context
  // of its own instead, so that a kernel's fault on one does not end the work on another.
  bool shares_device = false;
  CUcontext stand_in = nullptr;
  bool releasing = false;  // The finisher is about to end its primary context.
  wire::Handle primary;    // What stands for its primary context, while there is one.
};

// Host functions that streams wait for. Shared with functions that the driver may still call.
class HostFunctions {
 public:
  // Called by the driver: waits until the client has run it, or the session ends.
  void WaitFor(std::uint64_t number) EXCLUDES(mutex_);
  void Done(std::uint64_t number) EXCLUDES(mutex_);
  // Nothing waits any more, now and later.
  void Close() noexcept EXCLUDES(mutex_);

 private:
  Mutex mutex_;
  CondVar changed_;
  std::set<std::uint64_t> done_ GUARDED_BY(mutex_);
  bool closed_ GUARDED_BY(mutex_) = false;
};

// What an image takes of the host budget until the driver has unloaded it.
using ImageHold = std::shared_ptr<const HostBudget::Hold>;
struct LoadedModule {
  ImageHold image;                    // Of a library's module: for this entry alone.
  std::vector<CUfunction> functions;  // In the order of the table that the client has.
  std::vector<wire::Handle> bound;
};
struct LoadedLibrary {
  ImageHold image;
  std::vector<CUkernel> kernels;
  std::vector<wire::Handle> bound;
  std::vector<wire::Handle> modules;
};

inline constexpr std::size_t kMaxLinkedWaiting = 16;
struct LinkedImage {
  HostBudget::Hold hold;
  std::vector<std::byte> bytes;
};

class CommandState {
 public:
  // `host_bytes`: see HostBudget.
  CommandState(const driver::Table& driver, Quota& quota,
               std::uint64_t host_bytes = HostBudget::kDefaultBytes)
      : host_budget(host_bytes), driver_(driver), quota_(quota) {}
  CommandState(const CommandState&) = delete;
  CommandState& operator=(const CommandState&) = delete;
  // Unmaps and discharges everything.
  ~CommandState();

  // The driver promises that new physical memory is zero: nothing needs to be cleared.
  void TrustFreshMemory() noexcept { fresh_memory_ = true; }
  // The session's connection is gone or going: whatever waits for the client waits no more.
  void Close() noexcept {
    host_functions->Close();
    finisher.Close();
  }
  // Bytes of vGPUs that something holds until the driver has really let it go.
  struct LeavingBytes {
    VgpuMemory* vgpu;
    std::uint64_t bytes;
  };
  using Leaving = std::vector<LeavingBytes>;
  // A context is about to end: forgets what of the session lives in it. `handle` is the client's.
  // What is returned goes with the context.
  Leaving DropContext(CUcontext context, wire::Handle handle, HandleTable& handles);
  // The driver has ended the context, or refused to.
  void ContextEnded(wire::Handle handle, const Leaving& leaving, CUresult result);
  bool IsPrimary(wire::Handle context) const {
    return std::any_of(vgpus_.begin(), vgpus_.end(), [&](const VgpuMemory& vgpu) {
      return vgpu.primary.bits() == context.bits();
    });
  }

  // Reserves the address window [base, base + bytes) and divides it among `devices`. Charges each
  // vGPU's first credit, which is returned in `credit`.
  CUresult Open(const std::vector<CUdevice>& devices, std::uint64_t base, std::uint64_t bytes,
                std::vector<std::uint64_t>* credit);

  CUresult MapRange(std::uint32_t vgpu, std::uint64_t address, std::uint64_t bytes);
  // Those with a call answer it themselves, perhaps later.
  void UnmapRange(Call& call, std::uint32_t vgpu, std::uint64_t address, std::uint64_t bytes);
  void AcquireCredit(Call& call, std::uint32_t vgpu, std::uint64_t bytes);
  void ReturnCredit(Call& call, std::uint32_t vgpu, std::uint64_t bytes);
  // → free in the lease, limit.
  void MemoryInfo(Call& call, std::uint32_t vgpu);
  // The application's own physical memory and where it is mapped; see wire/internal_command.h.
  CUresult CreatePhysical(std::uint64_t number, std::uint32_t vgpu, std::uint64_t bytes);
  void ReleasePhysical(Call& call, std::uint64_t number);
  CUresult MapPhysical(std::uint64_t number, std::uint64_t address, std::uint64_t bytes,
                       std::uint64_t offset);
  void UnmapPhysical(Call& call, std::uint64_t address, std::uint64_t bytes);
  CUresult ProtectRange(std::uint32_t vgpu, std::uint64_t address, std::uint64_t bytes,
                        CUmemAccess_flags access);

  // An array that will stand for `handle`, on the current context's device.
  CUresult PayForArray(wire::Handle handle, std::uint32_t vgpu, std::uint64_t bytes);
  void RefundArray(wire::Handle handle);
  // No lease may see what another left there.
  CUresult ClearArray(CUarray array, const wire::ArrayShape& shape);
  void DestroyArray(Call& call, wire::Handle handle, CUarray array, wire::Handle owner,
                    CUcontext context);

  VgpuMemory* FindVgpu(std::uint32_t vgpu) {
    return vgpu < vgpus_.size() ? &vgpus_[vgpu] : nullptr;
  }
  // True if every byte that the copy touches is device memory of this session.
  bool Covers(const wire::CopyPlane& plane, const wire::CopyExtent& extent) const;
  void AddVariable(wire::Handle owner, wire::Handle context, std::uint64_t address,
                   std::uint64_t bytes) {
    variables_[address] = {bytes, owner.bits(), context.bits()};
  }
  void DropVariables(wire::Handle owner) {
    std::erase_if(variables_,
                  [&](const auto& entry) { return entry.second.owner == owner.bits(); });
  }

  HostBudget host_budget;                            // First: others hold parts of it.
  std::map<std::uint64_t, LoadedModule> modules;     // By handle.
  std::map<std::uint64_t, LoadedLibrary> libraries;  // By handle.
  // Results of links that wait to be fetched, by number; at most kMaxLinkedWaiting.
  std::map<std::uint64_t, std::shared_ptr<const LinkedImage>> linked;
  std::set<std::pair<std::uint64_t, std::uint64_t>> textures;  // Context's handle, number.
  std::set<std::pair<std::uint64_t, std::uint64_t>> surfaces;
  const std::shared_ptr<HostFunctions> host_functions = std::make_shared<HostFunctions>();
  const std::shared_ptr<Staging> staging = std::make_shared<Staging>();
  ServerGraphs graphs;
  Waits waits;
  Scrubs scrubs{waits.pairs};
  Finisher finisher;  // Last: its work uses the others.

 private:
  struct Variable {
    std::uint64_t bytes;
    std::uint64_t owner;    // Module or library.
    std::uint64_t context;  // One of a library has another address in each.
  };

  struct Physical {
    std::uint32_t vgpu;
    std::uint64_t bytes;
    CUmemGenericAllocationHandle handle;
    std::size_t mappings;
    CUdeviceptr scrubbed_at;  // Where it was mapped to be cleared, and still is; 0: nowhere.
  };

  struct PaidArray {
    std::uint32_t vgpu;
    std::uint64_t bytes;
  };

  CUresult MapPhysical(VgpuMemory& vgpu, std::uint64_t address, std::uint64_t bytes);
  // The vGPU whose part of the window holds all of a range; nullptr if it is not in one part.
  VgpuMemory* FindWindow(std::uint64_t address, std::uint64_t bytes);
  static bool Taken(const VgpuMemory& vgpu, std::uint64_t address, std::uint64_t bytes);
  // Both wait where a client wants back what it has just let go: all that follows depends on it.
  // True if the credit pays for `bytes` more.
  bool Afford(VgpuMemory& vgpu, std::uint64_t bytes);
  // True if nothing is mapped there any more.
  bool Vacate(VgpuMemory& vgpu, std::uint64_t address, std::uint64_t bytes);
  // An array's bytes are the finisher's from now on.
  void LeaveArray(wire::Handle handle, Leaving* leaving);
  // The finisher is done with the bytes; if they are not gone, they stay paid.
  static void Left(const Leaving& leaving, bool gone);
  // `range` of `vgpu` is the finisher's from now on.
  void Leave(VgpuMemory& vgpu, std::map<std::uint64_t, VgpuMemory::Range>::iterator range);
  // Maps new memory outside the window and begins to clear it, before the application can map it.
  CUresult ScrubPhysical(CUdevice device, Physical& physical);
  CUresult FreePhysical(const Physical& physical);

  const driver::Table& driver_;
  Quota& quota_;
  bool fresh_memory_ = false;
  std::vector<VgpuMemory> vgpus_;
  std::map<std::uint64_t, Physical> physicals_;
  std::map<std::uint64_t, PaidArray> arrays_;  // By handle.
  // What the driver did not let go and still is a context's, by its handle.
  std::map<std::uint64_t, Leaving> stuck_;
  std::uint64_t window_base_ = 0;
  std::uint64_t window_bytes_ = 0;               // 0 until reserved.
  std::map<std::uint64_t, Variable> variables_;  // By address.
};

// Of the session that `call` belongs to.
CommandState& StateOf(Call& call);
// Ends a call whose arguments were wrong, and says so; for `if (!Readable(call)) return;` after the
// last argument was read. A body may not carry more than its meaning.
bool Readable(Call& call);

}  // namespace farwarp::server
