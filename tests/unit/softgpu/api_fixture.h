// ApiTest: a test of the driver API on two devices of 64 MiB, with a context on the first one.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>

#include "cuda/driver_api.h"
#include "tests/unit/softgpu/fake_engine.h"

namespace farwarp::softgpu {

#define EXPECT_CU(expected, call) EXPECT_EQ(expected, call)
#define ASSERT_OK(call) ASSERT_EQ(CUDA_SUCCESS, call)
#define EXPECT_OK(call) EXPECT_EQ(CUDA_SUCCESS, call)

// A gate that a kernel or host function waits at, with a deadline.
class Gate {
 public:
  void Open() { open_ = true; }
  // False if it did not open within ten seconds.
  bool Pass() {
    entered_ = true;
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!open_) {
      if (std::chrono::steady_clock::now() > until) return false;
      std::this_thread::yield();
    }
    return true;
  }
  bool Entered() {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!entered_ && std::chrono::steady_clock::now() < until) std::this_thread::yield();
    return entered_;
  }

 private:
  std::atomic<bool> open_{false};
  std::atomic<bool> entered_{false};
};

inline constexpr std::size_t kDeviceBytes = std::size_t{64} << 20;

class ApiTest : public testing::Test {
 protected:
  void SetUp() override {
    setenv("FARWARP_SOFTGPU", "devices=2,memory=64MiB,name=Test GPU,sms=4", 1);
    ASSERT_OK(cuInit(0));
    ASSERT_OK(cuCtxCreate_v2(&context_, 0, 0));
  }
  void TearDown() override {
    for (auto gate : {&gate_, &other_gate_}) gate->Open();
    if (context_ != nullptr) cuCtxDestroy_v2(context_);
    cuCtxSetCurrent(nullptr);
  }

  CUmodule Load(const std::string& text) {
    CUmodule module = nullptr;
    EXPECT_OK(cuModuleLoadData(&module, (".version 9.0\n" + text).c_str()));
    return module;
  }
  CUfunction Kernel(const std::string& name, const std::string& params = "") {
    CUfunction function = nullptr;
    EXPECT_OK(cuModuleGetFunction(&function, Load(".entry " + name + " " + params), name.c_str()));
    return function;
  }
  // A kernel that waits at a gate.
  CUfunction Waiter(Gate& gate) {
    static std::atomic<int> next{0};
    const std::string name = "waiter" + std::to_string(next++);
    fake::Define(name, [&gate](const LaunchRequest&) {
      Fault fault;
      if (!gate.Pass()) fault.kind = FaultKind::kTimeout;
      return fault;
    });
    return Kernel(name);
  }
  static CUresult Launch(CUfunction function, CUstream stream = nullptr, void** params = nullptr) {
    return cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, stream, params, nullptr);
  }

  CUcontext context_ = nullptr;
  Gate gate_;
  Gate other_gate_;
};

}  // namespace farwarp::softgpu
