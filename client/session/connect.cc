// How a session begins and ends: the connection, the handshake, the address window, the threads.
#include <signal.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "client/session/session.h"
#include "farwarp/base/log.h"
#include "farwarp/transport/socket_channel.h"
#include "farwarp/wire/frame.h"
#include "farwarp/wire/limits.h"

namespace farwarp::client {
namespace {

// Where device memory may lie: far from what the system uses by itself. The thread sanitizer allows
// only addresses below 2 TiB.
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define FARWARP_LOW_WINDOW 1
#endif
#endif
#ifdef FARWARP_LOW_WINDOW
constexpr wire::AddressWindow kWindows[] = {{0x100'0000'0000, std::uint64_t{1} << 39}};
#else
constexpr std::uint64_t kTwoTebibytes = std::uint64_t{2} << 40;
constexpr wire::AddressWindow kWindows[] = {{0x2000'0000'0000, kTwoTebibytes},
                                            {0x3000'0000'0000, kTwoTebibytes},
                                            {0x4000'0000'0000, kTwoTebibytes},
                                            {0x1000'0000'0000, kTwoTebibytes}};
#endif

Status SendHandshake(transport::Channel& channel, wire::FrameKind kind,
                     std::span<const std::byte> payload, Deadline deadline) {
  return channel.Send({kind, 0, 0, static_cast<std::uint32_t>(payload.size()), 0, 0}, payload, {},
                      deadline);
}

// Receives the next handshake frame. A refusal becomes its reason.
Result<wire::Buffer> ReceiveHandshake(transport::Channel& channel, wire::FrameKind wanted,
                                      std::size_t max_bytes, Deadline deadline) {
  auto header = channel.ReceiveHeader(deadline);
  if (!header.ok()) return header.status();
  if (header->bytes > max_bytes) return Status::Invalid("the server's handshake is too long");
  wire::Buffer payload(header->bytes);
  FARWARP_RETURN_IF_ERROR(channel.ReceivePayload(payload, deadline));
  if (header->kind == wire::FrameKind::kRefused) {
    const auto farewell = wire::Farewell::Decode(payload);
    if (!farewell.ok()) return farewell.status();
    switch (farewell->code) {
      case wire::RefusalCode::kUnauthenticated:
        return Status::Unauthenticated(farewell->reason);
      case wire::RefusalCode::kVersion:
        return Status::Version(farewell->reason);
      default:
        return Status::Unavailable(farewell->reason);
    }
  }
  if (header->kind != wanted) return Status::Invalid("the peer does not speak Farwarp's protocol");
  return payload;
}

std::string ProcessName() {
  std::string name;
  if (FILE* file = std::fopen("/proc/self/comm", "re"); file != nullptr) {
    char text[64] = {};
    if (std::fgets(text, sizeof text, file) != nullptr) name = text;
    std::fclose(file);
  }
  while (!name.empty() && name.back() == '\n') name.pop_back();
  return name;
}

}  // namespace

Session::Session(std::unique_ptr<transport::Channel> channel, Options options)
    : channel_(std::move(channel)), options_(std::move(options)) {}

void Session::Stop() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
    flusher_wakes_up_.NotifyAll();
  }
  if (flusher_.joinable()) flusher_.join();
  Flush();
  channel_->Shutdown();
  if (receiver_.joinable()) receiver_.join();
  output_.Write();
}

Session::~Session() {
  Stop();
  ReleaseWindows(windows_.size());
}

Result<std::unique_ptr<Session>> Session::Connect(const wire::Grant& grant, Options options) {
  if (grant.gpus.empty()) return Status::Invalid("the grant names no vGPU");
  for (const wire::GrantedGpu& gpu : grant.gpus) {
    if (gpu.endpoint != grant.gpus.front().endpoint) {
      return Status::Unavailable(
          "the vGPUs of this lease are on several servers, which is not supported yet");
    }
  }
  const Deadline deadline = Deadline::After(options.connect_timeout);
  auto socket = transport::ConnectTcp(grant.gpus.front().endpoint, deadline);
  if (!socket.ok()) return socket.status();
  return Connect(std::make_unique<transport::SocketChannel>(std::move(*socket)), grant,
                 std::move(options));
}

Result<std::unique_ptr<Session>> Session::Connect(std::unique_ptr<transport::Channel> channel,
                                                  const wire::Grant& grant, Options options) {
  std::unique_ptr<Session> session(new Session(std::move(channel), std::move(options)));
  FARWARP_RETURN_IF_ERROR(session->ReserveWindows());
  FARWARP_RETURN_IF_ERROR(session->Handshake(grant));
  session->Begin();
  return session;
}

Status Session::ReserveWindows() {
  for (const wire::AddressWindow& window : kWindows) {
    if (options_.map_window) {
      void* wanted = reinterpret_cast<void*>(static_cast<std::uintptr_t>(window.base));
      void* got = ::mmap(wanted, window.bytes, PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
      if (got == MAP_FAILED) continue;
      if (got != wanted) {
        ::munmap(got, window.bytes);
        continue;
      }
    }
    windows_.push_back(window);
  }
  if (windows_.empty()) {
    return Status::Unavailable("this process has no room in its address space for device memory");
  }
  return Status::Ok();
}

// Gives all windows back but `keep`.
void Session::ReleaseWindows(std::size_t keep) noexcept {
  for (std::size_t i = 0; i < windows_.size() && options_.map_window; ++i) {
    if (i == keep) continue;
    ::munmap(reinterpret_cast<void*>(static_cast<std::uintptr_t>(windows_[i].base)),
             windows_[i].bytes);
  }
  if (keep < windows_.size()) {
    windows_ = {windows_[keep]};
  } else {
    windows_.clear();
  }
}

Result<wire::Hello> Session::MakeHello(const wire::Grant& grant) const {
  wire::Hello hello;
  hello.versions = options_.versions;
  hello.table_hash = options_.table.hash;
  hello.lease = grant.lease;
  hello.process_id = static_cast<std::uint32_t>(::getpid());
  hello.process_name = ProcessName();
  hello.windows = windows_;
  if (::getrandom(hello.nonce.data(), hello.nonce.size(), 0) !=
      static_cast<ssize_t>(hello.nonce.size())) {
    return Status::FromErrno("getrandom", errno);
  }
  return hello;
}

Status Session::Handshake(const wire::Grant& grant) {
  const Deadline deadline = Deadline::After(options_.connect_timeout);
  const auto hello = MakeHello(grant);
  if (!hello.ok()) return hello.status();
  const wire::Buffer hello_payload = hello->Encode();
  FARWARP_RETURN_IF_ERROR(
      SendHandshake(*channel_, wire::FrameKind::kHello, hello_payload, deadline));
  const auto challenge_payload =
      ReceiveHandshake(*channel_, wire::FrameKind::kChallenge, wire::kMaxHandshakeBytes, deadline);
  if (!challenge_payload.ok()) return challenge_payload.status();
  const auto challenge = wire::Challenge::Decode(*challenge_payload);
  if (!challenge.ok()) return challenge.status();
  if (!wire::HighestCommon(options_.versions, challenge->versions).has_value()) {
    return wire::NoCommonVersion(options_.versions, challenge->versions);
  }
  const bool tables_travel = wire::TablesTravel(options_.table.hash, challenge->table_hash);
  auto known = wire::Negotiate(options_.table, tables_travel, challenge->table);
  if (!known.ok()) return known.status();
  {
    const MutexLock lock(mutex_);
    known_ = std::move(*known);
  }
  wire::Proof proof;
  if (tables_travel) proof.table = wire::Told(options_.table);
  proof.digest = wire::ComputeProof(grant.secret, hello_payload, *challenge_payload, proof.table);
  FARWARP_RETURN_IF_ERROR(
      SendHandshake(*channel_, wire::FrameKind::kProof, proof.Encode(), deadline));
  const auto payload =
      ReceiveHandshake(*channel_, wire::FrameKind::kWelcome, wire::kMaxFrameBytes, deadline);
  if (!payload.ok()) return payload.status();
  auto welcome = wire::Welcome::Decode(*payload);
  if (!welcome.ok()) return welcome.status();
  return Accept(*challenge, std::move(*welcome));
}

Status Session::Accept(const wire::Challenge& challenge, wire::Welcome welcome) {
  // Nothing proves the welcome, so it decides nothing that was agreed on before.
  if (welcome.protocol != wire::HighestCommon(options_.versions, challenge.versions) ||
      welcome.table_hash != challenge.table_hash) {
    return Status::Invalid("the server's welcome is not what was agreed on");
  }
  if (welcome.window >= windows_.size() || welcome.devices.empty() ||
      std::min(welcome.credit.command_bytes, welcome.credit.bulk_bytes) < wire::kLeastCredit) {
    return Status::Invalid("the server's welcome makes no sense");
  }
  welcome_ = std::move(welcome);
  window_ = windows_[welcome_.window];
  ReleaseWindows(welcome_.window);
  FARWARP_LOG(kInfo, "connected: %zu vGPUs, driver version %d", welcome_.devices.size(),
              welcome_.driver_version);
  const MutexLock lock(mutex_);
  if (!known_.all()) {
    FARWARP_LOG(kInfo,
                "the server is of another version: %zu of this one's %zu commands are usable",
                known_.common(), options_.table.entries.size());
  }
  return Status::Ok();
}

bool Session::Unknown(std::uint32_t command) noexcept {
  if (known_.Has(command)) return false;
  if (known_.FirstRefusal(command)) {
    FARWARP_LOG(kError,
                "the server is of another version and does not know %s (command %#x): refused; use "
                "matching versions of Farwarp",
                known_.NameOf(command), command);
  }
  return true;
}

void Session::Begin() {
  // The application's signals stay with its own threads.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  flusher_ = std::thread([this] { RunFlusher(); });
  receiver_ = std::thread([this] { RunReceiver(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void WriteStatistics(const Statistics& statistics, const char* where) noexcept {
  const bool text = std::strcmp(where, "1") == 0;
  FILE* file = text ? stderr : std::fopen(where, "we");
  if (file == nullptr) return;
  const auto number = [](std::uint64_t value) { return static_cast<unsigned long long>(value); };
  std::fprintf(file,
               text ? "farwarp: %llu calls sent, %llu round trips, %llu bytes out, %llu bytes in, "
                      "%llu sends, %llu receives, %.3f s\n"
                    : "{\"calls\": %llu, \"round_trips\": %llu, \"bytes_sent\": %llu, "
                      "\"bytes_received\": %llu, \"send_calls\": %llu, \"receive_calls\": %llu, "
                      "\"seconds\": %.6f}\n",
               number(statistics.calls), number(statistics.round_trips),
               number(statistics.bytes_sent), number(statistics.bytes_received),
               number(statistics.send_calls), number(statistics.receive_calls), statistics.seconds);
  if (!text) std::fclose(file);
}

}  // namespace farwarp::client
