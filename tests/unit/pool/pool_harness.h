// What the pool's unit tests share: counted credentials, short ways to make nodes and requests, and
// pickers for the actions that come out. One thread.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <variant>
#include <vector>

#include "controller/pool/pool.h"
#include "farwarp/base/bytes.h"

namespace farwarp::pool {

class CountedCredentials : public CredentialSource {
 public:
  Credentials Next() override {
    ++count_;
    Credentials credentials;
    for (std::size_t i = 0; i < 8; ++i)
      credentials.id.bytes[i] = static_cast<std::uint8_t>(count_ >> (8 * i));
    credentials.secret.fill(static_cast<std::uint8_t>(count_));
    return credentials;
  }

 private:
  std::uint64_t count_ = 0;
};

inline NodeInfo MakeNode(const std::string& name, std::vector<std::uint64_t> device_bytes) {
  NodeInfo info;
  info.name = name;
  info.instance_id = name + "-1";
  info.data_endpoint = name + ":7401";
  info.version = "0.1.0";
  for (std::size_t i = 0; i < device_bytes.size(); ++i) {
    Device device;
    device.ordinal = static_cast<std::uint32_t>(i);
    device.uuid = "GPU-" + name + "-" + std::to_string(i);
    device.name = "test";
    device.memory_bytes = device_bytes[i];
    info.devices.push_back(device);
  }
  return info;
}

inline Request Ask(std::vector<VgpuAsk> vgpus, Time wait = Time{60'000}) {
  Request request;
  request.vgpus = std::move(vgpus);
  request.wait = wait;
  request.client.program = "test";
  return request;
}

template <typename T>
std::vector<T> All(const Actions& actions) {
  std::vector<T> found;
  for (const Action& action : actions) {
    if (const T* item = std::get_if<T>(&action)) found.push_back(*item);
  }
  return found;
}

// The one action of this kind; fails the test when there is none or more.
template <typename T>
T Only(const Actions& actions) {
  const std::vector<T> found = All<T>(actions);
  EXPECT_EQ(found.size(), 1u) << "actions of this kind";
  return found.empty() ? T{} : found.front();
}

inline HeldLease Held(const SendPrepare& prepare, std::uint32_t connections) {
  return HeldLease{prepare.lease, connections, prepare.vgpus};
}

}  // namespace farwarp::pool
