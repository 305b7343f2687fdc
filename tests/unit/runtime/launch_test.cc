// Registration and launches: what compiled host code does, down to the driver calls it costs.
#include <vector>

#include "tests/unit/runtime/fixture.h"

namespace {

void AddKernel(const FakeLaunch& launch, void** arguments) {
  const float* a = *static_cast<float**>(arguments[0]);
  const float* b = *static_cast<float**>(arguments[1]);
  float* c = *static_cast<float**>(arguments[2]);
  const int n = *static_cast<int*>(arguments[3]);
  for (unsigned i = 0; i < launch.grid[0] * launch.block[0]; ++i) {
    if (static_cast<int>(i) < n) c[i] = a[i] + b[i];
  }
}

// What nvcc's stub does for kernel<<<grid, block, shared, stream>>>(...).
cudaError_t LaunchAsStub(const void* host, dim3 grid, dim3 block, void** arguments,
                         size_t shared_bytes = 0, cudaStream_t stream = nullptr) {
  if (__cudaPushCallConfiguration(grid, block, shared_bytes, stream) != 0) {
    return cudaErrorUnknown;
  }
  cudaKernel_t kernel = nullptr;
  __cudaGetKernel(&kernel, host);
  dim3 popped_grid, popped_block;
  size_t popped_shared = 0;
  cudaStream_t popped_stream = nullptr;
  const cudaError_t popped =
      __cudaPopCallConfiguration(&popped_grid, &popped_block, &popped_shared, &popped_stream);
  if (popped != cudaSuccess) return popped;
  return __cudaLaunchKernel(kernel, popped_grid, popped_block, arguments, popped_shared,
                            popped_stream);
}

TEST_F(RuntimeTest, ComputesVectorAddThroughTheStub) {
  static const char stub = 0;
  driver_->set_kernel("_Z3addPKfS0_Pfi", &AddKernel);
  FakeModule module;
  module.Function(&stub, "_Z3addPKfS0_Pfi");
  int n = 1000;
  const size_t bytes = sizeof(float) * static_cast<size_t>(n);
  std::vector<float> a(1000), b(1000), c(1000);
  for (size_t i = 0; i < a.size(); ++i) {
    a[i] = static_cast<float>(i);
    b[i] = 0.5f;
  }
  float *da = nullptr, *db = nullptr, *dc = nullptr;
  for (float** p : {&da, &db, &dc}) {
    ASSERT_EQ(cudaMalloc(reinterpret_cast<void**>(p), bytes), cudaSuccess);
  }
  ASSERT_EQ(cudaMemcpy(da, a.data(), bytes, cudaMemcpyHostToDevice), cudaSuccess);
  ASSERT_EQ(cudaMemcpy(db, b.data(), bytes, cudaMemcpyHostToDevice), cudaSuccess);
  void* arguments[] = {&da, &db, &dc, &n};
  ASSERT_EQ(LaunchAsStub(&stub, Dim(4), Dim(256), arguments), cudaSuccess);
  ASSERT_EQ(cudaMemcpy(c.data(), dc, bytes, cudaMemcpyDeviceToHost), cudaSuccess);
  for (size_t i = 0; i < c.size(); ++i) ASSERT_EQ(c[i], static_cast<float>(i) + 0.5f);
  for (float* p : {da, db, dc}) EXPECT_EQ(cudaFree(p), cudaSuccess);

  // Exactly the calls of the first milestone, and nothing else.
  EXPECT_EQ(Calls("cuMemAlloc_v2"), 3);
  EXPECT_EQ(Calls("cuMemcpyHtoD_v2"), 2);
  EXPECT_EQ(Calls("cuLibraryLoadData"), 1);
  EXPECT_EQ(Calls("cuLibraryGetKernel"), 1);
  EXPECT_EQ(Calls("cuLaunchKernel"), 1);
  EXPECT_EQ(Calls("cuMemcpyDtoH_v2"), 1);
  EXPECT_EQ(Calls("cuMemFree_v2"), 3);
  EXPECT_EQ(AllCalls(), 12);
  EXPECT_EQ(driver_->last_image(), &module.container());
}

TEST_F(RuntimeTest, EachLaunchIsOneDriverCall) {
  static const char stub = 0;
  driver_->set_kernel("once", nullptr);
  FakeModule module;
  module.Function(&stub, "once");
  ASSERT_EQ(LaunchAsStub(&stub, Dim(1), Dim(1), nullptr), cudaSuccess);
  driver_->clear_calls();
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(LaunchAsStub(&stub, Dim(1), Dim(32), nullptr), cudaSuccess);
    ASSERT_EQ(cudaLaunchKernel(&stub, Dim(1), Dim(32), nullptr, 0, nullptr), cudaSuccess);
  }
  EXPECT_EQ(Calls("cuLaunchKernel"), 200);
  EXPECT_EQ(AllCalls(), 200);
}

TEST_F(RuntimeTest, PassesTheLaunchConfigurationOn) {
  static const char stub = 0;
  driver_->set_kernel("shape", nullptr);
  FakeModule module;
  module.Function(&stub, "shape");
  cudaStream_t stream = nullptr;
  ASSERT_EQ(cudaStreamCreate(&stream), cudaSuccess);
  ASSERT_EQ(LaunchAsStub(&stub, Dim(2, 3, 4), Dim(8, 4, 2), nullptr, 4096, stream), cudaSuccess);
  FakeLaunch launch = driver_->last_launch();
  EXPECT_STREQ(launch.symbol, "cuLaunchKernel");
  EXPECT_STREQ(launch.kernel, "shape");
  EXPECT_EQ(launch.grid[0] * 100 + launch.grid[1] * 10 + launch.grid[2], 234u);
  EXPECT_EQ(launch.block[0] * 100 + launch.block[1] * 10 + launch.block[2], 842u);
  EXPECT_EQ(launch.shared_bytes, 4096u);
  EXPECT_EQ(launch.stream, stream);

  ASSERT_EQ(cudaLaunchCooperativeKernel(&stub, Dim(5), Dim(6), nullptr, 7, stream), cudaSuccess);
  launch = driver_->last_launch();
  EXPECT_STREQ(launch.symbol, "cuLaunchCooperativeKernel");
  EXPECT_EQ(launch.shared_bytes, 7u);

  cudaLaunchConfig_t config = {};
  config.gridDim = Dim(9);
  config.blockDim = Dim(10);
  config.dynamicSmemBytes = 11;
  config.stream = stream;
  ASSERT_EQ(cudaLaunchKernelExC(&config, &stub, nullptr), cudaSuccess);
  launch = driver_->last_launch();
  EXPECT_STREQ(launch.symbol, "cuLaunchKernelEx");
  EXPECT_EQ(launch.grid[0], 9u);
  EXPECT_EQ(launch.block[0], 10u);
  EXPECT_EQ(launch.shared_bytes, 11u);
  EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
}

TEST_F(RuntimeTest, PerThreadTwinsCallTheDriversTwins) {
  static const char stub = 0;
  driver_->set_kernel("twin", nullptr);
  FakeModule module;
  module.Function(&stub, "twin");
  cudaKernel_t kernel = nullptr;
  ASSERT_EQ(__cudaGetKernel(&kernel, &stub), cudaSuccess);
  ASSERT_EQ(__cudaLaunchKernel_ptsz(kernel, Dim(1), Dim(1), nullptr, 0, nullptr), cudaSuccess);
  EXPECT_STREQ(driver_->last_launch().symbol, "cuLaunchKernel_ptsz");
  ASSERT_EQ(cudaLaunchKernel_ptsz(&stub, Dim(1), Dim(1), nullptr, 0, nullptr), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize_ptsz(nullptr), cudaSuccess);
  void* memory = nullptr;
  ASSERT_EQ(cudaMalloc(&memory, 16), cudaSuccess);
  int value = 5;
  ASSERT_EQ(cudaMemcpy_ptds(memory, &value, sizeof(value), cudaMemcpyHostToDevice), cudaSuccess);
  ASSERT_EQ(cudaMemcpyAsync_ptsz(&value, memory, sizeof(value), cudaMemcpyDeviceToHost, nullptr),
            cudaSuccess);
  ASSERT_EQ(cudaFree(memory), cudaSuccess);
  EXPECT_EQ(Calls("cuLaunchKernel_ptsz"), 2);
  EXPECT_EQ(Calls("cuStreamSynchronize_ptsz"), 1);
  EXPECT_EQ(Calls("cuMemcpyHtoD_v2_ptds"), 1);
  EXPECT_EQ(Calls("cuMemcpyDtoHAsync_v2_ptsz"), 1);
  EXPECT_EQ(Calls("cuLaunchKernel") + Calls("cuStreamSynchronize") + Calls("cuMemcpyHtoD_v2"), 0);
}

TEST_F(RuntimeTest, RemembersLaunchErrorsThatStubsDrop) {
  static const char known = 0, unknown = 0;
  driver_->set_kernel("known", nullptr);
  FakeModule module;
  module.Function(&known, "known");

  LaunchAsStub(&known, Dim(0), Dim(1), nullptr);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidConfiguration);
  LaunchAsStub(&known, Dim(1), Dim(2048), nullptr);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidConfiguration);
  LaunchAsStub(&known, Dim(1), Dim(1, 1, 65), nullptr);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidConfiguration);
  LaunchAsStub(&known, Dim(1, 65536), Dim(1), nullptr);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidConfiguration);
  EXPECT_EQ(AllCalls(), 0);

  LaunchAsStub(&unknown, Dim(1), Dim(1), nullptr);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidDeviceFunction);

  driver_->fail("cuLaunchKernel", CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES);
  LaunchAsStub(&known, Dim(1), Dim(1), nullptr);
  driver_->fail("cuLaunchKernel", CUDA_SUCCESS);
  EXPECT_EQ(cudaPeekAtLastError(), cudaErrorLaunchOutOfResources);
  EXPECT_EQ(cudaGetLastError(), cudaErrorLaunchOutOfResources);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);

  dim3 grid, block;
  size_t shared_bytes = 0;
  cudaStream_t stream = nullptr;
  EXPECT_EQ(__cudaPopCallConfiguration(&grid, &block, &shared_bytes, &stream),
            cudaErrorMissingConfiguration);
}

TEST_F(RuntimeTest, ConfigurationsNestPerThread) {
  ASSERT_EQ(__cudaPushCallConfiguration(Dim(1), Dim(1), 1, nullptr), 0u);
  ASSERT_EQ(__cudaPushCallConfiguration(Dim(2), Dim(2), 2, nullptr), 0u);
  InThread([] {
    dim3 grid, block;
    size_t shared_bytes = 0;
    cudaStream_t stream = nullptr;
    EXPECT_EQ(__cudaPopCallConfiguration(&grid, &block, &shared_bytes, &stream),
              cudaErrorMissingConfiguration);
  });
  for (unsigned expected : {2u, 1u}) {
    dim3 grid, block;
    size_t shared_bytes = 0;
    cudaStream_t stream = nullptr;
    ASSERT_EQ(__cudaPopCallConfiguration(&grid, &block, &shared_bytes, &stream), cudaSuccess);
    EXPECT_EQ(grid.x, expected);
    EXPECT_EQ(shared_bytes, expected);
  }
}

TEST_F(RuntimeTest, CodeForNoDeviceIsAnError) {
  static const char stub = 0;
  FakeContainer empty;
  empty.entry_bytes = 0;
  FakeWrapper wrapper;
  wrapper.container = &empty;
  FakeModule module(wrapper);
  module.Function(&stub, "nowhere");
  LaunchAsStub(&stub, Dim(1), Dim(1), nullptr);
  EXPECT_EQ(cudaGetLastError(), cudaErrorNoKernelImageForDevice);

  FakeWrapper damaged;
  damaged.magic = 7;
  FakeModule broken(damaged);
  broken.Function(&stub, "nowhere");
  LaunchAsStub(&stub, Dim(1), Dim(1), nullptr);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidKernelImage);
}

TEST_F(RuntimeTest, LinksTheRelocatablePartsOfALinkedProgram) {
  static const char stub = 0;
  driver_->set_kernel("linked", nullptr);
  FakeContainer cubins_only, first, second;
  cubins_only.entry_bytes = 0;
  const void* parts[] = {&first, &second, nullptr};
  FakeWrapper wrapper;
  wrapper.version = 2;
  wrapper.container = &cubins_only;
  wrapper.extra = parts;
  FakeModule module(wrapper);
  module.Function(&stub, "linked");
  ASSERT_EQ(LaunchAsStub(&stub, Dim(1), Dim(1), nullptr), cudaSuccess);
  EXPECT_EQ(Calls("cuLinkAddData_v2"), 2);
  EXPECT_EQ(Calls("cuLinkDestroy"), 1);
  EXPECT_EQ(Calls("cuLaunchKernel"), 1);
}

TEST_F(RuntimeTest, UnregisteringUnloadsAndForgets) {
  static const char stub = 0;
  driver_->set_kernel("gone", nullptr);
  const int before = driver_->libraries();
  FakeModule module;
  module.Function(&stub, "gone");
  ASSERT_EQ(LaunchAsStub(&stub, Dim(1), Dim(1), nullptr), cudaSuccess);
  EXPECT_EQ(driver_->libraries(), before + 1);
  cudaKernel_t kernel = nullptr;
  ASSERT_EQ(__cudaGetKernel(&kernel, &stub), cudaSuccess);
  module.Unregister();
  EXPECT_EQ(driver_->libraries(), before);
  EXPECT_EQ(cudaLaunchKernel(&stub, Dim(1), Dim(1), nullptr, 0, nullptr),
            cudaErrorInvalidDeviceFunction);
  // A handle that host code kept is refused too.
  EXPECT_EQ(__cudaLaunchKernel(kernel, Dim(1), Dim(1), nullptr, 0, nullptr),
            cudaErrorInvalidDeviceFunction);

  // The same stub may come back with other code, as after dlclose and dlopen.
  driver_->set_kernel("back", nullptr);
  FakeModule again;
  again.Function(&stub, "back");
  ASSERT_EQ(LaunchAsStub(&stub, Dim(1), Dim(1), nullptr), cudaSuccess);
  EXPECT_STREQ(driver_->last_launch().kernel, "back");
}

TEST_F(RuntimeTest, KernelsAndFunctionsMayStandForStubs) {
  static const char stub = 0;
  driver_->set_kernel("handle", nullptr);
  FakeModule module;
  module.Function(&stub, "handle");
  cudaKernel_t kernel = nullptr;
  cudaFunction_t function = nullptr;
  ASSERT_EQ(cudaGetKernel(&kernel, &stub), cudaSuccess);
  ASSERT_EQ(cudaGetFuncBySymbol(&function, &stub), cudaSuccess);
  for (const void* host : {static_cast<const void*>(kernel), static_cast<const void*>(function)}) {
    EXPECT_EQ(cudaLaunchKernel(host, Dim(1), Dim(1), nullptr, 0, nullptr), cudaSuccess);
    const char* name = nullptr;
    EXPECT_EQ(cudaFuncGetName(&name, host), cudaSuccess);
    EXPECT_STREQ(name, "handle");
  }
  EXPECT_EQ(Calls("cuLaunchKernel"), 2);
}

TEST_F(RuntimeTest, ManagedVariablesAreFilledWhenTheCodeLoads) {
  static void* managed = nullptr;
  FakeModule module;
  module.Managed(&managed, "managed_variable", 64);
  EXPECT_EQ(AllCalls(), 0);
  EXPECT_EQ(managed, nullptr);
  EXPECT_EQ(__cudaInitModule(module.handle()), 1);
  ASSERT_NE(managed, nullptr);
  // Host code passes the variable's own address, which is the device's.
  void* address = nullptr;
  ASSERT_EQ(cudaGetSymbolAddress(&address, managed), cudaSuccess);
  EXPECT_EQ(address, managed);
}

TEST_F(RuntimeTest, CodeWhoseManagedVariablesHaveNoPlaceDoesNotLoad) {
  static int* managed = nullptr;
  static const char stub = 0;
  FakeModule module;
  module.Managed(reinterpret_cast<void**>(&managed), "managed_variable", 64);
  module.Function(&stub, "kernel");
  driver_->fail("cuLibraryGetManaged", CUDA_ERROR_NOT_SUPPORTED);
  EXPECT_EQ(__cudaInitModule(module.handle()), 0);
  EXPECT_EQ(cudaGetLastError(), cudaErrorNotSupported);
  EXPECT_EQ(Calls("cuLibraryUnload"), 1);
  // Host code reads through the pointer all the same.
  ASSERT_NE(managed, nullptr);
  EXPECT_EQ(managed[15], 0);
  LaunchAsStub(&stub, Dim(1), Dim(1), nullptr);
  EXPECT_EQ(cudaGetLastError(), cudaErrorNotSupported);
  void* address = nullptr;
  EXPECT_EQ(cudaGetSymbolAddress(&address, nullptr), cudaErrorInvalidSymbol);
  const int* placeholder = managed;
  driver_->fail("cuLibraryGetManaged", CUDA_SUCCESS);
  EXPECT_EQ(__cudaInitModule(module.handle()), 1);
  EXPECT_NE(managed, placeholder);
}

TEST_F(RuntimeTest, SymbolsAreCopiedWithinTheirBounds) {
  static int variable[16], stranger = 0;
  FakeModule module;
  module.Variable(variable, "variable", sizeof(variable));
  size_t bytes = 0;
  ASSERT_EQ(cudaGetSymbolSize(&bytes, variable), cudaSuccess);
  EXPECT_EQ(bytes, 64u);
  int values[16] = {1, 2, 3, 4};
  ASSERT_EQ(cudaMemcpyToSymbol(variable, values, 16, 48, cudaMemcpyHostToDevice), cudaSuccess);
  int read[4] = {};
  ASSERT_EQ(cudaMemcpyFromSymbol(read, variable, 16, 48, cudaMemcpyDeviceToHost), cudaSuccess);
  EXPECT_EQ(std::memcmp(read, values, sizeof(read)), 0);
  EXPECT_EQ(cudaMemcpyToSymbol(variable, values, 20, 48, cudaMemcpyHostToDevice),
            cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpyToSymbol(variable, values, 1, ~size_t{0}, cudaMemcpyHostToDevice),
            cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpyToSymbol(variable, values, 4, 0, cudaMemcpyDeviceToHost),
            cudaErrorInvalidMemcpyDirection);
  EXPECT_EQ(cudaMemcpyToSymbol(&stranger, values, 4, 0, cudaMemcpyHostToDevice),
            cudaErrorInvalidSymbol);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidSymbol);
}

TEST_F(RuntimeTest, EightThreadsLaunchTheSameKernelLoadedOnce) {
  static const char stub = 0;
  driver_->set_kernel("shared", nullptr);
  FakeModule module;
  module.Function(&stub, "shared");
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([] {
      for (int i = 0; i < 200; ++i) {
        ASSERT_EQ(LaunchAsStub(&stub, Dim(1), Dim(1), nullptr), cudaSuccess);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(Calls("cuLibraryLoadData"), 1);
  EXPECT_EQ(Calls("cuLaunchKernel"), 1600);
  EXPECT_EQ(Calls("cuCtxSetCurrent"), 8);
}

}  // namespace
