// The variables declared __managed__. The server's driver has placed them, so their addresses are
// given: the client takes the same pages if they are free here. Several variables may share a page,
// and one with other variables of a module, which are none of the program's business.
#include <sys/mman.h>

#include <algorithm>
#include <cinttypes>
#include <iterator>
#include <utility>

#include "client/driver/memory/managed.h"
#include "client/driver/process.h"
#include "farwarp/base/log.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

namespace farwarp::client {
namespace {

// No processor that programs run on gives them more.
constexpr std::uint64_t kAddressLimit = std::uint64_t{1} << 47;
// Host code of other threads may touch variables while another one joins them.
constexpr int kMergeAttempts = 100;

void* At(std::uint64_t address) {
  return reinterpret_cast<void*>(static_cast<std::uintptr_t>(address));
}

// Takes free pages of this process.
bool Map(std::uint64_t address, std::uint64_t bytes) noexcept {
  void* got = mmap(At(address), bytes, PROT_NONE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
  if (got == At(address)) return true;
  // Systems that do not know the flag take the address as a wish.
  if (got != MAP_FAILED) munmap(got, bytes);
  return false;
}

}  // namespace

std::vector<Managed::Piece> Managed::PartsOf(const Block& block, const Piece& piece) {
  if (block.variables.empty()) return {piece};
  std::vector<Piece> parts;
  for (const Variable& variable : block.variables) {
    const std::uint64_t begin = std::max(variable.address, piece.address);
    const std::uint64_t end =
        std::min(variable.address + variable.bytes, piece.address + piece.bytes);
    if (begin < end) parts.push_back({begin, end - begin});
  }
  return parts;
}

void Managed::Unmap(std::uint64_t address, const Block& block) noexcept {
  munmap(At(address), block.whole());
}

CUresult Managed::Merge(const Caller& caller, const Variable& variable) {
  const std::uint64_t begin = variable.address / kPage * kPage;
  const std::uint64_t end = (variable.address + variable.bytes + kPage - 1) / kPage * kPage;
  Block joined{0, 0, &caller.device(), caller.context, caller.context_handle, {}, {variable}};
  std::uint64_t low = begin, high = end;
  auto first = blocks_.upper_bound(begin);
  if (first != blocks_.begin() &&
      std::prev(first)->first + std::prev(first)->second.whole() > begin) {
    --first;
  }
  auto last = first;
  for (; last != blocks_.end() && last->first < end; ++last) {
    const Block& block = last->second;
    if (block.variables.empty()) return CUDA_ERROR_NOT_SUPPORTED;
    const bool at_home = std::all_of(block.chunks.begin(), block.chunks.end(),
                                     [](State state) { return state == State::kDevice; });
    if (!at_home) return CUDA_ERROR_NOT_READY;
    low = std::min(low, last->first);
    high = std::max(high, last->first + block.whole());
    joined.variables.insert(joined.variables.end(), block.variables.begin(), block.variables.end());
  }
  joined.bytes = high - low;
  joined.chunks.assign((joined.bytes + kChunk - 1) / kChunk, State::kDevice);
  Blocks fresh;  // Made before pages are taken: nothing below can fail for lack of memory.
  fresh.emplace(low, std::move(joined));
  std::vector<Piece> taken;
  taken.reserve(static_cast<std::size_t>(std::distance(first, last)) + 1);
  const auto take = [&](std::uint64_t from, std::uint64_t to) {
    if (from >= to) return true;
    if (!Map(from, to - from)) return false;
    taken.push_back({from, to - from});
    return true;
  };
  std::uint64_t cursor = begin;
  bool ok = true;
  for (auto it = first; ok && it != last; ++it) {
    ok = take(cursor, it->first);
    cursor = std::max(cursor, it->first + it->second.whole());
  }
  if (!ok || !take(cursor, end)) {
    for (const Piece& piece : taken) munmap(At(piece.address), piece.bytes);
    FARWARP_LOG(kError,
                "a managed variable of the device is at 0x%" PRIx64 " (%" PRIu64
                " bytes), which is in use in this process",
                variable.address, variable.bytes);
    return CUDA_ERROR_NOT_SUPPORTED;
  }
  blocks_.erase(first, last);
  blocks_.merge(fresh);
  any_.store(true, std::memory_order_relaxed);
  return CUDA_SUCCESS;
}

CUresult Managed::Adopt(const Caller& caller, std::uint64_t owner, std::uint64_t address,
                        std::uint64_t bytes) {
  if (!process_.session().maps_window()) return CUDA_ERROR_NOT_SUPPORTED;
  if (address < kPage || bytes == 0 || bytes > kAddressLimit || address > kAddressLimit - bytes) {
    return CUDA_ERROR_UNKNOWN;
  }
  CUresult result = CUDA_ERROR_NOT_READY;
  for (int i = 0; i < kMergeAttempts && result == CUDA_ERROR_NOT_READY; ++i) {
    // A variable that shares pages with others joins them when these are on the device.
    result = BeforeWork(caller);
    if (result != CUDA_SUCCESS) return result;
    const MutexLock lock(mutex_);
    const auto after = blocks_.upper_bound(address);
    if (after != blocks_.begin()) {
      const std::vector<Variable>& variables = std::prev(after)->second.variables;
      const auto same = [&](const Variable& variable) {
        return variable.address == address && variable.bytes == bytes;
      };
      if (std::any_of(variables.begin(), variables.end(), same)) return CUDA_SUCCESS;
    }
    if (!InstallHandler()) return CUDA_ERROR_OPERATING_SYSTEM;
    try {
      result = Merge(caller, {address, bytes, owner});
    } catch (...) {
      result = CUDA_ERROR_OUT_OF_MEMORY;
    }
  }
  return result;
}

void Managed::DropVariablesOf(std::uint64_t owner) {
  if (!any()) return;
  const MutexLock lock(mutex_);
  for (auto it = blocks_.begin(); it != blocks_.end();) {
    std::vector<Variable>& variables = it->second.variables;
    const bool dropped =
        std::erase_if(variables, [&](const Variable& v) { return v.owner == owner; }) != 0;
    if (!dropped || !variables.empty()) {
      ++it;
      continue;
    }
    Unmap(it->first, it->second);
    it = blocks_.erase(it);
  }
}

}  // namespace farwarp::client
