// FaultyChannel: another channel with delays and faults, for tests. What goes wrong is decided by
// the plan and its seed alone.
#pragma once

#include <chrono>
#include <memory>
#include <random>

#include "farwarp/transport/channel.h"

namespace farwarp::transport {

struct FaultPlan {
  static constexpr std::uint64_t kNever = ~std::uint64_t{0};

  std::uint64_t seed = 1;
  std::chrono::microseconds delay{0};       // Added to each frame sent.
  std::chrono::microseconds jitter{0};      // Up to this much more, by the seed.
  std::uint64_t cut_after_frames = kNever;  // The link dies after so many frames sent.
  std::uint64_t corrupt_frame =
      kNever;  // One byte of this frame's payload is changed, by the seed.
  std::uint64_t swallow_after_frames =
      kNever;  // Frames after so many vanish silently: a peer that has gone without a word.
};

class FaultyChannel : public Channel {
 public:
  FaultyChannel(std::unique_ptr<Channel> inner, const FaultPlan& plan);

  Status Send(const wire::FrameHeader& header, std::span<const std::byte> first,
              std::span<const std::byte> second, Deadline deadline) override;
  Result<wire::FrameHeader> ReceiveHeader(Deadline deadline) override {
    return inner_->ReceiveHeader(deadline);
  }
  Status ReceivePayload(std::span<std::byte> to, Deadline deadline) override {
    return inner_->ReceivePayload(to, deadline);
  }
  void Shutdown() noexcept override { inner_->Shutdown(); }
  ChannelCounts counts() const noexcept override { return inner_->counts(); }

 private:
  const std::unique_ptr<Channel> inner_;
  const FaultPlan plan_;
  std::mt19937_64 random_;
  std::uint64_t frames_ = 0;  // Sending thread only.
};

}  // namespace farwarp::transport
