// DriverLog: CUDA's error log (cuLogs*): what a CUDA library said of errors and warnings, kept for
// programs that ask for it, handed to those that registered for it, and written to the file that
// CUDA_LOG_FILE names ("stdout", "stderr" or a path), each line as "[E] text" or "[W] text".
//
// It takes its lines from the process's own log (farwarp/base/log.h), whatever that log's level.
// The lines that are kept are the latest 100, and at most as many bytes as CUDA says (25,600).
//
// Thread-safe. One per library and process, never destroyed. Registered functions run one at a time
// on whichever thread had something to say, and must not call CUDA, but for cuLogs*. The results of
// the functions are those that CUDA documents for cuLogs*; they throw when memory runs out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <vector>

#include "cuda/driver_api.h"
#include "farwarp/base/log.h"
#include "farwarp/base/thread_annotations.h"
#include "farwarp/base/unique_fd.h"

namespace farwarp::cuda {

class DriverLog {
 public:
  // The first call begins to keep what is logged.
  static DriverLog& Get();

  CUresult Register(CUlogsCallback function, void* user_data, CUlogsCallbackHandle* handle);
  // When it returns, the function is not running and will not be called, unless it is the function
  // itself that asks.
  CUresult Unregister(CUlogsCallbackHandle handle);
  CUresult Current(CUlogIterator* iterator, unsigned flags) EXCLUDES(mutex_);
  // Appends to the file.
  CUresult DumpToFile(CUlogIterator* iterator, const char* path, unsigned flags) EXCLUDES(mutex_);
  CUresult DumpToMemory(CUlogIterator* iterator, char* buffer, std::size_t* size, unsigned flags)
      EXCLUDES(mutex_);

 private:
  struct Registered {
    std::uintptr_t number;
    CUlogsCallback function;
    void* user_data;
  };

  DriverLog();
  void Add(LogLevel level, const char* text);
  void Tell(CUlogLevel level, const std::string& text);
  // What has been said since `*iterator` (null: all there is); says so if some of it is lost.
  std::vector<std::string> Since(const CUlogIterator* iterator, CUlogIterator* next)
      EXCLUDES(mutex_);

  Mutex mutex_;
  std::deque<std::string> lines_ GUARDED_BY(mutex_);
  std::size_t bytes_ GUARDED_BY(mutex_) = 0;
  CUlogIterator next_ GUARDED_BY(mutex_) = 0;  // The number of the next line; wraps around.

  // Recursive: a function that is told may register and unregister.
  std::recursive_mutex telling_;
  std::vector<Registered> registered_;  // Under telling_.
  std::uintptr_t last_number_ = 0;      // Under telling_.

  UniqueFd file_;
};

}  // namespace farwarp::cuda
