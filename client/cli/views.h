// What `smi`, `ps` and `nodes` print: the pool as text for people or as JSON for programs.
//
// Pure functions, thread-safe. JSON keys are stable: they are only ever added (docs/operations.md).
#pragma once

#include <string>

#include "proto/control/admin.pb.h"

namespace farwarp::cli {

namespace v1 = ::farwarp::control::v1;

std::string NodesText(const v1::ListNodesResponse& nodes);
std::string NodesJson(const v1::ListNodesResponse& nodes);
std::string LeasesText(const v1::ListLeasesResponse& leases);
std::string LeasesJson(const v1::ListLeasesResponse& leases);
std::string PoolText(const v1::PoolStatusResponse& status, const v1::ListNodesResponse& nodes,
                     const v1::ListLeasesResponse& leases);
std::string PoolJson(const v1::PoolStatusResponse& status, const v1::ListNodesResponse& nodes,
                     const v1::ListLeasesResponse& leases);

}  // namespace farwarp::cli
