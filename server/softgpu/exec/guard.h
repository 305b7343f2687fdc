// Guard: runs kernel code so that whatever it does wrong comes back as a Fault, without taking the
// process down.
//
// A memory fault raises SIGSEGV or SIGBUS; the handler, installed once, acts only for a thread that
// is inside a guard and hands everything else to the handler that was there before. Between
// RunGuarded and the fault no lock is held and nothing that has a destructor lives on the stack.
//
// Threads: any number, each in at most one guard.
#pragma once

#include "server/softgpu/warp/warp.h"

namespace farwarp::softgpu {

// StepBlock under the guard. On a fault, block.fault says what happened and the block is dead.
StepResult GuardedStep(Block& block);

// Installs the signal handlers; the first call does it.
void InstallFaultHandlers();

}  // namespace farwarp::softgpu
