// Graphs and stream capture: the model's entry points.
#include <cstdint>
#include <cstring>

#include "server/softgpu/api/driver.h"
#include "server/softgpu/api/launch/graph_backend.h"

using namespace farwarp::softgpu;
using farwarp::graph::Graphs;

namespace {

template <typename Body>
CUresult CallGraphs(Body&& body) noexcept {
  return CallDriver([&](Driver& driver) -> CUresult { return body(GraphsOf(driver)); });
}

}  // namespace

extern "C" {
#include "farwarp/graph/entry_points.inc"
}  // extern "C"
