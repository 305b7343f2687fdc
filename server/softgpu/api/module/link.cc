#include "server/softgpu/api/module/link.h"

#include <utility>

#include "farwarp/base/log.h"
#include "server/softgpu/api/module/module.h"

namespace farwarp::softgpu {
namespace {

// What one link may hold: far more than programs have, and bounded.
constexpr std::size_t kMaxTexts = 65536;
constexpr std::size_t kMaxTotalBytes = std::size_t{1} << 30;

}  // namespace

CUresult LinkState::Fail(CUresult result, const std::string& why) {
  FARWARP_LOG(kError, "softgpu: %s", why.c_str());
  log_.error += why + "\n";
  options_.Finish(log_);
  return result;
}

CUresult LinkState::Add(LoadedImage input, const std::string& name) {
  const MutexLock lock(mutex_);
  if (!image_.empty()) return CUDA_ERROR_INVALID_VALUE;
  if (input.problem != ImageProblem::kNone) {
    return Fail(ImageError(input), name + ": " + input.message);
  }
  for (std::size_t i = 0; i < input.ptx.size(); ++i) {
    PtxText& text = input.ptx[i];
    if (text.name.empty()) {
      text.name = input.ptx.size() == 1 ? name : name + " (" + std::to_string(i + 1) + ")";
    }
    if (const Status valid = CheckText(text.text); !valid.ok()) {
      return Fail(CUDA_ERROR_INVALID_PTX, text.name + ": " + valid.message());
    }
    total_bytes_ += text.text.size();
    if (texts_.size() == kMaxTexts || total_bytes_ > kMaxTotalBytes) {
      return Fail(CUDA_ERROR_OUT_OF_MEMORY, "too much code for one link");
    }
    texts_.push_back(std::move(text));
  }
  return CUDA_SUCCESS;
}

CUresult LinkState::Complete(Driver& driver, void** image, std::size_t* bytes) {
  const MutexLock lock(mutex_);
  if (image_.empty()) {
    if (texts_.empty()) return Fail(CUDA_ERROR_INVALID_IMAGE, "there is nothing to link");
    LoadedImage all;
    all.linked = true;
    all.ptx = texts_;
    Code index;
    JitLog log;
    const LoadTarget target{.device = 0, .charged = false, .sm = sm_};
    const CUresult result = LoadCode(driver, all, target, {true, options_.verbose()}, &log, &index);
    log_.info += log.info;
    if (result != CUDA_SUCCESS) {
      log_.error += log.error + "\n";
      options_.Finish(log_);
      return result;
    }
    std::vector<PtxText> used;
    for (std::size_t i = 0; i < texts_.size(); ++i) {
      if (index.modules.front()->Uses(i)) used.push_back(std::move(texts_[i]));
    }
    texts_.clear();
    image_ = PackLinked(used, sm_);
  }
  options_.Finish(log_);
  *image = image_.data();
  *bytes = image_.size();
  return CUDA_SUCCESS;
}

}  // namespace farwarp::softgpu
