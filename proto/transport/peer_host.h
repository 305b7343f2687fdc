// What the kernel knows about the host behind a TCP connection, whatever the program there does.
//
// Pure functions; any thread.
#pragma once

#include <chrono>
#include <optional>

namespace farwarp::transport {

struct PeerHost {
  std::chrono::milliseconds since_answer{0};  // The host's last packet of any kind.
  std::chrono::milliseconds since_data{0};    // The program's last bytes.
  // The peer takes no bytes (its window is closed), and is asked whether it does again only so
  // often.
  std::chrono::milliseconds between_probes{0};

  // The host has been there within `within`, as far as it had occasion to answer.
  bool Answers(std::chrono::milliseconds within) const noexcept {
    return since_answer <= within + between_probes;
  }
};

// Nothing for what is no TCP connection.
std::optional<PeerHost> AskAboutPeerHost(int fd) noexcept;

// Lets the kernel ask an idle peer every other second, so that a host which is there answers.
void ProbePeerHost(int fd) noexcept;

}  // namespace farwarp::transport
