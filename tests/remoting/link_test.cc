// Linking through client and server: inputs cost nothing until the result is asked for, which
// then takes one round trip; what is wrong is in the application's logs; a hostile client gains
// nothing.
#include <array>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "client/session/command.h"
#include "farwarp/wire/internal_command.h"
#include "farwarp/wire/limits.h"
#include "tests/remoting/soft_loop.h"

namespace farwarp::tests {
namespace {

const std::string kHead = ".version 7.8\n.target sm_80\n.address_size 64\n";
const std::string kMain = kHead + R"(
.extern .func (.param .b32 r) answer();
.visible .entry run(.param .u64 out) {
  .reg .b64 %rd<2>;
  .reg .b32 %r<2>;
  ld.param.u64 %rd1, [out];
  { .param .b32 got;
    call (got), answer, ();
    ld.param.b32 %r1, [got]; }
  st.global.u32 [%rd1], %r1;
  ret;
}
)";
const std::string kOther = kHead + R"(
.visible .global .u32 value = 42;
.visible .func (.param .b32 r) answer() {
  .reg .b32 %r<2>;
  ld.global.u32 %r1, [value];
  st.param.b32 [r], %r1;
  ret;
}
)";

class RemoteLink : public SoftLoop {
 protected:
  static void* Number(std::size_t number) { return reinterpret_cast<void*>(number); }
  std::string Errors() const { return {errors_.data(), reinterpret_cast<std::size_t>(values_[1])}; }
  CUlinkState Create() {
    errors_.fill('x');
    values_ = {errors_.data(), Number(errors_.size()), nullptr, Number(1)};
    CUlinkState state = nullptr;
    EXPECT_EQ(cu::cuLinkCreate_v2(4, options_.data(), values_.data(), &state), CUDA_SUCCESS);
    return state;
  }
  static CUresult Add(CUlinkState state, const std::string& text, const char* name) {
    return cu::cuLinkAddData_v2(state, CU_JIT_INPUT_PTX, const_cast<char*>(text.data()),
                                text.size(), name, 0, nullptr, nullptr);
  }
  static std::uint32_t Run(const void* image) {
    CUmodule module = nullptr;
    CUfunction function = nullptr;
    EXPECT_EQ(cu::cuModuleLoadData(&module, image), CUDA_SUCCESS);
    EXPECT_EQ(cu::cuModuleGetFunction(&function, module, "run"), CUDA_SUCCESS);
    CUdeviceptr out = 0;
    EXPECT_EQ(cu::cuMemAlloc_v2(&out, 4), CUDA_SUCCESS);
    void* params[] = {&out};
    EXPECT_EQ(cu::cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, nullptr, params, nullptr),
              CUDA_SUCCESS);
    std::uint32_t value = 0;
    EXPECT_EQ(cu::cuMemcpyDtoH_v2(&value, out, 4), CUDA_SUCCESS);
    EXPECT_EQ(cu::cuMemFree_v2(out), CUDA_SUCCESS);
    return value;
  }

  std::array<CUjit_option, 4> options_ = {CU_JIT_ERROR_LOG_BUFFER,
                                          CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES, CU_JIT_WALL_TIME,
                                          CU_JIT_GENERATE_LINE_INFO};
  std::array<void*, 4> values_{};
  std::array<char, 1024> errors_{};
};

TEST_F(RemoteLink, OnlyTheResultTakesARoundTrip) {
  const CUlinkState state = Create();
  ASSERT_EQ(Add(state, kMain, "main.ptx"), CUDA_SUCCESS);
  ASSERT_EQ(Add(state, kOther, nullptr), CUDA_SUCCESS);
  EXPECT_EQ(loop_->TakeRoundTrips(), 0u);
  void* image = nullptr;
  std::size_t bytes = 0;
  ASSERT_EQ(cu::cuLinkComplete(state, &image, &bytes), CUDA_SUCCESS) << Errors();
  EXPECT_EQ(loop_->TakeRoundTrips(), 1u);
  EXPECT_EQ(Errors(), "");
  float milliseconds = 0;
  std::memcpy(&milliseconds, &values_[2], sizeof milliseconds);
  EXPECT_GT(milliseconds, 0.0f);
  // Asked again it is the same.
  void* again = nullptr;
  ASSERT_EQ(cu::cuLinkComplete(state, &again, nullptr), CUDA_SUCCESS);
  EXPECT_EQ(again, image);
  EXPECT_EQ(Add(state, kOther, "late"), CUDA_ERROR_INVALID_VALUE);
  const std::vector<char> copy(static_cast<char*>(image), static_cast<char*>(image) + bytes);
  EXPECT_EQ(cu::cuLinkDestroy(state), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuLinkDestroy(state), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(loop_->TakeRoundTrips(), 0u);
  EXPECT_EQ(Run(copy.data()), 42u);
}

TEST_F(RemoteLink, LongResultsAreFetched) {
  const CUlinkState state = Create();
  ASSERT_EQ(Add(state, kMain, "main.ptx"), CUDA_SUCCESS);
  std::string large = kOther;
  while (large.size() < 3 * wire::kMaxLinkedInReply) large += "// " + std::string(1000, '-') + "\n";
  ASSERT_EQ(Add(state, large, "large.ptx"), CUDA_SUCCESS);
  void* image = nullptr;
  std::size_t bytes = 0;
  ASSERT_EQ(cu::cuLinkComplete(state, &image, &bytes), CUDA_SUCCESS) << Errors();
  EXPECT_EQ(loop_->TakeRoundTrips(), 2u);
  EXPECT_GT(bytes, large.size());
  EXPECT_EQ(Run(image), 42u);
  EXPECT_EQ(cu::cuLinkDestroy(state), CUDA_SUCCESS);
}

TEST_F(RemoteLink, WhatIsWrongIsInTheLog) {
  CUlinkState state = Create();
  std::string broken = kOther;
  broken.replace(broken.find("ld.global"), 9, "ld.oops.u");
  ASSERT_EQ(Add(state, broken, "broken.ptx"), CUDA_SUCCESS);
  void* image = nullptr;
  std::size_t bytes = 0;
  EXPECT_EQ(cu::cuLinkComplete(state, &image, &bytes), CUDA_ERROR_INVALID_PTX);
  EXPECT_NE(Errors().find("broken.ptx: ptx:8:"), std::string::npos) << Errors();
  EXPECT_EQ(cu::cuLinkDestroy(state), CUDA_SUCCESS);
  state = Create();
  ASSERT_EQ(Add(state, kMain, "main.ptx"), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuLinkComplete(state, &image, &bytes), CUDA_ERROR_INVALID_PTX);
  EXPECT_NE(Errors().find("Undefined reference to 'answer' in 'main.ptx'"), std::string::npos)
      << Errors();
  // The missing part may still come.
  ASSERT_EQ(Add(state, kOther, "other.ptx"), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuLinkComplete(state, &image, &bytes), CUDA_SUCCESS) << Errors();
  EXPECT_EQ(Run(image), 42u);
  EXPECT_EQ(cu::cuLinkDestroy(state), CUDA_SUCCESS);
}

TEST_F(RemoteLink, WrongArgumentsAreRefusedHere) {
  const CUlinkState state = Create();
  char text[] = ".version 7.0";
  EXPECT_EQ(cu::cuLinkAddData_v2(state, CU_JIT_INPUT_PTX, nullptr, 4, "x", 0, nullptr, nullptr),
            CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cu::cuLinkAddData_v2(state, CU_JIT_INPUT_PTX, text, 0, "x", 0, nullptr, nullptr),
            CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cu::cuLinkAddData_v2(state, static_cast<CUjitInputType>(99), text, 4, "x", 0, nullptr,
                                 nullptr),
            CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cu::cuLinkAddFile_v2(state, CU_JIT_INPUT_PTX, "/nowhere", 0, nullptr, nullptr),
            CUDA_ERROR_FILE_NOT_FOUND);
  EXPECT_EQ(cu::cuLinkAddData_v2(nullptr, CU_JIT_INPUT_PTX, text, 4, "x", 0, nullptr, nullptr),
            CUDA_ERROR_INVALID_HANDLE);
  CUjit_option symbols = CU_JIT_GLOBAL_SYMBOL_COUNT;
  void* none = nullptr;
  CUlinkState other = nullptr;
  EXPECT_EQ(cu::cuLinkCreate_v2(1, &symbols, &none, &other), CUDA_ERROR_NOT_SUPPORTED);
  EXPECT_EQ(loop_->TakeRoundTrips(), 0u);
  EXPECT_EQ(cu::cuLinkDestroy(state), CUDA_SUCCESS);
}

TEST_F(RemoteLink, HostileLinksAreRefused) {
  const auto link = [&](std::uint64_t number, std::vector<std::uint64_t> sizes,
                        std::vector<std::uint64_t> data) {
    client::Command command(loop_->client(), wire::IdOf(wire::InternalCommand::kLink));
    command.body().Put(number);
    command.body().Put(static_cast<std::uint64_t>(sizes.size()));
    for (const std::uint64_t size : sizes) {
      command.body().Put(static_cast<std::int32_t>(CU_JIT_INPUT_FATBINARY));
      command.body().PutString("x");
      command.body().Put(size);
    }
    for (int i = 0; i < 3; ++i) command.body().Put(std::uint64_t{0});  // Options, logs.
    command.body().Put(static_cast<std::uint64_t>(data.size() * 8));
    command.body().Put(std::uint64_t{0});
    command.body().PutRaw(data.data(), data.size() * 8);
    client::Reply reply;
    return command.Call(reply);
  };
  constexpr std::uint64_t kContainer = 0x0010'0001'BA55'ED50;
  // Sizes that do not fill the data, one by one and together.
  EXPECT_EQ(link(1, {16}, {kContainer, 0, 0}), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(link(1, {16, 0}, {kContainer, 0}), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(link(1, {16, 16}, {kContainer, 0}), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(link(1, {~std::uint64_t{0}}, {kContainer, 0}), CUDA_ERROR_INVALID_HANDLE);
  // The second input reaches behind itself, or is a wrapper with an address.
  EXPECT_EQ(link(1, {16, 16}, {kContainer, 0, kContainer, 8}), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(link(1, {16, 24}, {kContainer, 0, 0x1'4662'43B1, 4096, 0}), CUDA_ERROR_INVALID_HANDLE);
  // Whole, but empty: the driver's opinion.
  EXPECT_EQ(link(1, {16}, {kContainer, 0}), CUDA_ERROR_NO_BINARY_FOR_GPU);
  EXPECT_EQ(link(1, {}, {}), CUDA_ERROR_INVALID_IMAGE);
  // There is nothing to fetch.
  client::Command command(loop_->client(), wire::IdOf(wire::InternalCommand::kLinkedImage));
  command.body().Put(std::uint64_t{1});
  command.body().Put(std::uint64_t{4711});
  client::Reply reply;
  EXPECT_EQ(command.Call(reply), CUDA_ERROR_INVALID_VALUE);
}

}  // namespace
}  // namespace farwarp::tests
