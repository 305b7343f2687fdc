// What the module parser and the body parser share: one token of look-ahead, the first error, and
// declarations of variables. One thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "farwarp/base/status.h"
#include "server/softgpu/ptx/ast.h"

namespace farwarp::softgpu {

inline constexpr uint64_t kMaxVariableBytes = uint64_t{1} << 32;
inline constexpr uint64_t kMaxRegisters = uint64_t{1} << 20;  // Of a function.

class ParserBase {
 public:
  explicit ParserBase(Lexer lexer) : lexer_(lexer) { Advance(); }

  bool failed() const { return !error_.empty(); }
  Status status() const { return failed() ? Status::Invalid(error_) : Status::Ok(); }

 protected:
  void Advance() {
    token_ = lexer_.Next();
    if (token_.kind == Tok::kError) Fail(token_, token_.text);
  }
  // Remembers the first error and makes the rest of the text empty, so that every loop ends.
  void Fail(const Token& at, std::string_view what) {
    if (error_.empty()) error_ = ErrorAt(at, what);
    token_ = Token{};
  }
  bool Accept(char c) {
    if (!token_.Is(c)) return false;
    Advance();
    return true;
  }
  void Expect(char c) {
    if (!Accept(c) && !failed()) Fail(token_, std::string("expected '") + c + "'");
  }
  bool AcceptDot(std::string_view name) {
    if (!token_.IsDot(name)) return false;
    Advance();
    return true;
  }
  std::string_view ExpectIdent(std::string_view what) {
    if (token_.kind != Tok::kIdent) {
      if (!failed()) Fail(token_, std::string("expected ") + std::string(what));
      return {};
    }
    const auto text = token_.text;
    Advance();
    return text;
  }
  uint64_t ExpectInteger();
  // Skips to and over the next ';'.
  void SkipStatement();

  // After the state space: [.align N] [.v2|.v4] .type [.ptr …] name [dims] [= initialiser] —
  // without ';'.
  Variable ParseVariable(Space space);
  // ([.param …, …]) or nothing: the parameters or results of a function or of a prototype.
  std::vector<Variable> ParseParameters();

  Lexer lexer_;
  Token token_;
  std::string error_;

 private:
  void ParseInitialiser(Variable& variable);
  void ParseInitialList(Variable& variable, uint64_t* offset, int depth);
  Initial ParseInitial(const Variable& variable, uint64_t offset);
};

// True and the space if the token names a state space (".global").
bool ParseSpace(const Token& token, Space* space);

}  // namespace farwarp::softgpu
