#include "server/session/commands/scrubs.h"

#include <algorithm>
#include <utility>

namespace farwarp::server {

CUresult Scrubs::Clear(const driver::Table& driver, std::uint64_t address, std::uint64_t bytes) {
  CUcontext context = nullptr;
  CUresult result = driver.cuCtxGetCurrent(&context);
  if (result != CUDA_SUCCESS) return result;
  if (context == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
  auto lane = std::find_if(lanes_.begin(), lanes_.end(),
                           [&](const Lane& one) { return one.pair.context == context; });
  if (lane == lanes_.end()) {
    WaitPairs::Pair pair;
    result = pairs_.Take(driver, context, &pair);
    if (result != CUDA_SUCCESS) return result;
    lane = lanes_.insert(lanes_.end(), Lane{pair, {}});
  }
  result = driver.cuMemsetD8Async(address, 0, bytes, lane->pair.stream);
  if (result != CUDA_SUCCESS) return result;
  lane->clearing.push_back({address, bytes});
  idle_ = false;
  result = driver.cuEventRecord(lane->pair.event, lane->pair.stream);
  if (result == CUDA_SUCCESS) return result;
  // Nobody could wait for it on the device.
  static_cast<void>(driver.cuStreamSynchronize(lane->pair.stream));
  lane->clearing.pop_back();
  return result;
}

bool Scrubs::Settle(const driver::Table& driver, Lane& lane) {
  if (lane.clearing.empty()) return true;
  const CUresult now = driver.cuEventQuery(lane.pair.event);
  if (now == CUDA_ERROR_NOT_READY) return false;
  if (now != CUDA_SUCCESS) {
    unclean_.insert(unclean_.end(), lane.clearing.begin(), lane.clearing.end());
  }
  lane.clearing.clear();
  return true;
}

void Scrubs::WaitOnDevice(const driver::Table& driver, CUstream stream) {
  for (Lane& lane : lanes_) static_cast<void>(Settle(driver, lane));
  for (const Range& range : std::exchange(unclean_, {})) {
    if (Clear(driver, range.address, range.bytes) != CUDA_SUCCESS) unclean_.push_back(range);
  }
  idle_ = unclean_.empty();
  for (Lane& lane : lanes_) {
    if (lane.clearing.empty()) continue;
    idle_ = false;
    static_cast<void>(driver.cuStreamWaitEvent(stream, lane.pair.event, 0));
  }
}

std::optional<WaitPairs::Pair> Scrubs::Forget(const driver::Table& driver, std::uint64_t address) {
  if (idle_) return std::nullopt;
  const auto is_it = [address](const Range& range) { return range.address == address; };
  std::erase_if(unclean_, is_it);
  for (Lane& lane : lanes_) {
    if (std::erase_if(lane.clearing, is_it) == 0) continue;
    // The others of the lane may still need its event.
    if (driver.cuEventQuery(lane.pair.event) == CUDA_ERROR_NOT_READY) return lane.pair;
  }
  return std::nullopt;
}

void Scrubs::Finish(const driver::Table& driver, const WaitPairs::Pair& lane) {
  if (driver.cuCtxPushCurrent_v2(lane.context) != CUDA_SUCCESS) return;
  static_cast<void>(driver.cuStreamSynchronize(lane.stream));
  CUcontext popped = nullptr;
  static_cast<void>(driver.cuCtxPopCurrent_v2(&popped));
}

std::optional<WaitPairs::Pair> Scrubs::Drop(const driver::Table& driver, CUcontext context) {
  const auto lane = std::find_if(lanes_.begin(), lanes_.end(),
                                 [&](const Lane& one) { return one.pair.context == context; });
  if (lane == lanes_.end()) return std::nullopt;
  if (!lane->clearing.empty()) {
    Finish(driver, lane->pair);
    static_cast<void>(Settle(driver, *lane));
  }
  const WaitPairs::Pair pair = lane->pair;
  lanes_.erase(lane);
  return pair;
}

}  // namespace farwarp::server
