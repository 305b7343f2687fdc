#include "server/softgpu/warp/texture_sample.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

namespace farwarp::softgpu {
namespace {

template <typename T>
T ReadAs(const unsigned char* at, uint32_t channel) {
  T value;
  std::memcpy(&value, at + channel * sizeof(T), sizeof(T));
  return value;
}

// One channel of a stored texel: integers extended to 32 bits, halves as f32.
uint32_t Stored(TexelType type, const unsigned char* at, uint32_t channel) {
  switch (type) {
    case TexelType::kU8:
      return ReadAs<uint8_t>(at, channel);
    case TexelType::kS8:
      return static_cast<uint32_t>(int32_t{ReadAs<int8_t>(at, channel)});
    case TexelType::kU16:
      return ReadAs<uint16_t>(at, channel);
    case TexelType::kS16:
      return static_cast<uint32_t>(int32_t{ReadAs<int16_t>(at, channel)});
    case TexelType::kF16:
      return std::bit_cast<uint32_t>(
          static_cast<float>(std::bit_cast<_Float16>(ReadAs<uint16_t>(at, channel))));
    case TexelType::kU32:
    case TexelType::kS32:
    case TexelType::kF32:
      return ReadAs<uint32_t>(at, channel);
  }
  return 0;
}

double Normalized(TexelType type, uint32_t bits) {
  switch (type) {
    case TexelType::kU8:
      return bits / 255.0;
    case TexelType::kU16:
      return bits / 65535.0;
    case TexelType::kS8:
      return std::max(static_cast<int32_t>(bits) / 127.0, -1.0);
    case TexelType::kS16:
      return std::max(static_cast<int32_t>(bits) / 32767.0, -1.0);
    default:
      return std::bit_cast<float>(bits);
  }
}

double FromSrgb(double value) {
  return value <= 0.04045 ? value / 12.92 : std::pow((value + 0.055) / 1.055, 2.4);
}

bool IsFloatType(TexelType type) {
  return type == TexelType::kF16 || type == TexelType::kF32;
}

bool IsNarrowInteger(TexelType type) {
  return TexelTypeBytes(type) < 4 && !IsFloatType(type);
}

// An index brought into range by the address mode; -1: outside, the border.
int64_t InRange(int64_t index, uint32_t size, AddressMode mode) {
  const auto n = static_cast<int64_t>(size);
  if (index >= 0 && index < n) return index;
  switch (mode) {
    case AddressMode::kWrap:
      index %= n;
      return index < 0 ? index + n : index;
    case AddressMode::kMirror: {
      index %= 2 * n;
      if (index < 0) index += 2 * n;
      return index < n ? index : 2 * n - 1 - index;
    }
    case AddressMode::kClamp:
      return index < 0 ? 0 : n - 1;
    case AddressMode::kBorder:
      break;
  }
  return -1;
}

// How many dimensions are addressed within one slice, and their sizes and modes.
struct Plane {
  uint32_t dimensions = 1;
  uint32_t size[3] = {1, 1, 1};
  AddressMode mode[3] = {AddressMode::kClamp, AddressMode::kClamp, AddressMode::kClamp};
  uint64_t offset = 0;  // Of the layer or the face.
};

Plane PlaneOf(const TextureState& state, TextureShape shape) {
  Plane plane;
  plane.dimensions = shape == TextureShape::k3d                                  ? 3
                     : shape == TextureShape::k1d || shape == TextureShape::kA1d ? 1
                                                                                 : 2;
  plane.size[0] = state.width;
  plane.size[1] = std::max(1u, state.height);
  plane.size[2] = std::max(1u, state.depth);
  for (uint32_t k = 0; k < plane.dimensions; ++k) {
    plane.mode[k] = state.address[k];
    // Wrapping and mirroring need normalized coordinates; else they are clamping.
    if (!state.normalized_coordinates &&
        (plane.mode[k] == AddressMode::kWrap || plane.mode[k] == AddressMode::kMirror)) {
      plane.mode[k] = AddressMode::kClamp;
    }
    if (state.cube) plane.mode[k] = AddressMode::kClamp;
    if (state.linear_memory) plane.mode[k] = AddressMode::kBorder;
  }
  return plane;
}

struct RawTexel {
  const unsigned char* at = nullptr;  // nullptr: the border.
};

RawTexel Locate(const TextureState& state, const Plane& plane, const int64_t (&index)[3]) {
  int64_t in[3] = {0, 0, 0};
  for (uint32_t k = 0; k < plane.dimensions; ++k) {
    in[k] = InRange(index[k], plane.size[k], plane.mode[k]);
    if (in[k] < 0) return {};
  }
  const uint64_t address = state.base + plane.offset + static_cast<uint64_t>(in[2]) * state.slice +
                           static_cast<uint64_t>(in[1]) * state.pitch +
                           static_cast<uint64_t>(in[0]) * state.texel_bytes();
  return {reinterpret_cast<const unsigned char*>(address)};
}

double BorderOf(const TextureState& state, uint32_t channel) {
  return state.linear_memory ? 0.0 : double{state.border[channel]};
}

// One channel as a number.
double Number(const TextureState& state, RawTexel texel, uint32_t channel) {
  if (channel >= state.channels) return channel == 3 ? 1.0 : 0.0;
  if (texel.at == nullptr) return BorderOf(state, channel);
  const double value = Normalized(state.type, Stored(state.type, texel.at, channel));
  return state.srgb && channel < 3 ? FromSrgb(value) : value;
}

// One channel as the bits of an integer.
uint32_t Bits(const TextureState& state, RawTexel texel, uint32_t channel) {
  if (channel >= state.channels) return channel == 3 ? 1 : 0;
  if (texel.at != nullptr) return Stored(state.type, texel.at, channel);
  // The border of integer textures is given as floats in the same words.
  return std::bit_cast<uint32_t>(state.linear_memory ? 0.0f : state.border[channel]);
}

uint32_t FloatBits(double value) {
  return std::bit_cast<uint32_t>(static_cast<float>(value));
}

Texel Converted(const TextureState& state, RawTexel raw, bool as_float) {
  Texel texel;
  const bool floats = ReadsFloats(state);
  for (uint32_t c = 0; c < 4; ++c) {
    if (floats) {
      texel.bits[c] = FloatBits(Number(state, raw, c));
    } else if (as_float && c >= state.channels) {
      texel.bits[c] = c == 3 ? std::bit_cast<uint32_t>(1.0f) : 0;
    } else {
      texel.bits[c] = Bits(state, raw, c);
    }
  }
  return texel;
}

// The coordinate in texels. What is no number is 0; what is far outside stays far outside.
double InTexels(const TextureState& state, float coordinate, uint32_t size, AddressMode mode) {
  double u = coordinate;
  if (std::isnan(u)) return 0.0;
  if (state.normalized_coordinates && !std::isinf(u)) {
    // Whole turns are taken off first: their fraction decides, however large they are.
    if (mode == AddressMode::kWrap) u -= std::floor(u);
    if (mode == AddressMode::kMirror) u -= 2.0 * std::floor(u / 2.0);
    u *= size;
  }
  return std::clamp(u, -1e9, 1e9);
}

// The face that a direction points to, and where on it.
void FaceOf(const float (&direction)[3], uint32_t* face, float (&st)[3]) {
  const double x = direction[0], y = direction[1], z = direction[2];
  const double ax = std::fabs(x), ay = std::fabs(y), az = std::fabs(z);
  double s, t, major;
  if (ax >= ay && ax >= az) {
    *face = x >= 0 ? 0 : 1;
    s = x >= 0 ? -z : z;
    t = -y;
    major = ax;
  } else if (ay >= az) {
    *face = y >= 0 ? 2 : 3;
    s = x;
    t = y >= 0 ? z : -z;
    major = ay;
  } else {
    *face = z >= 0 ? 4 : 5;
    s = z >= 0 ? x : -x;
    t = -y;
    major = az;
  }
  if (!(major > 0)) major = 1;
  st[0] = static_cast<float>((s / major + 1.0) / 2.0);
  st[1] = static_cast<float>((t / major + 1.0) / 2.0);
  st[2] = 0;
}

// Sets the slice that layer and face choose; `f` is what is left of the coordinates.
void ChooseSlice(const TextureState& state, const TexturePoint& point, Plane* plane,
                 float (&f)[3]) {
  std::copy(std::begin(point.f), std::end(point.f), f);
  uint64_t slice = 0;
  if (point.shape == TextureShape::kCube || point.shape == TextureShape::kACube) {
    uint32_t face;
    FaceOf(point.f, &face, f);
    const uint32_t cubes = std::max(1u, state.depth / 6);
    slice = face;
    if (point.shape == TextureShape::kACube) slice += 6 * std::min(point.layer, cubes - 1);
  } else if (point.shape == TextureShape::kA1d || point.shape == TextureShape::kA2d) {
    slice = std::min(point.layer, std::max(1u, state.depth) - 1);
  }
  plane->offset = slice * state.slice;
}

// Where linear filtering begins, and the weight of the next texel in 256ths.
struct Weighted {
  int64_t index;
  uint32_t weight;
};
Weighted WeightOf(double u) {
  const double shifted = u - 0.5;
  const double whole = std::floor(shifted);
  return {static_cast<int64_t>(whole),
          static_cast<uint32_t>(std::floor((shifted - whole) * 256.0 + 0.5))};
}

Texel Filtered(const TextureState& state, const Plane& plane, const float (&f)[3],
               const TexturePoint& point) {
  Weighted along[3] = {{0, 0}, {0, 0}, {0, 0}};
  for (uint32_t k = 0; k < plane.dimensions; ++k) {
    along[k] = WeightOf(InTexels(state, f[k], plane.size[k], plane.mode[k]));
    along[k].index += point.offset[k];
  }
  double sum[4] = {0, 0, 0, 0};
  for (uint32_t corner = 0; corner < 1u << plane.dimensions; ++corner) {
    int64_t index[3] = {0, 0, 0};
    double weight = 1.0;
    for (uint32_t k = 0; k < plane.dimensions; ++k) {
      const uint32_t next = corner >> k & 1;
      index[k] = along[k].index + next;
      weight *= (next != 0 ? along[k].weight : 256 - along[k].weight) / 256.0;
    }
    if (weight == 0.0) continue;
    const RawTexel texel = Locate(state, plane, index);
    for (uint32_t c = 0; c < 4; ++c) sum[c] += weight * Number(state, texel, c);
  }
  Texel result;
  for (uint32_t c = 0; c < 4; ++c) result.bits[c] = FloatBits(sum[c]);
  return result;
}

}  // namespace

bool ReadsFloats(const TextureState& state) {
  return IsFloatType(state.type) || (state.to_float && IsNarrowInteger(state.type));
}

Texel Sample(const TextureState& state, const TexturePoint& point, bool as_float) {
  Plane plane = PlaneOf(state, point.shape);
  float f[3];
  ChooseSlice(state, point, &plane, f);
  int64_t index[3] = {0, 0, 0};
  if (point.integers) {
    for (uint32_t k = 0; k < plane.dimensions; ++k)
      index[k] = int64_t{point.i[k]} + point.offset[k];
    return Converted(state, Locate(state, plane, index), as_float);
  }
  if (state.linear_filter && ReadsFloats(state)) return Filtered(state, plane, f, point);
  for (uint32_t k = 0; k < plane.dimensions; ++k) {
    const double u = InTexels(state, f[k], plane.size[k], plane.mode[k]);
    index[k] = static_cast<int64_t>(std::floor(u)) + point.offset[k];
  }
  return Converted(state, Locate(state, plane, index), as_float);
}

Texel Gather(const TextureState& state, const TexturePoint& point, bool as_float,
             uint32_t component) {
  Plane plane = PlaneOf(state, point.shape);
  float f[3];
  ChooseSlice(state, point, &plane, f);
  int64_t first[2];
  for (uint32_t k = 0; k < 2; ++k) {
    first[k] =
        WeightOf(InTexels(state, f[k], plane.size[k], plane.mode[k])).index + point.offset[k];
  }
  constexpr int kCorners[4][2] = {{0, 1}, {1, 1}, {1, 0}, {0, 0}};
  Texel result;
  for (uint32_t k = 0; k < 4; ++k) {
    const int64_t index[3] = {first[0] + kCorners[k][0], first[1] + kCorners[k][1], 0};
    result.bits[k] = Converted(state, Locate(state, plane, index), as_float).bits[component];
  }
  return result;
}

uint32_t ChannelTypeCode(const TextureState& state) {
  switch (state.type) {
    case TexelType::kU8:
      return state.to_float ? 0x10d2 : 0x10da;
    case TexelType::kU16:
      return state.to_float ? 0x10d3 : 0x10db;
    case TexelType::kU32:
      return 0x10dc;
    case TexelType::kS8:
      return state.to_float ? 0x10d0 : 0x10d7;
    case TexelType::kS16:
      return state.to_float ? 0x10d1 : 0x10d8;
    case TexelType::kS32:
      return 0x10d9;
    case TexelType::kF16:
      return 0x10dd;
    case TexelType::kF32:
      return 0x10de;
  }
  return 0;
}

uint32_t ChannelOrderCode(const TextureState& state) {
  return state.channels == 1 ? 0x10b0 : state.channels == 2 ? 0x10b2 : 0x10b5;
}

}  // namespace farwarp::softgpu
