// Batch: commands that leave together, as the payload of one frame, and the host memory that
// follows them as bulk frames. Reused, so that steady traffic allocates nothing. External lock.
#pragma once

#include <cstdint>
#include <vector>

#include "farwarp/wire/encoder.h"

namespace farwarp::client {

// Host memory of a caller who waits until it has left.
struct Attachment {
  std::uint64_t transfer;
  const std::byte* data;
  std::size_t bytes;
};

struct Batch {
  wire::Buffer commands;
  std::vector<Attachment> attachments;

  bool empty() const noexcept { return commands.empty(); }
  void Clear() noexcept {
    commands.clear();
    attachments.clear();
  }
};

}  // namespace farwarp::client
