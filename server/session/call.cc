#include "server/session/call.h"

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
  if (handle.bits() <= 2) return wire::ToPointer<CUstream>(handle);
  void* object = handle.Is(HandleKind::kStream) ? handles().Find(handle) : nullptr;
  if (object == nullptr) bad_handle_ = true;
  return static_cast<CUstream>(object);
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

std::span<const std::byte> Call::Bulk(std::uint64_t transfer) {
  bulk_.push_back(session_.TakeBulk(transfer));
  return bulk_.back().bytes();
}

void Call::Finish(CUresult result) {
  session_.Reply({id_, ticket_}, result, result_buffer_);
}

ReplyTo Call::Defer() noexcept {
  return {id_, ticket_};
}

}  // namespace farwarp::server
