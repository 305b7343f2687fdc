// vGPUs from a controller's pool.
#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "client/cli/lease_holder.h"
#include "client/cli/source.h"

namespace farwarp::cli {
namespace {

std::string UserName() {
  const passwd* entry = ::getpwuid(::geteuid());
  return entry == nullptr ? std::to_string(::geteuid()) : entry->pw_name;
}

std::string HostName() {
  char name[256] = "";
  ::gethostname(name, sizeof name - 1);
  return name;
}

Result<v1::AcquireRequest> MakeRequest(const Ask& ask, const std::vector<std::string>& node_labels,
                                       const std::string& program) {
  v1::AcquireRequest request;
  for (const pool::VgpuAsk& vgpu : ask.vgpus) {
    v1::VgpuRequest& item = *request.add_vgpus();
    item.set_memory_bytes(vgpu.memory_bytes);
    item.set_memory_percent(vgpu.memory_percent);
    item.set_compute_percent(vgpu.compute_percent);
  }
  request.set_wait_ms(static_cast<std::uint64_t>(ask.wait.count()));
  v1::ClientInfo& client = *request.mutable_client();
  client.set_user(UserName());
  client.set_host(HostName());
  client.set_pid(static_cast<std::uint32_t>(::getpid()));
  client.set_program(program.substr(0, 200));
  client.set_farwarp_version(FARWARP_VERSION);
  for (const std::string& label : node_labels) {
    const std::size_t equals = label.find('=');
    if (equals == std::string::npos || equals == 0) {
      return Status::Invalid("--node-label takes KEY=VALUE, not '" + label.substr(0, 40) + "'");
    }
    (*request.mutable_node_labels())[label.substr(0, equals)] = label.substr(equals + 1);
  }
  return request;
}

Result<wire::Grant> ToGrant(const v1::Grant& grant) {
  wire::Grant out;
  if (grant.lease_id().size() != out.lease.size() || grant.secret().size() != out.secret.size() ||
      grant.vgpus_size() == 0) {
    return Status::Invalid("the controller sent a grant that cannot be read; its version differs?");
  }
  std::copy(grant.lease_id().begin(), grant.lease_id().end(), out.lease.begin());
  std::copy(grant.secret().begin(), grant.secret().end(), out.secret.begin());
  for (const v1::GrantedVgpu& vgpu : grant.vgpus()) {
    out.gpus.push_back(
        {vgpu.endpoint(), vgpu.ordinal(), vgpu.memory_bytes(), vgpu.compute_percent()});
  }
  // What we hand to programs must be readable by them.
  return wire::ParseGrant(wire::FormatGrant(out));
}

class ControllerSource final : public VgpuSource {
 public:
  ControllerSource(std::unique_ptr<ControllerClient> client, v1::AcquireRequest request, bool quiet)
      : client_(std::move(client)),
        holder_(std::make_unique<LeaseHolder>(*client_, std::move(request))),
        quiet_(quiet) {}

  int fd() const override { return holder_->event_fd(); }
  const std::optional<wire::Grant>& grant() const override { return grant_; }

  std::string node() const override { return node_; }

  Status Check() override {
    for (const HolderEvent& event : holder_->Take()) {
      switch (event.kind) {
        case HolderEvent::Kind::kQueued:
          Say("waiting (place " + std::to_string(event.queued.position()) + " of " +
              std::to_string(event.queued.waiting()) + "): " + event.queued.reason());
          break;
        case HolderEvent::Kind::kTroubled:
          Say(event.status.message() +
              (event.status.message().ends_with('?') ? " Trying again" : "; trying again"));
          break;
        case HolderEvent::Kind::kGranted: {
          if (event.grant.vgpus_size() > 0) node_ = event.grant.vgpus(0).node();
          auto grant = ToGrant(event.grant);
          if (!grant.ok()) return grant.status();
          grant_ = std::move(*grant);
          break;
        }
        case HolderEvent::Kind::kRefused:
        case HolderEvent::Kind::kEnded:
          return event.status;
      }
    }
    return Status::Ok();
  }

  void Release() override {
    if (const Status status = holder_->Release(); !status.ok())
      Say("the lease could not be given back, it will expire by itself: " + status.message());
    holder_.reset();
  }

 private:
  void Say(const std::string& text) const {
    if (!quiet_) std::fprintf(stderr, "farwarp: %s\n", text.c_str());
  }

  std::unique_ptr<ControllerClient> client_;
  std::unique_ptr<LeaseHolder> holder_;
  const bool quiet_;
  std::optional<wire::Grant> grant_;
  std::string node_;
};

}  // namespace

Result<std::unique_ptr<VgpuSource>> AskController(const std::string& address, const Ask& ask,
                                                  const std::vector<std::string>& node_labels,
                                                  const std::string& program, bool quiet) {
  auto request = MakeRequest(ask, node_labels, program);
  if (!request.ok()) return request.status();
  auto client = std::make_unique<ControllerClient>(address);
  FARWARP_RETURN_IF_ERROR(client->CheckHealth());
  return std::unique_ptr<VgpuSource>(
      std::make_unique<ControllerSource>(std::move(client), std::move(*request), quiet));
}

}  // namespace farwarp::cli
