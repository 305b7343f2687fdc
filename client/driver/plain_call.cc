#include "client/driver/plain_call.h"

#include <array>

#include "client/driver/memory/managed.h"
#include "client/driver/object_table.h"
#include "client/driver/process.h"

namespace farwarp::client {
namespace {

using wire::HandleKind;

// Nothing is known of such an object but that it lives.
struct PlainObject {};

template <HandleKind kKind>
ObjectTable<PlainObject, kKind>& Objects() {
  // Never destroyed: exit handlers of the application may still call CUDA.
  static auto& objects = *new ObjectTable<PlainObject, kKind>;
  return objects;
}

template <HandleKind kKind>
bool Retire(wire::Handle handle) {
  if (!handle.Is(kKind)) return false;
  static_cast<void>(Objects<kKind>().Remove(handle));
  return true;
}

template <HandleKind... kKinds>
wire::Handle MintOneOf(HandleKind kind) {
  wire::Handle handle;
  static_cast<void>(((kind == kKinds &&
                      (handle = Objects<kKinds>().Mint(std::make_unique<PlainObject>()), true)) ||
                     ...));
  return handle;
}

template <HandleKind... kKinds>
void RetireOneOf(wire::Handle handle) {
  static_cast<void>((Retire<kKinds>(handle) || ...));
}

#define FARWARP_PLAIN_KINDS                                                                    \
  HandleKind::kArray, HandleKind::kMipmappedArray, HandleKind::kGraph, HandleKind::kGraphNode, \
      HandleKind::kGraphExec, HandleKind::kMemPool, HandleKind::kLinkState,                    \
      HandleKind::kUserObject, HandleKind::kTexRef, HandleKind::kSurfRef

}  // namespace

CUresult EnterCall(Session** session) noexcept {
  FARWARP_ENTER_CONTEXT(caller);
  *session = &caller.session();
  return CUDA_SUCCESS;
}

CUresult EnterWork(CUstream stream, bool per_thread, StreamWork* work) {
  FARWARP_ENTER_CONTEXT(caller);
  Process& process = *caller.process;
  if (const CUresult captured = process.graphs().CheckStream(stream, per_thread);
      captured != CUDA_SUCCESS) {
    return captured;
  }
  if (process.managed().any()) {
    const CUresult result = process.managed().BeforeWork(caller);
    if (result != CUDA_SUCCESS) return result;
  }
  StreamUse use;
  const auto null = per_thread ? NullStream::kPerThread : NullStream::kLegacy;
  const CUresult result = ResolveForWork(caller, stream, null, &use);
  if (result == CUDA_SUCCESS) *work = {use.wire, use.context, use.beside_legacy()};
  return result;
}

void BeginWork(const StreamWork& work) noexcept {
  work.context->work.Begin(work.beside_legacy);
}

wire::Handle MintPlainHandle(HandleKind kind) noexcept {
  try {
    return MintOneOf<FARWARP_PLAIN_KINDS>(kind);
  } catch (...) {  // Out of memory.
    return {};
  }
}

void RetireHandle(wire::Handle handle) noexcept {
  RetireOneOf<FARWARP_PLAIN_KINDS>(handle);
}

}  // namespace farwarp::client
