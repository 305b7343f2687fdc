// Textures and surfaces by number (the unified mode of compilers). Names of .texref and .surfref
// variables are refused: nothing binds them.
#include <optional>

#include "server/softgpu/exec/function_decoder.h"
#include "server/softgpu/warp/texture_form.h"

namespace farwarp::softgpu {
namespace {

std::optional<TextureShape> ShapeOf(const Instruction& i) {
  constexpr std::pair<Mod, TextureShape> kShapes[] = {
      {Mod::k1d, TextureShape::k1d},      {Mod::k2d, TextureShape::k2d},
      {Mod::k3d, TextureShape::k3d},      {Mod::kA1d, TextureShape::kA1d},
      {Mod::kA2d, TextureShape::kA2d},    {Mod::kCube, TextureShape::kCube},
      {Mod::kAcube, TextureShape::kACube}};
  for (const auto& [mod, shape] : kShapes) {
    if (i.Has(mod)) return shape;
  }
  return std::nullopt;
}

bool IsLayered(TextureShape shape) {
  return shape == TextureShape::kA1d || shape == TextureShape::kA2d ||
         shape == TextureShape::kACube;
}

std::optional<TextureQuery> QueryOf(const Instruction& i) {
  constexpr std::pair<Mod, TextureQuery> kQueries[] = {
      {Mod::kWidth, TextureQuery::kWidth},
      {Mod::kHeight, TextureQuery::kHeight},
      {Mod::kDepth, TextureQuery::kDepth},
      {Mod::kChannelDataType, TextureQuery::kChannelType},
      {Mod::kChannelOrder, TextureQuery::kChannelOrder},
      {Mod::kNormalizedCoords, TextureQuery::kNormalized},
      {Mod::kForceUnnormalizedCoords, TextureQuery::kUnnormalized},
      {Mod::kArraySize, TextureQuery::kLayers},
      {Mod::kNumMipmapLevels, TextureQuery::kLevels},
      {Mod::kNumSamples, TextureQuery::kSamples},
      {Mod::kFilterMode, TextureQuery::kFilter},
      {Mod::kAddrMode0, TextureQuery::kAddress0},
      {Mod::kAddrMode1, TextureQuery::kAddress1},
      {Mod::kAddrMode2, TextureQuery::kAddress2},
      {Mod::kMemoryLayout, TextureQuery::kLayout},
  };
  for (const auto& [mod, query] : kQueries) {
    if (i.Has(mod)) return query;
  }
  return std::nullopt;
}

}  // namespace

// The register with the number; false if the instruction names a texture or a sampler instead.
bool FunctionDecoder::TextureNumber(const Instruction& i, const Operand& address, size_t parts,
                                    uint32_t* slot) {
  const bool number = address.kind == Operand::Kind::kAddress && address.reg != kNoIndex &&
                      address.value == 0 && address.elements.size() == parts;
  if (!number) return Unsupported(i), false;
  if (RegisterBytes(ast_.registers[address.reg].type) != 8)
    return Error(address.at, "the number of a texture or surface has 64 bits"), false;
  *slot = slots_[address.reg];
  return true;
}

// Coordinates, the layer first; vectors may be padded.
bool FunctionDecoder::CoordinatesTo(const Instruction& i, const Operand& vector, TextureShape shape,
                                    Type type, std::vector<uint32_t>& slots) {
  const uint32_t count = CoordinatesOf(shape);
  const bool braced = vector.kind == Operand::Kind::kVector;
  const size_t given = braced ? vector.elements.size() : 1;
  if (given != count && !(count == 3 && given == 4))
    return Error(vector.at, "wrong number of coordinates"), false;
  for (uint32_t k = 0; k < count; ++k) {
    const bool layer = k == 0 && IsLayered(shape);
    const Operand& one = braced ? vector.elements[k] : vector;
    slots.push_back(Source(i, one, layer ? Type::kB32 : type));
  }
  return error_.empty();
}

uint32_t FunctionDecoder::KeepSlots(const std::vector<uint32_t>& slots) {
  const auto first = static_cast<uint32_t>(kernel_.slots.size());
  kernel_.slots.insert(kernel_.slots.end(), slots.begin(), slots.end());
  vector_uses_.emplace_back(first, static_cast<uint32_t>(slots.size()));
  return first;
}

// tex.2d.v4.f32.f32 {d, …}, [number, {x, y}] {, lod or gradients} {, {offsets}};
// tld4.r.2d.v4.f32.f32 {d, …}, [number, {x, y}] {, {offsets}};
void FunctionDecoder::TextureOf(const Instruction& i) {
  const auto shape = ShapeOf(i);
  uint32_t number = 0;
  if (!shape || i.type_count != 2 || !TextureNumber(i, i.operands[1], 1, &number))
    return Unsupported(i);
  TextureForm form;
  form.shape = *shape;
  form.integers = i.types[1] == Type::kS32;
  form.gather = i.opcode == Opcode::kTld4;
  form.component = i.Has(Mod::kG) ? 1 : i.Has(Mod::kB) ? 2 : i.Has(Mod::kA) ? 3 : 0;
  const bool flat = form.shape == TextureShape::k2d || form.shape == TextureShape::kA2d ||
                    form.shape == TextureShape::kCube || form.shape == TextureShape::kACube;
  if ((form.gather && !flat) || (!form.integers && i.types[1] != Type::kF32)) return Unsupported(i);
  const Type type = i.types[0];
  form.data = type == Type::kF32     ? TextureData::kF32
              : type == Type::kF16   ? TextureData::kF16
              : type == Type::kF16x2 ? TextureData::kF16x2
                                     : TextureData::kInteger;
  if ((form.data == TextureData::kF16x2) != i.Has(Mod::kV2)) return Unsupported(i);
  std::vector<uint32_t> slots;
  if (!CoordinatesTo(i, i.operands[1].elements[0], *shape, i.types[1], slots)) return;
  // Without mipmaps a level or gradients choose nothing; they are operands all the same.
  size_t next = 2 + (i.Has(Mod::kLevel) ? 1 : i.Has(Mod::kGrad) ? 2 : 0);
  if (i.operands.size() < next || i.operands.size() > next + 1) return Unsupported(i);
  if (i.Has(Mod::kLevel))
    Source(i, i.operands[2], i.types[1] == Type::kS32 ? Type::kB32 : Type::kF32);
  if (i.operands.size() == next + 1) {
    const Operand& offsets = i.operands[next];
    const bool cube = *shape == TextureShape::kCube || *shape == TextureShape::kACube;
    const size_t count = CoordinatesOf(*shape) - (IsLayered(*shape) ? 1 : 0);
    const bool fits = offsets.kind == Operand::Kind::kVector && offsets.elements.size() >= count &&
                      offsets.elements.size() <= 4;
    if (cube || !fits) return Unsupported(i);  // Comparison of depth.
    form.offsets = true;
    for (size_t k = 0; k < count; ++k) slots.push_back(Source(i, offsets.elements[k], Type::kB32));
  }
  const auto results = static_cast<uint32_t>(slots.size());
  const Type reg = type == Type::kF16 ? Type::kB16 : Type::kB32;
  const Operand* to = &i.operands[0];
  if (to->kind == Operand::Kind::kPair) return Unsupported(i);  // Residency.
  if (!Registers(i, *to, reg, true, form.data == TextureData::kF16x2 ? 2 : 4, slots)) return;
  const uint32_t first = KeepSlots(slots);
  Ins& ins = Emit(i, TextureFetch);
  ins.a = number;
  ins.slots = first;
  ins.target = results;
  ins.imm = PackForm(form);
}

// txq.width.b32 d, [number];  suq.width.b32 d, [number];
void FunctionDecoder::TextureQueryOf(const Instruction& i) {
  const auto query = QueryOf(i);
  uint32_t number = 0;
  if (!query || !TextureNumber(i, i.operands[1], 0, &number)) return Unsupported(i);
  const uint32_t d = Destination(i.operands[0], Type::kB32);
  Ins& ins = Emit(i, i.opcode == Opcode::kTxq ? QueryTexture : QuerySurface);
  ins.a = number;
  ins.d = d;
  ins.imm = static_cast<uint64_t>(*query);
}

// suld.b.2d.v2.b32.trap {d, …}, [number, {x, y}];  sust.b.… [number, {x, y}], {a, …};
// sured.b.add.2d.u32.trap [number, {x, y}], a;
void FunctionDecoder::SurfaceOf(const Instruction& i) {
  const bool load = i.opcode == Opcode::kSuld;
  const bool reduce = i.opcode == Opcode::kSured;
  const Operand& address = i.operands[load ? 1 : 0];
  const Operand& data = i.operands[load ? 0 : 1];
  const auto shape = ShapeOf(i);
  uint32_t number = 0;
  if (!shape || i.type_count != 1 || !TextureNumber(i, address, 1, &number)) return Unsupported(i);
  SurfaceForm form;
  form.shape = *shape;
  form.formatted = i.Has(Mod::kP);
  if (form.formatted == i.Has(Mod::kB) || (form.formatted && load)) return Unsupported(i);
  form.out_of_range = i.Has(Mod::kClamp)  ? OutOfRange::kClamp
                      : i.Has(Mod::kZero) ? OutOfRange::kZero
                                          : OutOfRange::kTrap;
  const Type type = i.type();
  form.bytes = static_cast<uint8_t>(TypeBytes(type));
  form.register_bytes = static_cast<uint8_t>(RegisterBytes(type));
  form.count = static_cast<uint8_t>(VectorOf(i));
  form.is_signed = IsSigned(type);
  form.op = i.Has(Mod::kAdd)   ? SurfaceOp::kAdd
            : i.Has(Mod::kMin) ? SurfaceOp::kMin
            : i.Has(Mod::kMax) ? SurfaceOp::kMax
            : i.Has(Mod::kAnd) ? SurfaceOp::kAnd
            : i.Has(Mod::kOr)  ? SurfaceOp::kOr
                               : SurfaceOp::kNone;
  const bool bad_reduce = form.op == SurfaceOp::kNone || form.count != 1 || form.bytes < 4;
  if (form.bytes * form.count > 16 || (reduce && bad_reduce)) return Unsupported(i);
  if (form.formatted && !reduce && form.bytes != 4) return Unsupported(i);
  std::vector<uint32_t> slots;
  if (!CoordinatesTo(i, address.elements[0], *shape, Type::kB32, slots)) return;
  const auto first_data = static_cast<uint32_t>(slots.size());
  const Type reg = form.register_bytes == 2   ? Type::kB16
                   : form.register_bytes == 4 ? Type::kB32
                                              : Type::kB64;
  if (!Registers(i, data, reg, load, form.count, slots)) return;
  const uint32_t first = KeepSlots(slots);
  Ins& ins = Emit(i, load ? SurfaceLoad : reduce ? SurfaceReduce : SurfaceStore);
  ins.a = number;
  ins.slots = first;
  ins.target = first_data;
  ins.imm = PackForm(form);
}

}  // namespace farwarp::softgpu
