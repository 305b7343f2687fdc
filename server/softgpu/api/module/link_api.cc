// Linking: several pieces of device code become one image, which cuModuleLoadData takes.
#include <cstring>

#include "server/softgpu/api/module/file.h"
#include "server/softgpu/api/module/link.h"

using namespace farwarp::softgpu;

namespace {

template <typename Body>
CUresult CallLink(CUlinkState handle, Body&& body) noexcept {
  return CallContext([&](Driver& driver, Context&) -> CUresult {
    const std::shared_ptr<LinkState> link = driver.links.Find(handle);
    return link == nullptr ? CUDA_ERROR_INVALID_HANDLE : body(driver, *link);
  });
}

LoadedImage Refused(std::string why) {
  LoadedImage image;
  image.problem = ImageProblem::kInvalid;
  image.message = std::move(why);
  return image;
}

// The texts in an input. A wrapper holds pointers of this process, so it only comes as data.
LoadedImage ReadInput(CUjitInputType type, std::span<const std::byte> input, bool is_file, int sm) {
  constexpr std::uint32_t kWrapperMagic = 0x466243B1;
  std::uint32_t magic = 0;
  if (input.size() >= sizeof magic) std::memcpy(&magic, input.data(), sizeof magic);
  if (type == CU_JIT_INPUT_FATBINARY && magic == kWrapperMagic && !is_file && input.size() >= 24) {
    return LoadImage(input.data(), sm);
  }
  LoadedImage image = LoadImageBytes(input, sm);
  if (image.problem == ImageProblem::kNone && image.from_text != (type == CU_JIT_INPUT_PTX)) {
    return Refused(image.from_text ? "the input is PTX text but was added as something else"
                                   : "the input was added as PTX but is no text");
  }
  return image;
}

CUresult AddInput(LinkState& link, CUjitInputType type, std::span<const std::byte> input,
                  bool is_file, const std::string& name, JitOptions& options) {
  if (const CUresult valid = options.Read(); valid != CUDA_SUCCESS) return valid;
  return link.Add(ReadInput(type, input, is_file, link.sm()), name);
}

CUresult CheckType(CUjitInputType type) {
  if (static_cast<unsigned>(type) >= CU_JIT_NUM_INPUT_TYPES) return CUDA_ERROR_INVALID_VALUE;
  return type == CU_JIT_INPUT_NVVM ? CUDA_ERROR_NOT_SUPPORTED : CUDA_SUCCESS;
}

}  // namespace

extern "C" {

CUresult cuLinkCreate_v2(unsigned int numOptions, CUjit_option* options, void** optionValues,
                         CUlinkState* stateOut) {
  return CallContext([&](Driver& driver, Context& context) {
    if (stateOut == nullptr) return CUDA_ERROR_INVALID_VALUE;
    JitOptions jit(numOptions, options, optionValues);
    if (const CUresult valid = jit.Read(); valid != CUDA_SUCCESS) return valid;
    *stateOut =
        driver.links.Add(std::make_shared<LinkState>(jit, context.device().compute_capability()));
    return CUDA_SUCCESS;
  });
}

CUresult cuLinkAddData_v2(CUlinkState state, CUjitInputType type, void* data, size_t size,
                          const char* name, unsigned int numOptions, CUjit_option* options,
                          void** optionValues) {
  return CallLink(state, [&](Driver&, LinkState& link) {
    if (data == nullptr || size == 0) return CUDA_ERROR_INVALID_VALUE;
    if (const CUresult valid = CheckType(type); valid != CUDA_SUCCESS) return valid;
    JitOptions jit(numOptions, options, optionValues);
    return AddInput(link, type, {static_cast<const std::byte*>(data), size}, false,
                    name == nullptr || *name == '\0' ? "<unnamed input>" : name, jit);
  });
}

CUresult cuLinkAddFile_v2(CUlinkState state, CUjitInputType type, const char* path,
                          unsigned int numOptions, CUjit_option* options, void** optionValues) {
  return CallLink(state, [&](Driver&, LinkState& link) {
    if (path == nullptr) return CUDA_ERROR_INVALID_VALUE;
    if (const CUresult valid = CheckType(type); valid != CUDA_SUCCESS) return valid;
    std::vector<std::byte> contents;
    const CUresult read = ReadImageFile(path, &contents);
    if (read != CUDA_SUCCESS) return read;
    JitOptions jit(numOptions, options, optionValues);
    return AddInput(link, type, contents, true, path, jit);
  });
}

CUresult cuLinkComplete(CUlinkState state, void** cubinOut, size_t* sizeOut) {
  return CallLink(state, [&](Driver& driver, LinkState& link) {
    if (cubinOut == nullptr) return CUDA_ERROR_INVALID_VALUE;
    std::size_t bytes = 0;
    const CUresult result = link.Complete(driver, cubinOut, &bytes);
    if (result == CUDA_SUCCESS && sizeOut != nullptr) *sizeOut = bytes;
    return result;
  });
}

CUresult cuLinkDestroy(CUlinkState state) {
  return CallDriver([&](Driver& driver) {
    return driver.links.Remove(state) == nullptr ? CUDA_ERROR_INVALID_HANDLE : CUDA_SUCCESS;
  });
}

// Programs built before CUDA 6.5 call these.
CUresult cuLinkCreate(unsigned int numOptions, CUjit_option* options, void** optionValues,
                      CUlinkState* stateOut) {
  return cuLinkCreate_v2(numOptions, options, optionValues, stateOut);
}
CUresult cuLinkAddData(CUlinkState state, CUjitInputType type, void* data, size_t size,
                       const char* name, unsigned int numOptions, CUjit_option* options,
                       void** optionValues) {
  return cuLinkAddData_v2(state, type, data, size, name, numOptions, options, optionValues);
}
CUresult cuLinkAddFile(CUlinkState state, CUjitInputType type, const char* path,
                       unsigned int numOptions, CUjit_option* options, void** optionValues) {
  return cuLinkAddFile_v2(state, type, path, numOptions, options, optionValues);
}

}  // extern "C"
