#include "client/driver/copy.h"

#include <memory>
#include <new>

#include "client/driver/process.h"
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

CUresult CopyToDevice(const Caller& caller, const StreamUse& use, const CopyRequest& request,
                      std::uint64_t bytes) {
  const void* data = At(request.from.address);
  Scratch packed;
  if (!IsDense(request.from, request.extent)) {
    packed = NewScratch(bytes);
    if (packed == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
    PackRows(request.from, request.extent, packed.get());
    data = packed.get();
  }
  {
    Command command(caller.session(), IdOf(InternalCommand::kCopyToDevice));
    command.body().PutPointer(use.wire);
    command.body().PutStruct(request.extent);
    command.body().PutStruct(request.to);
    if (bytes <= wire::kInlineDataBytes) {
      command.body().Put(std::uint64_t{0});
      command.body().PutRaw(data, static_cast<std::size_t>(bytes));
    } else {
      const std::uint64_t transfer = caller.session().NewTransfer();
      command.body().Put(transfer);
      command.AttachBulk(transfer, data, static_cast<std::size_t>(bytes));
    }
    use.context->work.Begin(use.beside_legacy());
    if (const CUresult result = command.Post(); result != CUDA_SUCCESS) return result;
  }
  if (request.timing == Timing::kAsynchronous || !use.legacy()) return CUDA_SUCCESS;
  return NoteSynchronousCopy(*caller.process, use.context_handle, *use.context);
}

CUresult CopyFromDevice(const Caller& caller, const StreamUse& use, const CopyRequest& request,
                        std::uint64_t bytes) {
  void* data = At(request.to.address);
  Scratch dense;
  if (!IsDense(request.to, request.extent)) {
    dense = NewScratch(bytes);
    if (dense == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
    data = dense.get();
  }
  // Asynchronous only if the bytes may arrive any time later and land where they belong.
  const bool wait =
      request.timing == Timing::kSynchronous || dense != nullptr ||
      !caller.process->host.Contains(request.to.address, SpanBytes(request.to, request.extent));
  const std::uint64_t transfer =
      caller.session().ExpectTransfer(data, static_cast<std::size_t>(bytes));
  if (!wait) caller.process->NoteArrival(request.to.address, bytes, transfer);
  CUresult result;
  std::uint64_t mark;
  {
    Command command(caller.session(), IdOf(InternalCommand::kCopyFromDevice));
    command.body().PutPointer(use.wire);
    command.body().PutStruct(request.extent);
    command.body().PutStruct(request.from);
    command.body().Put(transfer);
    use.context->work.Begin(use.beside_legacy());
    mark = use.context->work.Mark();
    if (wait) {
      Reply reply;
      result = command.Call(reply);
    } else {
      result = command.Post();
    }
  }
  if (result != CUDA_SUCCESS) {
    // Nothing may be written to the buffer once the application has seen the error.
    caller.session().CancelTransfer(transfer);
    return result;
  }
  if (wait && use.legacy()) use.context->work.SettleLegacy(mark);
  if (dense != nullptr) UnpackRows(dense.get(), request.to, request.extent);
  return CUDA_SUCCESS;
}

// The context that the memory at `address` belongs to.
wire::Handle OwnerOf(Process& process, std::uint64_t address) {
  if (Device* device = process.DeviceOf(address); device != nullptr) {
    const auto allocation = device->memory.Find(address);
    return wire::Handle(allocation.has_value() ? allocation->owner : 0);
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

CUresult Copy(const Caller& caller, CopyRequest request) {
  const auto bytes = CopyBytes(request.extent);
  if (!bytes.has_value()) return CUDA_ERROR_INVALID_VALUE;
  StreamUse use;
  if (const CUresult result = ResolveForWork(caller, request.stream, request.null, &use);
      result != CUDA_SUCCESS) {
    return result;
  }
  if (*bytes == 0) return CUDA_SUCCESS;
  const bool to_device = request.to_side == Side::kDevice;
  const bool from_device = request.from_side == Side::kDevice;
  if ((!to_device && request.to.address == 0) || (!from_device && request.from.address == 0) ||
      (to_device && !CoversDevice(*caller.process, request.to, request.extent)) ||
      (from_device && !CoversDevice(*caller.process, request.from, request.extent))) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  Simplify(&request.to, &request.from, &request.extent);
  if (to_device && from_device) return CopyOnDevice(caller, use, request);
  if (to_device) {
    // The source may be the target of an earlier asynchronous copy or of a host function.
    if (caller.process->HostMemoryPending(request.from.address,
                                          SpanBytes(request.from, request.extent))) {
      const CUresult result = SynchronizeStream(*caller.process, use);
      if (result != CUDA_SUCCESS) return result;
    }
    return CopyToDevice(caller, use, request, *bytes);
  }
  if (from_device) return CopyFromDevice(caller, use, request, *bytes);
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
    return device->memory.Covers(plane.address, bytes);
  }
  const auto variable = process.globals.Find(plane.address);
  return variable.has_value() && bytes <= variable->bytes - (plane.address - variable->address);
}

}  // namespace farwarp::client
