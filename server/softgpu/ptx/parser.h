// Parser: recursive descent over the lexer's tokens. ParseModule is the index pass; ParseBody reads
// one function's body when it is needed. Errors read "ptx:LINE:COLUMN: what, near 'text'". Pure
// functions of the text; thread-safe.
#pragma once

#include <string_view>

#include "farwarp/base/status.h"
#include "server/softgpu/ptx/ast.h"

namespace farwarp::softgpu {

// The text must outlive the result.
Result<ModuleAst> ParseModule(std::string_view text);

// Fills registers, variables and code of a function that ParseModule found in `text`.
Status ParseBody(std::string_view text, FunctionAst& function);

}  // namespace farwarp::softgpu
