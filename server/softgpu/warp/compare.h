// The comparisons of setp and set, and how their result combines with a predicate. Pure functions.
#pragma once

#include <cstdint>

#include "server/softgpu/ptx/ast.h"

namespace farwarp::softgpu {

enum class Compare { kEq, kNe, kLt, kLe, kGt, kGe, kEqu, kNeu, kLtu, kLeu, kGtu, kGeu, kNum, kNan };

template <Compare op, typename T>
inline bool Holds(T a, T b) {
  const bool unordered = a != a || b != b;
  switch (op) {
    case Compare::kEq:
      return a == b;
    case Compare::kNe:
      return a != b && !unordered;
    case Compare::kLt:
      return a < b;
    case Compare::kLe:
      return a <= b;
    case Compare::kGt:
      return a > b;
    case Compare::kGe:
      return a >= b;
    case Compare::kEqu:
      return a == b || unordered;
    case Compare::kNeu:
      return a != b || unordered;
    case Compare::kLtu:
      return a < b || unordered;
    case Compare::kLeu:
      return a <= b || unordered;
    case Compare::kGtu:
      return a > b || unordered;
    case Compare::kGeu:
      return a >= b || unordered;
    case Compare::kNum:
      return !unordered;
    case Compare::kNan:
      return unordered;
  }
  return false;
}

// How the comparison and the predicate operand c combine: Ins::target.
enum Combine : uint32_t { kPlain = 0, kWithAnd, kWithOr, kWithXor };
inline uint32_t Combined(uint32_t how, uint32_t result, uint32_t c) {
  return how == kWithAnd   ? result & c
         : how == kWithOr  ? result | c
         : how == kWithXor ? result ^ c
                           : result;
}

// Calls f.template operator()<op>() for the instruction's comparison; its result, or the default
// if the instruction names none.
template <typename F>
auto WithComparison(const Instruction& i, F f) -> decltype(f.template operator()<Compare::kEq>()) {
  if (i.Has(Mod::kEq)) return f.template operator()<Compare::kEq>();
  if (i.Has(Mod::kNe)) return f.template operator()<Compare::kNe>();
  if (i.Has(Mod::kLt) || i.Has(Mod::kLo)) return f.template operator()<Compare::kLt>();
  if (i.Has(Mod::kLe) || i.Has(Mod::kLs)) return f.template operator()<Compare::kLe>();
  if (i.Has(Mod::kGt) || i.Has(Mod::kHi)) return f.template operator()<Compare::kGt>();
  if (i.Has(Mod::kGe) || i.Has(Mod::kHs)) return f.template operator()<Compare::kGe>();
  if (i.Has(Mod::kEqu)) return f.template operator()<Compare::kEqu>();
  if (i.Has(Mod::kNeu)) return f.template operator()<Compare::kNeu>();
  if (i.Has(Mod::kLtu)) return f.template operator()<Compare::kLtu>();
  if (i.Has(Mod::kLeu)) return f.template operator()<Compare::kLeu>();
  if (i.Has(Mod::kGtu)) return f.template operator()<Compare::kGtu>();
  if (i.Has(Mod::kGeu)) return f.template operator()<Compare::kGeu>();
  if (i.Has(Mod::kNum)) return f.template operator()<Compare::kNum>();
  if (i.Has(Mod::kNanTest)) return f.template operator()<Compare::kNan>();
  return {};
}

}  // namespace farwarp::softgpu
