// Fuzzes what cuModuleLoadData reads: PTX text, the index pass and the body of every function.
#include <cstdint>
#include <string_view>

#include "server/softgpu/ptx/parser.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace farwarp::softgpu;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  auto module = ParseModule(text);
  if (!module.ok()) {
    if (module.status().message().empty()) __builtin_trap();
    return 0;
  }
  for (FunctionAst& function : module->functions) {
    if (!function.has_body) continue;
    const farwarp::Status status = ParseBody(text, function);
    if (!status.ok()) {
      if (status.message().empty()) __builtin_trap();
      continue;
    }
    for (const Instruction& instruction : function.code) {
      if (instruction.guard != kNoIndex && instruction.guard >= function.registers.size())
        __builtin_trap();
      if (instruction.label != kNoIndex && instruction.label > function.code.size())
        __builtin_trap();
    }
  }
  return 0;
}
