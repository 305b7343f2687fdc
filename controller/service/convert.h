// Between the control API's messages and the pool's values. What comes in is checked for form here
// (lengths, counts); its meaning is the pool's matter.
//
// Pure functions, thread-safe.
#pragma once

#include <string>
#include <vector>

#include "controller/pool/pool.h"
#include "farwarp/base/status.h"
#include "proto/control/admin.pb.h"
#include "proto/control/clients.pb.h"
#include "proto/control/nodes.pb.h"

namespace farwarp::controller {

namespace v1 = ::farwarp::control::v1;

v1::ClientInfo ToProto(const pool::Client& client);
v1::Vgpu ToProto(const pool::Vgpu& vgpu);
v1::Device ToProto(const pool::Device& device);
v1::VgpuRequest ToProto(const pool::VgpuAsk& ask);
v1::Grant ToProto(const pool::TellGranted& granted);
std::string ToBytes(const pool::LeaseId& lease);

pool::Client FromProto(const v1::ClientInfo& client);
Result<pool::Request> FromProto(const v1::AcquireRequest& request);
Result<pool::NodeInfo> FromProto(const v1::NodeHello& hello);
Result<std::vector<pool::HeldLease>> FromProto(
    const google::protobuf::RepeatedPtrField<v1::HeldLease>& leases);
Result<pool::LeaseId> LeaseIdFrom(const std::string& bytes);
Result<pool::Secret> SecretFrom(const std::string& bytes);

}  // namespace farwarp::controller
