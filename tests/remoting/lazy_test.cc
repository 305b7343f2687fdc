// A large module stays unread when it is loaded through client and server, although the client gets
// a description of every kernel: a kernel whose body is wrong is described all the same, and
// refused when it is to run.
#include <string>

#include "tests/remoting/soft_loop.h"

namespace farwarp::tests {
namespace {

class RemoteLazy : public SoftLoop {};

int Attribute(CUfunction function, CUfunction_attribute attribute) {
  int value = -1;
  EXPECT_EQ(cu::cuFuncGetAttribute(&value, attribute, function), CUDA_SUCCESS);
  return value;
}

TEST_F(RemoteLazy, LoadingALargeModuleReadsNoBody) {
  std::string text = ".version 7.8\n.target sm_80\n.address_size 64\n";
  const auto kernel = [&](const char* name, const std::string& code) {
    text += std::string(".visible .entry ") + name +
            "() .maxntid 64\n{\n.reg .b32 %r<40>;\n.shared .align 4 .b8 a[48];\n"
            ".local .align 4 .b8 l[16];\n" +
            code + "ret;\n}\n";
  };
  std::string long_code;
  while (long_code.size() < std::size_t{300} << 10) long_code += "add.u32 %r1, %r2, %r3;\n";
  kernel("good", long_code);
  kernel("wrong", "frobnicate.u32 %r1;\n");
  CUmodule module = nullptr;
  ASSERT_EQ(cu::cuModuleLoadData(&module, text.c_str()), CUDA_SUCCESS);
  EXPECT_EQ(loop_->TakeRoundTrips(), 1u);
  for (const char* name : {"good", "wrong"}) {
    CUfunction function = nullptr;
    ASSERT_EQ(cu::cuModuleGetFunction(&function, module, name), CUDA_SUCCESS);
    EXPECT_EQ(Attribute(function, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK), 64) << name;
    EXPECT_EQ(Attribute(function, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES), 48) << name;
    EXPECT_EQ(Attribute(function, CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES), 16) << name;
    EXPECT_EQ(Attribute(function, CU_FUNC_ATTRIBUTE_NUM_REGS), 40) << name;
    EXPECT_EQ(loop_->TakeRoundTrips(), 0u);
    EXPECT_EQ(cu::cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr),
              CUDA_SUCCESS);
    const CUresult result = cu::cuCtxSynchronize();
    loop_->TakeRoundTrips();
    if (name == std::string("good")) {
      EXPECT_EQ(result, CUDA_SUCCESS);
    } else {
      EXPECT_EQ(result, CUDA_ERROR_INVALID_PTX);
    }
  }
}

}  // namespace
}  // namespace farwarp::tests
