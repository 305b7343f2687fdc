#include "client/cli/run.h"

#include <poll.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <utility>

#include "client/cli/child.h"
#include "client/cli/elf_check.h"
#include "client/cli/exit_code.h"
#include "client/cli/layout.h"
#include "client/cli/reach.h"
#include "client/cli/source.h"

namespace farwarp::cli {
namespace {

int Fail(const Status& status, int code = kRunFailed) {
  std::fprintf(stderr, "farwarp: %s\n", status.message().c_str());
  return code;
}

// With a controller its pool, without one a private pool.
Result<std::unique_ptr<VgpuSource>> Open(const RunOptions& options, const Layout& layout,
                                         const std::string& program, const SignalWatch& signals) {
  const auto ask = ParseAsk(options.ask);
  if (!ask.ok()) return ask.status();
  if (options.settings.controller) {
    auto source = AskController(options.settings.controller->value, *ask, options.node_labels,
                                program, options.quiet);
    if (source.ok()) return source;
    return Status(source.status().code(), source.status().message() + " (the address comes from " +
                                              options.settings.controller->origin + ")");
  }
  const std::string driver = options.settings.driver ? options.settings.driver->value : "";
  return StartPrivatePool(layout, *ask, driver, signals);
}

// Waits until the source has granted or refused. Nothing: a signal ended the waiting.
std::optional<Status> WaitForGrant(VgpuSource& source, SignalWatch& signals, int* signal) {
  for (;;) {
    if (Status status = source.Check(); !status.ok()) return status;
    if (source.grant()) return Status::Ok();
    pollfd ready[] = {{source.fd(), POLLIN, 0}, {signals.fd(), POLLIN, 0}};
    // The source has deadlines of its own; this bound only guards against a lost wake-up.
    ::poll(ready, 2, 1000);
    while (const auto got = signals.Take()) {
      if (got->number == SIGCHLD || got->number == SIGCONT || got->number == SIGPIPE) continue;
      *signal = got->number;
      return std::nullopt;
    }
  }
}

// Until the program ends; passes signals on and says when the vGPUs are lost.
int Attend(Child& child, VgpuSource& source, SignalWatch& signals) {
  bool lost = false;
  for (;;) {
    if (const auto code = child.Poll()) return *code;
    pollfd ready[] = {{signals.fd(), POLLIN, 0}, {lost ? -1 : source.fd(), POLLIN, 0}};
    ::poll(ready, 2, 1000);
    while (const auto got = signals.Take()) {
      if (got->from_process && got->number != SIGCHLD && got->number != SIGPIPE)
        child.Send(got->number);
    }
    if (lost) continue;
    if (const Status status = source.Check(); !status.ok()) {
      lost = true;
      std::fprintf(stderr, "farwarp: the vGPUs are gone: %s\n", status.message().c_str());
    }
  }
}

// A program that failed may never have come through to its node: its own complaint names an address
// at most.
void ExplainFailure(const VgpuSource& source) {
  if (source.node().empty() || !source.grant() || source.grant()->gpus.empty()) return;
  const std::string& endpoint = source.grant()->gpus.front().endpoint;
  const Status reach = Reach(endpoint);
  if (reach.ok()) return;
  std::fprintf(stderr,
               "farwarp: node %s cannot be reached at %s (%s); is it still running, is that the "
               "right address (--advertise of its farwarp-server), do firewalls let it pass?\n",
               source.node().c_str(), endpoint.c_str(), reach.message().c_str());
}

void WarnAbout(const std::string& path, const Layout& layout) {
  if (InspectProgram(path) == CudaLinkage::kProbablyStatic) {
    std::fprintf(stderr,
                 "farwarp: warning: %s probably contains NVIDIA's CUDA runtime, which accepts "
                 "NVIDIA's own driver only; relink it with 'nvcc --cudart shared'\n",
                 path.c_str());
  }
  if (::access((layout.lib + "/libcuda.so.1").c_str(), R_OK) != 0) {
    std::fprintf(stderr,
                 "farwarp: warning: there is no libcuda.so.1 in %s, so the program will not see "
                 "its vGPUs; is the installation complete?\n",
                 layout.lib.c_str());
  }
}

std::vector<std::string> ProgramEnvironment(const Layout& layout, const wire::Grant& grant) {
  const char* before = std::getenv("LD_LIBRARY_PATH");
  std::string libraries = layout.lib;
  if (before != nullptr && *before != '\0') libraries += ":" + std::string(before);
  return EnvironmentWith(
      {"LD_LIBRARY_PATH=" + libraries, "FARWARP_GRANT=" + wire::FormatGrant(grant)});
}

}  // namespace

int Run(const RunOptions& options) {
  const auto program = FindProgram(options.command.front(), std::getenv("PATH"));
  if (!program.ok()) {
    const bool missing = program.status().code() == StatusCode::kNotFound;
    return Fail(program.status(), missing ? kProgramNotFound : kCannotExecute);
  }
  const auto layout = FindLayout();
  if (!layout.ok()) return Fail(layout.status());
  WarnAbout(*program, *layout);

  SignalWatch signals;
  auto opened = Open(options, *layout, options.command.front(), signals);
  if (!opened.ok()) return Fail(opened.status());
  VgpuSource& source = **opened;
  int signal = 0;
  const auto granted = WaitForGrant(source, signals, &signal);
  if (!granted) return kSignalBase + signal;
  if (!granted->ok()) return Fail(*granted);

  ChildOptions child_options;
  child_options.arguments = options.command;
  child_options.environment = ProgramEnvironment(*layout, *source.grant());
  auto child = Child::Start(*program, child_options, signals.original_mask());
  if (!child.ok()) {
    source.Release();
    const bool missing = child.status().code() == StatusCode::kNotFound;
    return Fail(child.status(), missing ? kProgramNotFound : kCannotExecute);
  }
  const int code = Attend(*child, source, signals);
  if (code != 0) ExplainFailure(source);
  source.Release();
  return code;
}

int Grant(const RunOptions& options) {
  const auto layout = FindLayout();
  if (!layout.ok()) return Fail(layout.status());
  SignalWatch signals;
  auto opened = Open(options, *layout, "(a program started without farwarp run)", signals);
  if (!opened.ok()) return Fail(opened.status());
  VgpuSource& source = **opened;
  int signal = 0;
  const auto granted = WaitForGrant(source, signals, &signal);
  if (!granted) return kSignalBase + signal;
  if (!granted->ok()) return Fail(*granted);
  std::printf("%s\n", wire::FormatGrant(*source.grant()).c_str());
  std::fflush(stdout);
  for (;;) {
    pollfd ready[] = {
        {STDIN_FILENO, POLLIN, 0}, {signals.fd(), POLLIN, 0}, {source.fd(), POLLIN, 0}};
    ::poll(ready, 3, 1000);
    char discarded[256];
    if ((ready[0].revents & (POLLIN | POLLHUP | POLLERR | POLLNVAL)) != 0 &&
        ::read(STDIN_FILENO, discarded, sizeof discarded) <= 0)
      break;
    const auto got = signals.Take();
    if (got && got->number != SIGCHLD && got->number != SIGCONT && got->number != SIGPIPE) break;
    if (const Status status = source.Check(); !status.ok()) return Fail(status);
  }
  source.Release();
  return kSuccess;
}

}  // namespace farwarp::cli
