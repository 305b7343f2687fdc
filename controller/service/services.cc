#include "controller/service/services.h"

#include <algorithm>
#include <chrono>

#include "controller/service/convert.h"
#include "controller/service/launcher_stream.h"
#include "controller/service/node_stream.h"
#include "controller/service/version.h"

namespace farwarp::controller {
namespace {

grpc::Status ToGrpc(const Status& status) {
  if (status.ok()) return grpc::Status::OK;
  grpc::StatusCode code = grpc::StatusCode::INTERNAL;
  if (status.code() == StatusCode::kInvalid) code = grpc::StatusCode::INVALID_ARGUMENT;
  if (status.code() == StatusCode::kNotFound) code = grpc::StatusCode::NOT_FOUND;
  if (status.code() == StatusCode::kUnavailable) code = grpc::StatusCode::UNAVAILABLE;
  return {code, status.message()};
}

grpc::ServerUnaryReactor* Answer(grpc::CallbackServerContext* context, const Status& status) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpc(status));
  return reactor;
}

std::uint64_t Since(pool::Time then, pool::Time now) {
  return static_cast<std::uint64_t>(std::max(pool::Time{0}, now - then).count());
}

void Fill(const pool::Pool& pool, const pool::Node& node, pool::Time now, v1::Node& out) {
  out.set_name(node.info.name);
  out.set_state(node.session ? v1::Node::ATTACHED : v1::Node::LOST);
  out.set_draining(node.draining);
  out.set_data_endpoint(node.info.data_endpoint);
  out.set_driver_version(node.info.driver_version);
  out.set_farwarp_version(node.info.version);
  out.set_leases(static_cast<std::uint32_t>(node.leases.size()));
  out.set_last_seen_ms(Since(node.last_heard, now));
  out.mutable_labels()->insert(node.info.labels.begin(), node.info.labels.end());
  for (std::size_t i = 0; i < node.info.devices.size(); ++i) {
    v1::DeviceUsage& usage = *out.add_devices();
    *usage.mutable_device() = ToProto(node.info.devices[i]);
    usage.set_memory_allocated_bytes(node.use[i].memory_bytes);
    usage.set_compute_allocated_percent(node.use[i].compute_percent);
    usage.set_vgpus(node.use[i].vgpus);
    std::uint64_t used = 0;
    for (const pool::LeaseId& id : node.leases) {
      for (const pool::Vgpu& vgpu : pool.leases().at(id).vgpus) {
        if (vgpu.device_ordinal == node.info.devices[i].ordinal) used += vgpu.memory_used_bytes;
      }
    }
    usage.set_memory_used_bytes(used);
  }
}

v1::Lease::State StateOf(pool::LeaseState state) {
  switch (state) {
    case pool::LeaseState::kPreparing:
      return v1::Lease::PREPARING;
    case pool::LeaseState::kActive:
      return v1::Lease::ACTIVE;
    case pool::LeaseState::kReleasing:
      break;
  }
  return v1::Lease::RELEASING;
}

void Fill(const pool::Lease& lease, std::int64_t unix_ms, v1::Lease& out) {
  out.set_lease_id(ToBytes(lease.id));
  out.set_state(StateOf(lease.state));
  *out.mutable_client() = ToProto(lease.client);
  out.set_node(lease.node);
  out.set_connections(lease.connections.value_or(0));
  out.set_launcher_attached(lease.holder.has_value());
  if (lease.created_unix_ms != 0)
    out.set_age_ms(
        static_cast<std::uint64_t>(std::max<std::int64_t>(0, unix_ms - lease.created_unix_ms)));
  for (const pool::Vgpu& vgpu : lease.vgpus) {
    v1::LeasedVgpu& item = *out.add_vgpus();
    *item.mutable_vgpu() = ToProto(vgpu);
    item.set_memory_used_bytes(vgpu.memory_used_bytes);
  }
}

}  // namespace

grpc::ServerBidiReactor<v1::NodeReport, v1::NodeCommand>* NodesService::Attach(
    grpc::CallbackServerContext* context) {
  return new NodeStream(core_, *context);
}

grpc::ServerWriteReactor<v1::AcquireEvent>* ClientsService::Acquire(
    grpc::CallbackServerContext*, const v1::AcquireRequest* request) {
  return new LauncherStream(core_, *request);
}

grpc::ServerUnaryReactor* ClientsService::Release(grpc::CallbackServerContext* context,
                                                  const v1::ReleaseRequest* request,
                                                  v1::ReleaseResponse*) {
  const auto lease = LeaseIdFrom(request->lease_id());
  const auto secret = SecretFrom(request->secret());
  if (!lease.ok()) return Answer(context, lease.status());
  if (!secret.ok()) return Answer(context, secret.status());
  return Answer(context, core_.Released(*lease, *secret));
}

grpc::ServerUnaryReactor* AdminService::ListNodes(grpc::CallbackServerContext* context,
                                                  const v1::ListNodesRequest*,
                                                  v1::ListNodesResponse* response) {
  core_.View([&](const pool::Pool& pool, pool::Time now) {
    for (const auto& [name, node] : pool.nodes()) Fill(pool, node, now, *response->add_nodes());
  });
  return Answer(context, Status::Ok());
}

grpc::ServerUnaryReactor* AdminService::ListLeases(grpc::CallbackServerContext* context,
                                                   const v1::ListLeasesRequest*,
                                                   v1::ListLeasesResponse* response) {
  const std::int64_t unix_ms = std::chrono::duration_cast<std::chrono::milliseconds>(
                                   std::chrono::system_clock::now().time_since_epoch())
                                   .count();
  core_.View([&](const pool::Pool& pool, pool::Time now) {
    for (const auto& [id, lease] : pool.leases()) {
      v1::Lease& out = *response->add_leases();
      Fill(lease, unix_ms, out);
      out.set_node_lost(!pool.nodes().at(lease.node).session);
    }
    for (const pool::Waiting& waiting : pool.queue()) {
      v1::Waiting& out = *response->add_waiting();
      *out.mutable_client() = ToProto(waiting.request.client);
      for (const pool::VgpuAsk& ask : waiting.request.vgpus) *out.add_vgpus() = ToProto(ask);
      out.set_position(static_cast<std::uint32_t>(response->waiting_size()));
      out.set_reason(waiting.told_reason);
      out.set_waited_ms(Since(waiting.arrived, now));
      out.set_left_ms(Since(now, waiting.deadline));
    }
  });
  std::sort(response->mutable_leases()->begin(), response->mutable_leases()->end(),
            [](const v1::Lease& a, const v1::Lease& b) { return a.age_ms() > b.age_ms(); });
  return Answer(context, Status::Ok());
}

grpc::ServerUnaryReactor* AdminService::DrainNode(grpc::CallbackServerContext* context,
                                                  const v1::DrainNodeRequest* request,
                                                  v1::DrainNodeResponse* response) {
  const Status status = core_.SetDraining(request->name(), true);
  core_.View([&](const pool::Pool& pool, pool::Time) {
    const auto found = pool.nodes().find(request->name());
    if (found != pool.nodes().end())
      response->set_leases_left(static_cast<std::uint32_t>(found->second.leases.size()));
  });
  return Answer(context, status);
}

grpc::ServerUnaryReactor* AdminService::UndrainNode(grpc::CallbackServerContext* context,
                                                    const v1::UndrainNodeRequest* request,
                                                    v1::UndrainNodeResponse*) {
  return Answer(context, core_.SetDraining(request->name(), false));
}

grpc::ServerUnaryReactor* AdminService::ForgetNode(grpc::CallbackServerContext* context,
                                                   const v1::ForgetNodeRequest* request,
                                                   v1::ForgetNodeResponse* response) {
  std::uint32_t leases = 0;
  core_.View([&](const pool::Pool& pool, pool::Time) {
    const auto found = pool.nodes().find(request->name());
    if (found != pool.nodes().end())
      leases = static_cast<std::uint32_t>(found->second.leases.size());
  });
  const Status status = core_.Forget(request->name());
  if (status.ok()) response->set_leases_ended(leases);
  return Answer(context, status);
}

grpc::ServerUnaryReactor* AdminService::PoolStatus(grpc::CallbackServerContext* context,
                                                   const v1::PoolStatusRequest*,
                                                   v1::PoolStatusResponse* response) {
  response->set_controller_version(kVersion);
  response->set_uptime_ms(static_cast<std::uint64_t>(core_.Uptime().count()));
  response->set_persistence_error(core_.store_error());
  core_.View([&](const pool::Pool& pool, pool::Time now) {
    std::uint32_t attached = 0, lost = 0, devices = 0;
    std::uint64_t total = 0, allocated = 0;
    for (const auto& [name, node] : pool.nodes()) {
      ++(node.session ? attached : lost);
      if (!node.session) continue;
      for (std::size_t i = 0; i < node.info.devices.size(); ++i) {
        ++devices;
        total += node.info.devices[i].memory_bytes;
        allocated += node.use[i].memory_bytes;
      }
    }
    response->set_nodes_attached(attached);
    response->set_nodes_lost(lost);
    response->set_devices(devices);
    response->set_memory_total_bytes(total);
    response->set_memory_allocated_bytes(allocated);
    response->set_leases(static_cast<std::uint32_t>(pool.leases().size()));
    response->set_waiting(static_cast<std::uint32_t>(pool.queue().size()));
    response->set_recovery_left_ms(Since(now, pool.recovery_end()));
  });
  return Answer(context, Status::Ok());
}

}  // namespace farwarp::controller
