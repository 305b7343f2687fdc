// Loopback: generated client halves and generated handlers tied together without a session, so that
// a test sees what travels. A client half's command is kept, handed to the handler of its number,
// and answered; the driver behind the handler is a table that the test fills.
//
// The classes have the public interface of client/session/command.h and server/session/call.h as
// far as generated code uses it; the build puts this folder's fake/ in front of the real headers.
//
// One thread.
#pragma once

#include <cstdint>
#include <cstring>
#include <map>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "cuda/driver_api.h"
#include "cuda/driver_table.h"
#include "farwarp/wire/decoder.h"
#include "farwarp/wire/encoder.h"
#include "farwarp/wire/handle.h"

namespace farwarp::loopback {

// A piece of device memory: address and bytes.
using Memory = std::pair<std::uint64_t, std::uint64_t>;
// All the memory there is: [1, kMemoryEnd).
constexpr std::uint64_t kMemoryEnd = 1 << 16;

struct State {
  server::driver::Table driver;
  bool dispatch = true;  // False: commands are kept only.
  bool check = true;     // False: the test's driver functions do not look at their arguments.
  int driver_calls = 0;
  std::uint32_t id = 0;  // Of the last command.
  wire::Buffer body;     // Of the last command.
  bool has_ticket = false;
  std::uint32_t minted = 0;
  int begun = 0;                         // Pieces of work given to streams.
  std::map<std::uint64_t, void*> bound;  // Handle → driver object, of `new`.
  int taken = 0;
  int retired = 0;
  bool own_memory = true;       // False: no address is the client's.
  std::vector<Memory> checked;  // What handlers have asked for.
  int checked_structures = 0;
};
State& Get();
void Reset();
// Generated: driver functions that succeed and touch every byte they are given.
void FillDriver();

// Hands a command to its handler, from a buffer of exactly its size.
CUresult Dispatch(std::uint32_t id, std::span<const std::byte> body, wire::Buffer* reply);

// Values for arguments: different for neighbouring seeds.
template <typename T>
T Sample(int seed) {
  if constexpr (std::is_enum_v<T>) {
    return static_cast<T>(seed % 2);
  } else if constexpr (std::is_floating_point_v<T>) {
    return static_cast<T>(seed) / 4;
  } else if constexpr (std::is_arithmetic_v<T>) {
    return static_cast<T>(seed % 100 + 1);
  } else {
    static_assert(std::is_trivially_copyable_v<T>);
    T value;
    std::memset(static_cast<void*>(&value), seed % 100 + 1, sizeof value);
    return value;
  }
}
template <typename T>
bool Equal(const T& a, const T& b) {
  return std::memcmp(&a, &b, sizeof a) == 0;
}

// The handle that an application holds, and the object that the driver gave out for it.
template <typename T>
T ClientObject(wire::HandleKind kind, int seed) {
  return wire::ToPointer<T>(wire::Handle(kind, 1, static_cast<std::uint32_t>(seed)));
}
template <typename T>
T DriverObject(wire::HandleKind kind, int seed) {
  return reinterpret_cast<T>(std::uintptr_t{0x1000} * static_cast<unsigned>(kind) +
                             static_cast<unsigned>(seed));
}

}  // namespace farwarp::loopback

namespace farwarp::client {

class Session {};

class Reply {
 public:
  wire::Decoder& body() noexcept { return body_; }
  CUresult Finish() const noexcept { return body_.finished() ? CUDA_SUCCESS : CUDA_ERROR_UNKNOWN; }
  void Assign(wire::Buffer storage) noexcept {
    storage_ = std::move(storage);
    body_ = wire::Decoder(storage_);
  }

 private:
  wire::Buffer storage_;
  wire::Decoder body_;
};

class Command {
 public:
  Command(Session& session, std::uint32_t id) noexcept;
  wire::Encoder& body() noexcept { return body_; }
  CUresult Post() noexcept;
  CUresult Call(Reply& reply) noexcept;

 private:
  wire::Buffer buffer_;
  wire::Encoder body_{buffer_};
  std::uint32_t id_;
};

}  // namespace farwarp::client

namespace farwarp::server {

class Call {
 public:
  Call(std::span<const std::byte> body) : args_(body) {}
  const driver::Table& driver() const noexcept { return loopback::Get().driver; }
  wire::Decoder& args() noexcept { return args_; }
  wire::Encoder& results() noexcept { return results_; }

  template <typename T>
  T Resolve(wire::HandleKind kind) {
    return static_cast<T>(ResolveRaw(kind, false));
  }
  template <typename T>
  T ResolveOptional(wire::HandleKind kind) {
    return static_cast<T>(ResolveRaw(kind, true));
  }
  CUstream ResolveStream();
  wire::Handle ReadNew(wire::HandleKind kind);
  void Bind(wire::Handle handle, void* driver_object);
  void* Take(wire::HandleKind kind);
  void CheckMemory(std::uint64_t address, std::uint64_t bytes);
  // A structure with a check of its own in the real class.
  template <typename T>
    requires std::is_class_v<T> || std::is_union_v<T>
  void CheckMemory(T&) {
    ++loopback::Get().checked_structures;
    if (!loopback::Get().own_memory) args_.Fail();
  }
  bool bad() const noexcept { return args_.failed() || bad_handle_; }
  void Finish(CUresult result);

  CUresult result() const noexcept { return result_; }
  bool finished() const noexcept { return finished_; }
  wire::Buffer TakeReply() { return std::move(result_buffer_); }

 private:
  void* ResolveRaw(wire::HandleKind kind, bool optional);

  wire::Decoder args_;
  wire::Buffer result_buffer_;
  wire::Encoder results_{result_buffer_};
  bool bad_handle_ = false;
  bool finished_ = false;
  CUresult result_ = CUDA_SUCCESS;
};

}  // namespace farwarp::server
