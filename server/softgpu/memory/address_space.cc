#include "server/softgpu/memory/address_space.h"

#include <sys/mman.h>

#include <bit>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <iterator>

#include "farwarp/base/log.h"

namespace farwarp::softgpu {
namespace {

struct Candidate {
  std::uint64_t base;
  std::uint64_t bytes;
};

constexpr std::uint64_t kTiB = std::uint64_t{1} << 40;

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define FARWARP_THREAD_SANITIZER 1
#endif
#endif

#ifdef FARWARP_THREAD_SANITIZER
// The thread sanitizer keeps its own tables at most addresses; what is left to programs there is
// small.
constexpr Candidate kCandidates[] = {{1 * kTiB, 1 * kTiB}, {kTiB / 2, kTiB / 2}};
#else
// The same addresses in each process if possible, so that a failure can be repeated. Smaller ones
// are for systems that limit address space.
constexpr Candidate kCandidates[] = {{0x2000'0000'0000, 8 * kTiB}, {0x3000'0000'0000, 8 * kTiB},
                                     {0x4000'0000'0000, 8 * kTiB}, {0x1000'0000'0000, 8 * kTiB},
                                     {0x2000'0000'0000, 1 * kTiB}, {0x3000'0000'0000, 1 * kTiB},
                                     {0x2000'0000'0000, kTiB / 8}};
#endif

int ProtectionBits(AddressSpace::Access access) {
  switch (access) {
    case AddressSpace::Access::kNone:
      return PROT_NONE;
    case AddressSpace::Access::kRead:
      return PROT_READ;
    case AddressSpace::Access::kReadWrite:
      return PROT_READ | PROT_WRITE;
  }
  return PROT_NONE;
}

void* Pointer(std::uint64_t address) {
  return reinterpret_cast<void*>(address);
}

std::string Hex(std::uint64_t value) {
  char text[32];
  std::snprintf(text, sizeof text, "0x%" PRIx64, value);
  return text;
}

}  // namespace

Result<AddressSpace*> AddressSpace::Get() {
  // Never destroyed: kernels and worker threads may run until the very end of the process.
  static const Result<AddressSpace*> instance = Create();
  return instance;
}

Result<AddressSpace*> AddressSpace::Create() {
  int error = 0;
  for (const Candidate& candidate : kCandidates) {
    void* got = mmap(Pointer(candidate.base), candidate.bytes, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    if (got == MAP_FAILED) {
      error = errno;
      continue;
    }
    if (got != Pointer(candidate.base)) {  // A kernel that does not know MAP_FIXED_NOREPLACE.
      munmap(got, candidate.bytes);
      continue;
    }
    // Gigabytes of device memory must not end up in core dumps.
    madvise(got, candidate.bytes, MADV_DONTDUMP);
    FARWARP_LOG(kDebug, "softgpu: addresses 0x%" PRIx64 " to 0x%" PRIx64, candidate.base,
                candidate.base + candidate.bytes);
    return new AddressSpace(candidate.base, candidate.bytes);
  }
  return Status::FromErrno(
      "cannot reserve an address range for the software GPU (is the address space limited by "
      "ulimit -v or a cgroup?)",
      error);
}

bool AddressSpace::IsWholePages(std::uint64_t address, std::uint64_t bytes) const noexcept {
  return address % kPage == 0 && bytes % kPage == 0 && bytes != 0 && Contains(address, bytes);
}

bool AddressSpace::IsFree(std::uint64_t address, std::uint64_t bytes) const {
  auto next = reserved_.lower_bound(address);
  if (next != reserved_.end() && next->first - address < bytes) return false;
  if (next == reserved_.begin()) return true;
  const auto before = std::prev(next);
  return before->first + before->second <= address;
}

std::uint64_t AddressSpace::FindFree(std::uint64_t bytes, std::uint64_t align, std::uint64_t from,
                                     std::uint64_t to) const {
  const auto up = [align](std::uint64_t address) { return (address + align - 1) & ~(align - 1); };
  std::uint64_t at = up(from);
  auto next = reserved_.lower_bound(from);
  if (next != reserved_.begin()) {
    const auto before = std::prev(next);
    if (before->first + before->second > at) at = up(before->first + before->second);
  }
  while (at < to && bytes <= to - at) {
    if (next == reserved_.end() || next->first >= at + bytes) return at;
    if (next->first + next->second > at) at = up(next->first + next->second);
    ++next;
  }
  return 0;
}

Result<std::uint64_t> AddressSpace::Reserve(std::uint64_t bytes, std::uint64_t align,
                                            std::uint64_t fixed) {
  if (align == 0) align = kPage;
  if (!std::has_single_bit(align)) return Status::Invalid("alignment is not a power of two");
  if (align < kPage) align = kPage;
  if (bytes == 0 || bytes > bytes_ || align > bytes_) {
    return Status::Limit("no address range of " + std::to_string(bytes) + " bytes");
  }
  bytes = (bytes + kPage - 1) & ~(kPage - 1);
  const MutexLock lock(mutex_);
  if (fixed != 0) {
    if (fixed % align != 0 || !Contains(fixed, bytes)) {
      return Status::Unavailable("address " + Hex(fixed) + " is outside of what devices can use");
    }
    if (!IsFree(fixed, bytes)) return Status::Unavailable("address " + Hex(fixed) + " is taken");
    reserved_[fixed] = bytes;
    return fixed;
  }
  const std::uint64_t middle = base_ + bytes_ / 2;
  std::uint64_t at = FindFree(bytes, align, middle, base_ + bytes_);
  // The very first page stays free: a base address with a small offset is never valid by accident.
  if (at == 0) at = FindFree(bytes, align, base_ + kPage, base_ + bytes_);
  if (at == 0) return Status::Limit("no address range of " + std::to_string(bytes) + " bytes left");
  reserved_[at] = bytes;
  return at;
}

Status AddressSpace::Release(std::uint64_t address) {
  std::uint64_t bytes;
  {
    const MutexLock lock(mutex_);
    const auto found = reserved_.find(address);
    if (found == reserved_.end()) return Status::NotFound(Hex(address) + " was not reserved");
    bytes = found->second;
  }
  // Still registered while its pages go, so that nobody else gets the addresses too early.
  FARWARP_RETURN_IF_ERROR(Decommit(address, bytes));
  const MutexLock lock(mutex_);
  reserved_.erase(address);
  return Status::Ok();
}

std::uint64_t AddressSpace::ReservedBytes(std::uint64_t address) const {
  const MutexLock lock(mutex_);
  const auto found = reserved_.find(address);
  return found == reserved_.end() ? 0 : found->second;
}

Status AddressSpace::Commit(std::uint64_t address, std::uint64_t bytes, Access access) {
  return Protect(address, bytes, access);
}

Status AddressSpace::Protect(std::uint64_t address, std::uint64_t bytes, Access access) {
  if (!IsWholePages(address, bytes)) return Status::Invalid(Hex(address) + " is no whole page");
  if (mprotect(Pointer(address), bytes, ProtectionBits(access)) != 0) {
    return Status::FromErrno("cannot change the protection of " + Hex(address), errno);
  }
  return Status::Ok();
}

Status AddressSpace::Decommit(std::uint64_t address, std::uint64_t bytes) {
  if (!IsWholePages(address, bytes)) return Status::Invalid(Hex(address) + " is no whole page");
  void* got = mmap(Pointer(address), bytes, PROT_NONE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  if (got == MAP_FAILED)
    return Status::FromErrno("cannot drop the pages at " + Hex(address), errno);
  madvise(got, bytes, MADV_DONTDUMP);
  return Status::Ok();
}

void AddressSpace::PreferLargePages(std::uint64_t address, std::uint64_t bytes) {
  // Systems without them, or with them for all, refuse: nothing is lost.
  if (IsWholePages(address, bytes)) madvise(Pointer(address), bytes, MADV_HUGEPAGE);
}

Status AddressSpace::MovePages(std::uint64_t from, std::uint64_t to, std::uint64_t bytes) {
  if (!IsWholePages(from, bytes)) return Status::Invalid(Hex(from) + " is no whole page");
  if (!IsWholePages(to, bytes)) return Status::Invalid(Hex(to) + " is no whole page");
#ifdef MREMAP_DONTUNMAP
  // The old addresses stay mapped, so that nobody else in the process gets them.
  void* got = mremap(Pointer(from), bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP,
                     Pointer(to));
  if (got != MAP_FAILED) return Status::Ok();
  const int error = errno;
  // It may have given up after it had emptied the target, which must not be left to others.
  static_cast<void>(mmap(Pointer(to), bytes, PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0));
  return Status::FromErrno("cannot move the pages at " + Hex(from), error);
#else
  return Status::Unavailable("this system cannot move pages");
#endif
}

Status AddressSpace::MapFile(std::uint64_t address, std::uint64_t bytes, int fd,
                             std::uint64_t offset, Access access) {
  if (!IsWholePages(address, bytes)) return Status::Invalid(Hex(address) + " is no whole page");
  void* got = mmap(Pointer(address), bytes, ProtectionBits(access),
                   MAP_SHARED | MAP_NORESERVE | MAP_FIXED, fd, static_cast<off_t>(offset));
  if (got == MAP_FAILED) return Status::FromErrno("cannot map memory at " + Hex(address), errno);
  return Status::Ok();
}

}  // namespace farwarp::softgpu
