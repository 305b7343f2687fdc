// Where the grant comes from: FARWARP_GRANT, which a launcher set, or else the command line tool,
// started once as `farwarp grant`. The tool writes the grant to its standard output and then holds
// the lease until its standard input, a pipe that this process never writes to, closes. The pipe is
// this process's alone: children of it hold nothing. The tool is in a process group of its own, so
// that a signal from the terminal does not end the lease of a program that outlives it.
//
// Called once, from cuInit.
#pragma once

#include "farwarp/base/status.h"
#include "farwarp/wire/grant.h"

namespace farwarp::client {

Result<wire::Grant> FindGrant();
// Ends the lease that FindGrant has got, if the tool holds it.
void ReleaseGrant() noexcept;

}  // namespace farwarp::client
