// Decoder: from a parsed kernel and the functions it calls to the decoded form (warp/decoded.h).
//
// What a module knows comes in through ModuleSymbols. Errors read "ptx:LINE:COLUMN: what, near
// 'text'": an instruction that this engine does not execute is refused here, before anything runs.
// One thread at a time per module.
#pragma once

#include <memory>
#include <string_view>

#include "farwarp/base/status.h"
#include "server/softgpu/ptx/ast.h"
#include "server/softgpu/warp/decoded.h"

namespace farwarp::softgpu {

class ModuleSymbols {
 public:
  virtual ~ModuleSymbols() = default;
  // Address of a .global or .const variable; 0 if there is none of that name.
  virtual uint64_t AddressOf(std::string_view name) const = 0;
  // A module-scope .shared variable, or nullptr.
  virtual const Variable* SharedVariable(std::string_view name) const = 0;
  // A function with its body parsed; the error says why not. nullptr: no such function.
  virtual Result<const Function*> BodyOf(std::string_view name) const = 0;
};

Result<std::unique_ptr<DecodedKernel>> DecodeKernel(const Function& kernel,
                                                    const ModuleSymbols& symbols);

}  // namespace farwarp::softgpu
