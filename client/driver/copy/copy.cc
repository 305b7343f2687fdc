#include "client/driver/copy/copy.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <new>
#include <vector>

#include "client/driver/copy/copy_pieces.h"
#include "client/driver/launch/graph_backend.h"
#include "client/driver/memory/managed.h"
#include "client/driver/memory/vmm.h"
#include "client/driver/process.h"
#include "client/driver/stream/callbacks.h"
#include "client/session/command.h"
#include "farwarp/wire/internal_command.h"
#include "farwarp/wire/limits.h"

namespace farwarp::client {
namespace {

using wire::IdOf;
using wire::InternalCommand;

void* At(std::uint64_t address) {
  return reinterpret_cast<void*>(static_cast<std::uintptr_t>(address));
}

using Scratch = std::unique_ptr<std::byte[]>;
Scratch NewScratch(std::uint64_t bytes) {
  return Scratch(new (std::nothrow) std::byte[static_cast<std::size_t>(bytes)]);
}

CUresult SendPiece(const Caller& caller, const StreamUse& use, const wire::CopyPlane& to,
                   const wire::CopyPlane& from, const wire::CopyExtent& extent) {
  const std::uint64_t bytes = *CopyBytes(extent);
  const void* data = At(from.address);
  Scratch packed;
  if (!IsDense(from, extent)) {
    packed = NewScratch(bytes);
    if (packed == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
    PackRows(from, extent, packed.get());
    data = packed.get();
  }
  const bool is_inline = bytes <= wire::kInlineDataBytes;
  Command command(caller.session(), IdOf(InternalCommand::kCopyToDevice),
                  is_inline ? 0 : static_cast<std::size_t>(bytes));
  command.body().PutPointer(use.wire);
  command.body().PutStruct(extent);
  command.body().PutStruct(to);
  command.body().Put(bytes);
  if (is_inline) {
    command.body().Put(std::uint64_t{0});
    command.body().PutRaw(data, static_cast<std::size_t>(bytes));
  } else {
    const std::uint64_t transfer = caller.session().NewTransfer();
    command.body().Put(transfer);
    command.AttachBulk(transfer, data, static_cast<std::size_t>(bytes));
  }
  use.context->work.Begin(use.beside_legacy());
  return command.Post();
}

CUresult CopyToDevice(const Caller& caller, const StreamUse& use, const CopyRequest& request) {
  const CUresult result =
      ForEachPiece(request, [&](const auto& to, const auto& from, const auto& extent, bool) {
        return SendPiece(caller, use, to, from, extent);
      });
  if (result != CUDA_SUCCESS || request.timing == Timing::kAsynchronous) return result;
  return EndSynchronousCopy(*caller.process, use);
}

enum class Fetch {
  kWait,   // Until its bytes and those of all pieces before it have arrived.
  kPost,   // For one that waits later.
  kLeave,  // The bytes may arrive any time: the copy is asynchronous.
};

// Posts the copy of one piece to `to`, in the form that arrives.
CUresult FetchPiece(const Caller& caller, const StreamUse& use, std::uint64_t to,
                    const wire::CopyPlane& from, const wire::CopyExtent& extent,
                    std::uint64_t transfer, Fetch fetch) {
  if (fetch == Fetch::kLeave) caller.process->arrivals().Tidy();
  Command command(caller.session(), IdOf(InternalCommand::kCopyFromDevice));
  command.body().PutPointer(use.wire);
  command.body().PutStruct(extent);
  command.body().PutStruct(from);
  command.body().Put(transfer);
  if (fetch == Fetch::kLeave) {
    caller.process->arrivals().NoteCopy(to, *CopyBytes(extent), transfer, use);
  }
  use.context->work.Begin(use.beside_legacy());
  const std::uint64_t mark = use.context->work.Mark();
  if (fetch != Fetch::kWait) return command.Post();
  Reply reply;
  const CUresult result = command.Call(reply);
  if (result == CUDA_SUCCESS && use.legacy()) use.context->work.SettleLegacy(mark);
  return result;
}

// The registrations of one copy. Those that are not let arrive end with it: nothing may be written
// to the buffer once the application has seen that the copy is done, or its error.
class Transfers {
 public:
  explicit Transfers(Session& session) : session_(session) {}
  ~Transfers() { Cancel(); }
  Transfers(const Transfers&) = delete;
  Transfers& operator=(const Transfers&) = delete;

  void Add(void* to, std::uint64_t bytes) {
    transfers_.push_back(0);  // What may fail, first.
    transfers_.back() = session_.ExpectCopy(to, static_cast<std::size_t>(bytes));
  }
  std::uint64_t last() const noexcept { return transfers_.back(); }
  void Cancel() noexcept {
    for (const std::uint64_t transfer : transfers_) session_.CancelTransfer(transfer);
    transfers_.clear();
  }
  void LetArrive() noexcept { transfers_.clear(); }

 private:
  Session& session_;
  std::vector<std::uint64_t> transfers_;
};

CUresult CopyFromDevice(const Caller& caller, const StreamUse& use, const CopyRequest& request) {
  // Asynchronous only if the bytes may arrive any time later and land where they belong.
  const bool asynchronous =
      request.timing == Timing::kAsynchronous && IsDense(request.to, request.extent) &&
      caller.process->host.Contains(request.to.address, SpanBytes(request.to, request.extent));
  Transfers transfers(caller.session());
  const CUresult result = ForEachPiece(
      request, [&](const auto& to, const auto& from, const auto& extent, bool last) -> CUresult {
        const std::uint64_t bytes = *CopyBytes(extent);
        void* data = At(to.address);
        Scratch dense;
        if (!IsDense(to, extent)) {
          dense = NewScratch(bytes);
          if (dense == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
          data = dense.get();
        }
        transfers.Add(data, bytes);
        const std::uint64_t transfer = transfers.last();
        // A scratch lives no longer than its piece.
        const Fetch fetch = asynchronous               ? Fetch::kLeave
                            : last || dense != nullptr ? Fetch::kWait
                                                       : Fetch::kPost;
        CUresult fetched = CUDA_ERROR_OUT_OF_MEMORY;
        try {
          fetched = FetchPiece(caller, use, to.address, from, extent, transfer, fetch);
        } catch (...) {
        }
        if (fetched != CUDA_SUCCESS) {
          transfers.Cancel();
          return fetched;
        }
        if (dense != nullptr) {
          transfers.Cancel();  // All has come.
          UnpackRows(dense.get(), to, extent);
        }
        return CUDA_SUCCESS;
      });
  if (!asynchronous) return caller.session().AfterWait(result);
  if (result == CUDA_SUCCESS) transfers.LetArrive();
  return result;
}

// The context that the memory at `address` belongs to.
wire::Handle OwnerOf(Process& process, std::uint64_t address) {
  if (Device* device = process.DeviceOf(address); device != nullptr) {
    const auto allocation = device->memory.Find(address);
    if (allocation.has_value()) return wire::Handle(allocation->owner);
    // Memory that the application has mapped belongs to no context: any of its device will do.
    const auto mapping = process.vmm().Find(address);
    wire::Handle found;
    if (!mapping.has_value()) return found;
    process.contexts.ForEach([&](wire::Handle handle, Context& context) {
      if (context.alive.load() && context.ordinal == mapping->ordinal) found = handle;
    });
    return found;
  }
  const auto variable = process.globals.Find(address);
  return wire::Handle(variable.has_value() ? variable->context : 0);
}

CUresult CopyToPeer(const Caller& caller, const StreamUse& use, const CopyRequest& request,
                    wire::Handle to_context, wire::Handle from_context) {
  for (std::uint64_t z = 0; z < request.extent.slices; ++z) {
    for (std::uint64_t y = 0; y < request.extent.rows; ++y) {
      Command command(caller.session(), IdOf(InternalCommand::kCopyToPeer));
      command.body().PutPointer(use.wire);
      command.body().Put(request.to.address + z * request.to.slice_pitch + y * request.to.pitch);
      command.body().Put(to_context.bits());
      command.body().Put(request.from.address + z * request.from.slice_pitch +
                         y * request.from.pitch);
      command.body().Put(from_context.bits());
      command.body().Put(request.extent.row_bytes);
      use.context->work.Begin(use.beside_legacy());
      // The other device is busy with this, too, and nothing here says until when.
      for (const auto handle : {to_context, from_context}) {
        Context* context = caller.process->contexts.Find(handle);
        if (context != nullptr && context != use.context) context->work.Begin(true);
      }
      if (const CUresult result = command.Post(); result != CUDA_SUCCESS) return result;
    }
  }
  return CUDA_SUCCESS;
}

CUresult CopyOnDevice(const Caller& caller, const StreamUse& use, const CopyRequest& request) {
  const auto context_for = [&](wire::Handle named, std::uint64_t address) {
    return named.bits() != 0 ? named : OwnerOf(*caller.process, address);
  };
  const auto to_context = context_for(request.to_context, request.to.address);
  const auto from_context = context_for(request.from_context, request.from.address);
  const Context* to = caller.process->contexts.Find(to_context);
  const Context* from = caller.process->contexts.Find(from_context);
  if (to == nullptr || from == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
  if (to->device != from->device) {
    return CopyToPeer(caller, use, request, to_context, from_context);
  }
  Command command(caller.session(), IdOf(InternalCommand::kCopyOnDevice));
  command.body().PutPointer(use.wire);
  command.body().PutStruct(request.extent);
  command.body().PutStruct(request.to);
  command.body().PutStruct(request.from);
  use.context->work.Begin(use.beside_legacy());
  return command.Post();
}

CUresult CopyOnHost(const Caller& caller, const StreamUse& use, const CopyRequest& request) {
  // In stream order: earlier work may still write to the source.
  if (!use.context->work.idle()) {
    const CUresult result = SynchronizeStream(*caller.process, use);
    if (result != CUDA_SUCCESS) return result;
  }
  CopyRows(request.from, request.to, request.extent);
  return CUDA_SUCCESS;
}

}  // namespace

CUresult EndSynchronousCopy(Process& process, const StreamUse& use) {
  // Making other streams wait behind a thread's own stream would hold up other threads by whatever
  // that stream still has to do.
  if (!use.legacy()) return SynchronizeStream(process, use);
  return NoteSynchronousCopy(process, use.context_handle, *use.context);
}

namespace {

// Device memory's addresses are nobody's in this process: what lies there is no host memory.
bool MayBeHost(Process& process, const wire::CopyPlane& plane, const wire::CopyExtent& extent) {
  if (plane.address == 0) return false;
  if (extent.row_bytes == 0 || extent.rows == 0 || extent.slices == 0) return true;
  const wire::AddressWindow window = process.session().window();
  return plane.address < window.base ? SpanBytes(plane, extent) <= window.base - plane.address
                                     : plane.address - window.base >= window.bytes;
}

bool SidesAreValid(Process& process, const CopyRequest& request) {
  const auto valid = [&](Side side, const wire::CopyPlane& plane) {
    return side == Side::kDevice ? CoversDevice(process, plane, request.extent)
                                 : MayBeHost(process, plane, request.extent);
  };
  return valid(request.to_side, request.to) && valid(request.from_side, request.from);
}

// False if the kernel would refuse to send from there or to receive there, which would leave half a
// frame on the connection. Small copies, and rows that are gathered here, do not come so far.
bool IsMapped(const wire::CopyPlane& plane, std::uint64_t bytes) {
  const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  const std::uint64_t begin = plane.address / page * page;
  return ::msync(At(begin), static_cast<std::size_t>(plane.address - begin + bytes), MS_ASYNC) == 0;
}

}  // namespace

CUresult CheckRequest(Process& process, const CopyRequest& request) {
  return SidesAreValid(process, request) && CopyBytes(request.extent).has_value()
             ? CUDA_SUCCESS
             : CUDA_ERROR_INVALID_VALUE;
}

namespace {

// Offers the copy to a capture under way; true if `result` is the call's answer.
bool Captured(const Caller& caller, const CopyRequest& request, CUresult* result) {
  graph::Graphs& graphs = caller.process->graphs();
  if (!graphs.capturing()) return false;
  const bool per_thread = request.null == NullStream::kPerThread;
  if (request.timing == Timing::kSynchronous) {
    *result = graphs.CheckStream(request.stream, per_thread);
    if (*result == CUDA_SUCCESS) *result = graphs.CheckUnsafe();
    return *result != CUDA_SUCCESS;
  }
  graph::NodeWork work;
  work.type = CU_GRAPH_NODE_TYPE_MEMCPY;
  work.copy = NodeOf(request);
  return graphs.Capture(request.stream, per_thread, std::move(work), result);
}

// A copy whose source a host function may still write to. The function may wait for what the caller
// does next, so that a caller who need not wait must not: page-locked memory is read later. So much
// of it at once as the server has room to put.
bool MayGoInTurn(Process& process, const CopyRequest& request, std::uint64_t bytes,
                 std::uint64_t span) {
  constexpr std::uint64_t kMostBytes = std::uint64_t{256} << 20;
  return request.timing == Timing::kAsynchronous && process.callbacks().pending() &&
         process.host.Contains(request.from.address, span) && bytes <= kMostBytes &&
         process.callbacks().fetch_bytes() <= kMostBytes - bytes;
}

}  // namespace

bool PlaceManaged(Process& process, CopyRequest* request) {
  Managed& managed = process.managed();
  if (!managed.any()) return false;
  const bool to = managed.Find(request->to.address).address != 0;
  const bool from = managed.Find(request->from.address).address != 0;
  if (to) request->to_side = Side::kDevice;
  if (from) request->from_side = Side::kDevice;
  return to || from;
}

CUresult Copy(const Caller& caller, CopyRequest request) {
  if (PlaceManaged(*caller.process, &request)) {
    const CUresult result = caller.process->managed().BeforeWork(caller);
    if (result != CUDA_SUCCESS) return result;
  }
  if (CUresult captured; Captured(caller, request, &captured)) return captured;
  const auto bytes = CopyBytes(request.extent);
  if (!bytes.has_value()) return CUDA_ERROR_INVALID_VALUE;
  StreamUse use;
  if (const CUresult result = ResolveForWork(caller, request.stream, request.null, &use);
      result != CUDA_SUCCESS) {
    return result;
  }
  if (*bytes == 0) return CUDA_SUCCESS;
  if (!SidesAreValid(*caller.process, request)) return CUDA_ERROR_INVALID_VALUE;
  Simplify(&request.to, &request.from, &request.extent);
  const bool to_device = request.to_side == Side::kDevice;
  const bool from_device = request.from_side == Side::kDevice;
  if (to_device && from_device) return CopyOnDevice(caller, use, request);
  if (to_device) {
    if (*bytes > wire::kInlineDataBytes && IsDense(request.from, request.extent) &&
        !IsMapped(request.from, *bytes)) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    // The source may be the target of an earlier asynchronous copy or of a host function.
    const std::uint64_t span = SpanBytes(request.from, request.extent);
    if (caller.process->HostMemoryPending(request.from.address, span)) {
      if (MayGoInTurn(*caller.process, request, *bytes, span)) {
        return caller.process->graph_layer().CopyInTurn(use, request);
      }
      const CUresult result = SynchronizeStream(*caller.process, use);
      if (result != CUDA_SUCCESS) return result;
    }
    return CopyToDevice(caller, use, request);
  }
  if (from_device) {
    if (IsDense(request.to, request.extent) && !IsMapped(request.to, *bytes)) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    return CopyFromDevice(caller, use, request);
  }
  return CopyOnHost(caller, use, request);
}

CopyRequest LinearCopy(std::uint64_t to, Side to_side, std::uint64_t from, Side from_side,
                       std::uint64_t bytes) {
  CopyRequest request;
  request.to_side = to_side;
  request.from_side = from_side;
  request.to.address = to;
  request.from.address = from;
  request.extent = {bytes, 1, 1};
  return request;
}

Side SideOf(Process& process, std::uint64_t address) {
  return process.DeviceOf(address) != nullptr || process.globals.Find(address).has_value()
             ? Side::kDevice
             : Side::kHost;
}

bool CoversDevice(Process& process, const wire::CopyPlane& plane, const wire::CopyExtent& extent) {
  if (extent.row_bytes == 0 || extent.rows == 0 || extent.slices == 0) return true;
  const std::uint64_t bytes = SpanBytes(plane, extent);
  if (const Device* device = process.DeviceOf(plane.address); device != nullptr) {
    return device->memory.Covers(plane.address, bytes) ||
           process.vmm().Covers(plane.address, bytes);
  }
  const auto variable = process.globals.Find(plane.address);
  return variable.has_value() && bytes <= variable->bytes - (plane.address - variable->address);
}

}  // namespace farwarp::client
