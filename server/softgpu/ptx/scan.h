// Scan: what a body declares, without reading the body. A module of tens of megabytes is asked for
// these figures of each of its kernels when it is loaded, long before most of them run, if ever.
//
// Pure functions of the text; thread-safe.
#pragma once

#include <cstdint>
#include <string_view>

#include "server/softgpu/ptx/ast.h"

namespace farwarp::softgpu {

struct BodyFigures {
  // False: the text is written in a way that takes a parser to understand; the rest means nothing.
  bool certain = false;
  uint32_t registers = 0;     // Of 32 bits.
  uint64_t local_bytes = 0;   // .local variables.
  uint64_t shared_bytes = 0;  // .shared variables that have a size.
};

BodyFigures ScanBody(std::string_view text, const FunctionAst& function);

}  // namespace farwarp::softgpu
