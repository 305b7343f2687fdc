#include "proto/transport/peer_host.h"

// The kernel's own header: the C library's tcp_info is shorter, and the two do not go together.
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstddef>

namespace farwarp::transport {
namespace {

constexpr std::chrono::milliseconds kLongestProbeInterval{120'000};
// The kernel would give a peer up after so many unanswered probes; sessions judge sooner.
constexpr int kProbes = 8;
constexpr int kProbeSeconds = 2;

}  // namespace

std::optional<PeerHost> AskAboutPeerHost(int fd) noexcept {
  tcp_info info{};
  socklen_t size = sizeof info;
  if (::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0 ||
      size < offsetof(tcp_info, tcpi_notsent_bytes) + sizeof info.tcpi_notsent_bytes) {
    return std::nullopt;
  }
  PeerHost host;
  host.since_data = std::chrono::milliseconds(info.tcpi_last_data_recv);
  host.since_answer = std::min(std::chrono::milliseconds(info.tcpi_last_ack_recv), host.since_data);
  // Bytes wait, none are on their way: the window is closed. The kernel probes it at intervals that
  // double, and does no other probing; one unanswered probe may be on its way.
  if (info.tcpi_notsent_bytes != 0 && info.tcpi_unacked == 0 && info.tcpi_probes < 2) {
    const std::uint64_t base_ms = info.tcpi_rto / 1000;
    host.between_probes = std::min(
        kLongestProbeInterval,
        std::chrono::milliseconds(base_ms << std::min<std::uint32_t>(info.tcpi_backoff, 16)));
  }
  return host;
}

void ProbePeerHost(int fd) noexcept {
  // Where these fail the session's own pings are all there is.
  ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &kProbeSeconds, sizeof kProbeSeconds);
  ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &kProbeSeconds, sizeof kProbeSeconds);
  ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &kProbes, sizeof kProbes);
}

}  // namespace farwarp::transport
