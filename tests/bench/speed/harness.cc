#include "harness.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <limits>
#include <thread>

namespace farwarp::bench {
namespace {

double Clock(clockid_t clock) {
  timespec now;
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// The least that a piece of work has taken: by the clock on the wall, and of all cores together,
// which other programs on the machine hardly change.
class Times {
 public:
  void Add(const std::function<void()>& work) {
    const double wall = Clock(CLOCK_MONOTONIC), cpu = Clock(CLOCK_PROCESS_CPUTIME_ID);
    work();
    wall_ = std::min(wall_, Clock(CLOCK_MONOTONIC) - wall);
    cpu_ = std::min(cpu_, Clock(CLOCK_PROCESS_CPUTIME_ID) - cpu);
  }
  void Print(const char* what) const {
    std::printf(",\"%s\":%.9g,\"%s_cpu\":%.9g", what, wall_, what, cpu_);
  }

 private:
  double wall_ = std::numeric_limits<double>::max();
  double cpu_ = std::numeric_limits<double>::max();
};

unsigned long long NextRandom(unsigned long long& state) {
  state = state * 6364136223846793005ull + 1442695040888963407ull;
  return state >> 32;
}

}  // namespace

void Measure(const Workload& workload) {
  static bool first = true;
  const unsigned cores = std::max(1u, std::thread::hardware_concurrency());
  workload.device();
  workload.loop(cores);
  if (!workload.same()) {
    std::fprintf(stderr, "speed: %s: the device and the loops disagree\n", workload.name.c_str());
    std::exit(1);
  }
  Times device, one, all;
  for (int i = 0; i < 7; ++i) {
    device.Add(workload.device);
    one.Add([&] { workload.loop(1); });
    all.Add([&] { workload.loop(cores); });
  }
  std::printf("%s{\"name\":\"%s\"", first ? "" : ",", workload.name.c_str());
  device.Print("device");
  one.Print("one_core");
  all.Print("all_cores");
  std::printf("}\n");
  std::fflush(stdout);
  first = false;
}

void Spread(unsigned cores, std::size_t count,
            const std::function<void(unsigned, std::size_t, std::size_t)>& part) {
  std::vector<std::thread> threads;
  for (unsigned i = 1; i < cores; ++i)
    threads.emplace_back(part, i, count * i / cores, count * (i + 1) / cores);
  part(0, 0, count / cores);
  for (std::thread& thread : threads) thread.join();
}

std::vector<float> RandomFloats(std::size_t count, unsigned seed) {
  std::vector<float> values(count);
  unsigned long long state = seed;
  for (float& value : values)
    value = static_cast<float>(NextRandom(state) >> 8) * (1.0f / 16777216.0f);
  return values;
}

std::vector<unsigned> RandomBits(std::size_t count, unsigned seed) {
  std::vector<unsigned> values(count);
  unsigned long long state = seed;
  for (unsigned& value : values) value = static_cast<unsigned>(NextRandom(state));
  return values;
}

bool Close(const std::vector<float>& got, const std::vector<float>& expected, float tolerance) {
  if (got.size() != expected.size()) return false;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const float scale = std::max(1.0f, std::fabs(expected[i]));
    // Written so that NaN is a difference.
    if (!(std::fabs(got[i] - expected[i]) <= tolerance * scale)) return false;
  }
  return true;
}

}  // namespace farwarp::bench

int main(int argc, char** argv) {
  using namespace farwarp::bench;
  struct Topic {
    std::string name;
    void (*measure)();
  };
  const Topic topics[] = {{"streaming", MeasureStreaming},
                          {"arithmetic", MeasureArithmetic},
                          {"rows", MeasureRows},
                          {"cub", MeasureCub}};
  std::printf("{\"workloads\":[\n");
  for (const Topic& topic : topics) {
    if (argc < 2 || topic.name == argv[1]) topic.measure();
  }
  std::printf("]}\n");
  return 0;
}
