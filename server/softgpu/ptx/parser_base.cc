#include "server/softgpu/ptx/parser_base.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace farwarp::softgpu {
namespace {

constexpr int kMaxBraceDepth = 16;
constexpr uint64_t kMaxAlignBytes = uint64_t{1} << 20;

// A number as the bytes of an element of `type`.
uint64_t BitsOf(const Token& token, Type type, bool negative) {
  if (token.kind == Tok::kInt) {
    const uint64_t value = negative ? 0 - token.value : token.value;
    if (type == Type::kF32)
      return std::bit_cast<uint32_t>(static_cast<float>(static_cast<int64_t>(value)));
    if (type == Type::kF64)
      return std::bit_cast<uint64_t>(static_cast<double>(static_cast<int64_t>(value)));
    return value;
  }
  if (token.kind == Tok::kF32) return negative ? token.value ^ 0x80000000u : token.value;
  uint64_t value = negative ? token.value ^ (uint64_t{1} << 63) : token.value;
  if (type == Type::kF32)
    value = std::bit_cast<uint32_t>(static_cast<float>(std::bit_cast<double>(value)));
  return value;
}

}  // namespace

bool ParseSpace(const Token& token, Space* space) {
  if (token.kind != Tok::kDot) return false;
  if (token.text == "global") return *space = Space::kGlobal, true;
  if (token.text == "const") return *space = Space::kConst, true;
  if (token.text == "shared") return *space = Space::kShared, true;
  if (token.text == "local") return *space = Space::kLocal, true;
  if (token.text == "param") return *space = Space::kParam, true;
  return false;
}

uint64_t ParserBase::ExpectInteger() {
  const bool negative = Accept('-');
  if (token_.kind != Tok::kInt) {
    if (!failed()) Fail(token_, "expected an integer");
    return 0;
  }
  const uint64_t value = negative ? 0 - token_.value : token_.value;
  Advance();
  return value;
}

void ParserBase::SkipStatement() {
  while (!failed() && token_.kind != Tok::kEnd && !token_.Is(';')) Advance();
  Accept(';');
}

Variable ParserBase::ParseVariable(Space space) {
  Variable variable;
  variable.space = space;
  uint64_t width = 1;
  while (token_.kind == Tok::kDot && !failed()) {
    const std::string_view word = token_.text;
    Advance();
    if (word == "align") {
      const uint64_t align = ExpectInteger();
      if (align > kMaxAlignBytes) Fail(token_, "alignment is too large");
      variable.align = std::max(1u, static_cast<uint32_t>(align));
    } else if (word == "v2" || word == "v4" || word == "v8") {
      width = static_cast<uint64_t>(word[1] - '0');
    } else if (word == "attribute") {
      Expect('(');
      while (!failed() && token_.kind != Tok::kEnd && !token_.Is(')')) {
        if (token_.IsDot("managed")) variable.is_managed = true;
        Advance();
      }
      Expect(')');
    } else if (word == "ptr" || word == "global" || word == "const" || word == "shared" ||
               word == "local") {
      continue;  // Annotations of parameters that hold pointers.
    } else if (const Type type = ParseType(word); type != Type::kNone) {
      variable.type = type;
    } else if (word == "texref" || word == "samplerref" || word == "surfref") {
      variable.type = Type::kOpaque;
    } else {
      Fail(token_, "unknown attribute ." + std::string(word) + " of a variable");
    }
  }
  variable.at = token_;
  variable.name = ExpectIdent("a variable's name");
  if (variable.type == Type::kNone && !failed()) Fail(variable.at, "variable without a type");
  const uint64_t element = uint64_t{TypeBytes(variable.type)} * width;
  if (variable.align > 1 && !std::has_single_bit(variable.align))
    Fail(variable.at, "alignment is no power of two");
  if (variable.align < element) variable.align = static_cast<uint32_t>(std::bit_ceil(element));
  uint64_t count = 1;
  bool unsized = false;
  while (Accept('[')) {
    if (Accept(']')) {
      unsized = true;
      continue;
    }
    const uint64_t dimension = ExpectInteger();
    Expect(']');
    if (dimension > kMaxVariableBytes / std::max<uint64_t>(1, count))
      Fail(variable.at, "array is too large");
    count *= dimension;
  }
  variable.bytes = unsized ? 0 : count * element;
  if (variable.bytes > kMaxVariableBytes) Fail(variable.at, "variable is too large");
  if (Accept('=')) ParseInitialiser(variable);
  if (unsized && !variable.initials.empty()) {
    const Initial& last = variable.initials.back();
    variable.bytes = last.offset + last.bytes;
  }
  return variable;
}

std::vector<Variable> ParserBase::ParseParameters() {
  std::vector<Variable> parameters;
  if (!Accept('(')) return parameters;
  if (Accept(')')) return parameters;
  do {
    if (AcceptDot("reg")) {
      Fail(token_, "parameters in registers are not supported");
    } else if (!AcceptDot("param")) {
      Fail(token_, "expected .param");
    }
    parameters.push_back(ParseVariable(Space::kParam));
    if (parameters.size() > 4096) Fail(token_, "too many parameters");
  } while (!failed() && Accept(','));
  Expect(')');
  return parameters;
}

void ParserBase::ParseInitialiser(Variable& variable) {
  uint64_t offset = 0;
  if (token_.Is('{')) {
    Advance();
    ParseInitialList(variable, &offset, 0);
  } else {
    variable.initials.push_back(ParseInitial(variable, 0));
  }
}

void ParserBase::ParseInitialList(Variable& variable, uint64_t* offset, int depth) {
  if (depth > kMaxBraceDepth) return Fail(token_, "initialiser is nested too deeply");
  while (!failed() && token_.kind != Tok::kEnd && !token_.Is('}')) {
    if (Accept('{')) {
      ParseInitialList(variable, offset, depth + 1);
    } else {
      const Initial initial = ParseInitial(variable, *offset);
      *offset += initial.bytes;
      if (variable.bytes != 0 && *offset > variable.bytes)
        return Fail(variable.at, "too many initial values");
      variable.initials.push_back(initial);
    }
    if (!Accept(',')) break;
  }
  Expect('}');
}

Initial ParserBase::ParseInitial(const Variable& variable, uint64_t offset) {
  Initial initial;
  initial.offset = offset;
  initial.bytes = TypeBytes(variable.type);
  if (token_.kind == Tok::kIdent) {
    std::string_view name = ExpectIdent("a symbol");
    // mask(symbol) and generic(symbol)
    if ((name == "generic" || name == "mask") && Accept('(')) {
      initial.generic = name == "generic";
      name = ExpectIdent("a symbol");
      Expect(')');
    }
    initial.symbol = name;
    if (token_.Is('+') || token_.Is('-')) {
      const bool minus = Accept('-');
      if (!minus) Advance();
      const uint64_t addend = ExpectInteger();
      initial.value = minus ? 0 - addend : addend;
    }
    return initial;
  }
  const bool negative = Accept('-');
  if (token_.kind != Tok::kInt && token_.kind != Tok::kF32 && token_.kind != Tok::kF64) {
    Fail(token_, "expected an initial value");
    return initial;
  }
  initial.value = BitsOf(token_, variable.type, negative);
  Advance();
  return initial;
}

}  // namespace farwarp::softgpu
