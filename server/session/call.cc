#include "server/session/call.h"

#include "server/session/session.h"

namespace farwarp::server {

using wire::Handle;
using wire::HandleKind;

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
  const HandleKind kind = handle.kind();
  const bool of_context = kind == HandleKind::kStream || kind == HandleKind::kEvent ||
                          kind == HandleKind::kModule || kind == HandleKind::kFunction;
  handles().Bind(handle, driver_object, of_context ? session_.current_context() : Handle());
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
