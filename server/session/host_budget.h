// HostBudget: how much of the worker's own memory one client may have kept, by what it is kept for.
// The process's limit (worker/isolation.h) ends the worker; this one refuses a single command long
// before, with an error that its client can live with.
//
//   HostBudget::Hold hold = budget.Take(HostBudget::Kind::kGraphs, bytes);
//   if (!hold) return CUDA_ERROR_OUT_OF_MEMORY;      // said in the log, once per kind
//
// Each kind has a share of its own, so that one kind's greed is not another's failure. What is
// charged are estimates of what this process and the driver keep for the client, made from counts
// that the client sent: large enough to bound them, not exact.
//
// Thread-safe. Outlives its holds.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace farwarp::server {

class HostBudget {
 public:
  enum class Kind : std::uint8_t {
    kImages = 0,  // Modules and libraries, as they were sent.
    kGraphs,      // Nodes, edges, parameters and staging areas.
    kFunctions,   // Host functions that streams have not reached.
  };
  static constexpr std::size_t kKinds = 3;
  // Of a worker that nobody has limited.
  static constexpr std::uint64_t kDefaultBytes = std::uint64_t{8} << 30;

  // Bytes that belong to whoever has it, until it ends. Empty if there were none left.
  class Hold {
   public:
    Hold() = default;
    Hold(Hold&& other) noexcept { *this = std::move(other); }
    Hold& operator=(Hold&& other) noexcept {
      std::swap(budget_, other.budget_);
      std::swap(kind_, other.kind_);
      std::swap(bytes_, other.bytes_);
      return *this;
    }
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;
    ~Hold() { Drop(); }

    explicit operator bool() const noexcept { return budget_ != nullptr; }
    std::uint64_t bytes() const noexcept { return bytes_; }
    // False, and nothing has changed, if so many more are not left.
    [[nodiscard]] bool Grow(std::uint64_t bytes) noexcept;
    void Drop() noexcept;

   private:
    friend class HostBudget;
    Hold(HostBudget* budget, Kind kind, std::uint64_t bytes) noexcept
        : budget_(budget), kind_(kind), bytes_(bytes) {}

    HostBudget* budget_ = nullptr;
    Kind kind_ = Kind::kImages;
    std::uint64_t bytes_ = 0;
  };

  // `bytes`: what the worker may have in all; the kinds get parts of it.
  explicit HostBudget(std::uint64_t bytes = kDefaultBytes) noexcept;
  HostBudget(const HostBudget&) = delete;
  HostBudget& operator=(const HostBudget&) = delete;

  [[nodiscard]] Hold Take(Kind kind, std::uint64_t bytes) noexcept;
  std::uint64_t limit(Kind kind) const noexcept { return Of(kind).limit; }
  std::uint64_t used(Kind kind) const noexcept { return Of(kind).used.load(); }

 private:
  struct Share {
    std::uint64_t limit = 0;
    std::atomic<std::uint64_t> used{0};
    std::atomic<bool> refused{false};
  };

  const Share& Of(Kind kind) const noexcept { return shares_[static_cast<std::size_t>(kind)]; }
  Share& Of(Kind kind) noexcept { return shares_[static_cast<std::size_t>(kind)]; }
  bool Charge(Kind kind, std::uint64_t bytes) noexcept;

  std::array<Share, kKinds> shares_;
};

}  // namespace farwarp::server
