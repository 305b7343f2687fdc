// Decoder: from a parsed kernel and the functions it calls to the decoded form (warp/decoded.h).
//
// What a module knows comes in through ModuleSymbols. Errors read "ptx:LINE:COLUMN: what, near
// 'text'": an instruction that this engine does not execute is refused here, before anything runs.
// One thread at a time per module.
#pragma once

#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "farwarp/base/status.h"
#include "server/softgpu/ptx/ast.h"
#include "server/softgpu/warp/decoded.h"

namespace farwarp::softgpu {

// Of one function and of one kernel: what declares more is refused.
inline constexpr uint64_t kMaxLocalBytes = uint64_t{512} << 10;
inline constexpr uint64_t kMaxSharedBytes = uint64_t{1} << 20;

// Names are looked up as the function `from` sees them: the texts of a linked module may each have
// a symbol of one name.
class ModuleSymbols {
 public:
  virtual ~ModuleSymbols() = default;
  // Address of a .global or .const variable or of a function; 0 if there is none of that name.
  virtual uint64_t AddressOf(std::string_view name, const FunctionAst& from) const = 0;
  // Where the .const variables lie: beginnings and ends, ascending.
  virtual std::vector<std::pair<uint64_t, uint64_t>> ConstRanges() const = 0;
  // A module-scope .shared variable, or nullptr.
  virtual const Variable* SharedVariable(std::string_view name, const FunctionAst& from) const = 0;
  // A function with its body parsed; the error says why not. nullptr: no such function.
  virtual Result<const FunctionAst*> BodyOf(std::string_view name,
                                            const FunctionAst& from) const = 0;

  // A function that a call through a register may reach.
  struct Callable {
    uint64_t address = 0;
    const FunctionAst* function = nullptr;  // Its body may not have been parsed yet.
  };
  // All functions that take and return what the prototype says.
  virtual std::vector<Callable> FunctionsLike(const Prototype& prototype) const = 0;
  // Parses the body, if need be, of a function that FunctionsLike named.
  virtual Status ParseBodyOf(const FunctionAst& function) const = 0;
};

// Whether the device's runtime brings a function of that name along (vprintf, malloc …).
bool IsRuntimeFunction(std::string_view name);

// Finds out what calls need of each thread's local memory: DecodedKernel::stack_bytes, open_stack.
// An error if that is more than a thread can have.
Status MeasureStack(DecodedKernel& kernel);

Result<std::unique_ptr<DecodedKernel>> DecodeKernel(const FunctionAst& kernel,
                                                    const ModuleSymbols& symbols);

}  // namespace farwarp::softgpu
