#include "server/softgpu/memory/physical_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <optional>

#include "farwarp/base/log.h"
#include "server/softgpu/memory/page_move.h"

namespace farwarp::softgpu {
namespace {

// A sparse file costs nothing by its length; this leaves room for fragmentation.
constexpr std::uint64_t kFileBytes = std::uint64_t{1} << 43;
// Of the places where memory waits, so that large pages stay large.
constexpr std::uint64_t kLargePage = std::uint64_t{2} << 20;
constexpr std::size_t kCopyBytes = 64 << 10;

bool IsZero(const std::byte* data, std::size_t bytes) {
  return data[0] == std::byte{0} && std::memcmp(data, data + 1, bytes - 1) == 0;
}

Status WriteAll(int fd, const std::byte* data, std::size_t bytes, std::uint64_t offset) {
  while (bytes != 0) {
    const ssize_t n = ::pwrite(fd, data, bytes, static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0)
      return Status::FromErrno("cannot write to the memory file", n == 0 ? ENOSPC : errno);
    data += n;
    bytes -= static_cast<std::size_t>(n);
    offset += static_cast<std::uint64_t>(n);
  }
  return Status::Ok();
}

}  // namespace

Result<std::shared_ptr<PhysicalMemory>> PhysicalMemory::Create(MemoryBudget& budget) {
  const Result<AddressSpace*> space = AddressSpace::Get();
  if (!space.ok()) return space.status();
  UniqueFd fd(memfd_create("farwarp-softgpu", MFD_CLOEXEC));
  if (fd.get() < 0) return Status::FromErrno("cannot create a memory file", errno);
  if (ftruncate(fd.get(), static_cast<off_t>(kFileBytes)) != 0) {
    return Status::FromErrno("cannot size the memory file", errno);
  }
  std::shared_ptr<PhysicalMemory> memory(new PhysicalMemory(**space, std::move(fd), budget));
  memory->moves_pages_ = memory->CanMovePages();
  return memory;
}

// Before Linux 5.7 they cannot be moved. Then everything is in the file from the beginning.
bool PhysicalMemory::CanMovePages() {
  constexpr std::uint64_t kPage = AddressSpace::kPage;
  const Result<std::uint64_t> at = space_.Reserve(2 * kPage);
  if (!at.ok()) return false;
  const Status moved = space_.MovePages(*at, *at + kPage, kPage);
  static_cast<void>(space_.Release(*at));
  if (!moved.ok()) FARWARP_LOG(kInfo, "softgpu: %s", moved.message().c_str());
  return moved.ok();
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

Status PhysicalMemory::Map(Extent& extent, std::uint64_t address, std::uint64_t bytes,
                           std::uint64_t offset, InUse& in_use) {
  const MutexLock lock(places_mutex_);
  const bool once = offset == 0 && bytes == extent.bytes && moves_pages_;
  if (once && extent.place_ == Extent::Place::kNowhere) {
    FARWARP_RETURN_IF_ERROR(space_.Decommit(address, bytes));
    space_.PreferLargePages(address, bytes);
    extent.place_ = Extent::Place::kMapping;
    extent.address_ = address;
    extent.access_ = AddressSpace::Access::kNone;
    return Status::Ok();
  }
  if (once && extent.place_ == Extent::Place::kWaiting) return BringBack(extent, address);
  FARWARP_RETURN_IF_ERROR(MoveToFile(extent, in_use));
  return space_.MapFile(address, bytes, fd_.get(), extent.offset + offset,
                        AddressSpace::Access::kNone);
}

Status PhysicalMemory::Unmap(Extent& extent, std::uint64_t address, std::uint64_t bytes) {
  const MutexLock lock(places_mutex_);
  if (extent.place_ != Extent::Place::kMapping) return space_.Decommit(address, bytes);
  FARWARP_RETURN_IF_ERROR(PutAside(extent));
  // Its old place keeps nothing of what was asked for there.
  return space_.Decommit(address, bytes);
}

Status PhysicalMemory::Protect(Extent& extent, std::uint64_t address, std::uint64_t bytes,
                               AddressSpace::Access access) {
  const MutexLock lock(places_mutex_);
  FARWARP_RETURN_IF_ERROR(space_.Protect(address, bytes, access));
  if (extent.place_ == Extent::Place::kMapping) extent.access_ = access;
  return Status::Ok();
}

Status PhysicalMemory::PutAside(Extent& extent) {
  const Result<std::uint64_t> at = space_.Reserve(extent.bytes, kLargePage);
  if (!at.ok()) return at.status();
  Status status = space_.Protect(extent.address_, extent.bytes, AddressSpace::Access::kNone);
  if (status.ok()) status = space_.MovePages(extent.address_, *at, extent.bytes);
  if (!status.ok()) {
    static_cast<void>(space_.Protect(extent.address_, extent.bytes, extent.access_));
    static_cast<void>(space_.Release(*at));
    return status;
  }
  extent.place_ = Extent::Place::kWaiting;
  extent.address_ = *at;
  return Status::Ok();
}

Status PhysicalMemory::BringBack(Extent& extent, std::uint64_t address) {
  FARWARP_RETURN_IF_ERROR(space_.MovePages(extent.address_, address, extent.bytes));
  static_cast<void>(space_.Release(extent.address_));
  extent.place_ = Extent::Place::kMapping;
  extent.address_ = address;
  extent.access_ = AddressSpace::Access::kNone;
  return Status::Ok();
}

Status PhysicalMemory::MoveToFile(Extent& extent, InUse& in_use) {
  using Place = Extent::Place;
  if (extent.place_ == Place::kFile) return Status::Ok();
  if (extent.place_ == Place::kNowhere) {
    extent.place_ = Place::kFile;
    return Status::Ok();
  }
  // Kernels and copies may be at work in it.
  std::optional<InUse::Pause> pause;
  std::optional<PageMove> move;
  const bool mapped = extent.place_ == Place::kMapping;
  const std::uint64_t address = extent.address_;
  const AddressSpace::Access access = extent.access_;
  if (mapped) {
    pause.emplace(in_use, InUse::Range{address, extent.bytes});
    move.emplace(address, extent.bytes);
    FARWARP_RETURN_IF_ERROR(PutAside(extent));
  }
  const std::uint64_t waiting = extent.address_;
  Status status = CopyToFile(extent);
  if (status.ok() && mapped) {
    status = space_.MapFile(address, extent.bytes, fd_.get(), extent.offset, access);
  }
  if (status.ok()) {
    static_cast<void>(space_.Release(waiting));
    extent.place_ = Place::kFile;
    return status;
  }
  // What was copied is not needed; in the file it would be somebody else's next.
  static_cast<void>(::fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                static_cast<off_t>(extent.offset),
                                static_cast<off_t>(extent.bytes)));
  if (mapped && BringBack(extent, address).ok()) {
    static_cast<void>(space_.Protect(address, extent.bytes, access));
    extent.access_ = access;
  }
  return status;
}

Status PhysicalMemory::CopyToFile(const Extent& extent) {
  FARWARP_RETURN_IF_ERROR(
      space_.Protect(extent.address_, extent.bytes, AddressSpace::Access::kRead));
  const auto* const data = reinterpret_cast<const std::byte*>(extent.address_);
  Status status = Status::Ok();
  for (std::uint64_t at = 0; at < extent.bytes && status.ok(); at += kCopyBytes) {
    const std::size_t bytes = std::min<std::uint64_t>(kCopyBytes, extent.bytes - at);
    // What was never written stays a hole.
    if (!IsZero(data + at, bytes))
      status = WriteAll(fd_.get(), data + at, bytes, extent.offset + at);
  }
  static_cast<void>(space_.Protect(extent.address_, extent.bytes, AddressSpace::Access::kNone));
  return status;
}

PhysicalMemory::Extent::~Extent() {
  owner->Free(*this);
}

// False if the next owner would find this one's data. Nobody else has the extent any more.
bool PhysicalMemory::GiveBackPages(const Extent& extent) {
  switch (extent.place_) {
    case Extent::Place::kNowhere:
      return true;
    case Extent::Place::kMapping:
      return space_.Decommit(extent.address_, extent.bytes).ok();
    case Extent::Place::kWaiting:
      return space_.Release(extent.address_).ok();
    case Extent::Place::kFile:
      break;
  }
  return ::fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                     static_cast<off_t>(extent.offset), static_cast<off_t>(extent.bytes)) == 0;
}

void PhysicalMemory::Free(const Extent& extent) {
  if (!GiveBackPages(extent)) {
    // Leave the part of the file unused instead.
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
