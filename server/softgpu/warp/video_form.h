// How a video instruction takes its operands apart and what it does with the result; fits into
// Ins::imm. Value types.
#pragma once

#include <bit>
#include <cstdint>

namespace farwarp::softgpu {

// A selector: .b0 to .b3, .h0, .h1, or the word.
struct VideoPart {
  uint8_t bits = 32;
  uint8_t index = 0;
};
// With the third operand: a second operation, or the result replaces a part of it.
enum class VideoThen : uint8_t { kNothing, kAdd, kMin, kMax, kMerge };

struct VideoForm {
  VideoPart d;
  VideoPart a;
  VideoPart b;
  VideoThen then = VideoThen::kNothing;
  bool d_signed : 1 = false;
  bool a_signed : 1 = false;
  bool b_signed : 1 = false;
  bool saturate : 1 = false;

  uint64_t Bits() const {
    return uint64_t{d.bits} | uint64_t{d.index} << 8 | uint64_t{a.bits} << 16 |
           uint64_t{a.index} << 24 | uint64_t{b.bits} << 32 | uint64_t{b.index} << 40 |
           uint64_t{static_cast<uint8_t>(then)} << 48 |
           static_cast<uint64_t>(d_signed | a_signed << 1 | b_signed << 2 | saturate << 3) << 56;
  }
  static VideoForm From(uint64_t bits) {
    const auto byte = [=](int n) { return static_cast<uint8_t>(bits >> 8 * n); };
    VideoForm form;
    form.d = {byte(0), byte(1)};
    form.a = {byte(2), byte(3)};
    form.b = {byte(4), byte(5)};
    form.then = static_cast<VideoThen>(byte(6));
    form.d_signed = (byte(7) & 1) != 0;
    form.a_signed = (byte(7) & 2) != 0;
    form.b_signed = (byte(7) & 4) != 0;
    form.saturate = (byte(7) & 8) != 0;
    return form;
  }
};

}  // namespace farwarp::softgpu
