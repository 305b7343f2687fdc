// cuGetProcAddress's table against what the CUDA 13.0 runtime asks for
// (tests/abi/proc_address_requests.txt), over a library in which every entry point is a stub.
#include "cuda/proc_address.h"

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>

#include "cuda/driver_api.h"

static std::string last_refused;
static std::string last_reason;
void SayRefused(const char* name, const char* reason) noexcept {
  last_refused = name;
  last_reason = reason;
}

namespace farwarp::cuda {
namespace {

void* Own(const char* name) {
  return ::dlsym(RTLD_DEFAULT, name);
}

TEST(ProcAddress, AnswersAllThatTheRuntimeAsksFor) {
  std::ifstream file(FARWARP_PROC_ADDRESS_REQUESTS);
  int requests = 0;
  int resolved = 0;
  std::string line;
  while (std::getline(file, line)) {
    if (line.empty() || line[0] == '#') continue;
    std::istringstream words(line);
    std::string name, symbol;
    int version = 0;
    int flags = 0;
    ASSERT_TRUE(words >> name >> version >> flags >> symbol) << line;
    if (name == "\"\"") name.clear();
    ++requests;
    const auto answer = FindProcAddress(name.c_str(), version, (flags & 2) != 0);
    if (symbol == "-") {
      EXPECT_EQ(answer.function, nullptr) << line;
      EXPECT_EQ(answer.status, ProcAddressStatus::kNotFound) << line;
      continue;
    }
    ++resolved;
    EXPECT_NE(answer.function, nullptr) << line;
    EXPECT_EQ(answer.function, Own(symbol.c_str())) << line;
    EXPECT_EQ(answer.status, ProcAddressStatus::kFound) << line;
  }
  EXPECT_EQ(requests, 440);
  EXPECT_EQ(resolved, 410);  // All but the empty name and those of graphics APIs.
}

TEST(ProcAddress, TheVersionChoosesTheAbi) {
  const auto device = [](int version) {
    return FindProcAddress("cuCtxGetDevice", version, false).function;
  };
  EXPECT_EQ(device(2000), Own("cuCtxGetDevice"));
  EXPECT_EQ(device(12090), Own("cuCtxGetDevice"));
  EXPECT_EQ(device(13000), Own("cuCtxGetDevice_v2"));
  EXPECT_EQ(device(99999), Own("cuCtxGetDevice_v2"));
  EXPECT_EQ(device(1999), nullptr);
  EXPECT_EQ(FindProcAddress("cuCtxGetDevice", 1999, false).status,
            ProcAddressStatus::kVersionTooLow);
  EXPECT_EQ(FindProcAddress("cuCtxGetDevise", 13000, false).status, ProcAddressStatus::kNotFound);
  EXPECT_EQ(FindProcAddress("cuCtxGetDevice_v2", 13000, false).status, ProcAddressStatus::kNotFound)
      << "names come without suffix";
}

TEST(ProcAddress, PerThreadFallsBackToThePlainEntryPoint) {
  EXPECT_EQ(FindProcAddress("cuMemcpyHtoD", 7000, true).function, Own("cuMemcpyHtoD_v2_ptds"));
  EXPECT_EQ(FindProcAddress("cuMemcpyHtoD", 6050, true).function, Own("cuMemcpyHtoD_v2"));
  EXPECT_EQ(FindProcAddress("cuMemAlloc", 13000, true).function, Own("cuMemAlloc_v2"));
}

TEST(Stubs, SayTheirNameOnceAsked) {
  EXPECT_EQ(::cuCtxSynchronize(), CUDA_ERROR_NOT_SUPPORTED);
  EXPECT_EQ(last_refused, "cuCtxSynchronize");
  EXPECT_FALSE(last_reason.empty());
}

}  // namespace
}  // namespace farwarp::cuda
