#include "server/softgpu/ptx/types.h"

#include <string>
#include <unordered_map>
#include <vector>

#include "farwarp/base/check.h"

namespace farwarp::softgpu {
namespace {

constexpr struct {
  std::string_view name;
  Type type;
} kTypes[] = {
    {"pred", Type::kPred},       {"b8", Type::kB8},         {"b16", Type::kB16},
    {"b32", Type::kB32},         {"b64", Type::kB64},       {"b128", Type::kB128},
    {"u8", Type::kU8},           {"u16", Type::kU16},       {"u32", Type::kU32},
    {"u64", Type::kU64},         {"s8", Type::kS8},         {"s16", Type::kS16},
    {"s32", Type::kS32},         {"s64", Type::kS64},       {"f16", Type::kF16},
    {"bf16", Type::kBf16},       {"f16x2", Type::kF16x2},   {"bf16x2", Type::kBf16x2},
    {"f32", Type::kF32},         {"f64", Type::kF64},       {"tf32", Type::kTf32},
    {"e4m3x2", Type::kE4m3x2},   {"e5m2x2", Type::kE5m2x2}, {"u16x2", Type::kU16x2},
    {"s16x2", Type::kS16x2},     {"texref", Type::kOpaque}, {"samplerref", Type::kOpaque},
    {"surfref", Type::kOpaque},  {"f32x2", Type::kF32x2},   {"b1", Type::kB1},
    {"u2", Type::kU2},           {"s2", Type::kS2},         {"u4", Type::kU4},
    {"s4", Type::kS4},           {"e4m3", Type::kE4m3},     {"e5m2", Type::kE5m2},
    {"e2m1", Type::kE2m1},       {"e2m3", Type::kE2m3},     {"e3m2", Type::kE3m2},
    {"e2m1x2", Type::kE2m1x2},   {"e2m3x2", Type::kE2m3x2}, {"e3m2x2", Type::kE3m2x2},
    {"ue8m0x2", Type::kUe8m0x2},
};

constexpr const char* kModNames[] = {
#define FARWARP_MODIFIER(id, text) text,
#include "server/softgpu/ptx/modifiers.def"
#undef FARWARP_MODIFIER
};

// Built once, on first use, from the two .def files; never destroyed, because kernels may still be
// decoded while the process ends.
struct Tables {
  std::unordered_map<std::string_view, Type> types;
  std::unordered_map<std::string_view, Mod> mods;
  std::unordered_map<std::string_view, Opcode> opcodes;
  std::vector<OpcodeInfo> infos;

  Tables() {
    for (const auto& entry : kTypes) types.emplace(entry.name, entry.type);
    for (unsigned i = 0; i < static_cast<unsigned>(Mod::kCount); ++i) {
      mods.emplace(kModNames[i], static_cast<Mod>(i));
    }
#define FARWARP_OPCODE(id, text, operands, modifiers, types) \
  Add(Opcode::id, text, operands, modifiers, types);
#include "server/softgpu/ptx/opcodes.def"
#undef FARWARP_OPCODE
  }

  static std::vector<std::string_view> Words(std::string_view text) {
    std::vector<std::string_view> words;
    while (!text.empty()) {
      const size_t end = text.find(' ');
      if (end != 0) words.push_back(text.substr(0, end));
      text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
    }
    return words;
  }

  void Add(Opcode opcode, std::string_view name, std::string_view operands,
           std::string_view modifiers, std::string_view type_names) {
    opcodes.emplace(name, opcode);
    OpcodeInfo info;
    info.name = name;
    info.min_operands = static_cast<uint8_t>(operands[0] - '0');
    info.max_operands = static_cast<uint8_t>(operands[2] - '0');
    for (std::string_view word : Words(modifiers)) {
      if (word == "*") {
        for (unsigned i = 0; i < static_cast<unsigned>(Mod::kCount); ++i) {
          info.mods.Add(static_cast<Mod>(i));
        }
        continue;
      }
      FARWARP_CHECK(mods.contains(word));
      info.mods.Add(mods[word]);
    }
    for (std::string_view word : Words(type_names)) {
      if (word == "*") {
        info.types = ~uint64_t{0};
        continue;
      }
      FARWARP_CHECK(types.contains(word));
      info.types |= uint64_t{1} << static_cast<unsigned>(types[word]);
    }
    infos.push_back(info);
  }
};

const Tables& GetTables() {
  static const Tables& tables = *new Tables();
  return tables;
}

}  // namespace

Type ParseType(std::string_view name) {
  const auto& types = GetTables().types;
  const auto it = types.find(name);
  return it == types.end() ? Type::kNone : it->second;
}

const char* TypeName(Type type) {
  for (const auto& entry : kTypes) {
    if (entry.type == type) return entry.name.data();
  }
  return "?";
}

bool ParseMod(std::string_view name, Mod* mod) {
  const auto& mods = GetTables().mods;
  const auto it = mods.find(name);
  if (it == mods.end()) return false;
  *mod = it->second;
  return true;
}

const char* ModName(Mod mod) {
  return kModNames[static_cast<unsigned>(mod)];
}

bool ParseOpcode(std::string_view name, Opcode* opcode) {
  const auto& opcodes = GetTables().opcodes;
  const auto it = opcodes.find(name);
  if (it == opcodes.end()) return false;
  *opcode = it->second;
  return true;
}

const OpcodeInfo& InfoOf(Opcode opcode) {
  return GetTables().infos[static_cast<size_t>(opcode)];
}

}  // namespace farwarp::softgpu
