// A program in a fresh process: prints one line about what the runtime does when its driver is
// missing, too old or refuses to start, before the first CUDA call, and after fork. The tests read
// the line.
#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <string>
#include <thread>

#include "tests/unit/runtime/fixture.h"

namespace {

bool DriverIsLoaded() {
  return dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD) != nullptr;
}

int Start() {
  int version = -1, count = -1;
  void* memory = nullptr;
  const cudaError_t versions = cudaDriverGetVersion(&version);
  const cudaError_t counted = cudaGetDeviceCount(&count);
  const cudaError_t allocated = cudaMalloc(&memory, 16);
  std::printf("version %d %d, devices %d, count %d, malloc %d, last %d, device %d, name %s\n",
              versions, version, count, counted, allocated, cudaGetLastError(), cudaSetDevice(0),
              cudaGetErrorName(counted));
  return 0;
}

// Registration must not touch the driver, not even load it.
int Registration() {
  static const char stub = 0;
  static int variable = 0;
  const bool before = DriverIsLoaded();
  FakeModule module;
  module.Function(&stub, "kernel");
  module.Variable(&variable, "variable", sizeof(variable));
  __cudaRegisterFatBinaryEnd(module.handle());
  cudaKernel_t kernel = nullptr;
  const cudaError_t got = __cudaGetKernel(&kernel, &stub);
  const bool after = DriverIsLoaded();
  module.Unregister();
  std::printf("loaded %d %d %d, kernel %d\n", before, after, DriverIsLoaded(), got);
  return 0;
}

std::string Answers() {
  int count = 0;
  void* memory = nullptr;
  const cudaError_t counted = cudaGetDeviceCount(&count);
  const cudaError_t allocated = cudaMalloc(&memory, 16);
  return std::to_string(counted) + " " + std::to_string(allocated) + " " +
         std::to_string(cudaDeviceSynchronize());
}

// The child's answers, read with a deadline by the test's own time limit.
std::string InChild() {
  int pipes[2];
  if (pipe(pipes) != 0) return "no pipe";
  const pid_t child = fork();
  if (child == 0) {
    const std::string answers = Answers();
    const ssize_t written = write(pipes[1], answers.data(), answers.size());
    _exit(written == static_cast<ssize_t>(answers.size()) ? 0 : 1);
  }
  close(pipes[1]);
  char buffer[128] = {};
  const ssize_t bytes = read(pipes[0], buffer, sizeof(buffer) - 1);
  close(pipes[0]);
  int status = 0;
  waitpid(child, &status, 0);
  return bytes < 0 || status != 0 ? "child failed" : buffer;
}

int Fork() {
  // A process that has not used CUDA may fork and use it in both.
  const std::string fresh = InChild();
  const std::string parent = Answers();
  const std::string used = InChild();
  std::string from_thread;
  std::thread([&from_thread] { from_thread = InChild(); }).join();
  std::printf("fresh %s, parent %s, used %s, thread %s, parent again %s\n", fresh.c_str(),
              parent.c_str(), used.c_str(), from_thread.c_str(), Answers().c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  if (what == "start") return Start();
  if (what == "registration") return Registration();
  if (what == "fork") return Fork();
  std::fprintf(stderr, "usage: %s start|registration|fork\n", argv[0]);
  return 2;
}
