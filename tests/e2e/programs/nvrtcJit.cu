// Compiles two sources at run time with NVRTC, links their PTX, loads the result with the options
// of the just-in-time compiler, and reads its log when a text is broken.
#include <cuda.h>
#include <nvrtc.h>

#include <cstring>
#include <string>
#include <vector>

#include "common.h"

#define DRIVER(call)                                                                    \
  do {                                                                                  \
    const CUresult driver_error = (call);                                               \
    if (driver_error != CUDA_SUCCESS) {                                                 \
      std::fprintf(stderr, "%s:%d: %s: %d\n", __FILE__, __LINE__, #call, driver_error); \
      std::exit(2);                                                                     \
    }                                                                                   \
  } while (false)
#define NVRTC(call)                                                                              \
  do {                                                                                           \
    const nvrtcResult nvrtc_error = (call);                                                      \
    if (nvrtc_error != NVRTC_SUCCESS) {                                                          \
      std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, nvrtcGetErrorString(nvrtc_error)); \
      std::exit(2);                                                                              \
    }                                                                                            \
  } while (false)

static const char kMain[] = R"(
extern __device__ float Blend(float a, float b);
extern "C" __global__ void saxpy(float a, const float* x, float* y, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = Blend(a * x[i], y[i]);
}
)";
static const char kPart[] = R"(
__device__ float offset = 0.5f;
__device__ float Blend(float a, float b) { return a + b + offset; }
)";

static std::string Compile(const char* source, const char* name) {
  int major = 0, minor = 0;
  CUdevice device;
  DRIVER(cuDeviceGet(&device, 0));
  DRIVER(cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device));
  DRIVER(cuDeviceGetAttribute(&minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device));
  const std::string arch = "-arch=compute_" + std::to_string(major * 10 + minor);
  const char* options[] = {arch.c_str(), "-rdc=true"};
  nvrtcProgram program;
  NVRTC(nvrtcCreateProgram(&program, source, name, 0, nullptr, nullptr));
  NVRTC(nvrtcCompileProgram(program, 2, options));
  size_t bytes = 0;
  NVRTC(nvrtcGetPTXSize(program, &bytes));
  std::string ptx(bytes, '\0');
  NVRTC(nvrtcGetPTX(program, ptx.data()));
  NVRTC(nvrtcDestroyProgram(&program));
  return ptx;
}

int main() {
  CHECK(cudaSetDevice(0));
  CHECK(cudaFree(nullptr));  // The runtime's context, which the driver calls below share.
  std::string main_ptx = Compile(kMain, "main.cu");
  std::string part_ptx = Compile(kPart, "part.cu");

  std::vector<char> errors(4096), info(4096);
  std::vector<CUjit_option> options = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES,
                                       CU_JIT_INFO_LOG_BUFFER, CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES,
                                       CU_JIT_GENERATE_LINE_INFO};
  const auto values = [&] {
    return std::vector<void*>{errors.data(), reinterpret_cast<void*>(errors.size()), info.data(),
                              reinterpret_cast<void*>(info.size()), reinterpret_cast<void*>(1)};
  };
  std::vector<void*> link_values = values();
  CUlinkState link;
  DRIVER(cuLinkCreate(5, options.data(), link_values.data(), &link));
  DRIVER(cuLinkAddData(link, CU_JIT_INPUT_PTX, main_ptx.data(), main_ptx.size(), "main.ptx", 0,
                       nullptr, nullptr));
  DRIVER(cuLinkAddData(link, CU_JIT_INPUT_PTX, part_ptx.data(), part_ptx.size(), "part.ptx", 0,
                       nullptr, nullptr));
  void* image = nullptr;
  size_t image_bytes = 0;
  DRIVER(cuLinkComplete(link, &image, &image_bytes));
  CUmodule module;
  std::vector<void*> load_values = values();
  DRIVER(cuModuleLoadDataEx(&module, image, 5, options.data(), load_values.data()));
  DRIVER(cuLinkDestroy(link));
  CUfunction saxpy;
  DRIVER(cuModuleGetFunction(&saxpy, module, "saxpy"));

  int n = 1000;
  float a = 2.0f;
  std::vector<float> x(n), y(n);
  for (int i = 0; i < n; ++i) x[i] = static_cast<float>(i), y[i] = 1.0f;
  float *dx, *dy;
  CHECK(cudaMalloc(&dx, n * sizeof(float)));
  CHECK(cudaMalloc(&dy, n * sizeof(float)));
  CHECK(cudaMemcpy(dx, x.data(), n * sizeof(float), cudaMemcpyHostToDevice));
  CHECK(cudaMemcpy(dy, y.data(), n * sizeof(float), cudaMemcpyHostToDevice));
  void* arguments[] = {&a, &dx, &dy, &n};
  DRIVER(cuLaunchKernel(saxpy, (n + 127) / 128, 1, 1, 128, 1, 1, 0, nullptr, arguments, nullptr));
  CHECK(cudaMemcpy(y.data(), dy, n * sizeof(float), cudaMemcpyDeviceToHost));
  for (int i = 0; i < n; ++i) {
    if (y[i] != 2.0f * static_cast<float>(i) + 1.5f) return 1;
  }
  std::printf("saxpy of two linked sources: %016llx\n",
              static_cast<unsigned long long>(Checksum(y.data(), n * sizeof(float))));

  std::string broken = part_ptx;
  broken.replace(broken.find("add.f32"), 7, "sub.f99");
  CUmodule none;
  std::vector<void*> broken_values = values();
  const CUresult refused =
      cuModuleLoadDataEx(&none, broken.c_str(), 5, options.data(), broken_values.data());
  std::printf("a broken text: error %d, log mentions it: %s\n", refused,
              std::strstr(errors.data(), "f99") != nullptr ? "yes" : "no");
  DRIVER(cuModuleUnload(module));
  CHECK(cudaFree(dx));
  CHECK(cudaFree(dy));
  return refused == CUDA_ERROR_INVALID_PTX && std::strstr(errors.data(), "f99") != nullptr ? 0 : 1;
}
