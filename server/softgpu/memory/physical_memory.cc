#include "server/softgpu/memory/physical_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

#include "farwarp/base/log.h"

namespace farwarp::softgpu {
namespace {
// A sparse file costs nothing by its length; this leaves room for fragmentation.
constexpr std::uint64_t kFileBytes = std::uint64_t{1} << 43;
}  // namespace

Result<std::shared_ptr<PhysicalMemory>> PhysicalMemory::Create(MemoryBudget& budget) {
  UniqueFd fd(memfd_create("farwarp-softgpu", MFD_CLOEXEC));
  if (fd.get() < 0) return Status::FromErrno("cannot create a memory file", errno);
  if (ftruncate(fd.get(), static_cast<off_t>(kFileBytes)) != 0) {
    return Status::FromErrno("cannot size the memory file", errno);
  }
  return std::shared_ptr<PhysicalMemory>(new PhysicalMemory(std::move(fd), budget));
}

Result<std::shared_ptr<PhysicalMemory::Extent>> PhysicalMemory::Allocate(std::uint64_t bytes,
                                                                         bool charge) {
  if (charge && !budget_.Charge(bytes)) {
    return Status::Limit("the device has only " + std::to_string(budget_.free()) + " bytes left");
  }
  std::uint64_t at = 0;
  bool found = false;
  {
    const MutexLock lock(mutex_);
    for (const auto& [offset, used] : used_) {
      if (offset - at >= bytes) break;
      at = offset + used;
    }
    found = bytes <= kFileBytes - at;
    if (found) used_[at] = bytes;
  }
  if (!found) {
    if (charge) budget_.Refund(bytes);
    return Status::Limit("no physical memory left");
  }
  return std::make_shared<Extent>(shared_from_this(), at, bytes, charge);
}

PhysicalMemory::Extent::~Extent() {
  owner->Free(*this);
}

void PhysicalMemory::Free(const Extent& extent) {
  if (fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                static_cast<off_t>(extent.offset), static_cast<off_t>(extent.bytes)) != 0) {
    // The next owner would find this one's data: leave the part of the file unused instead.
    FARWARP_LOG(kError, "softgpu: cannot clear %llu bytes of device memory, errno %d",
                static_cast<unsigned long long>(extent.bytes), errno);
    return;
  }
  {
    const MutexLock lock(mutex_);
    used_.erase(extent.offset);
  }
  if (extent.charged) budget_.Refund(extent.bytes);
}

}  // namespace farwarp::softgpu
