#include "tests/unit/daemon/server_process.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <mutex>
#include <random>
#include <utility>

#include "farwarp/base/bytes.h"
#include "farwarp/wire/decoder.h"
#include "farwarp/wire/handle.h"
#include "farwarp/wire/push.h"
#include "tests/wire/test_window.h"

namespace farwarp::testing {
namespace {

const std::string kBuild = FARWARP_BUILD_DIR;

template <typename Array>
void Randomise(Array& array) {
  static std::random_device device;
  for (auto& byte : array) byte = static_cast<std::uint8_t>(device());
}

std::vector<std::string> Environment(const std::string& fake_mode) {
  std::vector<std::string> variables;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (std::strncmp(*variable, "FARWARP_", 8) == 0) continue;
    if (std::strstr(*variable, "SAN_OPTIONS=") != nullptr) continue;
    variables.emplace_back(*variable);
  }
  // Sanitizers must not turn the crashes of these tests into orderly ends.
  variables.insert(variables.end(), {"ASAN_OPTIONS=handle_segv=0", "TSAN_OPTIONS=handle_segv=0"});
  if (!fake_mode.empty()) variables.push_back("FARWARP_FAKE_DRIVER=" + fake_mode);
  return variables;
}

std::vector<char*> Pointers(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

std::pair<UniqueFd, UniqueFd> MakePipe() {
  int ends[2] = {-1, -1};
  if (::pipe2(ends, O_CLOEXEC) != 0) std::abort();
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

pid_t ParentOf(pid_t pid) {
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
  std::string text;
  std::getline(stat, text);
  const std::size_t name_end = text.rfind(')');
  char state = 0;
  int parent = 0;
  if (name_end == std::string::npos ||
      std::sscanf(text.c_str() + name_end + 1, " %c %d", &state, &parent) != 2 || state == 'Z') {
    return -1;
  }
  return parent;
}

}  // namespace

bool Eventually(const std::function<bool()>& done, std::chrono::milliseconds time) {
  const auto until = std::chrono::steady_clock::now() + time;
  std::mutex mutex;
  std::condition_variable never;
  std::unique_lock lock(mutex);
  while (!done()) {
    if (std::chrono::steady_clock::now() > until) return false;
    never.wait_for(lock, std::chrono::milliseconds(1));
  }
  return true;
}

std::string FakeDriverPath() {
  return kBuild + "/tests/fake_libcuda/libcuda.so.1";
}

ServerProcess::ServerProcess(Options options) {
  Randomise(lease_);
  Randomise(secret_);
  std::vector<std::string> arguments = {"farwarp-server", "--driver", options.driver};
  auto [lease_read, lease_write] = MakePipe();
  auto [address_read, address_write] = MakePipe();
  constexpr int kLeaseFd = 20;
  constexpr int kAddressFd = 21;
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  log_.reset(::memfd_create("log", MFD_CLOEXEC));
  ::fcntl(log_.get(), F_SETFL, O_APPEND);
  ::posix_spawn_file_actions_adddup2(&actions, log_.get(), 2);
  if (options.is_private) {
    ::posix_spawn_file_actions_adddup2(&actions, lease_read.get(), kLeaseFd);
    ::posix_spawn_file_actions_adddup2(&actions, address_write.get(), kAddressFd);
    arguments.insert(arguments.end(),
                     {"--private", "--lease-fd", std::to_string(kLeaseFd), "--address-fd",
                      std::to_string(kAddressFd), "--log-level", "info"});
  }
  arguments.insert(arguments.end(), options.arguments.begin(), options.arguments.end());
  std::vector<std::string> environment = Environment(options.fake_mode);
  const std::string path = kBuild + "/bin/farwarp-server";
  if (::posix_spawn(&pid_, path.c_str(), &actions, nullptr, Pointers(arguments).data(),
                    Pointers(environment).data()) != 0) {
    pid_ = -1;
  }
  ::posix_spawn_file_actions_destroy(&actions);
  if (!options.is_private) return;
  lease_pipe_ = std::move(lease_write);
  const std::string line =
      "v1;lease=" + HexEncode(lease_) + ";secret=" + HexEncode(secret_) + options.vgpus + "\n";
  if (::write(lease_pipe_.get(), line.data(), line.size()) < 0) std::perror("lease pipe");
  address_write.reset();
  ReadEndpoint(address_read.get());
}

void ServerProcess::ReadEndpoint(int fd) {
  const Deadline deadline = Deadline::After(kPatience);
  for (;;) {
    pollfd wanted{fd, POLLIN, 0};
    char byte = 0;
    if (::poll(&wanted, 1, deadline.remaining_ms()) <= 0 || ::read(fd, &byte, 1) != 1) {
      endpoint_.clear();
      return;
    }
    if (byte == '\n') return;
    endpoint_.push_back(byte);
  }
}

ServerProcess::~ServerProcess() {
  if (pid_ > 0 && running()) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
}

void ServerProcess::Signal(int signal) {
  ::kill(pid_, signal);
}

bool ServerProcess::running() {
  if (status_.has_value()) return false;
  int status = 0;
  if (::waitpid(pid_, &status, WNOHANG) == pid_) status_ = status;
  return !status_.has_value();
}

Finished ServerProcess::WaitForEnd(std::chrono::milliseconds time) {
  Finished finished;
  if (Eventually([this] { return !running(); }, time)) {
    finished.exit_code = WIFSIGNALED(*status_) ? 128 + WTERMSIG(*status_) : WEXITSTATUS(*status_);
  }
  finished.output = log();
  return finished;
}

std::string ServerProcess::log() const {
  std::string text(1 << 20, '\0');
  const ssize_t got = ::pread(log_.get(), text.data(), text.size(), 0);
  text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  return text;
}

bool ServerProcess::WaitForLog(const std::string& text) {
  return Eventually([&] { return log().find(text) != std::string::npos; });
}

std::vector<pid_t> ServerProcess::workers() const {
  std::vector<pid_t> found;
  DIR* proc = ::opendir("/proc");
  if (proc == nullptr) return found;
  while (const dirent* entry = ::readdir(proc)) {
    const pid_t pid = std::atoi(entry->d_name);
    if (pid > 0 && ParentOf(pid) == pid_) found.push_back(pid);
  }
  ::closedir(proc);
  return found;
}

bool ServerProcess::WaitForWorkers(std::size_t count, std::chrono::milliseconds time) {
  return Eventually([&] { return workers().size() == count; }, time);
}

wire::FrameHeader MakeHeader(wire::FrameKind kind, std::size_t bytes) {
  wire::FrameHeader header{};
  header.kind = kind;
  header.bytes = static_cast<std::uint32_t>(bytes);
  return header;
}

wire::Hello MakeHello(const wire::LeaseId& lease) {
  wire::Hello hello;
  hello.lease = lease;
  Randomise(hello.nonce);
  hello.process_id = static_cast<std::uint32_t>(::getpid());
  hello.process_name = "daemon_test";
  hello.windows = {{tests::kTestWindow, std::uint64_t{64} << 30}};
  return hello;
}

WireClient::WireClient(const std::string& endpoint, const wire::LeaseId& lease,
                       const wire::LeaseSecret& secret) {
  Result<UniqueFd> socket = transport::ConnectTcp(endpoint, Deadline::After(kPatience));
  if (!socket.ok()) return;
  channel_ = std::make_unique<transport::SocketChannel>(std::move(*socket));
  Handshake(lease, secret);
}

void WireClient::Handshake(const wire::LeaseId& lease, const wire::LeaseSecret& secret) {
  const Deadline deadline = Deadline::After(kPatience);
  const wire::Hello hello = MakeHello(lease);
  window_base_ = hello.windows[0].base;
  const wire::Buffer hello_payload = hello.Encode();
  wire::FrameHeader header{};
  wire::Buffer payload;
  if (!channel_
           ->Send(MakeHeader(wire::FrameKind::kHello, hello_payload.size()), hello_payload, {},
                  deadline)
           .ok() ||
      !Receive(deadline, header, payload) || header.kind != wire::FrameKind::kChallenge) {
    return;
  }
  wire::Proof proof;
  proof.digest = wire::ComputeProof(secret, hello_payload, payload, proof.table);
  const wire::Buffer proof_payload = proof.Encode();
  if (!channel_
           ->Send(MakeHeader(wire::FrameKind::kProof, proof_payload.size()), proof_payload, {},
                  deadline)
           .ok() ||
      !Receive(deadline, header, payload) || header.kind != wire::FrameKind::kWelcome) {
    return;
  }
  Result<wire::Welcome> welcome = wire::Welcome::Decode(payload);
  if (welcome.ok()) welcome_ = std::move(*welcome);
}

bool WireClient::Receive(Deadline deadline, wire::FrameHeader& header, wire::Buffer& payload) {
  if (channel_ == nullptr) return false;
  Result<wire::FrameHeader> received = channel_->ReceiveHeader(deadline);
  if (!received.ok()) return false;
  header = *received;
  payload.resize(header.bytes);
  if (!channel_->ReceivePayload(payload, deadline).ok()) return false;
  if (header.sequence != 0) received_ = header.sequence;
  if (header.kind == wire::FrameKind::kPing) {
    wire::FrameHeader ack = MakeHeader(wire::FrameKind::kAck, 0);
    ack.acknowledged = received_;
    return channel_->Send(ack, {}, {}, deadline).ok();
  }
  if (header.kind == wire::FrameKind::kPush) {
    wire::Decoder decoder(payload);
    if (decoder.Get<wire::PushType>() == wire::PushType::kOutput) {
      const auto text = decoder.GetBlob(payload.size());
      output_.append(reinterpret_cast<const char*>(text.data()), text.size());
    }
  }
  if (header.kind == wire::FrameKind::kRefused || header.kind == wire::FrameKind::kGoodbye) {
    Result<wire::Farewell> farewell = wire::Farewell::Decode(payload);
    if (farewell.ok()) farewell_ = std::move(*farewell);
    return false;
  }
  return true;
}

bool WireClient::Send(wire::InternalCommand command, const wire::Buffer& body,
                      std::uint64_t ticket) {
  if (channel_ == nullptr) return false;
  wire::CommandHeader command_header{wire::IdOf(command), static_cast<std::uint32_t>(body.size()),
                                     ticket};
  wire::FrameHeader header =
      MakeHeader(wire::FrameKind::kCommands, sizeof command_header + body.size());
  header.sequence = ++sequence_;
  header.acknowledged = received_;
  return channel_
      ->Send(header, std::as_bytes(std::span(&command_header, 1)), body,
             Deadline::After(std::chrono::seconds(1)))
      .ok();
}

bool WireClient::SendMany(wire::InternalCommand command, const wire::Buffer& body,
                          std::uint64_t count) {
  if (channel_ == nullptr) return false;
  wire::Buffer payload;
  for (std::uint64_t i = 0; i < count; ++i) {
    const wire::CommandHeader command_header{
        wire::IdOf(command), static_cast<std::uint32_t>(body.size()), next_ticket_++};
    wire::Encoder(payload).PutStruct(command_header);
    payload.insert(payload.end(), body.begin(), body.end());
  }
  wire::FrameHeader header = MakeHeader(wire::FrameKind::kCommands, payload.size());
  header.sequence = ++sequence_;
  header.acknowledged = received_;
  return channel_->Send(header, payload, {}, Deadline::After(std::chrono::seconds(1))).ok();
}

void WireClient::SendRaw(const wire::Buffer& bytes) {
  if (channel_ == nullptr) return;
  // The server may have hung up already; that is its right.
  [[maybe_unused]] const ssize_t sent =
      ::send(channel_->fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
}

WireClient::Answer WireClient::Call(wire::InternalCommand command, const wire::Buffer& body) {
  Answer answer;
  const std::uint64_t ticket = next_ticket_++;
  const Deadline deadline = Deadline::After(kPatience);
  wire::FrameHeader header{};
  wire::Buffer payload;
  answer.ended = !Send(command, body, ticket);
  while (!answer.ended) {
    if (!Receive(deadline, header, payload)) {
      answer.ended = true;
      break;
    }
    if (header.kind != wire::FrameKind::kReplies) continue;
    std::span<const std::byte> rest = payload;
    wire::ReplyHeader reply{};
    while (rest.size() >= sizeof reply) {
      std::memcpy(&reply, rest.data(), sizeof reply);
      rest = rest.subspan(sizeof reply);
      if (reply.bytes > rest.size()) break;
      if (reply.ticket == ticket) {
        answer.result = reply.result;
        answer.body.assign(rest.begin(), rest.begin() + reply.bytes);
        return answer;
      }
      rest = rest.subspan(reply.bytes);
    }
  }
  return answer;
}

bool WireClient::WaitForEnd(std::chrono::milliseconds time) {
  const Deadline deadline = Deadline::After(time);
  wire::FrameHeader header{};
  wire::Buffer payload;
  while (Receive(deadline, header, payload)) {
  }
  return !deadline.expired();
}

std::uint64_t WireClient::FreeBytes(std::uint32_t vgpu) {
  wire::Buffer body;
  wire::Encoder(body).Put(vgpu);
  const Answer answer = Call(wire::InternalCommand::kMemoryInfo, body);
  wire::Decoder decoder(answer.body);
  return answer.result == 0 ? decoder.Get<std::uint64_t>() : 0;
}

std::int32_t WireClient::AcquireCredit(std::uint64_t bytes, std::uint32_t vgpu) {
  wire::Buffer body;
  wire::Encoder encoder(body);
  encoder.Put(vgpu);
  encoder.Put(bytes);
  return Call(wire::InternalCommand::kAcquireCredit, body).result;
}

bool WireClient::UseContext() {
  const wire::Handle context(wire::HandleKind::kContext, 1, 1);
  wire::Buffer retain;
  wire::Encoder encoder(retain);
  encoder.Put(context.bits());
  encoder.Put(std::uint32_t{0});
  encoder.Put(std::uint32_t{0});
  wire::Buffer set;
  wire::Encoder(set).Put(context.bits());
  return Call(wire::InternalCommand::kRetainPrimaryContext, retain).result == 0 &&
         Send(wire::InternalCommand::kSetContext, set, 0);
}

std::int32_t WireClient::MapRange(std::uint64_t offset, std::uint64_t bytes) {
  wire::Buffer body;
  wire::Encoder encoder(body);
  encoder.Put(std::uint32_t{0});
  encoder.Put(window_base_ + offset);
  encoder.Put(bytes);
  return Call(wire::InternalCommand::kMapRange, body).result;
}

}  // namespace farwarp::testing
