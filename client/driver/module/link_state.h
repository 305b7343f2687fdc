// Link: what stands behind a CUlinkState. Inputs gather here and travel together when the program
// asks for the result, so that adding one costs no round trip; what is wrong with an input
// therefore shows in cuLinkComplete's result and log.
//
// The option arrays belong to the application, which keeps them as long as the link lives. Locked
// by its mutex.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "client/driver/module/jit_options.h"
#include "cuda/driver_api.h"
#include "farwarp/base/thread_annotations.h"

namespace farwarp::client {

struct LinkInput {
  CUjitInputType type;
  std::string name;
  std::size_t bytes;
};

struct Link {
  Mutex mutex;
  JitRequest jit GUARDED_BY(mutex);
  std::vector<LinkInput> inputs GUARDED_BY(mutex);
  std::vector<std::byte> bytes GUARDED_BY(mutex);  // Of all inputs, one behind the other.
  std::vector<std::byte> image GUARDED_BY(mutex);  // The application reads it until it destroys us.
};

}  // namespace farwarp::client
