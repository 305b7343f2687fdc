// Where the grant comes from: FARWARP_GRANT, which a launcher set, or else the command line tool,
// started once as `farwarp grant`. The tool writes the grant to its standard output and then holds
// the lease until its standard input, a pipe that this process never writes to, closes.
//
// Called once, from cuInit.
#pragma once

#include "farwarp/base/status.h"
#include "farwarp/wire/grant.h"

namespace farwarp::client {

Result<wire::Grant> FindGrant();

}  // namespace farwarp::client
