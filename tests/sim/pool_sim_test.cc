// Thousands of random events against the pool, with every fault the world knows (pool_world.h).
//
// FARWARP_SIM_SEED=n repeats one seed; FARWARP_SIM_RUNS=n changes how many are tried.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "tests/sim/pool_world.h"

namespace farwarp::pool {
namespace {

std::uint64_t FromEnvironment(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

TEST(PoolSimulation, KeepsItsPromisesThroughFaults) {
  const std::uint64_t only = FromEnvironment("FARWARP_SIM_SEED", 0);
  const std::uint64_t runs = only != 0 ? 1 : FromEnvironment("FARWARP_SIM_RUNS", 150);
  Tally total;
  for (std::uint64_t run = 0; run < runs; ++run) {
    const std::uint64_t seed = only != 0 ? only : run + 1;
    World world(seed, 1 + static_cast<int>(seed % 5), 3 + static_cast<int>(seed % 17));
    try {
      for (int step = 0; step < 1500; ++step) world.Step();
      world.Settle();
    } catch (const Broken& broken) {
      FAIL() << broken.what() << "; repeat with FARWARP_SIM_SEED=" << seed;
    }
    total.Add(world.tally());
  }
  std::printf(
      "%llu runs: %llu granted, %llu expired, %llu refused, %llu ended, %llu resumed, %llu "
      "revoked, %llu adopted; %llu streams lost, %llu node and %llu controller restarts\n",
      static_cast<unsigned long long>(runs), static_cast<unsigned long long>(total.granted),
      static_cast<unsigned long long>(total.expired),
      static_cast<unsigned long long>(total.refused), static_cast<unsigned long long>(total.ended),
      static_cast<unsigned long long>(total.resumed),
      static_cast<unsigned long long>(total.revoked),
      static_cast<unsigned long long>(total.adopted),
      static_cast<unsigned long long>(total.lost_nodes),
      static_cast<unsigned long long>(total.node_restarts),
      static_cast<unsigned long long>(total.controller_restarts));
  if (only != 0) return;
  // A simulation in which nothing happens proves nothing.
  for (const std::uint64_t count :
       {total.granted, total.expired, total.refused, total.ended, total.resumed, total.revoked,
        total.adopted, total.lost_nodes, total.node_restarts, total.controller_restarts,
        total.killed, total.node_refusals}) {
    EXPECT_GT(count, runs / 4);
  }
}

}  // namespace
}  // namespace farwarp::pool
