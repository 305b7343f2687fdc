#include "server/session/call.h"

#include <cstring>

#include "server/session/commands/state.h"
#include "server/session/session.h"

namespace farwarp::server {

using wire::Handle;
using wire::HandleKind;

namespace {

// Objects that the driver destroys together with the context in which they were made.
bool EndsWithContext(HandleKind kind) {
  switch (kind) {
    case HandleKind::kModule:
    case HandleKind::kFunction:
    case HandleKind::kStream:
    case HandleKind::kEvent:
    case HandleKind::kArray:
    case HandleKind::kMipmappedArray:
    case HandleKind::kLinkState:
    case HandleKind::kTexRef:
    case HandleKind::kSurfRef:
      return true;
    default:
      return false;
  }
}

}  // namespace

Call::Call(Session& session, std::uint32_t id, std::uint64_t ticket,
           std::span<const std::byte> body)
    : session_(session), id_(id), ticket_(ticket), args_(body) {}

const driver::Table& Call::driver() const noexcept {
  return session_.driver();
}
HandleTable& Call::handles() noexcept {
  return session_.handles();
}

void* Call::ResolveRaw(HandleKind kind, bool optional) {
  const Handle handle(args_.Get<std::uint64_t>());
  if (optional && handle.bits() == 0) return nullptr;
  void* object = handle.Is(kind) ? handles().Find(handle) : nullptr;
  if (object == nullptr) bad_handle_ = true;
  return object;
}

CUstream Call::ResolveStream() {
  const Handle handle(args_.Get<std::uint64_t>());
  auto* stream = handle.bits() <= 2 ? wire::ToPointer<CUstream>(handle) : nullptr;
  if (handle.bits() > 2) {
    void* object = handle.Is(HandleKind::kStream) ? handles().Find(handle) : nullptr;
    if (object == nullptr) {
      bad_handle_ = true;
      return nullptr;
    }
    stream = static_cast<CUstream>(object);
  }
  session_.state().scrubs.PutBefore(driver(), stream);
  return stream;
}

Handle Call::ReadNew(HandleKind kind) {
  const Handle handle(args_.Get<std::uint64_t>());
  if (!handles().MayBind(handle, kind)) bad_handle_ = true;
  return handle;
}

void Call::Bind(Handle handle, void* driver_object) {
  handles().Bind(handle, driver_object,
                 EndsWithContext(handle.kind()) ? session_.current_context() : Handle());
}

void* Call::Take(HandleKind kind) {
  const Handle handle(args_.Get<std::uint64_t>());
  void* object = handle.Is(kind) ? handles().Remove(handle) : nullptr;
  if (object == nullptr) bad_handle_ = true;
  return object;
}

void Call::CheckMemory(std::uint64_t address, std::uint64_t bytes) {
  if (bytes != 0 && !session_.state().Covers({address, 0, 0}, {bytes, 1, 1})) args_.Fail();
}

void Call::CheckMemory(CUstreamBatchMemOpParams& operation) {
  // Read as a number: it may be no enumerator.
  std::uint32_t kind = 0;
  std::memcpy(&kind, &operation, sizeof kind);
  switch (kind) {
    // Waiting and writing share one layout.
    case CU_STREAM_MEM_OP_WAIT_VALUE_32:
    case CU_STREAM_MEM_OP_WRITE_VALUE_32:
    case CU_STREAM_MEM_OP_WAIT_VALUE_64:
    case CU_STREAM_MEM_OP_WRITE_VALUE_64: {
      const bool wide =
          kind == CU_STREAM_MEM_OP_WAIT_VALUE_64 || kind == CU_STREAM_MEM_OP_WRITE_VALUE_64;
      CheckMemory(operation.waitValue.address, wide ? 8 : 4);
      operation.waitValue.alias = 0;  // A second address, of the driver's own.
      return;
    }
    case CU_STREAM_MEM_OP_BARRIER:
    case CU_STREAM_MEM_OP_FLUSH_REMOTE_WRITES:
      return;
    default:  // Nobody knows where a newer operation has its addresses.
      args_.Fail();
  }
}

std::span<const std::byte> Call::Bulk(std::uint64_t transfer) {
  bulk_.push_back(session_.TakeBulk(transfer));
  return bulk_.back().bytes();
}

std::shared_ptr<const void> Call::BulkCharge() const {
  return bulk_.empty() ? nullptr : bulk_.back().charge();
}

void Call::Finish(CUresult result) {
  session_.Reply(Defer(), result, result_buffer_);
}

ReplyTo Call::Defer() noexcept {
  return {id_, ticket_, session_.current_context().bits()};
}

}  // namespace farwarp::server
