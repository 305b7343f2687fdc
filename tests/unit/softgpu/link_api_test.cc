// cuLink* and the options of the compiler: texts become one image that loads and runs, and whatever
// is wrong is in the caller's log.
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "tests/unit/softgpu/library_fixture.h"

namespace farwarp::softgpu {
namespace {

constexpr char kHead[] = ".version 7.8\n.target sm_80\n.address_size 64\n";

const std::string kMain = std::string(kHead) + R"(
.extern .func (.param .b32 r) twice(.param .b32 x);
.extern .global .u32 bias;
.visible .entry run(.param .u64 out, .param .u32 x) {
  .reg .b64 %rd<3>;
  .reg .b32 %r<5>;
  ld.param.u64 %rd1, [out];
  ld.param.u32 %r1, [x];
  { .param .b32 in; .param .b32 got;
    st.param.b32 [in], %r1;
    call (got), twice, (in);
    ld.param.b32 %r2, [got]; }
  ld.global.u32 %r3, [bias];
  add.u32 %r4, %r2, %r3;
  st.global.u32 [%rd1], %r4;
  ret;
}
)";
const std::string kOther = std::string(kHead) + R"(
.visible .global .u32 bias = 5;
.visible .func (.param .b32 r) twice(.param .b32 x) {
  .reg .b32 %r<3>;
  ld.param.b32 %r1, [x];
  shl.b32 %r2, %r1, 1;
  st.param.b32 [r], %r2;
  ret;
}
)";

class LinkApi : public SoftGpuLibraryTest {
 protected:
  void SetUp() override {
    SoftGpuLibraryTest::SetUp();
    options_ = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES, CU_JIT_INFO_LOG_BUFFER,
                CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES, CU_JIT_WALL_TIME};
    ResetLogs();
  }
  void ResetLogs() {
    errors_.fill('x');
    info_.fill('x');
    values_ = {errors_.data(), Number(errors_.size()), info_.data(), Number(info_.size()), nullptr};
  }
  static void* Number(std::size_t number) { return reinterpret_cast<void*>(number); }
  std::size_t ErrorBytes() const { return reinterpret_cast<std::size_t>(values_[1]); }
  std::string Errors() const { return {errors_.data(), ErrorBytes()}; }

  CUlinkState Create() {
    CUlinkState state = nullptr;
    EXPECT_EQ(CU(cuLinkCreate_v2)(static_cast<unsigned>(options_.size()), options_.data(),
                                  values_.data(), &state),
              CUDA_SUCCESS);
    return state;
  }
  CUresult Add(CUlinkState state, const std::string& text, const char* name,
               CUjitInputType type = CU_JIT_INPUT_PTX) {
    return CU(cuLinkAddData_v2)(state, type, const_cast<char*>(text.c_str()), text.size() + 1, name,
                                0, nullptr, nullptr);
  }
  // What the kernel `run` stores for x.
  std::uint32_t Run(CUmodule module, std::uint32_t x) {
    CUfunction function = nullptr;
    EXPECT_EQ(CU(cuModuleGetFunction)(&function, module, "run"), CUDA_SUCCESS);
    CUdeviceptr out = 0;
    EXPECT_EQ(CU(cuMemAlloc_v2)(&out, 4), CUDA_SUCCESS);
    void* params[] = {&out, &x};
    EXPECT_EQ(CU(cuLaunchKernel)(function, 1, 1, 1, 1, 1, 1, 0, nullptr, params, nullptr),
              CUDA_SUCCESS);
    std::uint32_t value = 0;
    EXPECT_EQ(CU(cuMemcpyDtoH_v2)(&value, out, 4), CUDA_SUCCESS);
    EXPECT_EQ(CU(cuMemFree_v2)(out), CUDA_SUCCESS);
    return value;
  }

  std::vector<CUjit_option> options_;
  std::vector<void*> values_;
  std::array<char, 2048> errors_{};
  std::array<char, 2048> info_{};
};

TEST_F(LinkApi, TextsBecomeOneModule) {
  const CUlinkState state = Create();
  ASSERT_EQ(Add(state, kMain, "main.ptx"), CUDA_SUCCESS);
  ASSERT_EQ(Add(state, kOther, nullptr), CUDA_SUCCESS);
  void* image = nullptr;
  std::size_t bytes = 0;
  ASSERT_EQ(CU(cuLinkComplete)(state, &image, &bytes), CUDA_SUCCESS) << Errors();
  EXPECT_EQ(ErrorBytes(), 0u);
  float milliseconds = -1;
  std::memcpy(&milliseconds, &values_[4], sizeof milliseconds);
  EXPECT_GT(milliseconds, 0.0f);
  // The image is whole: it outlives the link and needs nothing from it.
  const std::vector<char> copy(static_cast<char*>(image), static_cast<char*>(image) + bytes);
  CUmodule module = nullptr;
  ASSERT_EQ(CU(cuModuleLoadData)(&module, image), CUDA_SUCCESS);
  EXPECT_EQ(CU(cuLinkDestroy)(state), CUDA_SUCCESS);
  EXPECT_EQ(CU(cuLinkDestroy)(state), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(Run(module, 20), 45u);
  CUdeviceptr bias = 0;
  ASSERT_EQ(CU(cuModuleGetGlobal_v2)(&bias, nullptr, module, "bias"), CUDA_SUCCESS);
  const std::uint32_t changed = 100;
  ASSERT_EQ(CU(cuMemcpyHtoD_v2)(bias, &changed, 4), CUDA_SUCCESS);
  EXPECT_EQ(Run(module, 20), 140u);
  // Loaded again it has variables of its own, as a library too.
  CUlibrary library = nullptr;
  ASSERT_EQ(CU(cuLibraryLoadData)(&library, copy.data(), nullptr, nullptr, 0, nullptr, nullptr, 0),
            CUDA_SUCCESS);
  CUmodule again = nullptr;
  ASSERT_EQ(CU(cuLibraryGetModule)(&again, library), CUDA_SUCCESS);
  EXPECT_EQ(Run(again, 1), 7u);
  EXPECT_EQ(CU(cuLibraryUnload)(library), CUDA_SUCCESS);
  EXPECT_EQ(CU(cuModuleUnload)(module), CUDA_SUCCESS);
}

TEST_F(LinkApi, FilesAndLinkedImagesAreInputsToo) {
  std::string path = testing::TempDir() + "farwarp_link_XXXXXX";
  const int file = mkstemp(path.data());
  ASSERT_GE(file, 0);
  ASSERT_EQ(write(file, kOther.data(), kOther.size()), static_cast<ssize_t>(kOther.size()));
  close(file);
  CUlinkState first = Create();
  ASSERT_EQ(CU(cuLinkAddFile_v2)(first, CU_JIT_INPUT_PTX, path.c_str(), 0, nullptr, nullptr),
            CUDA_SUCCESS);
  EXPECT_EQ(CU(cuLinkAddFile_v2)(first, CU_JIT_INPUT_PTX, "/nowhere", 0, nullptr, nullptr),
            CUDA_ERROR_FILE_NOT_FOUND);
  std::remove(path.c_str());
  void* half = nullptr;
  std::size_t bytes = 0;
  ASSERT_EQ(CU(cuLinkComplete)(first, &half, &bytes), CUDA_SUCCESS);
  const CUlinkState second = Create();
  ASSERT_EQ(
      CU(cuLinkAddData_v2)(second, CU_JIT_INPUT_CUBIN, half, bytes, "half", 0, nullptr, nullptr),
      CUDA_SUCCESS);
  ASSERT_EQ(Add(second, kMain, "main.ptx"), CUDA_SUCCESS);
  void* image = nullptr;
  ASSERT_EQ(CU(cuLinkComplete)(second, &image, &bytes), CUDA_SUCCESS) << Errors();
  CUmodule module = nullptr;
  ASSERT_EQ(CU(cuModuleLoadData)(&module, image), CUDA_SUCCESS);
  EXPECT_EQ(Run(module, 3), 11u);
  EXPECT_EQ(CU(cuLinkDestroy)(first), CUDA_SUCCESS);
  EXPECT_EQ(CU(cuLinkDestroy)(second), CUDA_SUCCESS);
}

TEST_F(LinkApi, WhatIsWrongIsInTheLog) {
  CUlinkState state = Create();
  std::string broken = kOther;
  broken.replace(broken.find("shl.b32"), 7, "shl.oops");
  EXPECT_EQ(Add(state, broken, "broken.ptx"), CUDA_ERROR_INVALID_PTX);
  EXPECT_NE(Errors().find("broken.ptx: ptx:9:"), std::string::npos) << Errors();
  EXPECT_NE(Errors().find("oops"), std::string::npos) << Errors();
  EXPECT_EQ(CU(cuLinkDestroy)(state), CUDA_SUCCESS);

  ResetLogs();
  state = Create();
  ASSERT_EQ(Add(state, kMain, "main.ptx"), CUDA_SUCCESS);
  void* image = nullptr;
  std::size_t bytes = 0;
  EXPECT_EQ(CU(cuLinkComplete)(state, &image, &bytes), CUDA_ERROR_INVALID_PTX);
  EXPECT_NE(Errors().find("Undefined reference to 'twice' in 'main.ptx'"), std::string::npos)
      << Errors();
  EXPECT_EQ(image, nullptr);
  // The missing part may still come.
  ASSERT_EQ(Add(state, kOther, "other.ptx"), CUDA_SUCCESS);
  EXPECT_EQ(CU(cuLinkComplete)(state, &image, &bytes), CUDA_SUCCESS) << Errors();
  EXPECT_EQ(Add(state, kOther, "late.ptx"), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(CU(cuLinkDestroy)(state), CUDA_SUCCESS);

  ResetLogs();
  state = Create();
  ASSERT_EQ(Add(state, kOther, "a.ptx"), CUDA_SUCCESS);
  ASSERT_EQ(Add(state, kOther, "b.ptx"), CUDA_SUCCESS);
  EXPECT_EQ(CU(cuLinkComplete)(state, &image, &bytes), CUDA_ERROR_INVALID_PTX);
  EXPECT_NE(Errors().find("b.ptx: ptx:6:"), std::string::npos) << Errors();
  EXPECT_NE(Errors().find("first defined in 'a.ptx'"), std::string::npos) << Errors();
  EXPECT_EQ(CU(cuLinkDestroy)(state), CUDA_SUCCESS);
}

TEST_F(LinkApi, MachineCodeCannotBeLinked) {
  const CUlinkState state = Create();
  std::string elf(64, '\0');
  elf.replace(0, 4,
              "\x7f"
              "ELF");
  EXPECT_EQ(Add(state, elf, "old.cubin", CU_JIT_INPUT_CUBIN), CUDA_ERROR_NO_BINARY_FOR_GPU);
  EXPECT_NE(Errors().find("old.cubin: the image is machine code"), std::string::npos) << Errors();
  EXPECT_EQ(Add(state, kOther, "x", CU_JIT_INPUT_CUBIN), CUDA_ERROR_INVALID_IMAGE);
  EXPECT_EQ(Add(state, kOther, "x", CU_JIT_INPUT_NVVM), CUDA_ERROR_NOT_SUPPORTED);
  EXPECT_EQ(Add(state, kOther, "x", static_cast<CUjitInputType>(77)), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(Add(nullptr, kOther, "x"), CUDA_ERROR_INVALID_HANDLE);
  void* image = nullptr;
  EXPECT_EQ(CU(cuLinkComplete)(state, &image, nullptr), CUDA_ERROR_INVALID_IMAGE);
  EXPECT_EQ(CU(cuLinkDestroy)(state), CUDA_SUCCESS);
}

TEST_F(LinkApi, OptionsOfLoadsMeanWhatTheySay) {
  CUmodule module = nullptr;
  const auto load = [&](const std::string& text) {
    return CU(cuModuleLoadDataEx)(&module, text.c_str(), static_cast<unsigned>(options_.size()),
                                  options_.data(), values_.data());
  };
  const std::string entry = std::string(kHead) + ".visible .entry e() {\n  ret;\n}\n";
  options_.insert(options_.end(),
                  {CU_JIT_MAX_REGISTERS, CU_JIT_OPTIMIZATION_LEVEL, CU_JIT_GENERATE_LINE_INFO,
                   CU_JIT_FALLBACK_STRATEGY, CU_JIT_CACHE_MODE, CU_JIT_TARGET, CU_JIT_LOG_VERBOSE});
  const auto with = [&](std::array<std::size_t, 7> numbers) {
    ResetLogs();
    for (const std::size_t number : numbers) values_.push_back(Number(number));
  };
  with({32, 4, 1, CU_PREFER_BINARY, CU_JIT_CACHE_OPTION_CA, 90, 1});
  ASSERT_EQ(load(entry), CUDA_SUCCESS);
  EXPECT_NE(std::string(info_.data()).find("kernel e: "), std::string::npos) << info_.data();
  EXPECT_EQ(CU(cuModuleUnload)(module), CUDA_SUCCESS);
  with({32, 4, 1, 0, 0, 90, 0});
  ASSERT_EQ(load(entry), CUDA_SUCCESS);
  EXPECT_EQ(std::string(info_.data()), "");
  EXPECT_EQ(CU(cuModuleUnload)(module), CUDA_SUCCESS);
  with({32, 5, 1, 0, 0, 90, 0});
  EXPECT_EQ(load(entry), CUDA_ERROR_INVALID_VALUE);
  with({32, 0, 1, 2, 0, 90, 0});
  EXPECT_EQ(load(entry), CUDA_ERROR_INVALID_VALUE);
  with({32, 0, 1, 0, 3, 90, 0});
  EXPECT_EQ(load(entry), CUDA_ERROR_INVALID_VALUE);
  // The device is 12.1.
  with({32, 0, 1, 0, 0, 200, 0});
  EXPECT_EQ(load(entry), CUDA_ERROR_NO_BINARY_FOR_GPU);
  EXPECT_NE(Errors().find("sm_200"), std::string::npos) << Errors();
  with({32, 0, 1, 0, 0, 90, 0});
  EXPECT_EQ(load(".version 9.0\n.target sm_200\n.address_size 64\n.visible .entry e() { ret; }\n"),
            CUDA_ERROR_INVALID_PTX);
  EXPECT_NE(Errors().find("sm_200"), std::string::npos) << Errors();
  const CUjit_option symbols = CU_JIT_GLOBAL_SYMBOL_COUNT;
  void* none = nullptr;
  EXPECT_EQ(
      CU(cuModuleLoadDataEx)(&module, entry.c_str(), 1, const_cast<CUjit_option*>(&symbols), &none),
      CUDA_ERROR_NOT_SUPPORTED);
}

TEST_F(LinkApi, ErrorsInFunctionsThatNobodyCallsAreFound) {
  std::string broken = kOther;
  broken.replace(broken.find("shl.b32"), 7, "shl.oops");
  CUmodule module = nullptr;
  EXPECT_EQ(CU(cuModuleLoadDataEx)(&module, broken.c_str(), 2, options_.data(), values_.data()),
            CUDA_ERROR_INVALID_PTX);
  EXPECT_NE(Errors().find("ptx:9:"), std::string::npos) << Errors();
}

TEST_F(LinkApi, ShortLogsAreCut) {
  values_[1] = Number(10);
  CUmodule module = nullptr;
  EXPECT_EQ(CU(cuModuleLoadDataEx)(&module, ".version 7.0\n.target sm_70\n.oops\n", 2,
                                   options_.data(), values_.data()),
            CUDA_ERROR_INVALID_PTX);
  EXPECT_EQ(ErrorBytes(), 9u);
  EXPECT_EQ(std::strlen(errors_.data()), 9u);
  EXPECT_EQ(errors_[10], 'x');
}

}  // namespace
}  // namespace farwarp::softgpu
