// Modules whose bodies are read at their first use: what is known before, when an error in a body
// shows, and what asking for a function's code does.
#include <string>
#include <thread>
#include <vector>

#include "tests/unit/softgpu/library_fixture.h"

namespace farwarp::softgpu {
namespace {

// Large enough not to be read when it is loaded; the line of what is wrong is 8.
std::string LargeText() {
  std::string text = R"(.version 7.8
.target sm_80
.address_size 64
.visible .entry wrong()
{
  .reg .b32 %r<40>;
  .shared .align 4 .b8 a[48];
  frobnicate.u32 %r1;
  ret;
}
.visible .entry large()
{
  .shared .align 4 .b8 a[1048577];
  ret;
}
.visible .entry good()
{
  .reg .b32 %r<40>;
  .shared .align 4 .b8 a[48];
  .local .align 4 .b8 l[16];
)";
  while (text.size() < std::size_t{300} << 10) text += "  add.u32 %r1, %r2, %r3;\n";
  return text + "  ret;\n}\n";
}

class LazyApi : public SoftGpuLibraryTest {
 protected:
  void SetUp() override {
    SoftGpuLibraryTest::SetUp();
    ASSERT_EQ(CU(cuModuleLoadData)(&module_, LargeText().c_str()), CUDA_SUCCESS);
  }
  CUfunction Get(const char* name) {
    CUfunction function = nullptr;
    EXPECT_EQ(CU(cuModuleGetFunction)(&function, module_, name), CUDA_SUCCESS);
    return function;
  }
  bool Loaded(CUfunction function) {
    CUfunctionLoadingState state = CU_FUNCTION_LOADING_STATE_MAX;
    EXPECT_EQ(CU(cuFuncIsLoaded)(&state, function), CUDA_SUCCESS);
    return state == CU_FUNCTION_LOADING_STATE_LOADED;
  }
  CUresult Attribute(CUfunction function, CUfunction_attribute attribute, int* value) {
    return CU(cuFuncGetAttribute)(value, attribute, function);
  }
  CUresult Launch(CUfunction function) {
    return CU(cuLaunchKernel)(function, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr);
  }

  CUmodule module_ = nullptr;
};

TEST_F(LazyApi, QuestionsDoNotLoadAFunctionAndLoadingDoes) {
  CUmoduleLoadingMode mode{};
  EXPECT_EQ(CU(cuModuleGetLoadingMode)(&mode), CUDA_SUCCESS);
  EXPECT_EQ(mode, CU_MODULE_LAZY_LOADING);
  const CUfunction good = Get("good");
  int value = -1;
  EXPECT_EQ(Attribute(good, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, &value), CUDA_SUCCESS);
  EXPECT_EQ(value, 48);
  EXPECT_EQ(Attribute(good, CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES, &value), CUDA_SUCCESS);
  EXPECT_EQ(value, 16);
  EXPECT_EQ(CU(cuOccupancyMaxActiveBlocksPerMultiprocessor)(&value, good, 64, 0), CUDA_SUCCESS);
  EXPECT_FALSE(Loaded(good));
  EXPECT_EQ(CU(cuFuncLoad)(good), CUDA_SUCCESS);
  EXPECT_TRUE(Loaded(good));
  EXPECT_EQ(Launch(good), CUDA_SUCCESS);
  EXPECT_EQ(CU(cuCtxSynchronize)(), CUDA_SUCCESS);
}

TEST_F(LazyApi, AnErrorInABodyShowsWhenTheBodyIsRead) {
  const CUfunction wrong = Get("wrong");
  int value = -1;
  EXPECT_EQ(Attribute(wrong, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, &value), CUDA_SUCCESS);
  EXPECT_EQ(value, 48);
  EXPECT_EQ(CU(cuFuncLoad)(wrong), CUDA_ERROR_INVALID_PTX);
  EXPECT_FALSE(Loaded(wrong));
  EXPECT_EQ(Launch(wrong), CUDA_ERROR_INVALID_PTX);
  EXPECT_EQ(Launch(wrong), CUDA_ERROR_INVALID_PTX);
  // It is the function that is wrong; the context goes on.
  EXPECT_EQ(Launch(Get("good")), CUDA_SUCCESS);
  EXPECT_EQ(CU(cuCtxSynchronize)(), CUDA_SUCCESS);
}

TEST_F(LazyApi, FiguresThatNoKernelMayHaveAreNotGiven) {
  const CUfunction large = Get("large");
  int value = -1;
  EXPECT_EQ(Attribute(large, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, &value), CUDA_ERROR_INVALID_PTX);
  EXPECT_EQ(value, -1);
  EXPECT_EQ(CU(cuFuncSetAttribute)(large, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 16),
            CUDA_ERROR_INVALID_PTX);
}

// What a kernel has of its own counts before anything else has asked for it.
TEST_F(LazyApi, TheLimitOfDynamicMemoryKnowsTheKernelsOwn) {
  const CUfunction good = Get("good");
  int most = 0;
  EXPECT_EQ(
      CU(cuDeviceGetAttribute)(&most, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, 0),
      CUDA_SUCCESS);
  EXPECT_EQ(
      CU(cuFuncSetAttribute)(good, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, most - 47),
      CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(
      CU(cuFuncSetAttribute)(good, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, most - 48),
      CUDA_SUCCESS);
}

TEST_F(LazyApi, ThreadsMayAskLoadAndLaunchAtOnce) {
  const CUfunction good = Get("good");
  std::vector<std::thread> threads;
  for (int i = 0; i < 6; ++i) {
    threads.emplace_back([this, good, i] {
      EXPECT_EQ(CU(cuCtxSetCurrent)(context_), CUDA_SUCCESS);
      int value = -1;
      if (i % 3 == 0) EXPECT_EQ(Launch(good), CUDA_SUCCESS);
      if (i % 3 == 1) Loaded(good);
      EXPECT_EQ(Attribute(good, CU_FUNC_ATTRIBUTE_NUM_REGS, &value), CUDA_SUCCESS);
      EXPECT_EQ(value, 40);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(CU(cuCtxSynchronize)(), CUDA_SUCCESS);
  EXPECT_TRUE(Loaded(good));
}

// What runs or is about to keeps the text it was read from.
TEST_F(LazyApi, UnloadingWhileAKernelIsQueuedIsSafe) {
  EXPECT_EQ(Launch(Get("good")), CUDA_SUCCESS);
  EXPECT_EQ(CU(cuModuleUnload)(module_), CUDA_SUCCESS);
  EXPECT_EQ(CU(cuCtxSynchronize)(), CUDA_SUCCESS);
}

}  // namespace
}  // namespace farwarp::softgpu
