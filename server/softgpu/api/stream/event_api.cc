// Events: recording, waiting, elapsed time.
#include <chrono>

#include "server/softgpu/api/driver.h"
#include "server/softgpu/api/launch/graph_backend.h"

using namespace farwarp::softgpu;
namespace graph = farwarp::graph;

namespace {

constexpr unsigned kEventFlags =
    CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING | CU_EVENT_INTERPROCESS;

std::int64_t NowNs() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// Runs body(Driver&, Event&) for a live event, or returns the sticky error of its context.
template <typename Body>
CUresult CallEvent(CUevent handle, Body&& body) noexcept {
  return CallDriver([&](Driver& driver) -> CUresult {
    const std::shared_ptr<Event> event = driver.events.Find(handle);
    if (event == nullptr) return CUDA_ERROR_INVALID_HANDLE;
    if (const CUresult captured = CheckCapturedEvent(handle); captured != CUDA_SUCCESS) {
      return captured;
    }
    if (const CUresult error = event->context()->error(); error != CUDA_SUCCESS) return error;
    return body(driver, *event);
  });
}

CUresult Elapsed(float* milliseconds, CUevent start_handle, CUevent end_handle) noexcept {
  return CallEvent(start_handle, [&](Driver& driver, Event& start) {
    const std::shared_ptr<Event> end = driver.events.Find(end_handle);
    if (end == nullptr) return CUDA_ERROR_INVALID_HANDLE;
    if (milliseconds == nullptr) return CUDA_ERROR_INVALID_VALUE;
    if (((start.flags() | end->flags()) & CU_EVENT_DISABLE_TIMING) != 0 ||
        &start.context()->device() != &end->context()->device()) {
      return CUDA_ERROR_INVALID_HANDLE;
    }
    const auto from = start.point();
    const auto to = end->point();
    if (from == nullptr || to == nullptr) return CUDA_ERROR_INVALID_HANDLE;
    if (!from->work->done() || !to->work->done()) return CUDA_ERROR_NOT_READY;
    *milliseconds = static_cast<float>(
        static_cast<double>(to->reached_ns.load() - from->reached_ns.load()) / 1e6);
    return CUDA_SUCCESS;
  });
}

}  // namespace

extern "C" {

CUresult cuEventCreate(CUevent* phEvent, unsigned int Flags) {
  return CallContext([&](Driver& driver, Context& context) {
    if (phEvent == nullptr || (Flags & ~kEventFlags) != 0) return CUDA_ERROR_INVALID_VALUE;
    if ((Flags & CU_EVENT_INTERPROCESS) != 0) {
      return (Flags & CU_EVENT_DISABLE_TIMING) == 0 ? CUDA_ERROR_INVALID_VALUE
                                                    : CUDA_ERROR_NOT_SUPPORTED;
    }
    *phEvent = driver.events.Add(std::make_shared<Event>(context.shared_from_this(), Flags));
    return CUDA_SUCCESS;
  });
}

CUresult cuEventDestroy_v2(CUevent hEvent) {
  return CallDriver([&](Driver& driver) {
    GraphsOf(driver).ForgetEvent(hEvent);
    return driver.events.Remove(hEvent) == nullptr ? CUDA_ERROR_INVALID_HANDLE : CUDA_SUCCESS;
  });
}
CUresult cuEventDestroy(CUevent hEvent) {
  return cuEventDestroy_v2(hEvent);
}

CUresult cuEventRecordWithFlags(CUevent hEvent, CUstream hStream, unsigned int flags) {
  if ((flags & ~unsigned{CU_EVENT_RECORD_EXTERNAL}) != 0) return CUDA_ERROR_INVALID_VALUE;
  return CallStream(hStream, [&](Driver& driver, Context& context, std::shared_ptr<Stream>& s) {
    graph::Graphs& graphs = GraphsOf(driver);
    if (CUresult result;
        graphs.capturing() && graphs.CaptureRecord(hStream, false, hEvent, flags, &result)) {
      return result;
    }
    const std::shared_ptr<Event> event = driver.events.Find(hEvent);
    if (event == nullptr) return CUDA_ERROR_INVALID_HANDLE;
    if (event->context().get() != &context) return CUDA_ERROR_INVALID_HANDLE;
    auto point = std::make_shared<Event::Point>();
    // Weak, because the point holds the work: otherwise the two would keep each other alive.
    point->work =
        context.EnqueueAlways(s, Lane::kInline, [where = std::weak_ptr<Event::Point>(point)] {
          if (const auto reached = where.lock()) {
            reached->reached_ns = NowNs();
          }
        });
    event->set_point(std::move(point));
    return CUDA_SUCCESS;
  });
}
CUresult cuEventRecord(CUevent hEvent, CUstream hStream) {
  return cuEventRecordWithFlags(hEvent, hStream, 0);
}
CUresult cuEventRecord_ptsz(CUevent hEvent, CUstream hStream) {
  return cuEventRecord(hEvent, PerThread(hStream));
}

CUresult cuEventRecordWithFlags_ptsz(CUevent hEvent, CUstream hStream, unsigned int flags) {
  return cuEventRecordWithFlags(hEvent, PerThread(hStream), flags);
}

CUresult cuEventQuery(CUevent hEvent) {
  return CallEvent(hEvent, [](Driver&, Event& event) {
    const auto point = event.point();
    if (point != nullptr && !point->work->done()) return CUDA_ERROR_NOT_READY;
    return event.context()->error();
  });
}

CUresult cuEventSynchronize(CUevent hEvent) {
  return CallEvent(hEvent, [](Driver&, Event& event) {
    const auto point = event.point();
    if (point != nullptr) point->work->Wait();
    event.context()->print().Flush();
    return event.context()->error();
  });
}

CUresult cuEventElapsedTime(float* pMilliseconds, CUevent hStart, CUevent hEnd) {
  return Elapsed(pMilliseconds, hStart, hEnd);
}
CUresult cuEventElapsedTime_v2(float* pMilliseconds, CUevent hStart, CUevent hEnd) {
  return Elapsed(pMilliseconds, hStart, hEnd);
}

}  // extern "C"
