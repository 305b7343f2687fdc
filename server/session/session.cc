#include "server/session/session.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "farwarp/base/log.h"
#include "farwarp/wire/frame.h"
#include "farwarp/wire/internal_command.h"
#include "farwarp/wire/limits.h"
#include "proto/cuda/context_errors.h"
#include "server/cuda_dispatch.h"
#include "server/session/commands/commands.h"
#include "server/session/commands/resolve.h"
#include "server/session/commands/state.h"

namespace farwarp::server {
namespace {

constexpr std::chrono::seconds kSendPatience{10};
constexpr int kSilentHeartbeats = 5;
// What may wait for the dispatcher before a client that does not care for its credit is slowed
// down. No other gets there, whatever its frames look like: kFrameCost, the cost of keeping a
// frame, comes on top of 16 bytes at least.
constexpr std::size_t kFrameCost = 64;
constexpr std::size_t kQueuedCommandBytes =
    (wire::Credit{}.command_bytes + wire::kMaxCommandBytes) / sizeof(wire::CommandHeader) *
    (sizeof(wire::CommandHeader) + kFrameCost);
constexpr std::size_t kMostQueuedBulkBytes = std::size_t{256} << 20;
// Of a worker with little memory: this part of it.
constexpr std::uint64_t kQueuedBulkPart = 16;
// Answers that may wait for the client to take them before it is served no further.
constexpr std::size_t kQueuedItems = 8192;
// What may wait without a command that asks for it: what the credit is enough for, and what host
// functions have fetched.
constexpr std::size_t kMaxFetched = 4096;
constexpr std::uint64_t kMaxTransfers = wire::kCreditTransfers + kMaxFetched;

// A worker with little memory gives less credit, so that what waits fits.
Session::Options WithinMemory(Session::Options options) {
  const std::uint64_t room = options.host_bytes / kQueuedBulkPart / 4 * 3;
  options.credit.bulk_bytes =
      std::max(wire::kLeastCredit, std::min(options.credit.bulk_bytes, room));
  return options;
}

}  // namespace

Session::Session(std::unique_ptr<transport::Channel> channel, Options options)
    : channel_(std::move(channel)),
      options_(WithinMemory(std::move(options))),
      state_(
          std::make_unique<CommandState>(*options_.driver, *options_.quota, options_.host_bytes)),
      queued_bulk_bytes_(
          std::min<std::size_t>(kMostQueuedBulkBytes, options_.host_bytes / kQueuedBulkPart)),
      internal_(wire::kInternalIds, nullptr) {
  channel_->TolerateSilence(options_.client_pause);
  if (options_.fresh_memory) state_->TrustFreshMemory();
  for (const InternalHandler& handler : InternalHandlers()) {
    internal_[handler.id - wire::kFirstInternalId] = handler.handle;
  }
}

Session::~Session() {
  Shutdown();
  state_->Close();
  if (dispatcher_.joinable()) dispatcher_.join();
  std::vector<CUcontext> contexts;
  handles_.ForEach(wire::HandleKind::kContext, [&](wire::Handle, void* context) {
    contexts.push_back(static_cast<CUcontext>(context));
  });
  for (CUcontext context : contexts) {
    if (driver().cuCtxSetCurrent(context) == CUDA_SUCCESS) {
      static_cast<void>(driver().cuCtxSynchronize());
    }
  }
  state_.reset();
  handles_.ForEach(wire::HandleKind::kLibrary, [&](wire::Handle, void* library) {
    static_cast<void>(driver().cuLibraryUnload(static_cast<CUlibrary>(library)));
  });
  static_cast<void>(driver().cuCtxSetCurrent(nullptr));
  for (CUcontext context : contexts) {
    // A primary context refuses to be destroyed; it is released by its device.
    if (driver().cuCtxDestroy_v2(context) == CUDA_SUCCESS) continue;
    for (const int ordinal : options_.device_ordinals) {
      CUdevice device = 0;
      unsigned flags = 0;
      int active = 0;
      if (driver().cuDeviceGet(&device, ordinal) == CUDA_SUCCESS &&
          driver().cuDevicePrimaryCtxGetState(device, &flags, &active) == CUDA_SUCCESS &&
          active != 0) {
        static_cast<void>(driver().cuDevicePrimaryCtxRelease_v2(device));
      }
    }
  }
}

// ------------------------------------------------------------------------------------ incoming

Status Session::Run() {
  dispatcher_ = std::thread([this] { DispatchLoop(); });
  Status status = ReceiveLoop();
  if (status.code() == StatusCode::kInvalid || status.code() == StatusCode::kLimit) {
    SayGoodbye(wire::RefusalCode::kMalformed, status.message());
  }
  Shutdown();
  state_->Close();
  dispatcher_.join();
  const MutexLock lock(in_mutex_);
  if (!broken_.ok()) status = broken_;
  if (status.code() == StatusCode::kClosed) return Status::Ok();
  return status;
}

void Session::Shutdown() noexcept {
  stopping_.store(true);
  channel_->Shutdown();
  const MutexLock lock(in_mutex_);
  closed_ = true;
  in_changed_.NotifyAll();
}

Status Session::ReceiveLoop() {
  int silent = 0;
  auto heard = std::chrono::steady_clock::now();
  while (!stopping_.load()) {
    auto header = channel_->ReceiveHeader(Deadline::After(options_.heartbeat));
    if (!header.ok()) {
      if (header.status().code() != StatusCode::kTimeout) return header.status();
      FARWARP_RETURN_IF_ERROR(OnSilence(++silent, heard));
      continue;
    }
    silent = 0;
    heard = std::chrono::steady_clock::now();
    FARWARP_RETURN_IF_ERROR(transport::CheckOrder(
        *header, {received_.load(), acknowledged_, sequence_.load(std::memory_order_acquire)}));
    acknowledged_ = header->acknowledged;
    wire::Buffer payload;
    if (header->kind == wire::FrameKind::kBulk) {
      FARWARP_RETURN_IF_ERROR(OnBulk(header->bytes));
    } else {
      payload.resize(header->bytes);
      FARWARP_RETURN_IF_ERROR(channel_->ReceivePayload(payload, Deadline::After(kSendPatience)));
    }
    if (header->sequence != 0) received_.store(header->sequence);
    switch (header->kind) {
      case wire::FrameKind::kBulk:
      case wire::FrameKind::kAck:
        break;
      case wire::FrameKind::kCommands:
        FARWARP_RETURN_IF_ERROR(QueueCommands(std::move(payload)));
        break;
      case wire::FrameKind::kPing:
        Enqueue({wire::FrameKind::kAck, {}, {}, nullptr});
        break;
      case wire::FrameKind::kGoodbye:
        return Status::Ok();
      default:
        return Status::Invalid("the client sent a frame that no server expects");
    }
  }
  return Status::Ok();
}

Status Session::OnSilence(int silent, std::chrono::steady_clock::time_point heard) {
  if (silent > kSilentHeartbeats) {
    if (std::chrono::steady_clock::now() - heard >= options_.client_pause) {
      return Status::Timeout("the client has been silent for too long");
    }
    // The pings below have it acknowledge something in each heartbeat if it is there.
    if (!channel_->HostAnswers(kSilentHeartbeats * options_.heartbeat)) {
      return Status::Timeout("the client's host does not answer any more");
    }
    if (silent == kSilentHeartbeats + 1) {
      FARWARP_LOG(kInfo, "the client is silent but its host answers; it may be stopped");
    }
  }
  // Whatever waits to be sent asks as well.
  if (out_items_.load(std::memory_order_relaxed) == 0) {
    Enqueue({wire::FrameKind::kPing, {}, {}, nullptr});
  }
  return Status::Ok();
}

Status Session::OnBulk(std::uint32_t bytes) {
  wire::BulkHeader header;
  if (bytes < sizeof header) return Status::Invalid("bulk without a header");
  FARWARP_RETURN_IF_ERROR(channel_->ReceivePayload(std::as_writable_bytes(std::span(&header, 1)),
                                                   Deadline::After(kSendPatience)));
  const std::size_t length = bytes - sizeof header;
  std::span<std::byte> room;
  {
    const MutexLock lock(in_mutex_);
    if (bulk_bytes_ + length > wire::kMaxImageBytes + kMostQueuedBulkBytes ||
        bulk_.size() > kMaxTransfers) {
      return Status::Limit("the client sends more transfers than its commands have named");
    }
    ArrivedBulk& bulk = bulk_[header.transfer];
    if (header.offset != bulk.size()) return Status::Invalid("bulk out of order");
    bulk_bytes_ += length;
    room = bulk.Extend(length);
    // A command that names a transfer too early must not take it from under us.
    receiving_ = header.transfer;
  }
  Status status = channel_->ReceivePayload(room, Deadline::After(kSendPatience));
  const MutexLock lock(in_mutex_);
  receiving_.reset();
  return status;
}

void Session::ReleaseStreams(std::span<const std::byte> payload) {
  wire::CommandHeader header;
  while (payload.size() >= sizeof header) {
    std::memcpy(&header, payload.data(), sizeof header);
    payload = payload.subspan(sizeof header);
    if (header.bytes > payload.size()) return;  // The dispatcher says so.
    std::uint64_t number = 0;
    if (header.id == wire::IdOf(wire::InternalCommand::kHostFunctionDone) &&
        header.bytes == sizeof number) {
      std::memcpy(&number, payload.data(), sizeof number);
      state_->host_functions->Done(number);
    }
    payload = payload.subspan(header.bytes);
  }
}

Status Session::QueueCommands(wire::Buffer payload) {
  ReleaseStreams(payload);
  WaitForRoom();
  const MutexLock lock(in_mutex_);
  frame_bytes_ += payload.size() + kFrameCost;
  frames_.push_back(std::move(payload));
  in_changed_.NotifyAll();
  return Status::Ok();
}

void Session::WaitForRoom() {
  for (;;) {
    {
      const MutexLock lock(in_mutex_);
      // With nothing to do, the dispatcher would never make room.
      const auto full = [this]() REQUIRES(in_mutex_) {
        return !frames_.empty() &&
               (frame_bytes_ > kQueuedCommandBytes || bulk_bytes_ > queued_bulk_bytes_);
      };
      if (closed_ || !full()) return;
      in_changed_.WaitUntil(in_mutex_, std::chrono::steady_clock::now() + options_.heartbeat / 2);
      if (closed_ || !full()) return;
    }
    // Busy, not dead.
    Enqueue({wire::FrameKind::kAck, {}, {}, nullptr});
  }
}

ArrivedBulk Session::TakeBulk(std::uint64_t transfer) {
  const MutexLock lock(in_mutex_);
  const auto found = bulk_.find(transfer);
  if (found == bulk_.end() || receiving_ == transfer) return {};
  ArrivedBulk buffer = std::move(found->second);
  bulk_.erase(found);
  bulk_bytes_ -= buffer.size();
  buffer.set_charge(std::shared_ptr<const void>(
      this, [this, charge = wire::BulkCharge(options_.credit, transfer, buffer.size())](
                const void*) { GiveBack(0, charge); }));
  return buffer;
}

void Session::GiveBack(std::uint64_t command_bytes, std::uint64_t bulk_bytes) {
  wire::Credit back;
  {
    const MutexLock lock(credit_mutex_);
    to_give_back_.command_bytes += command_bytes;
    to_give_back_.bulk_bytes += bulk_bytes;
    if (to_give_back_.command_bytes < wire::CreditStep(options_.credit.command_bytes) &&
        to_give_back_.bulk_bytes < wire::CreditStep(options_.credit.bulk_bytes)) {
      return;
    }
    back = std::exchange(to_give_back_, {0, 0});
  }
  wire::Buffer body;
  wire::Encoder encoder(body);
  encoder.Put(back.command_bytes);
  encoder.Put(back.bulk_bytes);
  Push(wire::PushType::kTaken, body);
}

// ------------------------------------------------------------------------------------ executing

void Session::DispatchLoop() {
  for (;;) {
    wire::Buffer payload;
    {
      const MutexLock lock(in_mutex_);
      while (frames_.empty() && !closed_) in_changed_.Wait(in_mutex_);
      // What a client that has gone still wanted done is nobody's business any more.
      if (closed_) return;
      payload = std::move(frames_.front());
      frames_.pop_front();
    }
    const Status status = DispatchFrame(payload);
    GiveBack(payload.size(), 0);
    {
      const MutexLock lock(in_mutex_);
      frame_bytes_ -= payload.size() + kFrameCost;
      in_changed_.NotifyAll();
      if (status.ok()) continue;
      broken_ = status;
    }
    SayGoodbye(wire::RefusalCode::kMalformed, status.message());
    Shutdown();
    return;
  }
}

Status Session::DispatchFrame(std::span<const std::byte> payload) {
  while (!payload.empty()) {
    wire::CommandHeader header;
    if (payload.size() < sizeof header) return Status::Invalid("half a command");
    std::memcpy(&header, payload.data(), sizeof header);
    payload = payload.subspan(sizeof header);
    if (header.bytes > payload.size()) return Status::Invalid("half a command");
    if (header.bytes % 8 != 0) return Status::Invalid("a command of no whole words");
    if (out_items_.load(std::memory_order_relaxed) > kQueuedItems) WaitForReader();
    Dispatch(header.id, header.ticket, payload.first(header.bytes));
    payload = payload.subspan(header.bytes);
    if (stopping_.load()) return Status::Ok();
  }
  return Status::Ok();
}

void Session::Dispatch(std::uint32_t id, std::uint64_t ticket, std::span<const std::byte> body) {
  Call call(*this, id, ticket, body);
  // Under this number the client may mean something else.
  if (!known_.Has(id)) {
    if (known_.FirstRefusal(id)) {
      FARWARP_LOG(kWarn, "the client of another version sent %s (command %#x): refused",
                  known_.NameOf(id), id);
    }
    return call.Finish(CUDA_ERROR_NOT_SUPPORTED);
  }
  if (id == wire::IdOf(wire::InternalCommand::kSetContext)) return SetContext(call);
  void (*handle)(Call&) = nullptr;
  if (id >= wire::kFirstInternalId && id - wire::kFirstInternalId < internal_.size()) {
    handle = internal_[id - wire::kFirstInternalId];
  } else if (const auto handlers = CudaHandlers(); id < handlers.size()) {
    handle = handlers[id].handle;
  }
  if (handle == nullptr) {
    FARWARP_LOG(kWarn, "the client sent command %#x, which does not exist", id);
    return call.Finish(CUDA_ERROR_NOT_SUPPORTED);
  }
  handle(call);
}

void Session::SetContext(Call& call) {
  const wire::Handle handle(call.args().Get<std::uint64_t>());
  if (!Readable(call)) return;
  auto* context = static_cast<CUcontext>(
      handle.Is(wire::HandleKind::kContext) ? handles_.Find(handle) : nullptr);
  // One that has been destroyed meanwhile is no context: what follows fails by itself.
  context_.store(handle.bits(), std::memory_order_relaxed);
  call.Finish(driver().cuCtxSetCurrent(context));
}

// ------------------------------------------------------------------------------------ outgoing

void Session::Reply(ReplyTo to, CUresult result, std::span<const std::byte> body) {
  if (to.ticket == 0) {
    if (result != CUDA_SUCCESS) PushError(to, result);
    return;
  }
  if (options_.flush_output) options_.flush_output();
  const wire::ReplyHeader header{to.ticket, static_cast<std::int32_t>(result),
                                 static_cast<std::uint32_t>(body.size())};
  wire::Buffer payload(sizeof header + body.size());
  std::memcpy(payload.data(), &header, sizeof header);
  if (!body.empty()) std::memcpy(payload.data() + sizeof header, body.data(), body.size());
  Enqueue({wire::FrameKind::kReplies, std::move(payload), {}, nullptr});
}

void Session::PushError(const ReplyTo& to, CUresult result) {
  if (cuda::EndsContext(result)) {
    // A failed context fails each command; the client needs to hear it once.
    const MutexLock lock(error_mutex_);
    if (pushed_context_ == to.context && pushed_result_ == result) return;
    pushed_context_ = to.context;
    pushed_result_ = result;
  }
  wire::Buffer body;
  wire::Encoder encoder(body);
  encoder.Put(to.context);
  encoder.Put(static_cast<std::int32_t>(result));
  encoder.Put(to.command_id);
  Push(wire::PushType::kError, body);
}

void Session::ForgetError(wire::Handle context) {
  const MutexLock lock(error_mutex_);
  if (pushed_context_ == context.bits()) pushed_result_ = CUDA_SUCCESS;
}

void Session::Push(wire::PushType type, std::span<const std::byte> body) {
  wire::Buffer payload;
  wire::Encoder encoder(payload);
  encoder.Put(type);
  encoder.PutRaw(body.data(), body.size());
  Enqueue({wire::FrameKind::kPush, std::move(payload), {}, nullptr});
}

void Session::SendBulk(std::uint64_t transfer, std::span<const std::byte> data,
                       std::shared_ptr<const void> owner) {
  wire::Buffer payload(sizeof transfer);
  std::memcpy(payload.data(), &transfer, sizeof transfer);
  Enqueue({wire::FrameKind::kBulk, std::move(payload), data, std::move(owner)});
}

void Session::SayGoodbye(wire::RefusalCode code, const std::string& reason) noexcept {
  Enqueue({wire::FrameKind::kGoodbye, wire::Farewell{code, reason}.Encode(), {}, nullptr});
}

void Session::Enqueue(Outgoing item) {
  {
    const MutexLock lock(out_mutex_);
    if (out_dead_) return;
    out_.push_back(std::move(item));
    out_items_.store(out_.size(), std::memory_order_relaxed);
    if (sender_active_) return;  // It will be sent by who is sending.
    sender_active_ = true;
  }
  for (;;) {
    Outgoing next;
    {
      const MutexLock lock(out_mutex_);
      if (out_.empty()) {
        sender_active_ = false;
        return;
      }
      next = std::move(out_.front());
      out_.pop_front();
      out_items_.store(out_.size(), std::memory_order_relaxed);
      if (out_.size() == kQueuedItems / 2) out_shrank_.NotifyAll();
    }
    if (SendItem(next).ok()) continue;
    {
      const MutexLock lock(out_mutex_);
      out_dead_ = true;
      out_.clear();
      out_items_.store(0, std::memory_order_relaxed);
      out_shrank_.NotifyAll();
      sender_active_ = false;
    }
    // The receiver finds the connection cut and ends the session.
    channel_->Shutdown();
    return;
  }
}

void Session::WaitForReader() {
  const MutexLock lock(out_mutex_);
  // Ends: whoever sends gives up on a client that takes nothing for kSendPatience, or is stopped
  // for client_pause.
  while (!out_dead_ && sender_active_ && out_.size() > kQueuedItems / 2 && !stopping_.load()) {
    out_shrank_.WaitUntil(out_mutex_, std::chrono::steady_clock::now() + options_.heartbeat);
  }
}

Status Session::SendItem(const Outgoing& item) noexcept {
  const auto send = [this](wire::FrameKind kind, std::span<const std::byte> first,
                           std::span<const std::byte> second) {
    const bool ordered = kind == wire::FrameKind::kReplies || kind == wire::FrameKind::kBulk ||
                         kind == wire::FrameKind::kPush;
    const std::uint64_t next = sequence_.load(std::memory_order_relaxed) + (ordered ? 1 : 0);
    sequence_.store(next, std::memory_order_release);
    const wire::FrameHeader header{kind,
                                   0,
                                   0,
                                   static_cast<std::uint32_t>(first.size() + second.size()),
                                   ordered ? next : 0,
                                   received_.load(std::memory_order_relaxed)};
    return channel_->Send(header, first, second, Deadline::After(kSendPatience));
  };
  if (item.kind != wire::FrameKind::kBulk) return send(item.kind, item.payload, {});
  wire::BulkHeader bulk{};
  std::memcpy(&bulk.transfer, item.payload.data(), sizeof bulk.transfer);
  while (bulk.offset < item.data.size()) {
    const std::size_t bytes =
        std::min<std::size_t>(item.data.size() - bulk.offset, wire::kBulkChunkBytes);
    FARWARP_RETURN_IF_ERROR(
        send(item.kind, std::as_bytes(std::span(&bulk, 1)), item.data.subspan(bulk.offset, bytes)));
    bulk.offset += bytes;
  }
  return Status::Ok();
}

}  // namespace farwarp::server
