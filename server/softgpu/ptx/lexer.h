// Lexer of PTX: turns text into tokens, one at a time, without copying.
//
// Tokens are views into the text, which must outlive them. Comments and white space are skipped; a
// NUL byte ends the text (fatbins end PTX with one). One thread per Lexer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace farwarp::softgpu {

enum class Tok : uint8_t {
  kEnd,
  kIdent,   // name, %r1, $L_1
  kDot,     // .name, text without the dot; may hold "::"
  kInt,     // value
  kF32,     // 0fXXXXXXXX, value holds the bits
  kF64,     // 0dXXXXXXXXXXXXXXXX or a decimal number, value holds the bits
  kString,  // text without quotes
  kPunct,   // one character
  kError,   // text says what is wrong
};

struct Token {
  Tok kind = Tok::kEnd;
  char punct = 0;
  std::string_view text;
  uint64_t value = 0;
  size_t offset = 0;
  uint32_t line = 1;
  uint32_t column = 1;

  bool Is(char c) const { return kind == Tok::kPunct && punct == c; }
  bool IsDot(std::string_view name) const { return kind == Tok::kDot && text == name; }
  bool IsIdent(std::string_view name) const { return kind == Tok::kIdent && text == name; }
};

class Lexer {
 public:
  explicit Lexer(std::string_view text, size_t offset = 0, uint32_t line = 1,
                 size_t line_start = 0);

  Token Next();
  // Precondition: the last token was '{'. Moves behind the matching '}' without making tokens;
  // false when the text ends first. Fast: only braces, quotes, comments and newlines are looked at.
  bool SkipBraces();

  size_t offset() const { return pos_; }
  uint32_t line() const { return line_; }
  size_t line_start() const { return line_start_; }
  std::string_view text() const { return text_; }

 private:
  bool SkipSpace();
  Token Number(Token token);
  Token String(Token token);

  std::string_view text_;
  size_t pos_ = 0;
  uint32_t line_ = 1;
  size_t line_start_ = 0;
};

// "ptx:LINE:COLUMN: what, near 'text'".
std::string ErrorAt(const Token& token, std::string_view what);

}  // namespace farwarp::softgpu
