// OutputPipe: catches what kernels print, which drivers write to standard output, so that the
// client gets it.
//
// Standard output of the worker becomes a pipe. Flush hands on what is in it now; the session calls
// it before each synchronising reply, because CUDA promises the text by then. A thread flushes in
// between, so that a talkative kernel never blocks on a full pipe.
//
// Thread-safe. One per process.
#pragma once

#include <functional>
#include <memory>
#include <string_view>
#include <thread>

#include "farwarp/base/status.h"
#include "farwarp/base/thread_annotations.h"
#include "farwarp/base/unique_fd.h"

namespace farwarp::server {

class OutputPipe {
 public:
  using Sink = std::function<void(std::string_view text)>;

  // Replaces descriptor 1.
  static Result<std::unique_ptr<OutputPipe>> Create();
  ~OutputPipe();
  OutputPipe(const OutputPipe&) = delete;
  OutputPipe& operator=(const OutputPipe&) = delete;

  // From now on text goes to `sink`: whoever takes text out of the pipe also delivers it before
  // another may, so that text stays in order and Flush means what it says. `sink` therefore runs
  // under the pipe's own lock and must not call back.
  void Start(Sink sink) EXCLUDES(mutex_);
  // The sink is not called any more. Text that comes later is dropped.
  void Stop() EXCLUDES(mutex_);
  // When it returns, everything that was printed before the call has been given to the sink.
  void Flush() EXCLUDES(mutex_);

 private:
  OutputPipe(UniqueFd read_end, UniqueFd stop) noexcept;
  void Run();

  const UniqueFd read_end_;
  const UniqueFd stop_;  // An eventfd.
  Mutex mutex_;
  Sink sink_ GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace farwarp::server
