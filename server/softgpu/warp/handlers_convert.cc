// cvt: between integers, floats and halves, through the register's width on each side.
#include <cstring>

#include "server/softgpu/warp/half_value.h"
#include "server/softgpu/warp/handlers.h"
#include "server/softgpu/warp/lanes.h"

namespace farwarp::softgpu {
namespace {

inline float ToFloat(Bf16 v) {
  return v;
}
inline float ToFloat(Half v) {
  return static_cast<float>(v);
}
inline float ToFloat(float v) {
  return v;
}
// What the instruction says beyond the types: bits of Ins::target. Two more at kModeShift are the
// rounding mode as MXCSR has it.
enum : uint32_t {
  kFtzBit = 1,
  kSatBit = 2,
  kIntegralBit = 4,
  kReluBit = 16,
  kSatfiniteBit = 32,
};
constexpr uint32_t kModeShift = 8;

inline Bf16 ToBf16(float v, uint32_t how) {
  if (v != v) return {kHalfNan};
  return {
      static_cast<uint16_t>(RoundOff(std::bit_cast<uint32_t>(v), 16, how >> kModeShift & 3) >> 16)};
}
// The largest finite value of a 16-bit float.
template <typename D>
constexpr float LargestOf() {
  return std::is_same_v<D, Half> ? 65504.0f : std::bit_cast<float>(0x7f7f0000u);
}
// An integer to f32 for a second rounding, its last bit telling of what is lost.
template <typename S>
float IntegerToOdd(S source) {
  const auto value = static_cast<float>(source);
  const auto exact = static_cast<__int128>(source);
  if (static_cast<__int128>(value) == exact) return value;
  auto bits = std::bit_cast<uint32_t>(value);
  const __int128 rounded = static_cast<__int128>(value);
  if (exact < 0 ? rounded < exact : rounded > exact) --bits;
  return std::bit_cast<float>(bits | 1);
}

template <typename T>
inline constexpr bool kIsFloat =
    std::is_floating_point_v<T> || std::is_same_v<T, Half> || std::is_same_v<T, Bf16>;

// Float to integer: the value has been rounded to an integral one; out of range saturates, NaN is
// 0.
template <typename D, typename S>
D ToInteger(S value) {
  if (value != value) return 0;
  constexpr auto kMin = std::numeric_limits<D>::min();
  constexpr auto kMax = std::numeric_limits<D>::max();
  if (value <= static_cast<S>(kMin)) return kMin;
  if (value >= static_cast<S>(kMax)) return kMax;
  return static_cast<D>(value);
}

template <typename D, typename S>
D ConvertOne(S source, uint32_t how) {
  if constexpr (kIsFloat<S>) {
    if constexpr (kIsFloat<D>) {
      if constexpr (std::is_same_v<D, double>) {
        if constexpr (std::is_same_v<S, double>)
          return (how & kSatBit) != 0        ? Clamp01(source)
                 : (how & kIntegralBit) != 0 ? __builtin_nearbyint(source)
                                             : source;
        else
          return static_cast<double>(std::is_same_v<S, float>
                                         ? FlushIf((how & kFtzBit) != 0, ToFloat(source))
                                         : ToFloat(source));
      } else {
        float value;
        if constexpr (std::is_same_v<S, double>)
          value = sizeof(D) == 2 ? ToOdd(source) : static_cast<float>(source);
        else
          value = ToFloat(source);
        if ((how & kFtzBit) != 0) value = Flush(value);
        if ((how & kIntegralBit) != 0) value = __builtin_nearbyintf(value);
        if ((how & kSatBit) != 0) value = Clamp01(value);
        if ((how & kReluBit) != 0) value = value > 0 ? value : (value != value ? value : 0.0f);
        if constexpr (sizeof(D) == 2) {
          if ((how & kSatfiniteBit) != 0 && std::fabs(value) > LargestOf<D>())
            value = std::copysign(LargestOf<D>(), value);
        }
        if constexpr (std::is_same_v<D, Bf16>)
          return ToBf16(value, how);
        else
          return static_cast<D>(value);
      }
    } else {
      if constexpr (std::is_same_v<S, double>)
        return ToInteger<D>(__builtin_nearbyint(source));
      else
        return ToInteger<D>(__builtin_nearbyintf(FlushIf((how & kFtzBit) != 0, ToFloat(source))));
    }
  } else if constexpr (kIsFloat<D>) {
    if constexpr (std::is_same_v<D, Bf16>)
      return ToBf16(IntegerToOdd(source), how);
    else if constexpr (std::is_same_v<D, double>)
      return static_cast<double>(source);
    else if constexpr (std::is_same_v<D, Half>)
      return static_cast<Half>(static_cast<float>(source));
    else
      return (how & kSatBit) != 0 ? Clamp01(static_cast<float>(source))
                                  : static_cast<float>(source);
  } else {
    if ((how & kSatBit) != 0) {
      const __int128 value = source;
      if (value < std::numeric_limits<D>::min()) return std::numeric_limits<D>::min();
      if (value > std::numeric_limits<D>::max()) return std::numeric_limits<D>::max();
    }
    return static_cast<D>(source);
  }
}

template <typename D, typename S, typename DR, typename SR>
void Convert(Warp& warp, const Ins& ins) {
  const SR* const a = warp.Reg<SR>(ins.a);
  const uint32_t how = ins.target;
  DR results[kLanes];
  {
    const ScopedRounding rounding(static_cast<unsigned>(ins.imm));
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      S source;
      std::memcpy(&source, &a[lane], sizeof source);
      const D value = ConvertOne<D, S>(source, how);
      if constexpr (std::is_integral_v<D>) {
        results[lane] =
            static_cast<DR>(value);  // Signed results are sign-extended to the register.
      } else {
        results[lane] = 0;
        std::memcpy(&results[lane], &value, sizeof value);
      }
    }
  }
  if constexpr (kIsFloat<D> && std::is_unsigned_v<S>) {
    // The compiler's unsigned conversions subtract, and rounding down makes -0 of zero. It must not
    // see where the values come from, or it would take their sign for granted.
    if (ins.imm == _MM_ROUND_DOWN) {
      asm volatile("" : "+m"(results));
      for (DR& result : results) result &= static_cast<DR>(~(DR{1} << (8 * sizeof(D) - 1)));
    }
  }
  ForLanes<DR>(warp, ins.d, [&](uint32_t lane) { return results[lane]; });
}

template <typename D, typename S, typename DR>
Handler BySourceRegister(uint32_t from_bytes) {
  if constexpr (sizeof(S) <= 2) {
    if (from_bytes == 2) return Convert<D, S, DR, uint16_t>;
  }
  if constexpr (sizeof(S) <= 4) {
    if (from_bytes == 4) return Convert<D, S, DR, uint32_t>;
  }
  if (from_bytes == 8) return Convert<D, S, DR, uint64_t>;
  return nullptr;
}
template <typename D, typename S>
Handler ByRegisters(uint32_t from_bytes, uint32_t to_bytes) {
  if constexpr (sizeof(D) <= 2) {
    if (to_bytes == 2) return BySourceRegister<D, S, uint16_t>(from_bytes);
  }
  if constexpr (sizeof(D) <= 4) {
    if (to_bytes == 4) return BySourceRegister<D, S, uint32_t>(from_bytes);
  }
  if (to_bytes == 8) return BySourceRegister<D, S, uint64_t>(from_bytes);
  return nullptr;
}
template <typename D>
Handler BySource(Type source, uint32_t from_bytes, uint32_t to_bytes) {
  switch (source) {
    case Type::kU8:
      return ByRegisters<D, uint8_t>(from_bytes, to_bytes);
    case Type::kS8:
      return ByRegisters<D, int8_t>(from_bytes, to_bytes);
    case Type::kU16:
      return ByRegisters<D, uint16_t>(from_bytes, to_bytes);
    case Type::kS16:
      return ByRegisters<D, int16_t>(from_bytes, to_bytes);
    case Type::kU32:
      return ByRegisters<D, uint32_t>(from_bytes, to_bytes);
    case Type::kS32:
      return ByRegisters<D, int32_t>(from_bytes, to_bytes);
    case Type::kU64:
      return ByRegisters<D, uint64_t>(from_bytes, to_bytes);
    case Type::kS64:
      return ByRegisters<D, int64_t>(from_bytes, to_bytes);
    case Type::kF16:
      return ByRegisters<D, Half>(from_bytes, to_bytes);
    case Type::kBf16:
      return ByRegisters<D, Bf16>(from_bytes, to_bytes);
    case Type::kF32:
      return ByRegisters<D, float>(from_bytes, to_bytes);
    case Type::kF64:
      return ByRegisters<D, double>(from_bytes, to_bytes);
    default:
      return nullptr;
  }
}

// cvt.rn.f16x2.f32 d, a, b: a goes to the upper half.
template <typename D>
void ConvertPair(Warp& warp, const Ins& ins) {
  const float* const a = warp.Reg<float>(ins.a);
  const float* const b = warp.Reg<float>(ins.b);
  uint32_t results[kLanes];
  {
    const ScopedRounding rounding(static_cast<unsigned>(ins.imm));
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      const D high = ConvertOne<D, float>(a[lane], ins.target);
      const D low = ConvertOne<D, float>(b[lane], ins.target);
      results[lane] = uint32_t{std::bit_cast<uint16_t>(high)} << 16 | std::bit_cast<uint16_t>(low);
    }
    asm volatile("" : "+m"(results));
  }
  ForLanes<uint32_t>(warp, ins.d, [&](uint32_t lane) { return results[lane]; });
}

}  // namespace

Handler FindConvert(const Instruction& i, uint32_t from_bytes, uint32_t to_bytes) {
  if (i.Has(Mod::kPack) || i.Has(Mod::kRna)) return nullptr;
  const Type source = i.types[1];
  if (i.operands.size() == 3 && source == Type::kF32) {
    if (i.types[0] == Type::kF16x2) return ConvertPair<Half>;
    if (i.types[0] == Type::kBf16x2) return ConvertPair<Bf16>;
  }
  if (i.operands.size() != 2) return nullptr;
  switch (i.types[0]) {
    case Type::kU8:
      return BySource<uint8_t>(source, from_bytes, to_bytes);
    case Type::kS8:
      return BySource<int8_t>(source, from_bytes, to_bytes);
    case Type::kU16:
      return BySource<uint16_t>(source, from_bytes, to_bytes);
    case Type::kS16:
      return BySource<int16_t>(source, from_bytes, to_bytes);
    case Type::kU32:
      return BySource<uint32_t>(source, from_bytes, to_bytes);
    case Type::kS32:
      return BySource<int32_t>(source, from_bytes, to_bytes);
    case Type::kU64:
      return BySource<uint64_t>(source, from_bytes, to_bytes);
    case Type::kS64:
      return BySource<int64_t>(source, from_bytes, to_bytes);
    case Type::kF16:
      return BySource<Half>(source, from_bytes, to_bytes);
    case Type::kBf16:
      return BySource<Bf16>(source, from_bytes, to_bytes);
    case Type::kF32:
      return BySource<float>(source, from_bytes, to_bytes);
    case Type::kF64:
      return BySource<double>(source, from_bytes, to_bytes);
    default:
      return nullptr;
  }
}

}  // namespace farwarp::softgpu
