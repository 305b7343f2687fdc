// RawPeer: a process on the other end of a plain TCP connection, with the socket options the
// transport uses. It answers echoes and takes or gives streams of bytes: what a remoted call or
// copy is compared with. One thread.
#pragma once

#include <cstddef>

#include "farwarp/base/unique_fd.h"

namespace farwarp::bench {

class RawPeer {
 public:
  // Forks the peer. Call before CUDA is initialised.
  RawPeer();
  ~RawPeer();
  RawPeer(const RawPeer&) = delete;
  RawPeer& operator=(const RawPeer&) = delete;

  // One round trip of `bytes` bytes each way.
  void Echo(std::size_t bytes);
  // Sends `bytes` from `data`; returns when the peer says that it has read them all.
  void Send(const void* data, std::size_t bytes);
  // Receives `bytes` into `data`.
  void Receive(void* data, std::size_t bytes);

 private:
  UniqueFd socket_;
  int process_ = -1;
};

}  // namespace farwarp::bench
