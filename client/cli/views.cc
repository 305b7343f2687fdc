#include "client/cli/views.h"

#include <chrono>

#include "client/cli/json.h"
#include "client/cli/table.h"
#include "farwarp/base/bytes.h"
#include "farwarp/base/duration.h"

namespace farwarp::cli {
namespace {

std::string LeaseId(const std::string& bytes) {
  return HexEncode({reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()});
}

std::string Duration(std::uint64_t ms) {
  return FormatDuration(std::chrono::milliseconds(static_cast<std::int64_t>(ms)));
}

// "1 node", "2 nodes"
std::string Count(std::uint32_t count, const char* what) {
  return std::to_string(count) + " " + what + (count == 1 ? "" : "s");
}

const char* StateName(const v1::Node& node) {
  if (node.state() == v1::Node::LOST) return "lost";
  return node.draining() ? "draining" : "ready";
}

const char* StateName(const v1::Lease& lease) {
  if (lease.node_lost()) return "node lost";
  switch (lease.state()) {
    case v1::Lease::PREPARING:
      return "preparing";
    case v1::Lease::ACTIVE:
      return "active";
    case v1::Lease::RELEASING:
      return "releasing";
    default:
      return "unknown";
  }
}

std::string Version(std::uint32_t driver) {
  return driver == 0 ? "-"
                     : std::to_string(driver / 1000) + "." + std::to_string(driver % 1000 / 10);
}

std::string Capability(std::uint32_t capability) {
  return std::to_string(capability / 10) + "." + std::to_string(capability % 10);
}

std::string Who(const v1::ClientInfo& client) {
  return client.user() + "@" + client.host();
}

// "2 x 1 GiB/12 %" or "1 GiB/12 %, 2 GiB/25 %"
std::string Shares(const v1::Lease& lease) {
  std::string text;
  for (int i = 0; i < lease.vgpus_size();) {
    const v1::Vgpu& vgpu = lease.vgpus(i).vgpu();
    int equal = 1;
    while (i + equal < lease.vgpus_size() &&
           lease.vgpus(i + equal).vgpu().memory_bytes() == vgpu.memory_bytes() &&
           lease.vgpus(i + equal).vgpu().compute_percent() == vgpu.compute_percent())
      ++equal;
    if (!text.empty()) text += ", ";
    if (equal > 1) text += std::to_string(equal) + " x ";
    text += FormatBytes(vgpu.memory_bytes()) + "/" + std::to_string(vgpu.compute_percent()) + " %";
    i += equal;
  }
  return text;
}

std::string Wanted(const v1::Waiting& waiting) {
  if (waiting.vgpus_size() == 0) return "-";
  const v1::VgpuRequest& vgpu = waiting.vgpus(0);
  std::string text = std::to_string(waiting.vgpus_size()) + " x ";
  if (vgpu.memory_bytes() != 0) {
    text += FormatBytes(vgpu.memory_bytes());
  } else {
    text +=
        std::to_string(vgpu.memory_percent() == 0 ? 100 : vgpu.memory_percent()) + " % of a device";
  }
  return text;
}

void WriteNodes(const v1::ListNodesResponse& nodes, JsonWriter& json) {
  json.BeginArray();
  for (const v1::Node& node : nodes.nodes()) {
    json.BeginObject()
        .Field("name", node.name())
        .Field("state", StateName(node))
        .Field("draining", node.draining())
        .Field("data_endpoint", node.data_endpoint())
        .Field("driver_version", std::uint64_t{node.driver_version()})
        .Field("farwarp_version", node.farwarp_version())
        .Field("leases", std::uint64_t{node.leases()})
        .Field("last_seen_ms", std::uint64_t{node.last_seen_ms()});
    json.Key("labels").BeginObject();
    for (const auto& [key, value] : node.labels()) json.Field(key, value);
    json.EndObject();
    json.Key("devices").BeginArray();
    for (const v1::DeviceUsage& usage : node.devices()) {
      json.BeginObject()
          .Field("ordinal", std::uint64_t{usage.device().ordinal()})
          .Field("uuid", usage.device().uuid())
          .Field("name", usage.device().name())
          .Field("compute_capability", Capability(usage.device().compute_capability()))
          .Field("sm_count", std::uint64_t{usage.device().sm_count()})
          .Field("memory_bytes", std::uint64_t{usage.device().memory_bytes()})
          .Field("memory_allocated_bytes", std::uint64_t{usage.memory_allocated_bytes()})
          .Field("memory_used_bytes", std::uint64_t{usage.memory_used_bytes()})
          .Field("compute_allocated_percent", std::uint64_t{usage.compute_allocated_percent()})
          .Field("vgpus", std::uint64_t{usage.vgpus()})
          .EndObject();
    }
    json.EndArray().EndObject();
  }
  json.EndArray();
}

void WriteClient(const v1::ClientInfo& client, JsonWriter& json) {
  json.BeginObject()
      .Field("user", client.user())
      .Field("host", client.host())
      .Field("pid", std::uint64_t{client.pid()})
      .Field("program", client.program())
      .Field("farwarp_version", client.farwarp_version())
      .EndObject();
}

void WriteLeases(const v1::ListLeasesResponse& leases, JsonWriter& json) {
  json.BeginArray();
  for (const v1::Lease& lease : leases.leases()) {
    json.BeginObject()
        .Field("lease_id", LeaseId(lease.lease_id()))
        .Field("state", StateName(lease))
        .Field("node", lease.node())
        .Field("connections", std::uint64_t{lease.connections()})
        .Field("launcher_attached", lease.launcher_attached())
        .Field("age_ms", std::uint64_t{lease.age_ms()});
    json.Key("client");
    WriteClient(lease.client(), json);
    json.Key("vgpus").BeginArray();
    for (const v1::LeasedVgpu& vgpu : lease.vgpus()) {
      json.BeginObject()
          .Field("ordinal", std::uint64_t{vgpu.vgpu().ordinal()})
          .Field("device_ordinal", std::uint64_t{vgpu.vgpu().device_ordinal()})
          .Field("device_uuid", vgpu.vgpu().device_uuid())
          .Field("memory_bytes", std::uint64_t{vgpu.vgpu().memory_bytes()})
          .Field("memory_used_bytes", std::uint64_t{vgpu.memory_used_bytes()})
          .Field("compute_percent", std::uint64_t{vgpu.vgpu().compute_percent()})
          .EndObject();
    }
    json.EndArray().EndObject();
  }
  json.EndArray();
}

void WriteWaiting(const v1::ListLeasesResponse& leases, JsonWriter& json) {
  json.BeginArray();
  for (const v1::Waiting& waiting : leases.waiting()) {
    json.BeginObject()
        .Field("position", std::uint64_t{waiting.position()})
        .Field("reason", waiting.reason())
        .Field("vgpus", static_cast<std::uint64_t>(waiting.vgpus_size()))
        .Field("waited_ms", std::uint64_t{waiting.waited_ms()})
        .Field("left_ms", std::uint64_t{waiting.left_ms()});
    json.Key("client");
    WriteClient(waiting.client(), json);
    json.EndObject();
  }
  json.EndArray();
}

}  // namespace

std::string NodesText(const v1::ListNodesResponse& nodes) {
  if (nodes.nodes().empty()) return "no node has attached to this controller\n";
  Table table({"NODE", "STATE", ">GPUS", ">LEASES", "DRIVER", "DATA ENDPOINT", "VERSION", ">SEEN"});
  for (const v1::Node& node : nodes.nodes()) {
    table.Add({node.name(), StateName(node), std::to_string(node.devices_size()),
               std::to_string(node.leases()), Version(node.driver_version()), node.data_endpoint(),
               node.farwarp_version(), Duration(node.last_seen_ms()) + " ago"});
  }
  return table.Text();
}

std::string NodesJson(const v1::ListNodesResponse& nodes) {
  JsonWriter json;
  json.BeginObject().Key("nodes");
  WriteNodes(nodes, json);
  json.EndObject();
  return json.text() + "\n";
}

std::string LeasesText(const v1::ListLeasesResponse& leases) {
  std::string text;
  if (leases.leases().empty()) {
    text = "no lease\n";
  } else {
    Table table(
        {"LEASE", "STATE", "CLIENT", ">PID", "PROGRAM", "NODE", "VGPUS", ">CONNECTIONS", ">AGE"});
    for (const v1::Lease& lease : leases.leases()) {
      table.Add({LeaseId(lease.lease_id()).substr(0, 8), StateName(lease), Who(lease.client()),
                 std::to_string(lease.client().pid()), lease.client().program(), lease.node(),
                 Shares(lease), lease.node_lost() ? "-" : std::to_string(lease.connections()),
                 Duration(lease.age_ms())});
    }
    text = table.Text();
  }
  if (leases.waiting().empty()) return text;
  Table table({">PLACE", "CLIENT", "PROGRAM", "WANTS", ">WAITED", ">LEFT", "REASON"});
  for (const v1::Waiting& waiting : leases.waiting()) {
    table.Add({std::to_string(waiting.position()), Who(waiting.client()),
               waiting.client().program(), Wanted(waiting), Duration(waiting.waited_ms()),
               Duration(waiting.left_ms()), waiting.reason()});
  }
  return text + "\nwaiting:\n" + table.Text();
}

std::string LeasesJson(const v1::ListLeasesResponse& leases) {
  JsonWriter json;
  json.BeginObject().Key("leases");
  WriteLeases(leases, json);
  json.Key("waiting");
  WriteWaiting(leases, json);
  json.EndObject();
  return json.text() + "\n";
}

std::string PoolText(const v1::PoolStatusResponse& status, const v1::ListNodesResponse& nodes,
                     const v1::ListLeasesResponse& leases) {
  std::string text =
      Count(status.nodes_attached(), "node") + ", " + Count(status.devices(), "device") + ", " +
      FormatBytes(status.memory_allocated_bytes()) + " of " +
      FormatBytes(status.memory_total_bytes()) + " allocated, " + Count(status.leases(), "lease") +
      ", " + std::to_string(status.waiting()) + " waiting\n";
  if (status.nodes_lost() > 0) text += Count(status.nodes_lost(), "node") + " lost\n";
  if (!status.persistence_error().empty())
    text += "leases are not safe from a restart: " + status.persistence_error() + "\n";
  Table table({"NODE", "STATE", ">GPU", "NAME", "CC", ">MEMORY", ">ALLOCATED", ">USED", ">COMPUTE",
               ">VGPUS"});
  for (const v1::Node& node : nodes.nodes()) {
    for (const v1::DeviceUsage& usage : node.devices()) {
      table.Add({node.name(), StateName(node), std::to_string(usage.device().ordinal()),
                 usage.device().name(), Capability(usage.device().compute_capability()),
                 FormatBytes(usage.device().memory_bytes()),
                 FormatBytes(usage.memory_allocated_bytes()),
                 FormatBytes(usage.memory_used_bytes()),
                 std::to_string(usage.compute_allocated_percent()) + " %",
                 std::to_string(usage.vgpus())});
    }
    if (node.devices().empty()) table.Add({node.name(), StateName(node), "-", "no device"});
  }
  return text + "\n" + table.Text() + "\n" + LeasesText(leases);
}

std::string PoolJson(const v1::PoolStatusResponse& status, const v1::ListNodesResponse& nodes,
                     const v1::ListLeasesResponse& leases) {
  JsonWriter json;
  json.BeginObject().Key("pool");
  json.BeginObject()
      .Field("controller_version", status.controller_version())
      .Field("uptime_ms", std::uint64_t{status.uptime_ms()})
      .Field("nodes_attached", std::uint64_t{status.nodes_attached()})
      .Field("nodes_lost", std::uint64_t{status.nodes_lost()})
      .Field("devices", std::uint64_t{status.devices()})
      .Field("memory_total_bytes", std::uint64_t{status.memory_total_bytes()})
      .Field("memory_allocated_bytes", std::uint64_t{status.memory_allocated_bytes()})
      .Field("leases", std::uint64_t{status.leases()})
      .Field("waiting", std::uint64_t{status.waiting()})
      .Field("persistence_error", status.persistence_error())
      .Field("recovery_left_ms", std::uint64_t{status.recovery_left_ms()})
      .EndObject();
  json.Key("nodes");
  WriteNodes(nodes, json);
  json.Key("leases");
  WriteLeases(leases, json);
  json.Key("waiting");
  WriteWaiting(leases, json);
  json.EndObject();
  return json.text() + "\n";
}

}  // namespace farwarp::cli
