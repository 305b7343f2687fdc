// Guard: runs kernel code so that whatever it does wrong comes back as a Fault, without taking the
// process down.
//
// A memory fault raises SIGSEGV or SIGBUS. The handler acts only for a thread that is inside a
// guard and for an address inside the address space; everything else goes to the handler that was
// there before, with the signals blocked that it wanted blocked. A program may install its own
// handler after this one, and may pass on to this one: each launch looks whether ours is still in
// place and puts itself before the other. The handler runs on the alternate stack of a thread that
// has one.
//
// Between GuardedStep and the fault no lock is held and nothing that has a destructor lives on the
// stack.
//
// Threads: any number, each in at most one guard.
#pragma once

#include "farwarp/base/status.h"
#include "server/softgpu/warp/warp.h"

namespace farwarp::softgpu {

// StepBlock under the guard. On a fault, block.fault says what happened and the block is dead.
StepResult GuardedStep(Block& block);

// Whether the calling thread is inside a guard.
bool InGuard() noexcept;

// Installs the signal handlers unless they are in place. Thread-safe.
Status InstallFaultHandlers();

}  // namespace farwarp::softgpu
