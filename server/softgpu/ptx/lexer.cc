#include "server/softgpu/ptx/lexer.h"

#include <bit>
#include <cstdlib>

namespace farwarp::softgpu {
namespace {

bool IsNameStart(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '$' || c == '%';
}
bool IsDigit(char c) {
  return c >= '0' && c <= '9';
}
bool IsNameChar(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || IsDigit(c) || c == '_' || c == '$';
}
int HexDigit(char c) {
  if (IsDigit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

Token Error(Token token, std::string_view what) {
  token.kind = Tok::kError;
  token.text = what;
  return token;
}

}  // namespace

Lexer::Lexer(std::string_view text, size_t offset, uint32_t line, size_t line_start)
    : text_(text.substr(0, text.find('\0'))), pos_(offset), line_(line), line_start_(line_start) {
  if (pos_ > text_.size()) pos_ = text_.size();
}

// False when a comment does not end.
bool Lexer::SkipSpace() {
  while (pos_ < text_.size()) {
    const char c = text_[pos_];
    if (c == '\n') {
      ++line_;
      line_start_ = ++pos_;
    } else if (c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f') {
      ++pos_;
    } else if (c == '/' && pos_ + 1 < text_.size() && text_[pos_ + 1] == '/') {
      const size_t end = text_.find('\n', pos_);
      pos_ = end == std::string_view::npos ? text_.size() : end;
    } else if (c == '/' && pos_ + 1 < text_.size() && text_[pos_ + 1] == '*') {
      const size_t end = text_.find("*/", pos_ + 2);
      if (end == std::string_view::npos) return false;
      for (; pos_ < end + 2; ++pos_) {
        if (text_[pos_] == '\n') {
          ++line_;
          line_start_ = pos_ + 1;
        }
      }
    } else {
      break;
    }
  }
  return true;
}

Token Lexer::Next() {
  Token token;
  const bool closed = SkipSpace();
  token.offset = pos_;
  token.line = line_;
  token.column = static_cast<uint32_t>(pos_ - line_start_ + 1);
  if (!closed) {
    pos_ = text_.size();
    return Error(token, "comment without end");
  }
  if (pos_ >= text_.size()) return token;
  const size_t begin = pos_;
  const char c = text_[pos_];
  if (IsNameStart(c)) {
    while (++pos_ < text_.size() && IsNameChar(text_[pos_])) {
    }
    token.kind = Tok::kIdent;
    token.text = text_.substr(begin, pos_ - begin);
    return token;
  }
  if (c == '.' && pos_ + 1 < text_.size() && IsNameChar(text_[pos_ + 1])) {
    while (++pos_ < text_.size()) {
      if (IsNameChar(text_[pos_])) continue;
      if (text_[pos_] == ':' && pos_ + 2 < text_.size() && text_[pos_ + 1] == ':' &&
          IsNameChar(text_[pos_ + 2])) {
        ++pos_;
        continue;
      }
      break;
    }
    token.kind = Tok::kDot;
    token.text = text_.substr(begin + 1, pos_ - begin - 1);
    return token;
  }
  if (IsDigit(c)) return Number(token);
  if (c == '"') return String(token);
  ++pos_;
  token.kind = Tok::kPunct;
  token.punct = c;
  token.text = text_.substr(begin, 1);
  return token;
}

Token Lexer::String(Token token) {
  const size_t begin = ++pos_;
  while (pos_ < text_.size() && text_[pos_] != '"' && text_[pos_] != '\n') {
    pos_ += text_[pos_] == '\\' && pos_ + 1 < text_.size() && text_[pos_ + 1] != '\n' ? 2 : 1;
  }
  if (pos_ >= text_.size() || text_[pos_] != '"') return Error(token, "string without end");
  token.kind = Tok::kString;
  token.text = text_.substr(begin, pos_ - begin);
  ++pos_;
  return token;
}

Token Lexer::Number(Token token) {
  const size_t begin = pos_;
  const auto at = [this](size_t i) { return i < text_.size() ? text_[i] : '\0'; };
  const char kind = at(begin) == '0' ? at(begin + 1) : '\0';
  token.kind = Tok::kInt;
  if (kind == 'f' || kind == 'F' || kind == 'd' || kind == 'D') {
    const bool is_double = kind == 'd' || kind == 'D';
    const size_t digits = is_double ? 16 : 8;
    for (pos_ += 2; pos_ < begin + 2 + digits; ++pos_) {
      const int digit = HexDigit(at(pos_));
      if (digit < 0) {
        return Error(
            token, is_double ? "0d needs 16 hexadecimal digits" : "0f needs 8 hexadecimal digits");
      }
      token.value = token.value << 4 | static_cast<uint64_t>(digit);
    }
    token.kind = is_double ? Tok::kF64 : Tok::kF32;
  } else if (kind == 'x' || kind == 'X' || kind == 'b' || kind == 'B') {
    const bool hex = kind == 'x' || kind == 'X';
    const uint64_t radix = hex ? 16 : 2;
    pos_ += 2;
    const size_t first = pos_;
    for (int digit = 0; (digit = HexDigit(at(pos_))) >= 0; ++pos_) {
      if (static_cast<uint64_t>(digit) >= radix) return Error(token, "wrong digit in a number");
      if (token.value > ~uint64_t{0} / radix) return Error(token, "number larger than 64 bits");
      token.value = token.value * radix + static_cast<uint64_t>(digit);
    }
    if (pos_ == first) return Error(token, "number without digits");
  } else {
    while (IsDigit(at(pos_))) ++pos_;
    const bool fraction = at(pos_) == '.' && IsDigit(at(pos_ + 1));
    const bool exponent = at(pos_) == 'e' || at(pos_) == 'E';
    if (fraction || exponent || (at(pos_) == '.' && !IsNameChar(at(pos_ + 1)))) {
      ++pos_;
      while (IsDigit(at(pos_))) ++pos_;
      if (!exponent && (at(pos_) == 'e' || at(pos_) == 'E')) ++pos_;
      if (at(pos_) == '+' || at(pos_) == '-') ++pos_;
      while (IsDigit(at(pos_))) ++pos_;
      token.kind = Tok::kF64;
      token.value = std::bit_cast<uint64_t>(
          std::strtod(std::string(text_.substr(begin, pos_ - begin)).c_str(), nullptr));
    } else {
      const uint64_t radix = at(begin) == '0' ? 8 : 10;
      for (size_t i = begin; i < pos_; ++i) {
        const auto digit = static_cast<uint64_t>(text_[i] - '0');
        if (digit >= radix) return Error(token, "wrong digit in an octal number");
        if (token.value > (~uint64_t{0} - digit) / radix) {
          return Error(token, "number larger than 64 bits");
        }
        token.value = token.value * radix + digit;
      }
    }
  }
  if (token.kind == Tok::kInt && at(pos_) == 'U') ++pos_;
  token.text = text_.substr(begin, pos_ - begin);
  if (IsNameChar(at(pos_))) return Error(token, "letter behind a number");
  return token;
}

bool Lexer::SkipBraces() {
  int depth = 1;
  while (pos_ < text_.size()) {
    const size_t next = text_.find_first_of("{}\n\"/", pos_);
    if (next == std::string_view::npos) break;
    pos_ = next;
    const char c = text_[pos_];
    if (c == '{') {
      ++depth;
      ++pos_;
    } else if (c == '}') {
      ++pos_;
      if (--depth == 0) return true;
    } else if (c == '"') {
      if (String({}).kind == Tok::kError) return false;
    } else if (c == '\n') {
      ++line_;
      line_start_ = ++pos_;
    } else if (pos_ + 1 < text_.size() && (text_[pos_ + 1] == '/' || text_[pos_ + 1] == '*')) {
      if (!SkipSpace()) break;
    } else {
      ++pos_;
    }
  }
  pos_ = text_.size();
  return false;
}

std::string ErrorAt(const Token& token, std::string_view what) {
  std::string text =
      "ptx:" + std::to_string(token.line) + ":" + std::to_string(token.column) + ": ";
  if (token.kind == Tok::kError) return text.append(token.text);
  text.append(what);
  if (token.kind == Tok::kEnd) return text + ", at the end of the text";
  text += ", near '";
  if (token.kind == Tok::kDot) text += '.';
  return text.append(token.text.substr(0, 60)) + "'";
}

}  // namespace farwarp::softgpu
