// LinkState: what stands behind a CUlinkState: the texts that a program adds one by one, and the
// image that they are together.
//
// To link for the software GPU means to check that every text is PTX, that each symbol used has one
// definition, and that every kernel can be decoded; the image holds the texts themselves, and
// loading it links them again in the memory of the context. So an image works in every process and
// on every device that is new enough.
//
// Ownership: the handle table holds it; the image lives as long as it does. The option arrays
// belong to the caller, who keeps them as long. Thread-safe.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "farwarp/base/thread_annotations.h"
#include "server/softgpu/api/driver.h"
#include "server/softgpu/api/module/jit_options.h"
#include "server/softgpu/image/fatbin.h"

namespace farwarp::softgpu {

class LinkState {
 public:
  // `options` were read. `sm` is the compute capability linked for, if they name no other.
  LinkState(const JitOptions& options, int sm)
      : sm_(options.target() != 0 ? options.target() : sm), options_(options) {}

  int sm() const noexcept { return sm_; }
  // Adds what was found in one input; `name` is for messages. What is wrong goes into the error log
  // at once.
  CUresult Add(LoadedImage input, const std::string& name) EXCLUDES(mutex_);
  // The image; made at the first call.
  CUresult Complete(Driver& driver, void** image, std::size_t* bytes) EXCLUDES(mutex_);

 private:
  CUresult Fail(CUresult result, const std::string& why) REQUIRES(mutex_);

  const int sm_;
  Mutex mutex_;
  JitOptions options_ GUARDED_BY(mutex_);
  JitLog log_ GUARDED_BY(mutex_);
  std::vector<PtxText> texts_ GUARDED_BY(mutex_);
  std::size_t total_bytes_ GUARDED_BY(mutex_) = 0;
  std::vector<std::byte> image_ GUARDED_BY(mutex_);  // Empty until complete.
};

}  // namespace farwarp::softgpu
