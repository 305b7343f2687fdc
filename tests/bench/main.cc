// farwarp-bench: drives libcuda.so.1 the way a program would and prints what it cost, as one JSON
// object.
//
//   farwarp-bench first-kernel     start → first kernel, nothing else (the caller counts round
//   trips) farwarp-bench launches N       the same, then N launches without a synchronisation
//   between them farwarp-bench measure          medians of the timed workloads, each next to its
//   raw-socket reference, interleaved
//   farwarp-bench modules NAME     loading 40 MB of PTX, and the first launch of a large kernel
//   farwarp-bench hold MIB         fills that much device memory, says "holding" and waits to be
//   killed; hold-kernel has a kernel run for ever meanwhile, hold-copy copies for ever, and
//   hold-plain does it all with its own memory
//
// `tests/bench/bench` runs it through `farwarp run` and makes the table.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "tests/bench/cuda_library.h"
#include "tests/bench/large_ptx.h"
#include "tests/bench/reference.h"

namespace farwarp::bench {
namespace {

// A kernel with 16 arguments that does nothing: what is measured is the way to it.
constexpr char kPtx[] = R"(
.version 7.0
.target sm_75
.address_size 64
.visible .entry empty1(.param .u64 a0) { ret; }
.visible .entry empty4(.param .u64 a0, .param .u64 a1, .param .u32 a2, .param .f32 a3) { ret; }
.visible .entry empty16(.param .u64 a0, .param .u64 a1, .param .u64 a2, .param .u64 a3, .param .u32 a4, .param .u32 a5,
  .param .u32 a6, .param .u32 a7, .param .f32 a8, .param .f32 a9, .param .f32 a10, .param .f32 a11, .param .u64 a12,
  .param .u64 a13, .param .u32 a14, .param .u32 a15) { ret; }
.visible .entry endless() { again: bra again; }
)";

class Program {
 public:
  Program() {
    BENCH_CHECK(cuda.cuInit(0));
    CUcontext context;
    BENCH_CHECK(cuda.cuDevicePrimaryCtxRetain(&context, 0));
    BENCH_CHECK(cuda.cuCtxSetCurrent(context));
    BENCH_CHECK(cuda.cuModuleLoadData(&module_, kPtx));
  }

  CUfunction Function(const char* name) {
    CUfunction function;
    BENCH_CHECK(cuda.cuModuleGetFunction(&function, module_, name));
    return function;
  }

  void Launch(CUfunction function) {
    void* arguments[16];
    for (void*& argument : arguments) argument = &value_;
    BENCH_CHECK(cuda.cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, nullptr, arguments, nullptr));
  }

  CudaLibrary cuda;

 private:
  CUmodule module_ = nullptr;
  std::uint64_t value_ = 1;
};

double Seconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

struct Samples {
  std::vector<double> seconds;
  void Add(double s) { seconds.push_back(s); }
  double Quantile(double q) const {
    std::vector<double> sorted = seconds;
    std::sort(sorted.begin(), sorted.end());
    return sorted[std::min(sorted.size() - 1,
                           static_cast<std::size_t>(q * static_cast<double>(sorted.size())))];
  }
};

void Print(const char* name, const Samples& samples, const char* reference,
           const Samples& reference_samples) {
  std::printf("%s{\"name\":\"%s\",\"seconds\":%.9g,\"p10\":%.9g,\"p90\":%.9g",
              std::strcmp(name, "launch, 1 argument") ? "," : "", name, samples.Quantile(0.5),
              samples.Quantile(0.1), samples.Quantile(0.9));
  if (!reference_samples.seconds.empty()) {
    std::printf(",\"reference\":\"%s\",\"reference_seconds\":%.9g", reference,
                reference_samples.Quantile(0.5));
  }
  std::printf("}\n");
}

// Cost for the caller: batches are short enough that back-pressure does not set in, and drained
// between them.
void MeasureLaunches(Program& program) {
  for (const auto& [kernel, name] :
       {std::pair{"empty1", "launch, 1 argument"}, std::pair{"empty4", "launch, 4 arguments"},
        std::pair{"empty16", "launch, 16 arguments"}}) {
    const CUfunction function = program.Function(kernel);
    Samples samples;
    for (int batch = 0; batch < 200; ++batch) {
      constexpr int kLaunches = 50;
      samples.Add(Seconds([&] {
                    for (int i = 0; i < kLaunches; ++i) program.Launch(function);
                  }) /
                  kLaunches);
      BENCH_CHECK(program.cuda.cuCtxSynchronize());
    }
    Print(name, samples, "", {});
  }
}

void MeasureBlockingCalls(Program& program, RawPeer& peer) {
  Samples query, synchronise, echo;
  const CUfunction function = program.Function("empty1");
  for (int i = 0; i < 500; ++i) {
    std::size_t free_bytes, total_bytes;
    query.Add(
        Seconds([&] { BENCH_CHECK(program.cuda.cuMemGetInfo_v2(&free_bytes, &total_bytes)); }));
    echo.Add(Seconds([&] { peer.Echo(64); }));
    synchronise.Add(Seconds([&] {
      program.Launch(function);
      BENCH_CHECK(program.cuda.cuCtxSynchronize());
    }));
  }
  Print("blocking query", query, "raw TCP echo, 64 B", echo);
  Print("launch + synchronise", synchronise, "raw TCP echo, 64 B", echo);
}

void MeasureCopies(Program& program, RawPeer& peer) {
  for (const std::size_t mib : {std::size_t{1}, std::size_t{64}}) {
    const std::size_t bytes = mib << 20;
    CUdeviceptr device;
    BENCH_CHECK(program.cuda.cuMemAlloc_v2(&device, bytes));
    std::vector<char> host(bytes, 1);
    std::vector<char> sink(bytes);
    Samples up, down, raw_up, raw_down, plain;
    const int repeats = mib == 1 ? 60 : 9;
    for (int i = 0; i < repeats; ++i) {
      up.Add(Seconds([&] {
        BENCH_CHECK(program.cuda.cuMemcpyHtoD_v2(device, host.data(), bytes));
        BENCH_CHECK(program.cuda.cuCtxSynchronize());
      }));
      raw_up.Add(Seconds([&] { peer.Send(host.data(), bytes); }));
      down.Add(
          Seconds([&] { BENCH_CHECK(program.cuda.cuMemcpyDtoH_v2(host.data(), device, bytes)); }));
      raw_down.Add(Seconds([&] { peer.Receive(sink.data(), bytes); }));
      plain.Add(Seconds([&] { std::memcpy(sink.data(), host.data(), bytes); }));
    }
    const std::string size = std::to_string(mib) + " MiB";
    Print(("host to device, " + size).c_str(), up, "raw TCP stream", raw_up);
    Print(("device to host, " + size).c_str(), down, "raw TCP stream", raw_down);
    Print(("memcpy, " + size).c_str(), plain, "", {});
    BENCH_CHECK(program.cuda.cuMemFree_v2(device));
  }
}

// What vectorAdd does up to its first kernel.
void FirstKernel(Program& program) {
  CUdeviceptr buffers[3];
  std::vector<float> host(1 << 16, 1.0f);
  for (CUdeviceptr& buffer : buffers)
    BENCH_CHECK(program.cuda.cuMemAlloc_v2(&buffer, host.size() * sizeof(float)));
  for (int i = 0; i < 2; ++i) {
    BENCH_CHECK(program.cuda.cuMemcpyHtoD_v2(buffers[i], host.data(), host.size() * sizeof(float)));
  }
  program.Launch(program.Function("empty16"));
}

// How long device code takes to become runnable, as large as the largest libraries have it.
void MeasureModules(const char* way) {
  CudaLibrary cuda;
  BENCH_CHECK(cuda.cuInit(0));
  CUcontext context;
  BENCH_CHECK(cuda.cuDevicePrimaryCtxRetain(&context, 0));
  BENCH_CHECK(cuda.cuCtxSetCurrent(context));
  const std::string library = LibrarySizedPtx();
  const std::string kernel = LargePtx(1, 30000);
  Samples load, first;
  CUdeviceptr out;
  BENCH_CHECK(cuda.cuMemAlloc_v2(&out, 64));
  void* arguments[] = {&out};
  for (int i = 0; i < 5; ++i) {
    CUmodule module;
    load.Add(Seconds([&] { BENCH_CHECK(cuda.cuModuleLoadData(&module, library.c_str())); }));
    BENCH_CHECK(cuda.cuModuleUnload(module));
    CUfunction function;
    BENCH_CHECK(cuda.cuModuleLoadData(&module, kernel.c_str()));
    BENCH_CHECK(cuda.cuModuleGetFunction(&function, module, "k0"));
    first.Add(Seconds([&] {
      BENCH_CHECK(cuda.cuLaunchKernel(function, 1, 1, 1, 32, 1, 1, 0, nullptr, arguments, nullptr));
      BENCH_CHECK(cuda.cuCtxSynchronize());
    }));
    BENCH_CHECK(cuda.cuModuleUnload(module));
  }
  std::printf("{\"workloads\":[\n");
  for (const auto& [name, samples] :
       {std::pair{"load 40 MB PTX, ", &load}, std::pair{"first launch, 30 k instr., ", &first}}) {
    std::printf("%s{\"name\":\"%s%s\",\"seconds\":%.9g,\"p10\":%.9g,\"p90\":%.9g}\n",
                samples == &load ? "" : ",", name, way, samples->Quantile(0.5),
                samples->Quantile(0.1), samples->Quantile(0.9));
  }
  std::printf("]}\n");
}

void SayHolding() {
  std::printf("holding\n");
  std::fflush(stdout);
}

[[noreturn]] void WaitForTheEnd() {
  for (;;) ::pause();
}

// Device memory, all of it written. `busy` is what the program does until it is killed: "kernel",
// "copy" or nothing.
[[noreturn]] void Hold(std::size_t bytes, const std::string& busy) {
  constexpr std::size_t kCopyBytes = std::size_t{64} << 20;
  Program program;
  const CudaLibrary& cuda = program.cuda;
  CUdeviceptr memory;
  BENCH_CHECK(cuda.cuMemAlloc_v2(&memory, bytes));
  BENCH_CHECK(cuda.cuMemsetD8_v2(memory, 1, bytes));
  BENCH_CHECK(cuda.cuCtxSynchronize());
  if (busy == "kernel") program.Launch(program.Function("endless"));
  const std::vector<char> host(busy == "copy" ? std::min(kCopyBytes, bytes) : 0, 1);
  SayHolding();
  while (busy == "copy") BENCH_CHECK(cuda.cuMemcpyHtoD_v2(memory, host.data(), host.size()));
  // So that the launch leaves.
  if (busy == "kernel") BENCH_CHECK(cuda.cuCtxSynchronize());
  WaitForTheEnd();
}

// As much memory of this process, and nothing of Farwarp.
[[noreturn]] void HoldPlain(std::size_t bytes) {
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    std::fprintf(stderr, "farwarp-bench: no memory to hold\n");
    std::exit(1);
  }
  ::madvise(memory, bytes, MADV_HUGEPAGE);
  std::memset(memory, 1, bytes);
  SayHolding();
  WaitForTheEnd();
}

int Main(int argc, char** argv) {
  const std::string mode = argc > 1 ? argv[1] : "";
  if (mode.rfind("hold", 0) == 0 && argc > 2) {
    const std::size_t bytes = std::strtoull(argv[2], nullptr, 10) << 20;
    mode == "hold-plain" ? HoldPlain(bytes)
                         : Hold(bytes, mode.substr(std::min<std::size_t>(mode.size(), 5)));
  }
  if (mode == "measure") {
    RawPeer peer;
    Program program;
    std::printf("{\"workloads\":[\n");
    MeasureLaunches(program);
    MeasureBlockingCalls(program, peer);
    MeasureCopies(program, peer);
    std::printf("]}\n");
    return 0;
  }
  if (mode == "first-kernel" || (mode == "launches" && argc > 2)) {
    Program program;
    FirstKernel(program);
    const CUfunction function = program.Function("empty16");
    for (long left = argc > 2 ? std::atol(argv[2]) : 0; left > 0; --left) program.Launch(function);
    // So that what was launched has left before the client counts.
    if (argc > 2) BENCH_CHECK(program.cuda.cuCtxSynchronize());
    return 0;
  }
  if (mode == "modules" && argc > 2) {
    MeasureModules(argv[2]);
    return 0;
  }
  std::fprintf(stderr,
               "usage: farwarp-bench first-kernel | launches N | measure | modules NAME | "
               "hold MIB | hold-plain MIB\n");
  return 2;
}

}  // namespace
}  // namespace farwarp::bench

int main(int argc, char** argv) {
  return farwarp::bench::Main(argc, argv);
}
