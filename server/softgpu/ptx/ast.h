// What the parser makes of a PTX function: registers, variables and instructions, names resolved to
// indices where the function itself defines them. Views point into the module's text. Value types;
// one thread while they are built.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "server/softgpu/ptx/lexer.h"
#include "server/softgpu/ptx/types.h"

namespace farwarp::softgpu {

inline constexpr uint32_t kNoIndex = ~uint32_t{0};

struct Register {
  Type type = Type::kNone;
};

// One element of an initialiser: a number, or the address of a symbol plus an addend.
struct Initial {
  uint64_t offset = 0;
  uint32_t bytes = 0;
  uint64_t value = 0;
  std::string_view symbol;
  bool generic = false;
};

struct Variable {
  std::string_view name;
  Space space = Space::kGeneric;
  Type type = Type::kNone;
  uint32_t align = 1;
  uint64_t bytes = 0;  // 0: unsized array (.extern .shared)
  bool is_extern = false;
  bool is_weak = false;
  bool is_visible = false;
  bool is_common = false;
  bool is_managed = false;
  uint32_t unit = 0;   // Which text of a linked module.
  uint32_t scope = 0;  // Of a variable of a body: number of its braces; 0: the body's own.
  std::vector<Initial> initials;
  Token at;
};

struct Operand {
  enum class Kind : uint8_t {
    kNone,
    kRegister,
    kInteger,
    kFloat32,
    kFloat64,
    kName,
    kAddress,
    kVector,
    kPair,
    kSink
  };
  Kind kind = Kind::kNone;
  bool negated = false;          // !p
  Mod selector = Mod::kCount;    // Of video instructions: .b0 to .b3, .h0, .h1
  uint32_t reg = kNoIndex;       // kRegister; base of kAddress
  uint32_t variable = kNoIndex;  // kName, kAddress: a variable of the function
  uint64_t value = 0;            // Numbers; offset of kAddress and kName
  std::string_view name;  // kName, kAddress: what is no register; special registers with their
                          // component ("%tid.x")
  std::vector<Operand> elements;
  Token at;
};

struct Instruction {
  Opcode opcode = Opcode::kCount;
  ModSet mods;
  Type types[4] = {};
  uint8_t type_count = 0;
  Mod layouts[2] = {};  // .row and .col, the only modifiers whose order matters.
  uint8_t layout_count = 0;
  uint32_t guard = kNoIndex;  // Predicate register
  bool guard_negated = false;
  uint32_t label = kNoIndex;  // bra: index of the target instruction
  std::vector<Operand> operands;
  // call: operands[0] is the target; returns and arguments are names of .param variables (or
  // registers).
  std::vector<Operand> returns;
  std::vector<Operand> arguments;
  std::vector<uint32_t> targets;  // brx.idx
  // call through a register: what may be called, by shape (an index into FunctionAst::prototypes)
  // or by name.
  uint32_t prototype = kNoIndex;
  std::vector<std::string_view> call_targets;
  Token at;

  bool Has(Mod mod) const { return mods.Has(mod); }
  Type type() const { return types[0]; }
};

// The shape of a function that a call through a register expects.
struct Prototype {
  std::vector<Variable> params;
  std::vector<Variable> returns;
};

struct FunctionAst {
  std::string_view name;
  bool is_entry = false;
  bool has_body = false;
  bool is_extern = false;
  bool is_weak = false;
  bool is_visible = false;
  uint32_t unit = 0;  // Which text of a linked module.
  std::vector<Variable> params;
  std::vector<Variable> returns;
  // Directives of entries; zeros when not given.
  uint32_t reqntid[3] = {0, 0, 0};
  uint32_t maxntid[3] = {0, 0, 0};
  uint32_t min_blocks = 0;
  uint32_t reqncluster[3] = {0, 0, 0};
  uint32_t max_cluster_rank = 0;
  bool explicit_cluster = false;
  Token at;
  size_t body_offset = 0;  // Behind the '{'
  size_t body_end = 0;     // Behind the '}'
  uint32_t body_line = 0;
  size_t body_line_start = 0;

  // Filled by ParseBody.
  std::vector<Register> registers;
  std::vector<Variable> variables;  // .local, .shared and .param of the body
  std::vector<uint32_t> scopes;     // Of each pair of braces, the one around it. 0 is the body.
  std::vector<Prototype> prototypes;
  std::vector<Instruction> code;
};

struct ModuleAst {
  int version = 0;  // 90 for 9.0
  int target = 0;   // 75 for sm_75
  std::vector<Variable> variables;
  std::vector<FunctionAst> functions;
};

}  // namespace farwarp::softgpu
