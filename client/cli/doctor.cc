#include "client/cli/doctor.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <set>

#include "client/cli/child.h"
#include "client/cli/controller_client.h"
#include "client/cli/exit_code.h"
#include "client/cli/layout.h"
#include "client/cli/probe.h"
#include "client/cli/reach.h"
#include "client/cli/source.h"
#include "farwarp/base/bytes.h"
#include "farwarp/base/deadline.h"
#include "farwarp/base/unique_fd.h"

namespace farwarp::cli {
namespace {

using Clock = std::chrono::steady_clock;

std::string Milliseconds(Clock::time_point start) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f ms",
                std::chrono::duration<double, std::milli>(Clock::now() - start).count());
  return text;
}

class Report {
 public:
  void Ok(const std::string& what, const std::string& detail) { Line("ok", what, detail, ""); }
  void Skip(const std::string& what, const std::string& why) { Line("skip", what, why, ""); }
  void Warn(const std::string& what, const std::string& detail, const std::string& advice) {
    Line("warn", what, detail, advice);
  }
  void Fail(const std::string& what, const std::string& detail, const std::string& advice) {
    ++failures_;
    Line("FAIL", what, detail, advice);
  }
  int failures() const { return failures_; }

 private:
  static void Line(const char* verdict, const std::string& what, const std::string& detail,
                   const std::string& advice) {
    std::printf("%-4s  %-12s %s\n", verdict, what.c_str(), detail.c_str());
    if (!advice.empty()) std::printf("                   -> %s\n", advice.c_str());
    std::fflush(stdout);
  }
  int failures_ = 0;
};

void CheckLibraries(const Layout& layout, Report& report) {
  std::string missing;
  for (const char* name : {"libcuda.so.1", "libcudart.so.13"}) {
    if (::access((layout.lib + "/" + name).c_str(), R_OK) == 0) continue;
    missing += (missing.empty() ? "" : ", ") + std::string(name);
  }
  if (missing.empty()) {
    report.Ok("libraries", "libcuda.so.1 and libcudart.so.13 in " + layout.lib);
  } else {
    report.Fail("libraries", missing + " missing in " + layout.lib,
                "programs find their vGPUs through these; install Farwarp completely");
  }
}

// What a private pool would run on; with a controller a driver here is not needed.
void CheckDrivers(const Layout& layout, const Settings& settings, Report& report) {
  const std::string wanted = settings.driver ? settings.driver->value : "";
  const auto real =
      ProbeDriver(wanted.empty() || wanted == "softgpu" ? "libcuda.so.1" : wanted, layout.lib);
  const auto soft = ProbeDriver(layout.softgpu_lib + "/libcuda.so.1", layout.lib);
  if (wanted != "softgpu" && real.ok() && !real->devices.empty()) {
    report.Ok("driver", real->path + " with " + std::to_string(real->devices.size()) +
                            (real->devices.size() == 1 ? " device, " : " devices, the first is ") +
                            real->devices[0].name);
  } else if (!wanted.empty() && wanted != "softgpu") {
    report.Fail("driver",
                wanted + ": " + (real.ok() ? "it has no device" : real.status().message()),
                "this driver is chosen by " + settings.driver->origin);
  } else if (soft.ok() && !soft->devices.empty()) {
    report.Ok("driver", "the software GPU works (" + FormatBytes(soft->devices[0].memory_bytes) +
                            "); no other is needed");
  } else if (settings.controller) {
    report.Skip("driver", "no GPU on this machine, and none is needed with a controller");
  } else {
    report.Fail("driver",
                "neither a GPU nor the software GPU: " +
                    (soft.ok() ? std::string("it has no device") : soft.status().message()),
                "a private pool needs one of them; or set FARWARP_CONTROLLER");
  }
}

void CheckVersion(const std::string& who, const std::string& version, Report& report) {
  if (version == FARWARP_VERSION) return;
  report.Warn("version", who + " is " + version + ", this is " + FARWARP_VERSION,
              "mixed versions work within one release; upgrade the older one");
}

void CheckNodes(ControllerClient& client, Report& report) {
  v1::ListNodesResponse nodes;
  const Status status = client.Ask(
      [&](grpc::ClientContext& context) { return client.admin().ListNodes(&context, {}, &nodes); });
  if (!status.ok()) {
    report.Fail("nodes", status.message(), "see above");
    return;
  }
  int attached = 0;
  for (const v1::Node& node : nodes.nodes()) {
    if (node.state() != v1::Node::ATTACHED) {
      report.Warn("node", node.name() + " is lost", "is farwarp-server running there?");
      continue;
    }
    ++attached;
    CheckVersion("node " + node.name(), node.farwarp_version(), report);
    const Clock::time_point start = Clock::now();
    if (const Status reach = Reach(node.data_endpoint()); reach.ok()) {
      report.Ok("node", node.name() + ", data port " + node.data_endpoint() + " reached in " +
                            Milliseconds(start));
    } else {
      report.Fail("node",
                  node.name() + ", data port " + node.data_endpoint() + ": " + reach.message(),
                  "programs connect to this address; check --advertise (or --listen) of the node's "
                  "server, and firewalls");
    }
  }
  if (attached == 0)
    report.Fail("nodes", "no node is attached",
                "start farwarp-server --controller " + client.address());
}

// Waits for the grant of the smallest vGPU there is.
Status WaitForGrant(VgpuSource& source) {
  const Deadline deadline = Deadline::After(std::chrono::seconds(10));
  while (!source.grant()) {
    FARWARP_RETURN_IF_ERROR(source.Check());
    if (deadline.expired()) return Status::Timeout("no answer within 10 s");
    pollfd ready{source.fd(), POLLIN, 0};
    if (!source.grant()) ::poll(&ready, 1, std::min(deadline.remaining_ms(), 100));
  }
  return Status::Ok();
}

// The output of the child, or what it says on standard error when it fails.
Result<std::string> RunFirstKernel(const Layout& layout, const wire::Grant& grant,
                                   const SignalWatch& signals) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return Status::FromErrno("pipe", errno);
  const UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  const UniqueFd words(::memfd_create("first-kernel", MFD_CLOEXEC));
  ChildOptions options;
  options.arguments = {"farwarp", "first-kernel"};
  options.environment = EnvironmentWith(
      {"LD_LIBRARY_PATH=" + layout.lib, "FARWARP_GRANT=" + wire::FormatGrant(grant)});
  options.standard_output = writer.get();
  options.standard_error = words.get();
  options.no_input = true;
  auto child = Child::Start(layout.bin + "/farwarp", options, signals.original_mask());
  if (!child.ok()) return child.status();
  writer.reset();
  std::string text;
  const Deadline deadline = Deadline::After(std::chrono::seconds(20));
  char buffer[512];
  for (;;) {
    pollfd ready{reader.get(), POLLIN, 0};
    if (::poll(&ready, 1, deadline.remaining_ms()) == 0)
      return Status::Timeout("it did not finish within 20 s");
    const ssize_t got = ::read(reader.get(), buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    text.append(buffer, static_cast<std::size_t>(got));
  }
  while (!child->Poll() && !deadline.expired()) ::poll(nullptr, 0, 1);
  if (child->Poll() == 0 && !text.empty()) return text.substr(0, text.find('\n'));
  const ssize_t got = ::pread(words.get(), buffer, sizeof buffer, 0);
  text.assign(buffer, got > 0 ? static_cast<std::size_t>(got) : 0);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return Status::Internal(text.empty() ? "it ended without a word" : text);
}

void CheckFirstKernel(const Layout& layout, Result<std::unique_ptr<VgpuSource>> source,
                      Clock::time_point start, const SignalWatch& signals, bool is_private,
                      Report& report) {
  const Status granted = source.ok() ? WaitForGrant(**source) : source.status();
  if (!granted.ok()) {
    report.Fail("grant", granted.message(),
                is_private ? "a private pool needs farwarp-server and a driver; see above"
                           : "farwarp smi and farwarp ps show who uses the pool");
    report.Skip("first kernel", "no grant");
    return;
  }
  report.Ok("grant", "a vGPU of 64 MiB in " + Milliseconds(start));
  const auto kernel = RunFirstKernel(layout, *(*source)->grant(), signals);
  if (kernel.ok()) {
    report.Ok("first kernel", *kernel);
  } else {
    report.Fail("first kernel", kernel.status().message(),
                "FARWARP_LOG=debug farwarp run -- your-program says more");
  }
  (*source)->Release();
}

}  // namespace

int Diagnose(const Settings& settings) {
  Report report;
  const auto layout = FindLayout();
  if (!layout.ok()) {
    report.Fail("installation", layout.status().message(), "");
    return kFailed;
  }
  SignalWatch signals;
  CheckLibraries(*layout, report);
  CheckDrivers(*layout, settings, report);
  Ask ask;
  ask.vgpus = {{64 * kMiB, 0, 1}};
  if (!settings.controller) {
    report.Ok("controller", "none configured: farwarp run uses a private pool on this machine");
    const std::string driver = settings.driver ? settings.driver->value : "";
    const Clock::time_point asked = Clock::now();
    CheckFirstKernel(*layout, StartPrivatePool(*layout, ask, driver, signals), asked, signals, true,
                     report);
    return report.failures() == 0 ? kSuccess : kFailed;
  }
  ControllerClient client(settings.controller->value);
  const Clock::time_point start = Clock::now();
  if (const Status health = client.CheckHealth(); !health.ok()) {
    report.Fail("controller", health.message(),
                "the address comes from " + settings.controller->origin);
    return kFailed;
  }
  report.Ok("controller", client.address() + " (from " + settings.controller->origin +
                              "), healthy, answered in " + Milliseconds(start));
  v1::PoolStatusResponse status;
  if (client
          .Ask([&](grpc::ClientContext& context) {
            return client.admin().PoolStatus(&context, {}, &status);
          })
          .ok()) {
    CheckVersion("the controller", status.controller_version(), report);
    if (!status.persistence_error().empty())
      report.Warn("controller", status.persistence_error(), "a restart would lose leases");
  }
  CheckNodes(client, report);
  const Clock::time_point asked = Clock::now();
  CheckFirstKernel(*layout,
                   AskController(settings.controller->value, ask, {}, "farwarp doctor", true),
                   asked, signals, false, report);
  return report.failures() == 0 ? kSuccess : kFailed;
}

}  // namespace farwarp::cli
