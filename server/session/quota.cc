#include "server/session/quota.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <string>
#include <utility>

#include "farwarp/base/log.h"
#include "farwarp/wire/limits.h"

namespace farwarp::server {
namespace {

constexpr std::uint32_t kMagic = 0x51575246;  // "FRWQ"
// A holder keeps the mutex for some hundred loads. Longer means that it was stopped.
constexpr std::time_t kMutexSeconds = 1;

// Atomics in memory shared with other processes: must be plain lock-free words.
using Word = std::atomic<std::uint64_t>;
static_assert(Word::is_always_lock_free && sizeof(Word) == 8);

struct Header {
  std::uint32_t magic;
  std::uint32_t vgpus;
  pthread_mutex_t mutex;
};
constexpr std::size_t kHeaderBytes = 128;
static_assert(sizeof(Header) <= kHeaderBytes);

std::size_t BookBytes(std::uint32_t vgpus) {
  return kHeaderBytes + std::size_t{8} * vgpus * (1 + kMaxWorkersPerLease);
}

Header* HeaderOf(std::byte* memory) {
  return reinterpret_cast<Header*>(memory);
}
Word& LimitOf(std::byte* memory, std::uint32_t vgpu) {
  return reinterpret_cast<Word*>(memory + kHeaderBytes)[vgpu];
}
Word& UsedOf(std::byte* memory, std::uint32_t vgpus, std::uint32_t slot, std::uint32_t vgpu) {
  return reinterpret_cast<Word*>(memory + kHeaderBytes)[std::size_t{1 + slot} * vgpus + vgpu];
}

// Takes the mutex, from a dead holder too. The books need no repair then: each charge is one store.
bool Lock(pthread_mutex_t& mutex) noexcept {
  timespec until{};
  ::clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_sec += kMutexSeconds;
  const int error = ::pthread_mutex_clocklock(&mutex, CLOCK_MONOTONIC, &until);
  if (error == EOWNERDEAD) return ::pthread_mutex_consistent(&mutex) == 0;
  return error == 0;
}

Status InitMutex(pthread_mutex_t& mutex) {
  pthread_mutexattr_t attributes;
  if (const int error = ::pthread_mutexattr_init(&attributes); error != 0) {
    return Status::FromErrno("pthread_mutexattr_init", error);
  }
  ::pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  ::pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  const int error = ::pthread_mutex_init(&mutex, &attributes);
  ::pthread_mutexattr_destroy(&attributes);
  return error == 0 ? Status::Ok() : Status::FromErrno("pthread_mutex_init", error);
}

Result<std::byte*> MapShared(int fd, std::size_t bytes) {
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) return Status::FromErrno("cannot map the lease's quota", errno);
  return static_cast<std::byte*>(memory);
}

}  // namespace

Result<Quota> Quota::Map(int memory_fd, std::uint32_t slot) {
  if (slot >= kMaxWorkersPerLease) return Status::Invalid("the quota slot is out of range");
  struct stat facts{};
  if (::fstat(memory_fd, &facts) != 0) return Status::FromErrno("the quota descriptor", errno);
  const auto bytes = static_cast<std::size_t>(facts.st_size);
  if (bytes < BookBytes(1) || bytes > BookBytes(wire::kMaxDevices)) {
    return Status::Invalid("the quota descriptor has an impossible size");
  }
  Result<std::byte*> memory = MapShared(memory_fd, bytes);
  if (!memory.ok()) return memory.status();
  const Header& header = *HeaderOf(*memory);
  const std::uint32_t vgpus = header.vgpus;
  Quota quota(*memory, bytes, vgpus, slot);
  if (header.magic != kMagic || vgpus == 0 || vgpus > wire::kMaxDevices ||
      BookBytes(vgpus) != bytes) {
    return Status::Invalid("the quota descriptor holds something else");
  }
  return quota;
}

Quota::Quota(Quota&& other) noexcept
    : memory_(std::exchange(other.memory_, nullptr)),
      bytes_(other.bytes_),
      vgpus_(other.vgpus_),
      slot_(other.slot_) {}

Quota& Quota::operator=(Quota&& other) noexcept {
  if (this != &other) {
    if (memory_ != nullptr) ::munmap(memory_, bytes_);
    memory_ = std::exchange(other.memory_, nullptr);
    bytes_ = other.bytes_;
    vgpus_ = other.vgpus_;
    slot_ = other.slot_;
  }
  return *this;
}

Quota::~Quota() {
  if (memory_ != nullptr) ::munmap(memory_, bytes_);
}

std::uint32_t Quota::vgpus() const noexcept {
  return vgpus_;
}

bool Quota::Charge(std::uint32_t vgpu, std::uint64_t bytes) noexcept {
  if (vgpu >= vgpus_) return false;
  pthread_mutex_t& mutex = HeaderOf(memory_)->mutex;
  if (!Lock(mutex)) {
    FARWARP_LOG(kError, "the quota's mutex cannot be taken: another worker of the lease holds it");
    return false;
  }
  const std::uint64_t limit = LimitOf(memory_, vgpu).load(std::memory_order_relaxed);
  const std::uint64_t used = Used(vgpu);
  const bool fits = used <= limit && bytes <= limit - used;
  if (fits) {
    // The mutex orders this for other workers; the daemon reads it alone, as one word.
    Word& mine = UsedOf(memory_, vgpus_, slot_, vgpu);
    mine.store(mine.load(std::memory_order_relaxed) + bytes, std::memory_order_relaxed);
  }
  ::pthread_mutex_unlock(&mutex);
  return fits;
}

std::uint64_t Quota::Discharge(std::uint32_t vgpu, std::uint64_t bytes) noexcept {
  if (vgpu >= vgpus_) return 0;
  // Another thread of this process may charge at the same time, so this needs the mutex too.
  pthread_mutex_t& mutex = HeaderOf(memory_)->mutex;
  if (!Lock(mutex)) {
    FARWARP_LOG(kError, "the quota's mutex cannot be taken: another worker of the lease holds it");
    return 0;
  }
  Word& mine = UsedOf(memory_, vgpus_, slot_, vgpu);
  const std::uint64_t held = mine.load(std::memory_order_relaxed);
  const std::uint64_t given = std::min(held, bytes);
  mine.store(held - given, std::memory_order_relaxed);
  ::pthread_mutex_unlock(&mutex);
  return given;
}

std::uint64_t Quota::Used(std::uint32_t vgpu) const noexcept {
  if (vgpu >= vgpus_) return 0;
  std::uint64_t used = 0;
  for (std::uint32_t slot = 0; slot < kMaxWorkersPerLease; ++slot) {
    used += UsedOf(memory_, vgpus_, slot, vgpu).load(std::memory_order_relaxed);
  }
  return used;
}

std::uint64_t Quota::Mine(std::uint32_t vgpu) const noexcept {
  if (vgpu >= vgpus_) return 0;
  return UsedOf(memory_, vgpus_, slot_, vgpu).load(std::memory_order_relaxed);
}

std::uint64_t Quota::Limit(std::uint32_t vgpu) const noexcept {
  if (vgpu >= vgpus_) return 0;
  return LimitOf(memory_, vgpu).load(std::memory_order_relaxed);
}

QuotaBook::QuotaBook(UniqueFd memory_fd, Quota view, std::span<const std::uint64_t> limits)
    : memory_fd_(std::move(memory_fd)),
      view_(std::move(view)),
      limits_(limits.begin(), limits.end()),
      taken_(kMaxWorkersPerLease, false) {}

Result<QuotaBook> QuotaBook::Create(std::span<const std::uint64_t> limits) {
  if (limits.empty() || limits.size() > wire::kMaxDevices) {
    return Status::Invalid("a lease has 1 to " + std::to_string(wire::kMaxDevices) + " vGPUs");
  }
  const auto vgpus = static_cast<std::uint32_t>(limits.size());
  const std::size_t bytes = BookBytes(vgpus);
  UniqueFd fd(::memfd_create("farwarp-quota", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd.valid()) return Status::FromErrno("memfd_create", errno);
  if (::ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0) {
    return Status::FromErrno("ftruncate", errno);
  }
  // A worker that shrank it would make the daemon fault.
  if (::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return Status::FromErrno("cannot seal the quota's memory", errno);
  }
  Result<std::byte*> memory = MapShared(fd.get(), bytes);
  if (!memory.ok()) return memory.status();
  Quota view(*memory, bytes, vgpus, 0);
  Header& header = *HeaderOf(*memory);
  FARWARP_RETURN_IF_ERROR(InitMutex(header.mutex));
  header.vgpus = vgpus;
  header.magic = kMagic;
  for (std::uint32_t vgpu = 0; vgpu < vgpus; ++vgpu) {
    LimitOf(*memory, vgpu).store(limits[vgpu], std::memory_order_relaxed);
  }
  return QuotaBook(std::move(fd), std::move(view), limits);
}

Result<std::uint32_t> QuotaBook::TakeSlot() {
  const auto free = std::find(taken_.begin(), taken_.end(), false);
  if (free == taken_.end()) {
    return Status::Limit("the lease already has " + std::to_string(kMaxWorkersPerLease) +
                         " processes on this node");
  }
  *free = true;
  return static_cast<std::uint32_t>(free - taken_.begin());
}

void QuotaBook::FreeSlot(std::uint32_t slot) {
  if (slot >= taken_.size()) return;
  for (std::uint32_t vgpu = 0; vgpu < vgpus(); ++vgpu) {
    UsedOf(view_.memory_, vgpus(), slot, vgpu).store(0, std::memory_order_relaxed);
  }
  taken_[slot] = false;
}

}  // namespace farwarp::server
