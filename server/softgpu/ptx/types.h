// Vocabulary of PTX: fundamental types, state spaces, modifiers and opcodes, as enumerations that
// the parser, the decoder and the handlers share. The lists themselves are in modifiers.def and
// opcodes.def. Value types; thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace farwarp::softgpu {

enum class Type : uint8_t {
  kNone,
  kPred,
  kB8,
  kB16,
  kB32,
  kB64,
  kB128,
  kU8,
  kU16,
  kU32,
  kU64,
  kS8,
  kS16,
  kS32,
  kS64,
  kF16,
  kBf16,
  kF16x2,
  kBf16x2,
  kF32,
  kF64,
  kTf32,
  kE4m3x2,
  kE5m2x2,
  kU16x2,
  kS16x2,
  kF32x2,
  // Narrow elements; of matrices, of conversions in pairs, of cvt.pack. No registers have them.
  kB1,
  kU2,
  kS2,
  kU4,
  kS4,
  kE4m3,
  kE5m2,
  kE2m1,
  kE2m3,
  kE3m2,
  kE2m1x2,
  kE2m3x2,
  kE3m2x2,
  kUe8m0x2,
  kOpaque,  // .texref, .samplerref, .surfref
};

// Size in memory, 0 for predicates and kNone.
constexpr uint32_t TypeBytes(Type type) {
  switch (type) {
    case Type::kB8:
    case Type::kU8:
    case Type::kS8:
    case Type::kE4m3:
    case Type::kE5m2:
    case Type::kE2m1:
    case Type::kE2m3:
    case Type::kE3m2:
    case Type::kE2m1x2:
      return 1;
    case Type::kB16:
    case Type::kU16:
    case Type::kS16:
    case Type::kF16:
    case Type::kBf16:
    case Type::kE4m3x2:
    case Type::kE5m2x2:
    case Type::kE2m3x2:
    case Type::kE3m2x2:
    case Type::kUe8m0x2:
      return 2;
    case Type::kB32:
    case Type::kU32:
    case Type::kS32:
    case Type::kF32:
    case Type::kTf32:
    case Type::kF16x2:
    case Type::kBf16x2:
    case Type::kU16x2:
    case Type::kS16x2:
      return 4;
    case Type::kB64:
    case Type::kU64:
    case Type::kS64:
    case Type::kF64:
    case Type::kF32x2:
    case Type::kOpaque:
      return 8;
    case Type::kB128:
      return 16;
    case Type::kNone:
    case Type::kPred:
    case Type::kB1:  // Less than a byte.
    case Type::kU2:
    case Type::kS2:
    case Type::kU4:
    case Type::kS4:
      return 0;
  }
  return 0;
}

constexpr bool IsSigned(Type type) {
  return type >= Type::kS8 && type <= Type::kS64;
}
constexpr bool IsFloat(Type type) {
  return type == Type::kF32 || type == Type::kF64 || type == Type::kF16 || type == Type::kBf16 ||
         type == Type::kF16x2 || type == Type::kBf16x2 || type == Type::kTf32 ||
         type == Type::kF32x2;
}
// Two floats of eight bits or less.
constexpr bool IsNarrowPair(Type type) {
  return type == Type::kE4m3x2 || type == Type::kE5m2x2 || type == Type::kE2m1x2 ||
         type == Type::kE2m3x2 || type == Type::kE3m2x2 || type == Type::kUe8m0x2;
}
constexpr bool IsInteger(Type type) {
  return type >= Type::kU8 && type <= Type::kS64;
}
constexpr bool IsBits(Type type) {
  return type >= Type::kB8 && type <= Type::kB128;
}

// A type written as a modifier ("f32"); kNone when the name is no type.
Type ParseType(std::string_view name);
const char* TypeName(Type type);

enum class Mod : uint16_t {
#define FARWARP_MODIFIER(id, text) id,
#include "server/softgpu/ptx/modifiers.def"
#undef FARWARP_MODIFIER
  kCount,
};

// A set of modifiers: their order does not matter in PTX as real producers write it.
class ModSet {
 public:
  bool Has(Mod mod) const {
    const auto i = static_cast<unsigned>(mod);
    return (words_[i / 64] >> (i % 64) & 1) != 0;
  }
  void Add(Mod mod) {
    const auto i = static_cast<unsigned>(mod);
    words_[i / 64] |= uint64_t{1} << (i % 64);
  }
  bool Contains(const ModSet& other) const {
    for (size_t i = 0; i < words_.size(); ++i) {
      if ((other.words_[i] & ~words_[i]) != 0) return false;
    }
    return true;
  }

 private:
  std::array<uint64_t, 5> words_{};
};
static_assert(static_cast<unsigned>(Mod::kCount) <= 320);

// False when the text (without the dot) is no known modifier.
bool ParseMod(std::string_view name, Mod* mod);
const char* ModName(Mod mod);

enum class Opcode : uint16_t {
#define FARWARP_OPCODE(id, text, operands, modifiers, types) id,
#include "server/softgpu/ptx/opcodes.def"
#undef FARWARP_OPCODE
  kCount,
};

// What opcodes.def says about an opcode.
struct OpcodeInfo {
  std::string_view name;
  ModSet mods;         // Legal modifiers.
  uint64_t types = 0;  // Legal types, a bit per Type; 0: takes none.
  uint8_t min_operands = 0;
  uint8_t max_operands = 0;
};

// False when the name is no known opcode.
bool ParseOpcode(std::string_view name, Opcode* opcode);
const OpcodeInfo& InfoOf(Opcode opcode);

enum class Space : uint8_t { kGeneric, kReg, kGlobal, kConst, kShared, kLocal, kParam };

}  // namespace farwarp::softgpu
