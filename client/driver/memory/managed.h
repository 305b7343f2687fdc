// Managed: memory that the program and its GPU use in turn (cuMemAllocManaged), with the GPU in
// another machine. It is device memory at its address in the window; the program's own pages there
// are a cache that the client keeps with page faults:
//
//   on the device   the pages are inaccessible; the first touch fetches a chunk from the device,
//                   after its work is done
//   read            the pages are readable and equal to the device's; a write makes them
//   written         the pages are the truth; before the next work of any kind on the device they
//                   go there, and the pages become inaccessible again
//
// Only a program that has such memory pays: its first allocation installs a handler for SIGSEGV,
// which passes on whatever is not this memory, and each launch of it looks for pages of its own.
// System calls do not fault: the kernel answers EFAULT for a page that is not here.
//
// Variables declared __managed__ are such memory, too, where the server's driver has put them: the
// client takes the same addresses, outside the window, if they are free here.
//
// Thread-safe. CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS is 0: host and device take turns.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <vector>

#include "cuda/driver_api.h"
#include "farwarp/base/thread_annotations.h"
#include "farwarp/wire/handle.h"

namespace farwarp::client {

struct Caller;
struct Context;
struct Device;
class Process;

class Managed {
 public:
  static constexpr std::uint64_t kPage = 4096;
  // What one fault fetches.
  static constexpr std::uint64_t kChunk = std::uint64_t{256} << 10;

  explicit Managed(Process& process) : process_(process) {}

  CUresult Allocate(const Caller& caller, std::uint64_t bytes, CUdeviceptr* address)
      EXCLUDES(mutex_);
  // False if no managed memory begins there. The device must be done with it.
  bool Free(CUdeviceptr address) EXCLUDES(mutex_);
  // Makes a variable of the library or module `owner` managed memory where it lies on the device.
  // Asking again changes nothing. CUDA_ERROR_NOT_SUPPORTED if the addresses are not free here.
  CUresult Adopt(const Caller& caller, std::uint64_t owner, std::uint64_t address,
                 std::uint64_t bytes) EXCLUDES(mutex_);
  // Forgets the variables of a library or module that is unloaded.
  void DropVariablesOf(std::uint64_t owner) EXCLUDES(mutex_);
  // Drops what belongs to a context that has ended.
  void DropOwnedBy(std::uint64_t context) EXCLUDES(mutex_);
  // Whether there is any; one load.
  bool any() const noexcept { return any_.load(std::memory_order_relaxed); }
  struct Range {
    std::uint64_t address = 0;  // 0: not managed.
    std::uint64_t bytes = 0;
  };
  Range Find(std::uint64_t address) EXCLUDES(mutex_);

  // To be called before the device is given work that may use managed memory, and before the stream
  // of that work is resolved: brings what the program wrote to the device.
  CUresult BeforeWork(const Caller& caller) EXCLUDES(mutex_);
  // The program has touched `address`. False if that is not managed memory.
  bool Fault(std::uint64_t address, bool write) noexcept EXCLUDES(mutex_);

 private:
  enum class State : std::uint8_t { kDevice, kRead, kWritten };
  struct Piece {
    std::uint64_t address;
    std::uint64_t bytes;  // Whole pages.
  };
  struct Variable {
    std::uint64_t address;
    std::uint64_t bytes;
    std::uint64_t owner;
  };
  struct Block {
    std::uint64_t bytes;  // As asked for; whole pages if it holds variables.
    std::uint64_t base;   // In the device's heap; 0 if it holds variables.
    Device* device;
    Context* context;
    wire::Handle context_handle;
    std::vector<State> chunks;
    // What its pages hold, where they are not all of one allocation: only these bytes travel.
    std::vector<Variable> variables;

    std::uint64_t whole() const noexcept { return (bytes + kPage - 1) / kPage * kPage; }
  };
  using Blocks = std::map<std::uint64_t, Block>;

  // Once, at the first managed memory of the process.
  bool InstallHandler();
  // Enters a new block.
  CUresult Keep(std::uint64_t address, const Block& block) noexcept EXCLUDES(mutex_);
  // Adds a variable, to the blocks that share pages with it if there are any.
  CUresult Merge(const Caller& caller, const Variable& variable) REQUIRES(mutex_);
  void Unmap(std::uint64_t address, const Block& block) noexcept;
  // The parts of a piece that travel.
  static std::vector<Piece> PartsOf(const Block& block, const Piece& piece);
  CUresult FetchPart(CUstream stream, const Piece& part, void* to);
  CUresult FlushPart(const Block& block, const Piece& part);
  static Piece PieceOf(std::uint64_t address, const Block& block, std::size_t chunk) noexcept;
  CUresult Fetch(const Block& block, const Piece& piece, void* to);
  CUresult Flush(const Block& block, const Piece& piece);
  bool MakePresent(Block& block, const Piece& piece, bool write) noexcept REQUIRES(mutex_);
  void Clear(const Piece& piece) noexcept;

  Process& process_;
  std::atomic<bool> any_{false};
  std::atomic<bool> present_{false};  // Some chunk is not on the device only.
  Mutex mutex_;
  Blocks blocks_ GUARDED_BY(mutex_);
};

}  // namespace farwarp::client
