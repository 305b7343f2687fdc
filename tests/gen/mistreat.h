// What a handler must survive, given one well-formed body of it: every truncation, trailing bytes,
// every word replaced by hostile values, and addresses that are not the client's. One thread.
#pragma once

#include <gtest/gtest.h>

#include "tests/gen/loopback.h"

namespace farwarp::loopback {

inline void Mistreat(std::uint32_t id, const wire::Buffer& body) {
  auto& state = Get();
  state.check = false;
  const std::span<const std::byte> whole(body);
  const int calls = state.driver_calls;
  for (std::size_t bytes = 0; bytes < body.size(); ++bytes) {
    EXPECT_NE(Dispatch(id, whole.first(bytes), nullptr), CUDA_SUCCESS) << bytes << " bytes";
  }
  wire::Buffer longer = body;
  longer.resize(body.size() + 8);
  EXPECT_NE(Dispatch(id, longer, nullptr), CUDA_SUCCESS) << "trailing bytes";
  EXPECT_EQ(state.driver_calls, calls) << "a malformed command reached the driver";

  for (std::size_t at = 0; at + 8 <= body.size(); at += 8) {
    for (const std::uint64_t word : {~0ull, 0ull, 1ull << 63, 0xffffffffull, 0x100000000ull,
                                     0xf1ff0001ffffffffull, 1ull << 40}) {
      wire::Buffer damaged = body;
      std::memcpy(damaged.data() + at, &word, sizeof word);
      static_cast<void>(Dispatch(id, damaged, nullptr));
    }
  }
  state.check = true;
}

// A well-formed command whose addresses are somebody else's.
inline void ForgeMemory(std::uint32_t id, const wire::Buffer& body) {
  auto& state = Get();
  const int calls = state.driver_calls;
  state.own_memory = false;
  EXPECT_EQ(Dispatch(id, body, nullptr), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(state.driver_calls, calls) << "a forged address reached the driver";
  state.own_memory = true;
}

}  // namespace farwarp::loopback
