#include "server/softgpu/ptx/scan.h"

#include <string.h>

#include <algorithm>

#include "server/softgpu/ptx/parser_base.h"

namespace farwarp::softgpu {
namespace {

// One declaration: `text` begins with it, and ends with its function, since a lexer looks at all of
// its text once.
class Declaration : public ParserBase {
 public:
  explicit Declaration(std::string_view text) : ParserBase(Lexer(text)) {}

  bool Registers(uint64_t* words) {
    Advance();
    Type type = Type::kNone;
    while (token_.kind == Tok::kDot && !failed()) {
      type = ParseType(token_.text);
      if (type == Type::kNone) return false;
      Advance();
    }
    do {
      ExpectIdent("a register");
      uint64_t count = 1;
      if (Accept('<')) {
        count = ExpectInteger();
        Expect('>');
      }
      if (count > kMaxRegisters) return false;
      *words += count * std::max<uint64_t>(1, TypeBytes(type) / 4);
    } while (!failed() && *words <= kMaxWords && Accept(','));
    Expect(';');
    return !failed() && *words <= kMaxWords;
  }

  bool Variables(Space space, uint64_t* bytes) {
    Advance();
    do {
      const Variable variable = ParseVariable(space);
      const uint64_t align = std::max(1u, variable.align);
      if (variable.bytes != 0) *bytes = (*bytes + align - 1) / align * align + variable.bytes;
    } while (!failed() && *bytes <= kMaxVariableBytes && Accept(','));
    Expect(';');
    return !failed() && *bytes <= kMaxVariableBytes;
  }

 private:
  static constexpr uint64_t kMaxRegisters = 1 << 20;
  static constexpr uint64_t kMaxWords = 1 << 30;
};

bool IsNameChar(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '$' || c == '%';
}

class Scanner {
 public:
  Scanner(std::string_view text, const FunctionAst& function)
      : text_(text),
        begin_(std::min(function.body_offset, text.size())),
        end_(std::min(function.body_end, text.size())) {}

  // Calls `read(text)` for every declaration that begins with `word`. False when it cannot tell.
  template <typename Read>
  bool Each(std::string_view word, Read read) const {
    for (size_t at = Find(word, begin_); at < end_; at = Find(word, at + word.size())) {
      const char next = at + word.size() < end_ ? text_[at + word.size()] : '\0';
      if (IsNameChar(next)) continue;  // Of another word.
      if (at == begin_ || std::string_view("\n\t\r {};:").find(text_[at - 1]) != text_.npos) {
        bool comment = false;
        if (!Outside(at, &comment)) return false;
        if (!comment && !read(text_.substr(at, end_ - at))) return false;
      }
      // Else a modifier of an instruction.
    }
    return true;
  }
  bool Contains(std::string_view word) const { return Find(word, begin_) < end_; }

 private:
  size_t Find(std::string_view word, size_t from) const {
    if (from >= end_) return end_;
    const void* found = ::memmem(text_.data() + from, end_ - from, word.data(), word.size());
    return found == nullptr ? end_
                            : static_cast<size_t>(static_cast<const char*>(found) - text_.data());
  }
  // Whether what stands before `at` in its line leaves no doubt about it.
  bool Outside(size_t at, bool* comment) const {
    const size_t newline = at == 0 ? text_.npos : text_.rfind('\n', at - 1);
    const size_t begin = std::max(begin_, newline == text_.npos ? 0 : newline + 1);
    const std::string_view before = text_.substr(begin, at - begin);
    *comment = before.find("//") != before.npos;
    return before.find('"') == before.npos;
  }

  const std::string_view text_;
  const size_t begin_;
  const size_t end_;
};

}  // namespace

BodyFigures ScanBody(std::string_view text, const FunctionAst& function) {
  BodyFigures figures;
  const Scanner scanner(text, function);
  // Declarations may stand in comments of more than a line.
  if (scanner.Contains("/*")) return figures;
  uint64_t words = 0;
  const auto variables = [&](Space space, uint64_t* bytes) {
    return
        [space, bytes](std::string_view from) { return Declaration(from).Variables(space, bytes); };
  };
  figures.certain =
      scanner.Each(".reg",
                   [&](std::string_view from) { return Declaration(from).Registers(&words); }) &&
      scanner.Each(".local", variables(Space::kLocal, &figures.local_bytes)) &&
      scanner.Each(".shared", variables(Space::kShared, &figures.shared_bytes));
  figures.registers = static_cast<uint32_t>(words);
  return figures;
}

}  // namespace farwarp::softgpu
