// Instructions on matrices: which shapes and types there are, and how many registers each operand
// has.
#include <algorithm>

#include "server/softgpu/exec/function_decoder.h"
#include "server/softgpu/warp/float_value.h"

namespace farwarp::softgpu {
namespace {

struct Shape {
  Mod mod;
  uint8_t m;
  uint8_t n;
  uint16_t k;
};
constexpr Shape kShapes[] = {
    {Mod::kM8n8k4, 8, 8, 4},       {Mod::kM16n8k4, 16, 8, 4},     {Mod::kM16n8k8, 16, 8, 8},
    {Mod::kM16n8k16, 16, 8, 16},   {Mod::kM16n8k32, 16, 8, 32},   {Mod::kM16n8k64, 16, 8, 64},
    {Mod::kM16n8k128, 16, 8, 128}, {Mod::kM16n8k256, 16, 8, 256}, {Mod::kM8n8k16, 8, 8, 16},
    {Mod::kM8n8k32, 8, 8, 32},     {Mod::kM8n8k128, 8, 8, 128},   {Mod::kM16n16k16, 16, 16, 16},
    {Mod::kM32n8k16, 32, 8, 16},   {Mod::kM8n32k16, 8, 32, 16},   {Mod::kM16n16k8, 16, 16, 8},
};

bool SetShape(const Instruction& i, MatrixForm& form) {
  for (const Shape& shape : kShapes) {
    if (!i.Has(shape.mod)) continue;
    form.m = shape.m;
    form.n = shape.n;
    form.k = shape.k;
    return true;
  }
  return false;
}

// Which k an element type may have in mma; m is 16 or 8.
struct MultiplyRule {
  bool wmma;
  Type element;
  Type result;  // And f16 too where `narrow` says so.
  bool narrow;
  uint16_t m8_k[1];  // 0: none.
  uint16_t m16_k[3];
};
constexpr MultiplyRule kRules[] = {
    {false, Type::kF16, Type::kF32, true, {4}, {8, 16, 0}},
    {false, Type::kBf16, Type::kF32, false, {0}, {8, 16, 0}},
    {false, Type::kTf32, Type::kF32, false, {0}, {4, 8, 0}},
    {false, Type::kF64, Type::kF64, false, {4}, {4, 8, 16}},
    {false, Type::kE4m3, Type::kF32, true, {0}, {16, 32, 0}},
    {false, Type::kE5m2, Type::kF32, true, {0}, {16, 32, 0}},
    {false, Type::kS8, Type::kS32, false, {16}, {16, 32, 0}},
    {false, Type::kU8, Type::kS32, false, {16}, {16, 32, 0}},
    {false, Type::kS4, Type::kS32, false, {32}, {32, 64, 0}},
    {false, Type::kU4, Type::kS32, false, {32}, {32, 64, 0}},
    {false, Type::kB1, Type::kS32, false, {128}, {128, 256, 0}},
    {true, Type::kF16, Type::kF32, true, {16}, {16, 0, 0}},
    {true, Type::kBf16, Type::kF32, false, {16}, {16, 0, 0}},
    {true, Type::kTf32, Type::kF32, false, {0}, {8, 0, 0}},
    {true, Type::kF64, Type::kF64, false, {4}, {0, 0, 0}},
    {true, Type::kS8, Type::kS32, false, {16}, {16, 0, 0}},
    {true, Type::kU8, Type::kS32, false, {16}, {16, 0, 0}},
    {true, Type::kS4, Type::kS32, false, {32}, {0, 0, 0}},
    {true, Type::kU4, Type::kS32, false, {32}, {0, 0, 0}},
    {true, Type::kB1, Type::kS32, false, {128}, {0, 0, 0}},
};

const MultiplyRule* RuleOf(bool wmma, const MatrixForm& form, Type element) {
  for (const MultiplyRule& rule : kRules) {
    if (rule.wmma != wmma || rule.element != element) continue;
    const bool known = form.m == 8 ? std::ranges::find(rule.m8_k, form.k) != std::end(rule.m8_k)
                                   : std::ranges::find(rule.m16_k, form.k) != std::end(rule.m16_k);
    // wmma of single shapes: m8n32 belongs to k16, m16n16k8 to tf32.
    const bool wide = form.n == 32 || form.m == 32;
    if (known && (!wide || form.k == 16)) return &rule;
  }
  return nullptr;
}

// Whether A and B may have different element types.
bool Mixable(Type a, Type b) {
  const auto kind = [](Type type) {
    return type == Type::kS8 || type == Type::kU8       ? 1
           : type == Type::kS4 || type == Type::kU4     ? 2
           : type == Type::kE4m3 || type == Type::kE5m2 ? 3
                                                        : 0;
  };
  return a == b || (kind(a) != 0 && kind(a) == kind(b));
}

// wmma's f16 fragments of A and B have eight registers whatever the shape.
uint32_t FragmentRegisters(bool wmma, MatrixRole role, const MatrixForm& form, Type type) {
  if (wmma && role != MatrixRole::kC && type == Type::kF16) return 8;
  return DistinctRegisters(role, form);
}

Type RegisterType(Type element) {
  return element == Type::kF64 ? Type::kB64 : Type::kB32;
}

// A column-major matrix is one whose layout says .col.
bool LayoutIsColumn(const Instruction& i, uint32_t index) {
  return index < i.layout_count && i.layouts[index] == Mod::kCol;
}

bool FillMultiply(const Instruction& i, MatrixForm& form) {
  const bool wmma = i.opcode == Opcode::kWmma;
  const auto* const types = i.types;
  if (i.Has(Mod::kSp) || i.Has(Mod::kSpOrdered) || i.Has(Mod::kKindF8f6f4)) return false;
  if (!SetShape(i, form) || i.layout_count != 2) return false;
  form.d = types[0];
  if (wmma && i.type_count == 2) {
    form.a = form.b = Type::kF16;  // wmma.mma….dtype.ctype
    form.c = types[1];
  } else if (i.type_count == 4) {
    form.a = types[1];
    form.b = types[2];
    form.c = types[3];
  } else {
    return false;
  }
  const MultiplyRule* const rule = RuleOf(wmma, form, form.a);
  const auto fits = [&](Type type) {
    return type == rule->result || (rule->narrow && type == Type::kF16);
  };
  if (rule == nullptr || !Mixable(form.a, form.b) || !fits(form.c) || !fits(form.d)) return false;
  form.a_by_column = LayoutIsColumn(i, 0);
  form.b_by_column = LayoutIsColumn(i, 1);
  form.saturate = i.Has(Mod::kSatfinite);
  form.bitwise_and = i.Has(Mod::kAnd);
  form.rounding = static_cast<int16_t>(RoundingOf(i));
  const bool quads = !wmma && form.a == Type::kF16 && form.m == 8;
  MatrixForm result = form;
  result.c = form.d;
  form.a_registers =
      static_cast<uint8_t>(quads ? 2 : FragmentRegisters(wmma, MatrixRole::kA, form, form.a));
  form.b_registers =
      static_cast<uint8_t>(quads ? 2 : FragmentRegisters(wmma, MatrixRole::kB, form, form.b));
  form.c_registers = static_cast<uint8_t>(quads ? 8 / PerRegister(form.c)
                                                : DistinctRegisters(MatrixRole::kC, form));
  form.d_registers = static_cast<uint8_t>(quads ? 8 / PerRegister(form.d)
                                                : DistinctRegisters(MatrixRole::kC, result));
  return true;
}

}  // namespace

// Each form once; its number fits into the lower half of Ins::target.
uint32_t FunctionDecoder::MatrixIndex(const Instruction& i, const MatrixForm& form) {
  const auto found = std::ranges::find(kernel_.matrices, form);
  if (found != kernel_.matrices.end())
    return static_cast<uint32_t>(found - kernel_.matrices.begin());
  if (kernel_.matrices.size() > 0xffff) return Error(i.at, "too many kinds of matrices"), 0u;
  kernel_.matrices.push_back(form);
  return static_cast<uint32_t>(kernel_.matrices.size() - 1);
}

// Appends the slots of a fragment: registers in braces, or one alone.
bool FunctionDecoder::Registers(const Instruction& i, const Operand& operand, Type type,
                                bool written, size_t count, std::vector<uint32_t>& slots) {
  const bool braced = operand.kind == Operand::Kind::kVector;
  if ((braced ? operand.elements.size() : 1) != count) {
    Error(operand.at, "this fragment has " + std::to_string(count) + " registers");
    return false;
  }
  for (size_t k = 0; k < count; ++k) {
    const Operand& element = braced ? operand.elements[k] : operand;
    slots.push_back(written ? Destination(element, type) : Source(i, element, type));
  }
  return error_.empty();
}

void FunctionDecoder::MatrixMultiplyOf(const Instruction& i) {
  MatrixForm form;
  if (i.operands.size() != 4 || !FillMultiply(i, form)) return Unsupported(i);
  std::vector<uint32_t> slots;
  if (!Registers(i, i.operands[0], RegisterType(form.d), true, form.d_registers, slots) ||
      !Registers(i, i.operands[1], RegisterType(form.a), false, form.a_registers, slots) ||
      !Registers(i, i.operands[2], RegisterType(form.b), false, form.b_registers, slots) ||
      !Registers(i, i.operands[3], RegisterType(form.c), false, form.c_registers, slots))
    return;
  const uint32_t index = MatrixIndex(i, form);
  const auto first = static_cast<uint32_t>(kernel_.slots.size());
  kernel_.slots.insert(kernel_.slots.end(), slots.begin(), slots.end());
  vector_uses_.emplace_back(first, static_cast<uint32_t>(slots.size()));
  Ins& ins = Emit(i, FindMatrixMultiply(form));
  ins.slots = first;
  ins.target = index;
}

// wmma.load.{a,b,c} r, [p] {, stride}; wmma.store.d [p], r {, stride}
void FunctionDecoder::MatrixMemoryOf(const Instruction& i) {
  const bool load = i.Has(Mod::kLoad);
  MatrixForm form;
  if (i.type_count != 1 || i.layout_count != 1 || !SetShape(i, form)) return Unsupported(i);
  const Type type = i.type();
  const bool by_column = LayoutIsColumn(i, 0);
  form.role = i.Has(Mod::kA) ? MatrixRole::kA : i.Has(Mod::kB) ? MatrixRole::kB : MatrixRole::kC;
  if (form.role == MatrixRole::kC) {
    if (type != Type::kF16 && type != Type::kF32 && type != Type::kF64 && type != Type::kS32)
      return Unsupported(i);
    form.c = type;
    form.c_by_column = by_column;
  } else {
    if (RuleOf(true, form, type) == nullptr) return Unsupported(i);
    form.a = form.b = type;
    form.a_by_column = form.b_by_column = by_column;
    // Less than a byte: only what lies together along k.
    if (ElementBits(type) < 8 && by_column != (form.role == MatrixRole::kB)) return Unsupported(i);
  }
  const uint32_t count = FragmentRegisters(true, form.role, form, type);
  (form.role == MatrixRole::kA   ? form.a_registers
   : form.role == MatrixRole::kB ? form.b_registers
                                 : form.c_registers) = static_cast<uint8_t>(count);
  const Address address = Resolve(i, i.operands[load ? 1 : 0]);
  form.shared = address.shared || SpaceOf(i) == Space::kShared;
  if (address.kernel_param) return Unsupported(i);
  std::vector<uint32_t> slots;
  if (!Registers(i, i.operands[load ? 0 : 1], RegisterType(type), load, count, slots)) return;
  const uint32_t rows = form.role == MatrixRole::kB ? form.k : form.m;
  const uint32_t columns = form.role == MatrixRole::kA ? form.k : form.n;
  const uint32_t stride = i.operands.size() > 2 ? Source(i, i.operands[2], Type::kB32)
                                                : Constant(by_column ? rows : columns, 4);
  const uint32_t index = MatrixIndex(i, form);
  const auto first = static_cast<uint32_t>(kernel_.slots.size());
  kernel_.slots.insert(kernel_.slots.end(), slots.begin(), slots.end());
  vector_uses_.emplace_back(first, count);
  Ins& ins = Emit(i, load ? FindMatrixLoad(form) : FindMatrixStore(form));
  ins.slots = first;
  ins.target = index;
  ins.b = stride;
  Fill(ins, address);
  NoteDynamic(address);
}

// ldmatrix r, [p]; stmatrix [p], r
void FunctionDecoder::TilesOf(const Instruction& i) {
  const bool load = i.opcode == Opcode::kLdmatrix;
  const uint32_t tiles = i.Has(Mod::kX4) ? 4 : i.Has(Mod::kX2) ? 2 : i.Has(Mod::kX1) ? 1 : 0;
  const bool halves = i.Has(Mod::kM8n8) && i.type() == Type::kB16;
  const bool bytes = i.Has(load ? Mod::kM16n16 : Mod::kM16n8) && i.type() == Type::kB8 &&
                     i.Has(Mod::kTrans) && !(load && tiles == 4);
  if (tiles == 0 || (!halves && !bytes)) return Unsupported(i);
  MatrixForm form;
  form.transposed = i.Has(Mod::kTrans);
  form.d_registers = static_cast<uint8_t>(load && bytes ? 2 * tiles : tiles);
  const Address address = Resolve(i, i.operands[load ? 1 : 0]);
  form.shared = address.shared || SpaceOf(i) == Space::kShared;
  if (address.kernel_param) return Unsupported(i);
  std::vector<uint32_t> slots;
  if (!Registers(i, i.operands[load ? 0 : 1], Type::kB32, load, form.d_registers, slots)) return;
  const uint32_t index = MatrixIndex(i, form);
  const auto first = static_cast<uint32_t>(kernel_.slots.size());
  kernel_.slots.insert(kernel_.slots.end(), slots.begin(), slots.end());
  vector_uses_.emplace_back(first, form.d_registers);
  Ins& ins =
      Emit(i, load ? (halves ? LoadTiles : LoadByteTiles) : (halves ? StoreTiles : StoreByteTiles));
  ins.slots = first;
  ins.target = index;
  Fill(ins, address);
  NoteDynamic(address);
}

}  // namespace farwarp::softgpu
