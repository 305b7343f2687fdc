#include "farwarp/transport/faulty_channel.h"

#include <thread>
#include <vector>

namespace farwarp::transport {

FaultyChannel::FaultyChannel(std::unique_ptr<Channel> inner, const FaultPlan& plan)
    : inner_(std::move(inner)), plan_(plan), random_(plan.seed) {}

Status FaultyChannel::Send(const wire::FrameHeader& header, std::span<const std::byte> first,
                           std::span<const std::byte> second, Deadline deadline) {
  const std::uint64_t frame = frames_++;
  auto pause = plan_.delay;
  if (plan_.jitter.count() > 0) {
    pause +=
        std::chrono::microseconds(random_() % static_cast<std::uint64_t>(plan_.jitter.count()));
  }
  if (pause.count() > 0) std::this_thread::sleep_for(pause);
  if (frame >= plan_.cut_after_frames) {
    inner_->Shutdown();
    return Status::Closed("the link was cut by the fault plan");
  }
  if (frame >= plan_.swallow_after_frames) return Status::Ok();
  if (frame == plan_.corrupt_frame && header.bytes != 0) {
    std::vector<std::byte> changed(first.begin(), first.end());
    changed.insert(changed.end(), second.begin(), second.end());
    changed[random_() % changed.size()] ^= static_cast<std::byte>(1 + random_() % 255);
    return inner_->Send(header, changed, {}, deadline);
  }
  return inner_->Send(header, first, second, deadline);
}

}  // namespace farwarp::transport
