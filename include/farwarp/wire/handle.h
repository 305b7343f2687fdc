// Handles: the numbers that stand for CUDA objects on the wire and, unchanged, in the application.
//
//   handle := tag:8 (0xF1) kind:8 generation:16 index:32
//
// The client mints them (dense index, reused after destruction with the next generation), so
// creating an object needs no reply. The server looks the index up in a flat array per kind and
// refuses what it does not hold. CUDA's own special stream values (0, 1 legacy, 2 per-thread) are
// not handles and pass unchanged. An application sees a handle as an opaque pointer such as
// CUstream; the tag makes it a non-canonical address, so that dereferencing one faults at once.
#pragma once

#include <cstdint>

namespace farwarp::wire {

enum class HandleKind : std::uint8_t {
  kNone = 0,
  kContext = 1,
  kModule = 2,
  kFunction = 3,
  kLibrary = 4,
  kKernel = 5,
  kStream = 6,
  kEvent = 7,
  kArray = 8,
  kMipmappedArray = 9,
  kGraph = 10,
  kGraphNode = 11,
  kGraphExec = 12,
  kMemPool = 13,
  kLinkState = 14,
  kUserObject = 15,
  kTexRef = 16,
  kSurfRef = 17,
};
inline constexpr int kHandleKinds = 18;

class Handle {
 public:
  constexpr Handle() = default;
  constexpr explicit Handle(std::uint64_t bits) : bits_(bits) {}
  constexpr Handle(HandleKind kind, std::uint16_t generation, std::uint32_t index)
      : bits_(kTag << 56 | std::uint64_t{static_cast<std::uint8_t>(kind)} << 48 |
              std::uint64_t{generation} << 32 | index) {}

  constexpr std::uint64_t bits() const { return bits_; }
  constexpr bool tagged() const { return bits_ >> 56 == kTag; }
  constexpr HandleKind kind() const { return static_cast<HandleKind>(bits_ >> 48 & 0xff); }
  constexpr std::uint16_t generation() const { return static_cast<std::uint16_t>(bits_ >> 32); }
  constexpr std::uint32_t index() const { return static_cast<std::uint32_t>(bits_); }
  constexpr bool Is(HandleKind wanted) const { return tagged() && kind() == wanted; }

 private:
  static constexpr std::uint64_t kTag = 0xF1;
  std::uint64_t bits_ = 0;
};

// The application-side spelling of a handle: CUstream stream = ToPointer<CUstream>(handle).
template <typename Pointer>
Pointer ToPointer(Handle handle) {
  return reinterpret_cast<Pointer>(static_cast<std::uintptr_t>(handle.bits()));
}
template <typename Pointer>
Handle FromPointer(Pointer pointer) {
  return Handle(static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(pointer)));
}

}  // namespace farwarp::wire
