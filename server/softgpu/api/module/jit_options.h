// JitOptions: the options of cuModuleLoadDataEx, cuLibraryLoadData and cuLink*. What steers a
// compiler for real hardware is checked and then ignored; the target is honoured, logs and time are
// reported. External lock.
#pragma once

#include <chrono>

#include "cuda/driver_api.h"
#include "server/softgpu/exec/module.h"

namespace farwarp::softgpu {

class JitOptions {
 public:
  // The arrays belong to the caller and are written to by Finish.
  JitOptions(unsigned count, CUjit_option* options, void** values)
      : count_(count), options_(options), values_(values) {}

  // To be called first. CUDA_ERROR_INVALID_VALUE if the arrays are missing or hold an unknown
  // option or value, CUDA_ERROR_NOT_SUPPORTED for options that would change what the code means.
  CUresult Read();
  // The compute capability that the code is for, 75 for 7.5; 0 if none was asked for.
  int target() const noexcept { return target_; }
  // The caller wants to hear about kernels that compiled well.
  bool verbose() const noexcept { return verbose_; }
  // Writes the logs into the caller's buffers, cut to their sizes, how many bytes they hold, and
  // the time since this object was made. May be repeated with longer logs.
  void Finish(const JitLog& log);

 private:
  struct Buffer {
    char* text = nullptr;
    void** size = nullptr;
    std::size_t room = 0;  // What `*size` said; Finish writes what is used into the same place.
  };
  static void Write(const std::string& text, const Buffer& buffer);
  CUresult ReadOne(CUjit_option option, std::uintptr_t value);
  void** Find(CUjit_option option);
  Buffer FindBuffer(CUjit_option buffer, CUjit_option size);

  const unsigned count_;
  CUjit_option* const options_;
  void** const values_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  int target_ = 0;
  bool verbose_ = false;
  Buffer info_;
  Buffer error_;
};

}  // namespace farwarp::softgpu
