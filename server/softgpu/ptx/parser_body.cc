// One function's body: declarations, labels, instructions, nested scopes.
#include <charconv>
#include <deque>
#include <unordered_map>

#include "server/softgpu/ptx/parser.h"
#include "server/softgpu/ptx/parser_base.h"

namespace farwarp::softgpu {
namespace {

constexpr size_t kMaxInstructions = 1u << 22;
constexpr size_t kMaxPrototypes = 1u << 16;
constexpr int kMaxScopes = 64;
constexpr int kMaxOperandDepth = 8;

class BodyParser : public ParserBase {
 public:
  BodyParser(std::string_view text, FunctionAst& function)
      : ParserBase(Lexer(text, function.body_offset, function.body_line, function.body_line_start)),
        function_(function) {}

  Status Parse() {
    scopes_.emplace_back();
    function_.scopes.push_back(0);
    for (const auto* list : {&function_.params, &function_.returns}) {
      // Parameters are variables of the body too: indices first params, then returns.
      for (const Variable& parameter : *list) AddVariable(parameter);
    }
    while (!failed() && !token_.Is('}')) {
      if (token_.kind == Tok::kEnd) Fail(token_, "function without an end");
      Statement();
    }
    CloseScope();
    return status();
  }

 private:
  struct Label {
    uint32_t instruction;
  };
  struct Reference {
    std::string_view name;
    size_t instruction;
    int target;  // -1: label, else index into targets
    Token at;
  };
  struct RegisterRange {
    uint32_t first;
    uint32_t count;
  };
  struct Scope {
    uint32_t number = 0;  // In FunctionAst::scopes.
    std::unordered_map<std::string_view, uint32_t> registers;
    std::unordered_map<std::string_view, RegisterRange> ranges;
    std::unordered_map<std::string_view, uint32_t> variables;
    std::unordered_map<std::string_view, uint32_t> labels;
    std::unordered_map<std::string_view, std::vector<std::pair<std::string_view, Token>>>
        target_lists;
    std::unordered_map<std::string_view, uint32_t> prototypes;
    std::vector<Reference> references;
  };

  void Statement() {
    if (Accept(';')) return;
    if (Accept('{')) return OpenScope();
    if (token_.kind == Tok::kDot) return Directive();
    if (token_.Is('@')) return ParseInstruction();
    if (token_.kind != Tok::kIdent) return Fail(token_, "expected an instruction");
    const Token name = token_;
    // A label is an identifier followed by ':'; opcodes never are.
    Lexer ahead = lexer_;
    const Token next = ahead.Next();
    if (next.Is(':')) {
      Advance();
      Advance();
      return AddLabel(name);
    }
    ParseInstruction();
  }

  void AddLabel(const Token& name) {
    if (token_.IsDot("branchtargets") || token_.IsDot("calltargets")) {
      Advance();
      auto& list = scopes_.back().target_lists[name.text];
      do {
        list.emplace_back(token_.text, token_);
        ExpectIdent("a label");
      } while (Accept(','));
      return Expect(';');
    }
    if (AcceptDot("callprototype")) return CallPrototype(name);
    scopes_.back().labels[name.text] = static_cast<uint32_t>(function_.code.size());
  }

  // name : .callprototype (results) _ (parameters) .noreturn;
  void CallPrototype(const Token& name) {
    if (function_.prototypes.size() >= kMaxPrototypes)
      return Fail(name, "too many call prototypes");
    Prototype prototype;
    prototype.returns = ParseParameters();
    ExpectIdent("a name");
    prototype.params = ParseParameters();
    SkipStatement();  // .noreturn, .abi_preserve N
    if (failed()) return;
    scopes_.back().prototypes[name.text] = static_cast<uint32_t>(function_.prototypes.size());
    function_.prototypes.push_back(std::move(prototype));
  }

  void OpenScope() {
    if (scopes_.size() >= kMaxScopes) return Fail(token_, "scopes are nested too deeply");
    const uint32_t outer = scopes_.back().number;
    scopes_.emplace_back().number = static_cast<uint32_t>(function_.scopes.size());
    function_.scopes.push_back(outer);
    while (!failed() && token_.kind != Tok::kEnd && !token_.Is('}')) Statement();
    CloseScope();
    Expect('}');
  }

  void CloseScope() {
    // An instruction that was refused has left references without being part of the code.
    if (failed()) return;
    Scope& scope = scopes_.back();
    std::vector<Reference> unresolved;
    for (const Reference& reference : scope.references) {
      const auto found = scope.labels.find(reference.name);
      if (found == scope.labels.end()) {
        unresolved.push_back(reference);
        continue;
      }
      Instruction& instruction = function_.code[reference.instruction];
      (reference.target < 0 ? instruction.label
                            : instruction.targets[static_cast<size_t>(reference.target)]) =
          found->second;
    }
    scopes_.pop_back();
    if (scopes_.empty()) {
      if (!unresolved.empty()) Fail(unresolved.front().at, "unknown label");
    } else {
      auto& outer = scopes_.back().references;
      outer.insert(outer.end(), unresolved.begin(), unresolved.end());
    }
  }

  void Directive() {
    Space space;
    if (token_.IsDot("reg")) return Registers();
    if (ParseSpace(token_, &space)) {
      Advance();
      do {
        AddVariable(ParseVariable(space));
      } while (!failed() && Accept(','));
      return Expect(';');
    }
    if (token_.IsDot("loc")) {
      // .loc file line column [, function_name …, inlined_at …] without a semicolon
      Advance();
      for (int i = 0; i < 3; ++i) ExpectInteger();
      while (Accept(',')) {
        Advance();
        while (token_.kind == Tok::kInt || token_.kind == Tok::kIdent || token_.Is('+')) {
          if (IsStartOfStatement()) break;
          Advance();
        }
      }
      return;
    }
    if (token_.IsDot("pragma") || token_.IsDot("file")) return SkipStatement();
    Fail(token_, "unknown directive in a function");
  }

  // Inside .loc an identifier belongs to the directive only if it does not begin an instruction.
  bool IsStartOfStatement() {
    if (token_.kind != Tok::kIdent) return false;
    Opcode opcode;
    return ParseOpcode(token_.text, &opcode);
  }

  void Registers() {
    Advance();
    Type type = Type::kNone;
    while (token_.kind == Tok::kDot && !failed()) {
      if (token_.text == "v2" || token_.text == "v4")
        return Fail(token_, "vector registers are not supported");
      type = ParseType(token_.text);
      if (type == Type::kNone) return Fail(token_, "unknown type");
      Advance();
    }
    if (type == Type::kNone && !failed()) return Fail(token_, "register without a type");
    do {
      const Token at = token_;
      const std::string_view name = ExpectIdent("a register");
      uint64_t count = 1;
      const bool range = Accept('<');
      if (range) {
        count = ExpectInteger();
        Expect('>');
      }
      if (count > kMaxRegisters || function_.registers.size() + count > kMaxRegisters)
        return Fail(at, "too many registers");
      const auto first = static_cast<uint32_t>(function_.registers.size());
      function_.registers.resize(function_.registers.size() + count, Register{type});
      if (range) {
        scopes_.back().ranges[name] = {first, static_cast<uint32_t>(count)};
      } else {
        scopes_.back().registers[name] = first;
      }
    } while (!failed() && Accept(','));
    Expect(';');
  }

  void AddVariable(Variable variable) {
    if (failed()) return;
    variable.scope = scopes_.back().number;
    scopes_.back().variables[variable.name] = static_cast<uint32_t>(function_.variables.size());
    function_.variables.push_back(std::move(variable));
  }

  uint32_t FindRegister(std::string_view name) const {
    size_t digits = name.size();
    while (digits > 0 && name[digits - 1] >= '0' && name[digits - 1] <= '9') --digits;
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
      if (const auto found = scope->registers.find(name); found != scope->registers.end())
        return found->second;
      // A range may be named with digits at its end ("%r1<5>" does not occur, "%rd<5>" does).
      if (digits < name.size()) {
        if (const auto found = scope->ranges.find(name.substr(0, digits));
            found != scope->ranges.end()) {
          uint32_t index = 0;
          const auto [end, error] =
              std::from_chars(name.data() + digits, name.data() + name.size(), index);
          if (error == std::errc() && index < found->second.count)
            return found->second.first + index;
        }
      }
    }
    return kNoIndex;
  }

  uint32_t FindVariable(std::string_view name) const {
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
      if (const auto found = scope->variables.find(name); found != scope->variables.end())
        return found->second;
    }
    return kNoIndex;
  }

  // Fills a name: register, variable of the function, or something for the decoder to resolve.
  void ResolveName(Operand& operand, std::string_view name) {
    operand.reg = FindRegister(name);
    if (operand.reg != kNoIndex) {
      operand.kind = Operand::Kind::kRegister;
      return;
    }
    operand.kind = Operand::Kind::kName;
    operand.name = name;
    operand.variable = FindVariable(name);
  }

  // Special registers with a component: %tid.x arrives as the tokens "%tid" and ".x", adjacent in
  // the text.
  std::string_view WithComponent(const Token& name) {
    if (token_.kind != Tok::kDot || name.text.empty() || name.text[0] != '%') return name.text;
    if (token_.text != "x" && token_.text != "y" && token_.text != "z" && token_.text != "w")
      return name.text;
    const std::string_view whole(name.text.data(), name.text.size() + 1 + token_.text.size());
    Advance();
    return whole;
  }

  Operand ParseOperand(int depth = 0) {
    Operand operand;
    operand.at = token_;
    if (depth > kMaxOperandDepth) {
      Fail(token_, "operand is nested too deeply");
      return operand;
    }
    if (Accept('[')) return ParseAddress(operand, depth);
    if (Accept('{')) {
      operand.kind = Operand::Kind::kVector;
      if (Accept('}')) return operand;
      do {
        operand.elements.push_back(ParseOperand(depth + 1));
        if (operand.elements.size() > 64) Fail(token_, "vector is too long");
      } while (!failed() && Accept(','));
      Expect('}');
      return operand;
    }
    if (Accept('!')) operand.negated = true;
    const bool minus = Accept('-');
    if (token_.kind == Tok::kInt || token_.kind == Tok::kF32 || token_.kind == Tok::kF64) {
      Number(operand, minus);
      return operand;
    }
    const Token name = token_;
    const std::string_view text = ExpectIdent("an operand");
    if (failed()) return operand;
    if (text == "_") {
      operand.kind = Operand::Kind::kSink;
      return MaybePair(operand, depth);
    }
    ResolveName(operand, WithComponent(name));
    if (operand.kind == Operand::Kind::kName && (token_.Is('+') || token_.Is('-')))
      operand.value = Offset();
    if (operand.kind == Operand::Kind::kRegister && token_.kind == Tok::kDot) Selector(operand);
    return MaybePair(operand, depth);
  }

  // Part of a register, as video instructions take it: %r1.h0.
  void Selector(Operand& operand) {
    Mod mod;
    if (!ParseMod(token_.text, &mod) || (mod != Mod::kB0 && mod != Mod::kB1 && mod != Mod::kB2 &&
                                         mod != Mod::kB3 && mod != Mod::kH0 && mod != Mod::kH1))
      return Fail(token_, "unknown part of a register");
    operand.selector = mod;
    Advance();
  }

  Operand MaybePair(const Operand& first, int depth) {
    if (!Accept('|')) return first;
    Operand pair;
    pair.kind = Operand::Kind::kPair;
    pair.at = first.at;
    Operand second = ParseOperand(depth + 1);
    pair.elements = {first, second};
    return pair;
  }

  void Number(Operand& operand, bool minus) {
    operand.value = token_.value;
    operand.kind = token_.kind == Tok::kInt   ? Operand::Kind::kInteger
                   : token_.kind == Tok::kF32 ? Operand::Kind::kFloat32
                                              : Operand::Kind::kFloat64;
    if (minus) {
      if (operand.kind == Operand::Kind::kInteger) operand.value = 0 - operand.value;
      if (operand.kind == Operand::Kind::kFloat32) operand.value ^= 0x80000000u;
      if (operand.kind == Operand::Kind::kFloat64) operand.value ^= uint64_t{1} << 63;
    }
    Advance();
    // C expressions such as 1<<3 do not occur in what compilers emit.
  }

  uint64_t Offset() {
    uint64_t total = 0;
    while (token_.Is('+') || token_.Is('-')) {
      const bool minus = token_.Is('-');
      Advance();
      const uint64_t value = ExpectInteger();
      total += minus ? 0 - value : value;
    }
    return total;
  }

  Operand ParseAddress(Operand operand, int depth) {
    if (token_.kind == Tok::kInt) {
      operand.value = token_.value;
      Advance();
    } else {
      const Token name = token_;
      ExpectIdent("an address");
      if (failed()) return operand;
      ResolveName(operand, name.text);
      operand.value = Offset();
    }
    // Of textures and surfaces: coordinates, and a sampler before them.
    while (!failed() && Accept(',')) {
      if (operand.elements.size() == 2) Fail(token_, "too many parts of an address");
      operand.elements.push_back(ParseOperand(depth + 1));
    }
    operand.kind = Operand::Kind::kAddress;
    Expect(']');
    return operand;
  }

  void ParseInstruction() {
    Instruction instruction;
    instruction.at = token_;
    if (Accept('@')) {
      instruction.guard_negated = Accept('!');
      const Token at = token_;
      instruction.guard = FindRegister(ExpectIdent("a predicate"));
      if (failed()) return;
      if (instruction.guard == kNoIndex ||
          function_.registers[instruction.guard].type != Type::kPred) {
        return Fail(at, "unknown predicate");
      }
    }
    instruction.at = token_;
    const std::string_view name = ExpectIdent("an instruction");
    if (failed()) return;
    if (!ParseOpcode(name, &instruction.opcode)) return Fail(instruction.at, "unknown instruction");
    ParseModifiers(instruction);
    if (failed()) return;
    if (instruction.opcode == Opcode::kCall) {
      ParseCall(instruction);
    } else {
      ParseOperands(instruction);
    }
    Expect(';');
    if (function_.code.size() >= kMaxInstructions) Fail(instruction.at, "function is too long");
    if (!failed()) function_.code.push_back(std::move(instruction));
  }

  void ParseModifiers(Instruction& instruction) {
    const OpcodeInfo& info = InfoOf(instruction.opcode);
    while (token_.kind == Tok::kDot && !failed()) {
      Mod mod;
      if (const Type type = ParseType(token_.text); type != Type::kNone) {
        if (instruction.type_count == 4) return Fail(token_, "too many types");
        if (info.types != 0 && (info.types >> static_cast<unsigned>(type) & 1) == 0) {
          return Fail(token_, std::string(info.name) + " has no type ." + std::string(token_.text));
        }
        instruction.types[instruction.type_count++] = type;
      } else if (ParseMod(token_.text, &mod)) {
        instruction.mods.Add(mod);
        if (mod == Mod::kRow || mod == Mod::kCol) {
          if (instruction.layout_count == 2) return Fail(token_, "too many layouts");
          instruction.layouts[instruction.layout_count++] = mod;
        }
        if (!info.mods.Has(mod)) {
          return Fail(token_,
                      std::string(info.name) + " has no modifier ." + std::string(token_.text));
        }
      } else {
        return Fail(token_, "unknown modifier");
      }
      Advance();
    }
  }

  void ParseOperands(Instruction& instruction) {
    const OpcodeInfo& info = InfoOf(instruction.opcode);
    if (instruction.opcode == Opcode::kBra) {
      scopes_.back().references.push_back({token_.text, function_.code.size(), -1, token_});
      ExpectIdent("a label");
      return;
    }
    if (!token_.Is(';')) {
      do {
        if (instruction.opcode == Opcode::kBrx && instruction.operands.size() == 1) {
          BranchTargets(instruction);
          break;
        }
        instruction.operands.push_back(ParseOperand());
      } while (!failed() && Accept(','));
    }
    const size_t count = instruction.operands.size() + (instruction.targets.empty() ? 0 : 1);
    if (!failed() && (count < info.min_operands || count > info.max_operands)) {
      Fail(instruction.at, std::string(info.name) + " with " + std::to_string(count) + " operands");
    }
  }

  void BranchTargets(Instruction& instruction) {
    const Token at = token_;
    const std::string_view name = ExpectIdent("a list of targets");
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
      const auto found = scope->target_lists.find(name);
      if (found == scope->target_lists.end()) continue;
      for (const auto& [label, label_at] : found->second) {
        scopes_.back().references.push_back(
            {label, function_.code.size(), static_cast<int>(instruction.targets.size()), label_at});
        instruction.targets.push_back(kNoIndex);
      }
      return;
    }
    Fail(at, "unknown list of branch targets");
  }

  std::vector<Operand> ParenthesisedList() {
    std::vector<Operand> list;
    Expect('(');
    if (Accept(')')) return list;
    do {
      list.push_back(ParseOperand());
    } while (!failed() && Accept(','));
    Expect(')');
    return list;
  }

  // call [(returns),] target [, (arguments)] [, prototype or targets]
  void ParseCall(Instruction& instruction) {
    if (token_.Is('(')) {
      instruction.returns = ParenthesisedList();
      Expect(',');
    }
    instruction.operands.push_back(ParseOperand());
    if (!Accept(',')) return;
    if (token_.Is('(')) {
      instruction.arguments = ParenthesisedList();
      if (!Accept(',')) return;
    }
    CallShape(instruction);
  }

  // The name of a prototype, or of a list of the functions that may be called.
  void CallShape(Instruction& instruction) {
    const Token at = token_;
    const std::string_view name = ExpectIdent("a prototype");
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
      if (const auto found = scope->prototypes.find(name); found != scope->prototypes.end()) {
        instruction.prototype = found->second;
        return;
      }
      if (const auto found = scope->target_lists.find(name); found != scope->target_lists.end()) {
        for (const auto& [target, target_at] : found->second)
          instruction.call_targets.push_back(target);
        return;
      }
    }
    if (!failed()) Fail(at, "unknown call prototype");
  }

  FunctionAst& function_;
  std::deque<Scope> scopes_;
};

}  // namespace

Status ParseBody(std::string_view text, FunctionAst& function) {
  return BodyParser(text, function).Parse();
}

}  // namespace farwarp::softgpu
