#include "server/softgpu/ptx/scan.h"

#include <string.h>

#include <algorithm>

#include "server/softgpu/ptx/parser_base.h"

namespace farwarp::softgpu {
namespace {

// One declaration, from the word it begins with to its ';'.
class Declaration : public ParserBase {
 public:
  explicit Declaration(std::string_view text) : ParserBase(Lexer(text)) {}

  bool Registers(uint64_t* registers, uint64_t* words) {
    Advance();
    Type type = Type::kNone;
    while (token_.kind == Tok::kDot && !failed()) {
      type = ParseType(token_.text);
      if (type == Type::kNone) return false;
      Advance();
    }
    if (type == Type::kNone) return false;
    do {
      ExpectIdent("a register");
      uint64_t count = 1;
      if (Accept('<')) {
        count = ExpectInteger();
        Expect('>');
      }
      if (count > kMaxRegisters || (*registers += count) > kMaxRegisters) return false;
      *words += count * std::max<uint64_t>(1, TypeBytes(type) / 4);
    } while (!failed() && Accept(','));
    return AtEnd();
  }

  // Memory without a size is none of the kernel's, but may make it take more for alignment.
  bool Variables(Space space, uint64_t* bytes) {
    Advance();
    do {
      const Variable variable = ParseVariable(space);
      const uint64_t align = std::max(1u, variable.align);
      if (failed() || variable.bytes == 0) return false;
      *bytes = (*bytes + align - 1) / align * align + variable.bytes;
    } while (*bytes <= kMaxVariableBytes && Accept(','));
    return *bytes <= kMaxVariableBytes && AtEnd();
  }

 private:
  bool AtEnd() {
    Expect(';');
    return !failed();
  }
};

bool IsNameChar(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '$';
}

class Scanner {
 public:
  Scanner(std::string_view text, const FunctionAst& function)
      : text_(text),
        begin_(std::min(function.body_offset, text.size())),
        end_(std::min(function.body_end, text.size())) {}

  // Calls `read(text)` for every declaration that begins with `word`. False when it cannot tell.
  // The effort is linear in the text, whatever that is.
  template <typename Read>
  bool Each(std::string_view word, Read read) const {
    size_t next = begin_;
    for (size_t at = Find(word, next); at < end_; at = Find(word, next)) {
      next = at + word.size();
      if (next < end_ && IsNameChar(text_[next])) continue;    // Another word.
      if (at > begin_ && IsNameChar(text_[at - 1])) continue;  // Of an instruction.
      if (at > begin_ && !EndsWhatIsBefore(text_[at - 1])) return false;
      bool comment = false;
      if (!Outside(at, &comment)) return false;
      if (comment) continue;
      next = std::min(text_.find(';', at), end_ - 1) + 1;
      if (!read(text_.substr(at, next - at))) return false;
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
  static bool EndsWhatIsBefore(char c) {
    return std::string_view("\n\t\r\v\f {};:").find(c) != std::string_view::npos;
  }
  // Whether what stands before `at` in its line leaves no doubt about it. Declarations stand in
  // front; what a long line is like is not looked at.
  bool Outside(size_t at, bool* comment) const {
    const size_t first = at - begin_ > kMaxIndent ? at - kMaxIndent : begin_;
    std::string_view before = text_.substr(first, at - first);
    const size_t newline = before.rfind('\n');
    if (newline == before.npos && first != begin_) return false;
    if (newline != before.npos) before.remove_prefix(newline + 1);
    *comment = before.find("//") != before.npos;
    return before.find('"') == before.npos;
  }

  static constexpr size_t kMaxIndent = 256;
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
  uint64_t registers = 0;
  uint64_t words = 0;
  const auto variables = [&](Space space, uint64_t* bytes) {
    return
        [space, bytes](std::string_view from) { return Declaration(from).Variables(space, bytes); };
  };
  figures.certain = scanner.Each(".reg",
                                 [&](std::string_view from) {
                                   return Declaration(from).Registers(&registers, &words);
                                 }) &&
                    scanner.Each(".local", variables(Space::kLocal, &figures.local_bytes)) &&
                    scanner.Each(".shared", variables(Space::kShared, &figures.shared_bytes));
  figures.registers = static_cast<uint32_t>(words);
  return figures;
}

}  // namespace farwarp::softgpu
