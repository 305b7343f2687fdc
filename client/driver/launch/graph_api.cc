// cuGraph*, cuUserObject* and stream capture: the model's entry points.
#include <cstdint>
#include <cstring>

#include "client/custom.h"
#include "client/driver/process.h"

namespace farwarp::client::custom {

using farwarp::graph::Graphs;

namespace {

template <typename Body>
CUresult CallGraphs(Body&& body) noexcept {
  try {
    FARWARP_ENTER(caller);
    return body(caller.process->graphs());
  } catch (const std::bad_alloc&) {
    return CUDA_ERROR_OUT_OF_MEMORY;
  } catch (...) {
    return CUDA_ERROR_UNKNOWN;
  }
}

}  // namespace

#include "farwarp/graph/entry_points.inc"

}  // namespace farwarp::client::custom
