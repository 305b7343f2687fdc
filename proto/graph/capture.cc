// Stream capture: work that streams are given becomes nodes, and what cannot become one is refused.
#include <algorithm>
#include <unordered_set>
#include <utility>

#include "farwarp/graph/graphs.h"
#include "proto/graph/model.h"

namespace farwarp::graph {
namespace {

thread_local CUstreamCaptureMode thread_mode = CU_STREAM_CAPTURE_MODE_GLOBAL;

bool IsMode(CUstreamCaptureMode mode) {
  return mode == CU_STREAM_CAPTURE_MODE_GLOBAL || mode == CU_STREAM_CAPTURE_MODE_THREAD_LOCAL ||
         mode == CU_STREAM_CAPTURE_MODE_RELAXED;
}

void Join(std::vector<Edge>* edges, const std::vector<Edge>& more) {
  for (const Edge& edge : more) {
    const auto same = [&](const Edge& other) { return other.node == edge.node; };
    if (std::none_of(edges->begin(), edges->end(), same)) edges->push_back(edge);
  }
}

}  // namespace

CUresult Graphs::ExchangeMode(CUstreamCaptureMode* mode) {
  if (mode == nullptr || !IsMode(*mode)) return CUDA_ERROR_INVALID_VALUE;
  std::swap(*mode, thread_mode);
  return CUDA_SUCCESS;
}

Graphs::StreamCapture* Graphs::FindCapture(std::uint64_t key) {
  const auto found = streams_.find(key);
  return found == streams_.end() ? nullptr : found->second.get();
}

void Graphs::Invalidate(CaptureState* capture) {
  capture->invalid = true;
}

void Graphs::EndState(CaptureState* capture) {
  std::erase_if(streams_, [&](const auto& entry) { return entry.second->capture == capture; });
  std::erase_if(events_, [&](const auto& entry) { return entry.second.capture == capture; });
  capture->graph->capture = nullptr;
  std::erase_if(captures_, [&](const auto& each) { return each.get() == capture; });
  captures_active_.store(static_cast<unsigned>(captures_.size()), std::memory_order_relaxed);
}

Graphs::Use Graphs::Enter(CUstream stream, bool per_thread, StreamInfo* info,
                          StreamCapture** capture, CUresult* result) {
  // Whoever asks finds out by himself what is wrong with the stream.
  if (backend_.FindStream(stream, per_thread, info) != CUDA_SUCCESS) return Use::kFree;
  *capture = FindCapture(info->key);
  if (*capture != nullptr) {
    if (!(*capture)->capture->invalid) return Use::kCaptured;
    *result = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    return Use::kRefused;
  }
  if (!info->legacy) return Use::kFree;
  // Work of the legacy stream would have to wait for the streams that are being captured.
  bool implicit = false;
  for (const auto& [key, other] : streams_) {
    if (!other->stream.blocking || other->stream.context != info->context) continue;
    Invalidate(other->capture);
    implicit = true;
  }
  if (!implicit) return Use::kFree;
  *result = CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
  return Use::kRefused;
}

CUresult Graphs::BeginCapture(CUstream stream, bool per_thread, CUgraph into,
                              const Dependencies& after, CUstreamCaptureMode mode) {
  if (!IsMode(mode)) return CUDA_ERROR_INVALID_VALUE;
  const MutexLock lock(mutex_);
  StreamInfo info;
  CUresult result = backend_.FindStream(stream, per_thread, &info);
  if (result != CUDA_SUCCESS) return result;
  if (info.legacy) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  if (FindCapture(info.key) != nullptr) return CUDA_ERROR_ILLEGAL_STATE;
  auto state = std::make_unique<CaptureState>();
  auto of_stream = std::make_unique<StreamCapture>();
  if (into != nullptr) {
    state->graph = FindGraph(into);
    if (state->graph == nullptr) return CUDA_ERROR_INVALID_VALUE;
    if (state->graph->capture != nullptr) return CUDA_ERROR_ILLEGAL_STATE;
    result = ReadEdges(*state->graph, after, &of_stream->after);
    if (result != CUDA_SUCCESS) return result;
  } else {
    state->own = NewGraph();
    state->graph = state->own.get();
  }
  state->id = next_capture_++;
  state->mode = mode;
  state->thread = std::this_thread::get_id();
  state->origin = info.key;
  state->graph->capture = state.get();
  of_stream->capture = state.get();
  of_stream->stream = info;
  of_stream->handle = stream;
  streams_[info.key] = std::move(of_stream);
  captures_.push_back(std::move(state));
  captures_active_.store(static_cast<unsigned>(captures_.size()), std::memory_order_relaxed);
  return CUDA_SUCCESS;
}

bool Graphs::Joined(const CaptureState& capture, const std::vector<Edge>& ends) {
  std::unordered_set<const Node*> reached;
  std::vector<const Node*> queue;
  const auto reach = [&](const Node* node) {
    if (reached.insert(node).second) queue.push_back(node);
  };
  for (const Edge& edge : ends) reach(edge.node);
  while (!queue.empty()) {
    const Node* node = queue.back();
    queue.pop_back();
    for (const Edge& edge : node->before) reach(edge.node);
  }
  for (const auto& [key, other] : streams_) {
    if (other->capture != &capture) continue;
    for (const Edge& edge : other->after) {
      if (reached.count(edge.node) == 0) return false;
    }
  }
  return true;
}

CUresult Graphs::EndCapture(CUstream stream, bool per_thread, CUgraph* graph) {
  if (graph == nullptr) return CUDA_ERROR_INVALID_VALUE;
  Orphans orphans;
  CUresult result = CUDA_SUCCESS;
  {
    const MutexLock lock(mutex_);
    StreamInfo info;
    result = backend_.FindStream(stream, per_thread, &info);
    if (result != CUDA_SUCCESS) return result;
    StreamCapture* of_stream = FindCapture(info.key);
    if (of_stream == nullptr) return CUDA_ERROR_ILLEGAL_STATE;
    CaptureState* capture = of_stream->capture;
    if (capture->origin != info.key) {
      Invalidate(capture);
      return CUDA_ERROR_STREAM_CAPTURE_UNMATCHED;
    }
    if (capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED &&
        capture->thread != std::this_thread::get_id()) {
      return CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
    }
    *graph = nullptr;
    if (capture->invalid) {
      result = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    } else if (!Joined(*capture, of_stream->after)) {
      result = CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
    }
    std::unique_ptr<Graph> own = std::move(capture->own);
    Graph* captured = capture->graph;
    EndState(capture);
    if (result == CUDA_SUCCESS) {
      *graph = captured->handle();
      if (own != nullptr) roots_[own->id] = std::move(own);
    } else if (own != nullptr) {
      Forget(*own, &orphans);
    }
  }
  Bury(std::move(orphans));
  return result;
}

CUresult Graphs::IsCapturing(CUstream stream, bool per_thread, CUstreamCaptureStatus* status) {
  CaptureInfo info;
  info.status = status;
  return GetCaptureInfo(stream, per_thread, info, false);
}

CUresult Graphs::GetCaptureInfo(CUstream stream, bool per_thread, const CaptureInfo& out,
                                bool plain) {
  if (out.status == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const MutexLock lock(mutex_);
  StreamInfo info;
  const CUresult result = backend_.FindStream(stream, per_thread, &info);
  if (result != CUDA_SUCCESS) return result;
  StreamCapture* capture = FindCapture(info.key);
  if (capture == nullptr) {
    if (info.legacy) {
      for (const auto& [key, other] : streams_) {
        if (other->stream.blocking && other->stream.context == info.context) {
          return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
        }
      }
    }
    *out.status = CU_STREAM_CAPTURE_STATUS_NONE;
    return CUDA_SUCCESS;
  }
  if (capture->capture->invalid) {
    *out.status = CU_STREAM_CAPTURE_STATUS_INVALIDATED;
    return CUDA_SUCCESS;
  }
  capture->told_nodes.clear();
  capture->told_data.clear();
  for (const Edge& edge : capture->after) {
    if (!IsPlain(edge.data) && (plain || (out.dependencies != nullptr && out.data == nullptr))) {
      return CUDA_ERROR_LOSSY_QUERY;
    }
    capture->told_nodes.push_back(edge.node->handle());
    capture->told_data.push_back(edge.data);
  }
  *out.status = CU_STREAM_CAPTURE_STATUS_ACTIVE;
  if (out.id != nullptr) *out.id = capture->capture->id;
  if (out.graph != nullptr) *out.graph = capture->capture->graph->handle();
  if (out.dependencies != nullptr) *out.dependencies = capture->told_nodes.data();
  if (out.data != nullptr) *out.data = capture->told_data.data();
  if (out.count != nullptr) *out.count = capture->told_nodes.size();
  return CUDA_SUCCESS;
}

CUresult Graphs::UpdateCapture(CUstream stream, bool per_thread, const Dependencies& after,
                               unsigned flags) {
  if (flags > CU_STREAM_SET_CAPTURE_DEPENDENCIES) return CUDA_ERROR_INVALID_VALUE;
  const MutexLock lock(mutex_);
  StreamInfo info;
  CUresult result = backend_.FindStream(stream, per_thread, &info);
  if (result != CUDA_SUCCESS) return result;
  StreamCapture* capture = FindCapture(info.key);
  if (capture == nullptr) return CUDA_ERROR_ILLEGAL_STATE;
  if (capture->capture->invalid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  std::vector<Edge> edges;
  result = ReadEdges(*capture->capture->graph, after, &edges);
  if (result != CUDA_SUCCESS) return result;
  if (flags == CU_STREAM_SET_CAPTURE_DEPENDENCIES) capture->after.clear();
  Join(&capture->after, edges);
  return CUDA_SUCCESS;
}

CUresult Graphs::AddCaptured(StreamCapture* capture, NodeWork work, Node** node) {
  Node* added = nullptr;
  const CUresult result = Add(capture->capture->graph, capture->after, std::move(work), &added);
  if (result != CUDA_SUCCESS) return result;
  capture->after = {{added, {}}};
  if (node != nullptr) *node = added;
  return CUDA_SUCCESS;
}

// Lets `body` answer the call if the stream is being captured.
template <typename Body>
bool Graphs::InCapture(CUstream stream, bool per_thread, CUresult* result, Body&& body) {
  const MutexLock lock(mutex_);
  StreamInfo info;
  StreamCapture* capture = nullptr;
  const Use use = Enter(stream, per_thread, &info, &capture, result);
  if (use == Use::kCaptured) *result = body(info, capture);
  return use != Use::kFree;
}

bool Graphs::Capture(CUstream stream, bool per_thread, NodeWork work, CUresult* result) {
  return InCapture(stream, per_thread, result,
                   [&](const StreamInfo& info, StreamCapture* capture) REQUIRES(mutex_) {
                     CUresult valid = CUDA_SUCCESS;
                     if (work.type == CU_GRAPH_NODE_TYPE_MEMCPY) {
                       valid = backend_.CheckCopy(work.copy);
                     } else if (work.type == CU_GRAPH_NODE_TYPE_MEMSET) {
                       valid = backend_.CheckFill(work.fill);
                     }
                     if (valid != CUDA_SUCCESS) return valid;
                     if (work.context == nullptr) work.context = info.context;
                     return AddCaptured(capture, std::move(work));
                   });
}

bool Graphs::CaptureLaunch(CUstream stream, bool per_thread, const CUDA_KERNEL_NODE_PARAMS& params,
                           std::vector<CUlaunchAttribute> attributes, CUresult* result) {
  return InCapture(stream, per_thread, result,
                   [&](const StreamInfo& info, StreamCapture* capture) REQUIRES(mutex_) {
                     NodeWork work;
                     CUDA_KERNEL_NODE_PARAMS own = params;
                     if (own.ctx == nullptr) own.ctx = info.context;
                     const CUresult valid = ReadKernel(&own, &work);
                     if (valid != CUDA_SUCCESS) return valid;
                     work.kernel.attributes = std::move(attributes);
                     return AddCaptured(capture, std::move(work));
                   });
}

bool Graphs::CaptureAlloc(CUstream stream, bool per_thread, CUDA_MEM_ALLOC_NODE_PARAMS params,
                          CUdeviceptr* address, CUresult* result) {
  std::shared_ptr<GraphMemory> memory;  // Goes after the lock.
  return InCapture(stream, per_thread, result,
                   [&](const StreamInfo&, StreamCapture* capture) REQUIRES(mutex_) {
                     if (address == nullptr) return CUDA_ERROR_INVALID_VALUE;
                     NodeWork work;
                     CUresult done = ReadAlloc(&params, &work);
                     if (done != CUDA_SUCCESS) return done;
                     memory = work.memory;
                     done = AddCaptured(capture, std::move(work));
                     if (done != CUDA_SUCCESS) return done;
                     memory_[memory->address] = memory;
                     *address = memory->address;
                     return CUDA_SUCCESS;
                   });
}

bool Graphs::CaptureFree(CUstream stream, bool per_thread, CUdeviceptr address, CUresult* result) {
  return InCapture(stream, per_thread, result,
                   [&](const StreamInfo&, StreamCapture* capture) REQUIRES(mutex_) {
                     NodeWork work;
                     const CUresult valid = ReadFree(capture->capture->graph, address, &work);
                     return valid != CUDA_SUCCESS ? valid : AddCaptured(capture, std::move(work));
                   });
}

bool Graphs::CaptureRecord(CUstream stream, bool per_thread, CUevent event, unsigned flags,
                           CUresult* result) {
  const MutexLock lock(mutex_);
  StreamInfo info;
  StreamCapture* capture = nullptr;
  const Use use = Enter(stream, per_thread, &info, &capture, result);
  if (use == Use::kRefused) return true;
  if (use == Use::kFree) {
    events_.erase(event);  // Recorded anew, outside.
    return false;
  }
  if (!backend_.IsEvent(event)) {
    *result = CUDA_ERROR_INVALID_HANDLE;
    return true;
  }
  *result = CUDA_SUCCESS;
  if ((flags & CU_EVENT_RECORD_EXTERNAL) == 0) {
    events_[event] = {capture->capture, capture->after};
    return true;
  }
  NodeWork work;
  work.type = CU_GRAPH_NODE_TYPE_EVENT_RECORD;
  work.event = event;
  *result = AddCaptured(capture, std::move(work));
  return true;
}

bool Graphs::CaptureWait(CUstream stream, bool per_thread, CUevent event, unsigned flags,
                         CUresult* result) {
  const MutexLock lock(mutex_);
  StreamInfo info;
  StreamCapture* capture = nullptr;
  const Use use = Enter(stream, per_thread, &info, &capture, result);
  if (use == Use::kRefused) return true;
  const auto found = events_.find(event);
  if (use == Use::kFree) {
    if (found == events_.end()) return false;
    CaptureState* state = found->second.capture;
    if (info.legacy || state->invalid || info.key == 0) {
      *result = state->invalid ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED
                               : CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
      Invalidate(state);
      return true;
    }
    // The stream takes part in the capture from here on.
    auto joined = std::make_unique<StreamCapture>();
    joined->capture = state;
    joined->stream = info;
    joined->handle = stream;
    joined->after = found->second.after;
    streams_[info.key] = std::move(joined);
    *result = CUDA_SUCCESS;
    return true;
  }
  *result = CUDA_SUCCESS;
  if (found != events_.end()) {
    if (found->second.capture == capture->capture) {
      Join(&capture->after, found->second.after);
      return true;
    }
    Invalidate(found->second.capture);
    Invalidate(capture->capture);
    *result = CUDA_ERROR_STREAM_CAPTURE_MERGE;
    return true;
  }
  if (!backend_.IsEvent(event)) {
    *result = CUDA_ERROR_INVALID_HANDLE;
    return true;
  }
  if ((flags & CU_EVENT_WAIT_EXTERNAL) == 0) {
    Invalidate(capture->capture);
    *result = CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
    return true;
  }
  NodeWork work;
  work.type = CU_GRAPH_NODE_TYPE_WAIT_EVENT;
  work.event = event;
  *result = AddCaptured(capture, std::move(work));
  return true;
}

CUresult Graphs::CheckStream(CUstream stream, bool per_thread) {
  if (!capturing()) return CUDA_SUCCESS;
  const MutexLock lock(mutex_);
  StreamInfo info;
  StreamCapture* capture = nullptr;
  CUresult result = CUDA_SUCCESS;
  switch (Enter(stream, per_thread, &info, &capture, &result)) {
    case Use::kFree:
      return CUDA_SUCCESS;
    case Use::kRefused:
      return result;
    case Use::kCaptured:
      Invalidate(capture->capture);
      return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  }
  return CUDA_SUCCESS;
}

CUresult Graphs::CheckUnsafe() {
  if (!capturing() || thread_mode == CU_STREAM_CAPTURE_MODE_RELAXED) return CUDA_SUCCESS;
  const MutexLock lock(mutex_);
  bool forbidden = false;
  for (const auto& capture : captures_) {
    const bool mine = capture->thread == std::this_thread::get_id();
    const bool everywhere = capture->mode == CU_STREAM_CAPTURE_MODE_GLOBAL &&
                            thread_mode == CU_STREAM_CAPTURE_MODE_GLOBAL;
    if (!everywhere && (!mine || capture->mode == CU_STREAM_CAPTURE_MODE_RELAXED)) continue;
    Invalidate(capture.get());
    forbidden = true;
  }
  return forbidden ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED : CUDA_SUCCESS;
}

CUresult Graphs::CheckContext(CUcontext context) {
  if (!capturing()) return CUDA_SUCCESS;
  const MutexLock lock(mutex_);
  bool forbidden = false;
  for (const auto& [key, capture] : streams_) {
    if (context != nullptr && capture->stream.context != context) continue;
    Invalidate(capture->capture);
    forbidden = true;
  }
  return forbidden ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED : CUDA_SUCCESS;
}

CUresult Graphs::CheckEvent(CUevent event) {
  if (!capturing()) return CUDA_SUCCESS;
  const MutexLock lock(mutex_);
  return events_.count(event) != 0 ? CUDA_ERROR_CAPTURED_EVENT : CUDA_SUCCESS;
}

CUresult Graphs::RefuseCaptured(CUevent event) {
  if (!capturing()) return CUDA_SUCCESS;
  const MutexLock lock(mutex_);
  const auto found = events_.find(event);
  if (found == events_.end()) return CUDA_SUCCESS;
  Invalidate(found->second.capture);
  return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
}

void Graphs::ForgetKey(std::uint64_t key, Orphans* orphans) {
  const auto found = streams_.find(key);
  if (found == streams_.end()) return;
  CaptureState* capture = found->second->capture;
  Invalidate(capture);
  if (capture->origin != key) {
    streams_.erase(found);
    return;
  }
  // Nobody can end this capture any more.
  std::unique_ptr<Graph> own = std::move(capture->own);
  EndState(capture);
  if (own != nullptr) Forget(*own, orphans);
}

void Graphs::ForgetStream(CUstream stream) {
  if (!capturing()) return;
  Orphans orphans;  // No objects: a captured graph retains none that is not retained elsewhere.
  const MutexLock lock(mutex_);
  StreamInfo info;
  if (backend_.FindStream(stream, false, &info) != CUDA_SUCCESS) return;
  ForgetKey(info.key, &orphans);
}

void Graphs::ForgetContext(CUcontext context) {
  if (!capturing()) return;
  Orphans orphans;  // As above.
  const MutexLock lock(mutex_);
  std::vector<std::uint64_t> keys;
  for (const auto& [key, capture] : streams_) {
    if (capture->stream.context == context) keys.push_back(key);
  }
  for (const std::uint64_t key : keys) ForgetKey(key, &orphans);
}

void Graphs::ForgetEvent(CUevent event) {
  if (!capturing()) return;
  const MutexLock lock(mutex_);
  events_.erase(event);
}

}  // namespace farwarp::graph
