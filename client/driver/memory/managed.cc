#include "client/driver/memory/managed.h"

#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "client/driver/context/context.h"
#include "client/driver/process.h"
#include "client/driver/stream/callbacks.h"
#include "client/session/command.h"
#include "farwarp/base/log.h"
#include "farwarp/wire/internal_command.h"

namespace farwarp::client {

using wire::IdOf;
using wire::InternalCommand;

namespace {

void* At(std::uint64_t address) {
  return reinterpret_cast<void*>(static_cast<std::uintptr_t>(address));
}

struct sigaction previous_action;
std::atomic<Managed*> handling{nullptr};

bool IsWrite(void* context) noexcept {
#if defined(__x86_64__)
  constexpr greg_t kWriteBit = 2;
  return (static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_ERR] & kWriteBit) != 0;
#else
  static_cast<void>(context);
  return true;
#endif
}

void OnFault(int signal_number, siginfo_t* info, void* context) {
  const int saved = errno;
  // In a forked child the connection belongs to the parent.
  Managed* managed = Process::Get() != nullptr ? handling.load(std::memory_order_acquire) : nullptr;
  const auto address = reinterpret_cast<std::uint64_t>(info->si_addr);
  // A positive code says that the processor, not a process, sent it.
  const bool handled =
      managed != nullptr && info->si_code > 0 && managed->Fault(address, IsWrite(context));
  errno = saved;
  if (handled) return;
  if ((previous_action.sa_flags & SA_SIGINFO) != 0) {
    previous_action.sa_sigaction(signal_number, info, context);
  } else if (previous_action.sa_handler != SIG_DFL && previous_action.sa_handler != SIG_IGN) {
    previous_action.sa_handler(signal_number);
  } else {
    // As if this had never been here: the instruction faults once more.
    sigaction(SIGSEGV, &previous_action, nullptr);
  }
}

}  // namespace

bool Managed::InstallHandler() {
  handling.store(this, std::memory_order_release);
  static const bool installed = [] {
    struct sigaction action{};
    action.sa_sigaction = &OnFault;
    // Other faults may happen on this one's thread; handlers of other signals run meanwhile.
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigemptyset(&action.sa_mask);
    return sigaction(SIGSEGV, &action, &previous_action) == 0;
  }();
  return installed;
}

Managed::Piece Managed::PieceOf(std::uint64_t address, const Block& block,
                                std::size_t chunk) noexcept {
  const std::uint64_t offset = chunk * kChunk;
  return {address + offset, std::min(kChunk, block.whole() - offset)};
}

CUresult Managed::Allocate(const Caller& caller, std::uint64_t bytes, CUdeviceptr* address) {
  // Without the window in this process there is nothing that could fault.
  if (!process_.session().maps_window()) return CUDA_ERROR_NOT_SUPPORTED;
  std::uint64_t whole = 0;
  // Pages are its own, so that what is flushed belongs to nobody else.
  if (__builtin_add_overflow(bytes, 2 * kPage, &whole)) return CUDA_ERROR_OUT_OF_MEMORY;
  Block block{bytes, 0, &caller.device(), caller.context, caller.context_handle, {}, {}};
  const CUresult result =
      block.device->memory.Allocate(whole, caller.context_handle.bits(), &block.base);
  if (result != CUDA_SUCCESS) return result;
  const std::uint64_t at = (block.base + kPage - 1) / kPage * kPage;
  if (const CUresult kept = Keep(at, block); kept != CUDA_SUCCESS) {
    static_cast<void>(block.device->memory.Free(block.base));
    return kept;
  }
  // Not under the lock: this may be managed memory itself, a list's link, and fault.
  *address = at;
  return CUDA_SUCCESS;
}

CUresult Managed::Keep(std::uint64_t address, const Block& block) noexcept {
  try {
    const MutexLock lock(mutex_);
    if (!InstallHandler()) return CUDA_ERROR_OPERATING_SYSTEM;
    Block kept = block;
    kept.chunks.assign((block.bytes + kChunk - 1) / kChunk, State::kDevice);
    blocks_.insert_or_assign(address, std::move(kept));
    any_.store(true, std::memory_order_relaxed);
    return CUDA_SUCCESS;
  } catch (...) {
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
}

void Managed::Clear(const Piece& piece) noexcept {
  // New pages instead of the old ones, in one step: others see old bytes or a fault.
  if (mmap(At(piece.address), piece.bytes, PROT_NONE,
           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED) {
    FARWARP_LOG(kError, "managed memory: the system has no room for another mapping");
  }
}

bool Managed::Free(CUdeviceptr address) {
  const MutexLock lock(mutex_);
  const auto found = blocks_.find(address);
  if (found == blocks_.end() || !found->second.variables.empty()) return false;
  Block& block = found->second;
  for (std::size_t i = 0; i < block.chunks.size(); ++i) {
    if (block.chunks[i] != State::kDevice) Clear(PieceOf(address, block, i));
  }
  static_cast<void>(block.device->memory.Free(block.base));
  blocks_.erase(found);
  return true;
}

void Managed::DropOwnedBy(std::uint64_t context) {
  const MutexLock lock(mutex_);
  for (auto it = blocks_.begin(); it != blocks_.end();) {
    if (it->second.context_handle.bits() != context) {
      ++it;
      continue;
    }
    if (!it->second.variables.empty()) {
      Unmap(it->first, it->second);
    } else {
      for (std::size_t i = 0; i < it->second.chunks.size(); ++i) {
        if (it->second.chunks[i] != State::kDevice) Clear(PieceOf(it->first, it->second, i));
      }
    }
    it = blocks_.erase(it);
  }
}

Managed::Range Managed::Find(std::uint64_t address) {
  if (!any()) return {};
  const MutexLock lock(mutex_);
  auto after = blocks_.upper_bound(address);
  if (after == blocks_.begin()) return {};
  const auto& [begin, block] = *std::prev(after);
  if (address - begin >= block.bytes) return {};
  for (const Variable& variable : block.variables) {
    if (address - variable.address < variable.bytes) return {variable.address, variable.bytes};
  }
  return block.variables.empty() ? Range{begin, block.bytes} : Range{};
}

CUresult Managed::FetchPart(CUstream stream, const Piece& part, void* to) {
  const std::uint64_t transfer =
      process_.session().ExpectTransfer(to, static_cast<std::size_t>(part.bytes));
  CUresult result = CUDA_ERROR_OUT_OF_MEMORY;
  try {
    Command command(process_.session(), IdOf(InternalCommand::kCopyFromDevice));
    command.body().PutPointer(stream);
    command.body().PutStruct(wire::CopyExtent{part.bytes, 1, 1});
    command.body().PutStruct(wire::CopyPlane{part.address, part.bytes, part.bytes});
    command.body().Put(transfer);
    Reply reply;
    result = command.Call(reply);
  } catch (...) {
  }
  if (result != CUDA_SUCCESS) process_.session().CancelTransfer(transfer);
  return result;
}

CUresult Managed::Fetch(const Block& block, const Piece& piece, void* to) {
  const TravelIn travel(block.context_handle);
  CUstream stream = nullptr;
  if (Callbacks::OnThread()) {
    // The stream that called the host function waits for it, so that nothing may wait for that
    // stream. What the function may use is done; a stream of its own brings it.
    Caller caller;
    caller.process = &process_;
    caller.context = block.context;
    caller.context_handle = block.context_handle;
    wire::Handle handle;
    const CUresult result = MintStream(caller, CU_STREAM_NON_BLOCKING, 0, false, &handle);
    if (result != CUDA_SUCCESS) return result;
    stream = wire::ToPointer<CUstream>(handle);
  } else {
    const CUresult result = SynchronizeBusy(process_, nullptr, block.context_handle);
    if (result != CUDA_SUCCESS) return result;
  }
  CUresult result = CUDA_SUCCESS;
  for (const Piece& part : PartsOf(block, piece)) {
    result = FetchPart(stream, part, static_cast<std::byte*>(to) + (part.address - piece.address));
    if (result != CUDA_SUCCESS) break;
  }
  if (stream != nullptr) {
    block.context->beside_streams.fetch_sub(1);
    const auto removed = process_.streams.Remove(wire::FromPointer(stream));
    static_cast<void>(PostEnd(process_.session(), InternalCommand::kDestroyStream,
                              wire::FromPointer(stream), block.context_handle));
  }
  return result;
}

bool Managed::MakePresent(Block& block, const Piece& piece, bool write) noexcept {
  void* fresh = mmap(nullptr, piece.bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (fresh == MAP_FAILED) return false;
  CUresult result = CUDA_ERROR_OUT_OF_MEMORY;
  try {
    result = Fetch(block, piece, fresh);
  } catch (...) {
  }
  bool ok = result == CUDA_SUCCESS;
  if (!ok) {
    FARWARP_LOG(kError, "managed memory cannot be fetched from the device: error %d",
                static_cast<int>(result));
  }
  if (ok && !write) ok = mprotect(fresh, piece.bytes, PROT_READ) == 0;
  // The pages appear with their contents, in one step.
  ok = ok && mremap(fresh, piece.bytes, piece.bytes, MREMAP_MAYMOVE | MREMAP_FIXED,
                    At(piece.address)) != MAP_FAILED;
  if (!ok) munmap(fresh, piece.bytes);
  return ok;
}

bool Managed::Fault(std::uint64_t address, bool write) noexcept {
  const MutexLock lock(mutex_);
  auto after = blocks_.upper_bound(address);
  if (after == blocks_.begin()) return false;
  auto& [begin, block] = *std::prev(after);
  if (address - begin >= block.whole()) return false;
  const std::size_t chunk = (address - begin) / kChunk;
  const Piece piece = PieceOf(begin, block, chunk);
  State& state = block.chunks[chunk];
  switch (state) {
    case State::kDevice:
      if (!MakePresent(block, piece, write)) return false;
      state = write ? State::kWritten : State::kRead;
      present_.store(true, std::memory_order_relaxed);
      return true;
    case State::kRead:
      // Another thread may have brought it meanwhile.
      if (!write) return true;
      if (mprotect(At(piece.address), piece.bytes, PROT_READ | PROT_WRITE) != 0) return false;
      state = State::kWritten;
      return true;
    case State::kWritten:
      return true;
  }
  return false;
}

CUresult Managed::Flush(const Block& block, const Piece& piece) {
  // What another thread writes from here on faults and waits.
  if (mprotect(At(piece.address), piece.bytes, PROT_READ) != 0) return CUDA_ERROR_OPERATING_SYSTEM;
  for (const Piece& part : PartsOf(block, piece)) {
    if (const CUresult result = FlushPart(block, part); result != CUDA_SUCCESS) return result;
  }
  return CUDA_SUCCESS;
}

CUresult Managed::FlushPart(const Block& block, const Piece& part) {
  Command command(process_.session(), IdOf(InternalCommand::kCopyToDevice));
  command.body().PutPointer(nullptr);
  command.body().PutStruct(wire::CopyExtent{part.bytes, 1, 1});
  command.body().PutStruct(wire::CopyPlane{part.address, part.bytes, part.bytes});
  command.body().Put(part.bytes);
  const std::uint64_t transfer = process_.session().NewTransfer();
  command.body().Put(transfer);
  command.AttachBulk(transfer, At(part.address), static_cast<std::size_t>(part.bytes));
  block.context->work.Begin(false);
  return command.Post();
}

CUresult Managed::BeforeWork(const Caller& caller) {
  if (!present_.load(std::memory_order_relaxed)) return CUDA_SUCCESS;
  const MutexLock lock(mutex_);
  std::vector<std::pair<wire::Handle, Context*>> flushed;
  for (auto& [address, block] : blocks_) {
    const TravelIn travel(block.context_handle);
    bool wrote = false;
    for (std::size_t i = 0; i < block.chunks.size(); ++i) {
      if (block.chunks[i] == State::kDevice) continue;
      const Piece piece = PieceOf(address, block, i);
      if (block.chunks[i] == State::kWritten) {
        if (const CUresult result = Flush(block, piece); result != CUDA_SUCCESS) return result;
        wrote = true;
      }
      Clear(piece);
      block.chunks[i] = State::kDevice;
    }
    const std::pair<wire::Handle, Context*> owner{block.context_handle, block.context};
    const auto same = [&](const auto& other) { return other.second == owner.second; };
    if (wrote && std::none_of(flushed.begin(), flushed.end(), same)) {
      flushed.push_back(owner);
    }
  }
  present_.store(false, std::memory_order_relaxed);
  for (const auto& [handle, context] : flushed) {
    const TravelIn travel(handle);
    // Streams beside the legacy one wait for an event; another context's for the copy itself.
    const CUresult result = context == caller.context
                                ? NoteSynchronousCopy(process_, handle, *context)
                                : SynchronizeContext(process_, handle, *context);
    if (result != CUDA_SUCCESS) return result;
  }
  return CUDA_SUCCESS;
}

}  // namespace farwarp::client
