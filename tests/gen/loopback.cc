#include "tests/gen/loopback.h"

#include <cstdlib>

#include "client/driver/plain_call.h"
#include "server/cuda_dispatch.h"

namespace farwarp::loopback {

State& Get() {
  static State state;
  return state;
}

void Reset() {
  const auto driver = Get().driver;
  Get() = State{};
  Get().driver = driver;
}

CUresult Dispatch(std::uint32_t id, std::span<const std::byte> body, wire::Buffer* reply) {
  const auto handlers = server::CudaHandlers();
  if (id >= handlers.size() || handlers[id].handle == nullptr) return CUDA_ERROR_UNKNOWN;
  wire::Buffer exact(body.begin(), body.end());
  exact.shrink_to_fit();
  server::Call call(exact);
  handlers[id].handle(call);
  if (!call.finished()) std::abort();  // Every handler answers, whatever it was sent.
  if (reply != nullptr) *reply = call.TakeReply();
  return call.result();
}

}  // namespace farwarp::loopback

namespace farwarp::client {

Command::Command(Session&, std::uint32_t id) noexcept : id_(id) {}

CUresult Command::Post() noexcept {
  Reply reply;
  const CUresult result = Call(reply);
  loopback::Get().has_ticket = false;
  return result;
}

CUresult Command::Call(Reply& reply) noexcept {
  auto& state = loopback::Get();
  state.id = id_;
  state.body = buffer_;
  state.has_ticket = true;
  if (!state.dispatch) return CUDA_ERROR_NOT_READY;
  wire::Buffer answer;
  const CUresult result = loopback::Dispatch(id_, buffer_, &answer);
  reply.Assign(std::move(answer));
  return result;
}

CUresult EnterCall(Session** session) noexcept {
  static Session only;
  *session = &only;
  return CUDA_SUCCESS;
}

CUstream WireStream(CUstream stream, bool per_thread) {
  return stream == nullptr && per_thread ? reinterpret_cast<CUstream>(std::uintptr_t{2}) : stream;
}

CUresult EnterWork(CUstream stream, bool per_thread, StreamWork* work) {
  work->stream = WireStream(stream, per_thread);
  return CUDA_SUCCESS;
}

void BeginWork(const StreamWork&) noexcept {
  ++loopback::Get().begun;
}

wire::Handle MintPlainHandle(wire::HandleKind kind) noexcept {
  return wire::Handle(kind, 1, ++loopback::Get().minted);
}

void RetireHandle(wire::Handle) noexcept {
  ++loopback::Get().retired;
}

}  // namespace farwarp::client

namespace farwarp::server {

void* Call::ResolveRaw(wire::HandleKind kind, bool optional) {
  const wire::Handle handle(args_.Get<std::uint64_t>());
  if (handle.bits() == 0 && optional) return nullptr;
  if (!handle.Is(kind) || handle.generation() != 1 || handle.index() > 200) {
    bad_handle_ = true;
    return nullptr;
  }
  return loopback::DriverObject<void*>(kind, static_cast<int>(handle.index()));
}

CUstream Call::ResolveStream() {
  auto ahead = args_;
  const auto bits = ahead.Get<std::uint64_t>();
  if (bits > 2) return static_cast<CUstream>(ResolveRaw(wire::HandleKind::kStream, false));
  args_ = ahead;
  return reinterpret_cast<CUstream>(static_cast<std::uintptr_t>(bits));
}

wire::Handle Call::ReadNew(wire::HandleKind kind) {
  const wire::Handle handle(args_.Get<std::uint64_t>());
  if (!handle.Is(kind)) bad_handle_ = true;
  return handle;
}

void Call::Bind(wire::Handle handle, void* driver_object) {
  loopback::Get().bound[handle.bits()] = driver_object;
}

void* Call::Take(wire::HandleKind kind) {
  ++loopback::Get().taken;
  return ResolveRaw(kind, false);
}

void Call::CheckMemory(std::uint64_t address, std::uint64_t bytes) {
  auto& state = loopback::Get();
  state.checked.emplace_back(address, bytes);
  if (bytes == 0) return;
  if (!state.own_memory || address == 0 || address >= loopback::kMemoryEnd ||
      bytes > loopback::kMemoryEnd - address) {
    args_.Fail();
  }
}

void Call::Finish(CUresult result) {
  if (finished_) std::abort();
  finished_ = true;
  result_ = result;
}

}  // namespace farwarp::server
