// Fuzzes what cuModuleLoadData reads: PTX text, the index pass, the scan for
// declarations and the body of every function.
#include <algorithm>
#include <cstdint>
#include <string_view>

#include "server/softgpu/ptx/parser.h"
#include "server/softgpu/ptx/scan.h"

namespace {

using namespace farwarp::softgpu;

// What a scan says of a body, where it is certain, is what reading the body finds.
void CheckScan(std::string_view text, const BodyFigures& scanned, const FunctionAst& function) {
  if (!scanned.certain) return;
  // The parser does not look into these, which may hold anything.
  const std::string_view body =
      text.substr(function.body_offset, function.body_end - function.body_offset);
  for (const std::string_view skipped : {".pragma", ".file", ".loc ", "prototype"}) {
    if (body.find(skipped) != body.npos) return;
  }
  std::uint64_t registers = 0;
  for (const Register& reg : function.registers)
    registers += std::max<std::uint64_t>(1, TypeBytes(reg.type) / 4);
  std::uint64_t local = 0;
  std::uint64_t shared = 0;
  const std::size_t formals = function.params.size() + function.returns.size();
  for (std::size_t i = formals; i < function.variables.size(); ++i) {
    const Variable& variable = function.variables[i];
    if (variable.space != Space::kLocal && variable.space != Space::kShared) continue;
    std::uint64_t& bytes = variable.space == Space::kLocal ? local : shared;
    const std::uint64_t align = std::max(1u, variable.align);
    bytes = (bytes + align - 1) / align * align + variable.bytes;
  }
  if (scanned.registers != registers || scanned.local_bytes != local ||
      scanned.shared_bytes != shared)
    __builtin_trap();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  auto module = ParseModule(text);
  if (!module.ok()) {
    if (module.status().message().empty()) __builtin_trap();
    return 0;
  }
  for (FunctionAst& function : module->functions) {
    if (!function.has_body) continue;
    const BodyFigures scanned = ScanBody(text, function);
    const farwarp::Status status = ParseBody(text, function);
    if (!status.ok()) {
      if (status.message().empty()) __builtin_trap();
      continue;
    }
    CheckScan(text, scanned, function);
    for (const Instruction& instruction : function.code) {
      if (instruction.guard != kNoIndex && instruction.guard >= function.registers.size())
        __builtin_trap();
      if (instruction.label != kNoIndex && instruction.label > function.code.size())
        __builtin_trap();
    }
  }
  return 0;
}
