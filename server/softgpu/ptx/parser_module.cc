// The index pass: version, target, module variables, and the heads of functions; bodies are skipped
// by their braces.
#include <bit>

#include "server/softgpu/ptx/parser.h"
#include "server/softgpu/ptx/parser_base.h"

namespace farwarp::softgpu {
namespace {

class ModuleParser : public ParserBase {
 public:
  explicit ModuleParser(std::string_view text) : ParserBase(Lexer(text)) {}

  Result<ModuleAst> Parse() {
    while (!failed() && token_.kind != Tok::kEnd) Statement();
    if (!failed() && module_.version == 0) Fail(token_, "no .version: this is no PTX");
    if (failed()) return status();
    return std::move(module_);
  }

 private:
  void Statement() {
    if (token_.kind != Tok::kDot) {
      if (Accept(';')) return;
      return Fail(token_, "expected a directive");
    }
    linkage_ = {};
    for (;;) {
      if (AcceptDot("visible")) {
        linkage_.visible = true;
        continue;
      }
      if (AcceptDot("common")) {
        linkage_.common = true;
        continue;
      }
      if (AcceptDot("extern")) {
        linkage_.is_extern = true;
        continue;
      }
      if (AcceptDot("weak")) {
        linkage_.weak = true;
        continue;
      }
      break;
    }
    Space space;
    if (ParseSpace(token_, &space)) return Variables(space);
    Directive();
  }

  void Directive() {
    if (AcceptDot("version")) return Version();
    if (AcceptDot("target")) return Target();
    if (AcceptDot("entry")) return FunctionHead(true);
    if (AcceptDot("func")) return FunctionHead(false);
    if (AcceptDot("address_size")) {
      if (ExpectInteger() != 64) Fail(token_, "only .address_size 64 is supported");
      return;
    }
    if (AcceptDot("section")) {
      // Debugging sections: .section NAME { … }
      while (!failed() && token_.kind != Tok::kEnd && !token_.Is('{')) Advance();
      if (!failed() && !lexer_.SkipBraces()) return Fail(token_, "section without an end");
      return Advance();
    }
    if (AcceptDot("file")) {
      // .file N "name" [, time, size] without a semicolon
      Advance();
      Advance();
      while (Accept(',')) Advance();
      return;
    }
    if (token_.IsDot("pragma") || token_.IsDot("alias") || token_.IsDot("tex"))
      return SkipStatement();
    Fail(token_, "unknown directive");
  }

  void Version() {
    const double version = token_.kind == Tok::kF64 ? std::bit_cast<double>(token_.value) : -1.0;
    if (version >= 0.0 && version < 1000.0) {
      module_.version = static_cast<int>(version * 10.0 + 0.5);
      Advance();
    } else {
      Fail(token_, "expected a version such as 9.0");
    }
  }

  void Target() {
    do {
      const std::string_view name = ExpectIdent("a target such as sm_75");
      if (name.starts_with("sm_")) {
        for (const char c : name.substr(3)) {
          if (c >= '0' && c <= '9' && module_.target < 10000)
            module_.target = module_.target * 10 + (c - '0');
        }
      }
    } while (Accept(','));
  }

  void Variables(Space space) {
    Advance();
    do {
      Variable variable = ParseVariable(space);
      variable.is_extern = linkage_.is_extern;
      variable.is_weak = linkage_.weak;
      variable.is_visible = linkage_.visible;
      variable.is_common = linkage_.common;
      if (!failed()) module_.variables.push_back(std::move(variable));
    } while (Accept(','));
    Expect(';');
  }

  void FunctionHead(bool entry) {
    FunctionAst function;
    function.is_entry = entry;
    function.is_extern = linkage_.is_extern;
    function.is_weak = linkage_.weak;
    function.is_visible = linkage_.visible;
    while (token_.IsDot("attribute")) {
      Advance();
      Expect('(');
      while (!failed() && token_.kind != Tok::kEnd && !token_.Is(')')) Advance();
      Expect(')');
    }
    if (!entry) function.returns = ParseParameters();
    function.at = token_;
    function.name = ExpectIdent("a function's name");
    function.params = ParseParameters();
    Directives(function);
    if (failed()) return;
    if (Accept(';')) {
      module_.functions.push_back(std::move(function));
      return;
    }
    if (!token_.Is('{')) return Fail(token_, "expected a body");
    function.has_body = true;
    function.body_offset = lexer_.offset();
    function.body_line = lexer_.line();
    function.body_line_start = lexer_.line_start();
    if (!lexer_.SkipBraces()) return Fail(token_, "function without an end");
    function.body_end = lexer_.offset();
    module_.functions.push_back(std::move(function));
    Advance();
  }

  // .maxntid and friends between head and body.
  void Directives(FunctionAst& function) {
    while (!failed() && token_.kind == Tok::kDot) {
      if (AcceptDot("reqntid")) {
        Triple(function.reqntid);
      } else if (AcceptDot("maxntid")) {
        Triple(function.maxntid);
      } else if (AcceptDot("minnctapersm")) {
        function.min_blocks = static_cast<uint32_t>(ExpectInteger());
      } else if (AcceptDot("reqnctapercluster")) {
        Triple(function.reqncluster);
      } else if (AcceptDot("maxclusterrank")) {
        function.max_cluster_rank = static_cast<uint32_t>(ExpectInteger());
      } else if (AcceptDot("explicitcluster")) {
        function.explicit_cluster = true;
      } else if (token_.IsDot("pragma")) {
        SkipStatement();
      } else {
        // .maxnreg N, .noreturn, .abi_preserve N …
        Advance();
        while (token_.kind == Tok::kInt) {
          Advance();
          if (!Accept(',')) break;
        }
      }
    }
  }

  void Triple(uint32_t (&to)[3]) {
    to[0] = to[1] = to[2] = 1;
    for (int i = 0; i < 3; ++i) {
      to[i] = static_cast<uint32_t>(ExpectInteger());
      if (!Accept(',')) break;
    }
  }

  struct Linkage {
    bool is_extern = false;
    bool weak = false;
    bool visible = false;
    bool common = false;
  } linkage_;
  ModuleAst module_;
};

}  // namespace

Result<ModuleAst> ParseModule(std::string_view text) {
  return ModuleParser(text).Parse();
}

}  // namespace farwarp::softgpu
