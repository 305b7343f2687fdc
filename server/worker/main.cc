// farwarp-worker: serves one client process. Started by farwarp-server, never by hand.
//
//   farwarp-worker --serve          the client, its quota and the brief come as descriptors
//   (brief.h) farwarp-worker --probe DRIVER   writes what DRIVER offers to descriptor 3
//   (probe_driver.h)
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "cuda/wire_table.h"
#include "farwarp/base/log.h"
#include "farwarp/transport/socket_channel.h"
#include "server/session/quota.h"
#include "server/session/session.h"
#include "server/worker/brief.h"
#include "server/worker/isolation.h"
#include "server/worker/log_relay.h"
#include "server/worker/output_pipe.h"
#include "server/worker/probe_driver.h"
#include "server/worker/watch.h"

namespace farwarp::server {
namespace {

constexpr int kProbeAnswerFd = 3;
constexpr int kUsageError = 2;
constexpr std::size_t kMaxBriefBytes = std::size_t{1} << 20;

Result<WorkerBrief> ReadBrief() {
  struct stat facts{};
  if (::fstat(kBriefFd, &facts) != 0) return Status::FromErrno("the brief", errno);
  if (facts.st_size <= 0 || static_cast<std::size_t>(facts.st_size) > kMaxBriefBytes) {
    return Status::Invalid("the daemon's brief has an impossible size");
  }
  wire::Buffer payload(static_cast<std::size_t>(facts.st_size));
  if (::pread(kBriefFd, payload.data(), payload.size(), 0) != facts.st_size) {
    return Status::FromErrno("cannot read the brief", errno);
  }
  ::close(kBriefFd);
  return WorkerBrief::Decode(payload);
}

// What the driver keeps in this process for the devices' memory: the software GPU does.
std::uint64_t DeviceMemory(const WorkerBrief& brief) {
  std::uint64_t bytes = 0;
  if (!brief.fresh_memory) return bytes;
  for (const BriefVgpu& vgpu : brief.vgpus) bytes += vgpu.memory_bytes;
  return bytes;
}

// Everything before there is a session that can tell the client itself.
void Refuse(transport::Channel& channel, const std::string& reason) {
  const wire::Buffer payload = wire::Farewell{wire::RefusalCode::kDriver, reason}.Encode();
  wire::FrameHeader header{};
  header.kind = wire::FrameKind::kRefused;
  header.bytes = static_cast<std::uint32_t>(payload.size());
  // Whether or not the client hears it, this is the end.
  static_cast<void>(channel.Send(header, payload, {}, Deadline::After(std::chrono::seconds(1))));
  channel.Shutdown();
}

Session::Options MakeOptions(const WorkerBrief& brief, const LoadedDriver& driver, Quota& quota) {
  Session::Options options;
  options.driver = &driver.driver->table();
  options.quota = &quota;
  options.fresh_memory = brief.fresh_memory;
  options.host_bytes = brief.memory_limit;
  options.lease = brief.lease;
  options.table = wire::kApiTable;
  options.heartbeat = std::chrono::milliseconds(brief.heartbeat_ms);
  options.client_pause = std::chrono::milliseconds(brief.client_pause_ms);
  for (const BriefVgpu& vgpu : brief.vgpus) {
    options.device_ordinals.push_back(static_cast<int>(vgpu.device));
    options.compute_percent.push_back(vgpu.compute_percent);
  }
  return options;
}

Status ServeSession(std::unique_ptr<transport::SocketChannel> channel, const wire::Hello& hello,
                    const wire::Proof& proof, Session::Options options, OutputPipe& output) {
  const int socket_fd = channel->fd();
  const driver::Table& driver = *options.driver;
  options.flush_output = [&output] { output.Flush(); };
  Session session(std::move(channel), std::move(options));
  auto watch = Watch::Start(socket_fd, kControlFd, [&session](const wire::Farewell& farewell) {
    session.SayGoodbye(farewell.code, farewell.reason);
    session.Shutdown();
  });
  if (!watch.ok()) return watch.status();
  Status status = session.Start(hello, proof.table);
  if (status.ok()) {
    output.Start([&session](std::string_view text) {
      wire::Buffer body;
      wire::Encoder(body).PutBlob(text.data(), text.size());
      session.Push(wire::PushType::kOutput, body);
    });
    const LogRelay relay(driver, session);
    status = session.Run();
  }
  // The client knows all it will; what is left is giving back, which exiting does too.
  BeginEnd(kGivingBackPatience, status.ok() ? kExitServed : kExitRefused);
  output.Stop();
  return status;
}

int Serve() {
  if (const Status status = Isolate(kLastWorkerFd); !status.ok()) {
    std::fprintf(stderr, "farwarp-worker: %s\n", status.message().c_str());
    return kUsageError;
  }
  auto channel = std::make_unique<transport::SocketChannel>(UniqueFd(kSocketFd));
  const auto refuse = [&channel](const Status& status) {
    FARWARP_LOG(kError, "cannot serve: %s", status.message().c_str());
    Refuse(*channel, status.message());
    return kExitRefused;
  };
  Result<WorkerBrief> brief = ReadBrief();
  if (!brief.ok()) return refuse(brief.status());
  SetLogLevel(static_cast<LogLevel>(brief->log_level));
  if (const Status status = CheckDaemon(brief->daemon_pid); !status.ok()) return refuse(status);
  if (const Status status = LimitMemory(brief->memory_limit + DeviceMemory(*brief)); !status.ok()) {
    return refuse(status);
  }
  Result<Quota> quota = Quota::Map(kQuotaFd, brief->quota_slot);
  if (!quota.ok()) return refuse(quota.status());
  ::close(kQuotaFd);
  const Result<wire::Hello> hello = wire::Hello::Decode(brief->hello);
  if (!hello.ok()) return refuse(hello.status());
  const Result<wire::Proof> proof = wire::Proof::Decode(brief->proof);
  if (!proof.ok()) return refuse(proof.status());
  Result<std::unique_ptr<OutputPipe>> output = OutputPipe::Create();
  if (!output.ok()) return refuse(output.status());
  Result<LoadedDriver> driver = LoadDriver(brief->driver);
  if (!driver.ok()) return refuse(driver.status());

  const Status status = ServeSession(std::move(channel), *hello, *proof,
                                     MakeOptions(*brief, *driver, *quota), **output);
  if (status.ok()) return kExitServed;
  FARWARP_LOG(kWarn, "the session ended: %s", status.message().c_str());
  return kExitRefused;
}

int Probe(const std::string& path) {
  const std::string answer = ProbeAnswer(path);
  std::size_t sent = 0;
  while (sent < answer.size()) {
    const ssize_t n = ::write(kProbeAnswerFd, answer.data() + sent, answer.size() - sent);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return 1;
    sent += static_cast<std::size_t>(n);
  }
  return 0;
}

}  // namespace
}  // namespace farwarp::server

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  if (arguments == std::vector<std::string>{"--serve"}) return farwarp::server::Serve();
  if (arguments.size() == 2 && arguments[0] == "--probe") {
    const int code = farwarp::server::Probe(arguments[1]);
    ::_exit(code);  // Drivers are not known for orderly ends.
  }
  std::fprintf(stderr, "farwarp-worker is started by farwarp-server\n");
  return farwarp::server::kUsageError;
}
