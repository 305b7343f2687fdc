#include "client/session/session.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "client/session/command.h"
#include "farwarp/base/log.h"
#include "farwarp/wire/frame.h"
#include "farwarp/wire/limits.h"
#include "farwarp/wire/push.h"
#include "proto/cuda/context_errors.h"

namespace farwarp::client {
namespace {

// A caller who finds so much waiting to leave waits, too.
constexpr std::size_t kTailBytes = std::size_t{1} << 20;
constexpr std::size_t kTailAttachments = std::size_t{64} << 20;
constexpr int kSilentHeartbeats = 3;
// Errors that others have are looked for so often by who waits for credit; and with errors about,
// nobody waits longer for credit of which nothing comes back.
constexpr std::chrono::milliseconds kErrorPoll{100};
constexpr std::chrono::seconds kCreditPatience{30};
// A peer that takes nothing for so long is gone.
constexpr std::chrono::seconds kSendPatience{10};

thread_local std::uint64_t calling_context = 0;

}  // namespace

std::uint64_t CallingThreadContext() noexcept {
  return calling_context;
}
void SetCallingThreadContext(std::uint64_t context) noexcept {
  calling_context = context;
}

bool Session::LockTail(std::size_t bulk_bytes, bool urgent) noexcept {
  mutex_.lock();
  const auto full = [this]() REQUIRES(mutex_) {
    std::size_t attached = 0;
    for (const Attachment& attachment : tail_.attachments) attached += attachment.bytes;
    return tail_.commands.size() >= kTailBytes || attached >= kTailAttachments;
  };
  const auto without_credit = [&]() REQUIRES(mutex_) {
    const wire::Credit& credit = welcome_.credit;
    return !urgent &&
           (under_way_.command_bytes + tail_.commands.size() >= credit.command_bytes ||
            (bulk_bytes != 0 &&
             under_way_.bulk_bytes + wire::BulkCharge(credit, bulk_bytes) > credit.bulk_bytes));
  };
  // Set in the first round that waits: nearly all calls do not, and look at no clock.
  std::chrono::steady_clock::time_point until;
  std::uint64_t returns = ~std::uint64_t{0};
  while (dead_.load(std::memory_order_relaxed) == 0) {
    const bool poor = without_credit();
    if (!poor && !full()) return true;
    WakeFlusher();
    if (!poor) {
      tail_drained_.Wait(mutex_);
      continue;
    }
    // The calling thread's command would be refused, or the credit is a failed context's, which
    // gives it back when it ends.
    const auto now = std::chrono::steady_clock::now();
    if (returns != credit_returns_) until = now + kCreditPatience;
    returns = credit_returns_;
    if (has_errors_.load(std::memory_order_acquire) && (error() != CUDA_SUCCESS || now > until)) {
      return false;
    }
    tail_drained_.WaitUntil(mutex_, now + kErrorPoll);
  }
  return true;
}

void Session::UnlockTail() noexcept {
  mutex_.unlock();
}

void Session::WakeFlusher() noexcept {
  if (!flusher_asleep_) return;
  flusher_asleep_ = false;
  flusher_wakes_up_.NotifyOne();
}

CUresult Session::error() const noexcept {
  if (const CUresult dead = death(); dead != CUDA_SUCCESS) return dead;
  if (!has_errors_.load(std::memory_order_acquire)) return CUDA_SUCCESS;
  return ContextError(calling_context);
}

CUresult Session::ContextError(std::uint64_t context) const noexcept {
  const MutexLock lock(errors_mutex_);
  for (const ContextState& state : context_states_) {
    if (state.context == context) return state.error;
  }
  return CUDA_SUCCESS;
}

void Session::RecordContextError(std::uint64_t context, CUresult result,
                                 std::uint64_t ticket) noexcept {
  try {
    const MutexLock lock(errors_mutex_);
    const auto state =
        std::find_if(context_states_.begin(), context_states_.end(),
                     [&](const ContextState& entry) { return entry.context == context; });
    if (state == context_states_.end()) {
      context_states_.push_back({context, result, 0});
    } else if (state->error == CUDA_SUCCESS && (ticket == 0 || ticket >= state->since)) {
      state->error = result;  // The first one stays.
    }
    has_errors_.store(true, std::memory_order_release);
  } catch (...) {
    FailForWantOfMemory();
  }
}

void Session::BeginContextAnew(std::uint64_t context) noexcept {
  std::uint64_t since;
  {
    const MutexLock lock(mutex_);
    since = next_ticket_;
  }
  const ContextState anew{context, CUDA_SUCCESS, since};
  try {
    const MutexLock lock(errors_mutex_);
    const auto state =
        std::find_if(context_states_.begin(), context_states_.end(),
                     [&](const ContextState& entry) { return entry.context == context; });
    if (state != context_states_.end()) {
      *state = anew;
    } else {
      context_states_.push_back(anew);
    }
  } catch (...) {
    FailForWantOfMemory();
  }
}

void Session::ForgetContext(std::uint64_t context) noexcept {
  const MutexLock lock(errors_mutex_);
  std::erase_if(context_states_,
                [&](const ContextState& entry) { return entry.context == context; });
}

CUresult Session::TakeAsyncError() noexcept {
  if (!has_errors_.load(std::memory_order_acquire)) return CUDA_SUCCESS;
  const MutexLock lock(errors_mutex_);
  const CUresult error = async_error_;
  async_error_ = CUDA_SUCCESS;
  has_errors_.store(!context_states_.empty(), std::memory_order_release);
  return error;
}

std::uint64_t Session::ExpectTransfer(void* to, std::size_t bytes) {
  const std::uint64_t transfer = NewTransfer();
  const MutexLock lock(transfers_mutex_);
  incoming_.push_back({transfer, static_cast<std::byte*>(to), bytes, 0});
  return transfer;
}

std::uint64_t Session::ExpectCopy(void* to, std::size_t bytes) {
  const std::uint64_t transfer = NewTransfer();
  const MutexLock lock(transfers_mutex_);
  const auto pending = [this]() REQUIRES(transfers_mutex_) {
    std::uint64_t sum = 0;
    for (const Incoming& entry : incoming_) sum += entry.bytes;
    return sum;
  };
  std::chrono::steady_clock::time_point until;  // Set in the first round that waits.
  for (std::uint64_t before = ~std::uint64_t{0}; death() == CUDA_SUCCESS;) {
    const std::uint64_t sum = pending();
    if (sum + wire::BulkCharge(welcome_.credit, bytes) <= welcome_.credit.bulk_bytes) break;
    const auto now = std::chrono::steady_clock::now();
    if (sum < before) until = now + kCreditPatience;
    before = sum;
    // What has failed does not arrive. A server that really has no room says so itself.
    if (has_errors_.load(std::memory_order_acquire) && (error() != CUDA_SUCCESS || now > until)) {
      break;
    }
    transfer_ended_.WaitUntil(transfers_mutex_, now + kErrorPoll);
  }
  incoming_.push_back({transfer, static_cast<std::byte*>(to), bytes, 0});
  return transfer;
}

void Session::CancelTransfer(std::uint64_t transfer) {
  const MutexLock lock(transfers_mutex_);
  std::erase_if(incoming_, [&](const Incoming& entry) { return entry.transfer == transfer; });
  transfer_ended_.NotifyAll();
}

bool Session::TransferPending(std::uint64_t transfer) {
  const MutexLock lock(transfers_mutex_);
  return std::any_of(incoming_.begin(), incoming_.end(),
                     [&](const Incoming& entry) { return entry.transfer == transfer; });
}

Statistics Session::statistics() const {
  Statistics statistics;
  {
    const MutexLock lock(mutex_);
    statistics.calls = calls_;
    statistics.round_trips = round_trips_ + 2;
    statistics.flusher_wakes = flusher_wakes_;
  }
  const transport::ChannelCounts counts = channel_->counts();
  statistics.bytes_sent = counts.bytes_sent;
  statistics.bytes_received = counts.bytes_received;
  statistics.send_calls = counts.send_calls;
  statistics.receive_calls = counts.receive_calls;
  statistics.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  return statistics;
}

// ------------------------------------------------------------------------------------------
// sending

void Session::Flush(std::uint64_t last) noexcept {
  for (;;) {
    {
      const MutexLock lock(mutex_);
      if (sender_active_ || (tail_.empty() && !ping_ && !acknowledge_)) return;
      if (dead_.load(std::memory_order_relaxed) != 0) {
        // The owners of attached memory have been told, and may have freed it.
        tail_.Clear();
        ping_ = acknowledge_ = false;
        tail_drained_.NotifyAll();
        return;
      }
      sender_active_ = true;
      std::swap(tail_, sending_);
      under_way_.command_bytes += sending_.commands.size();
      ++tail_batch_;
      tail_drained_.NotifyAll();
    }
    const Status sent = TrySendBatch();
    {
      const MutexLock lock(mutex_);
      sending_.Clear();
      ++sent_batches_;
      sender_active_ = false;
      bulk_sent_.NotifyAll();
      if (sent.ok() && sent_batches_ >= last) {
        // What others have appended meanwhile is not for a caller to send who waits for an answer.
        if (!tail_.empty() || ping_ || acknowledge_) {
          flusher_asleep_ = false;
          flusher_wakes_up_.NotifyOne();
        }
        return;
      }
    }
    if (!sent.ok()) {
      // The receiver finds the link cut and says what that means for everybody.
      channel_->Shutdown();
      return;
    }
  }
}

std::uint64_t Session::NextSequence() noexcept {
  // Published before the frame leaves: the server cannot acknowledge what the receiver does not
  // know to be sent.
  const std::uint64_t next = sequence_.load(std::memory_order_relaxed) + 1;
  sequence_.store(next, std::memory_order_release);
  return next;
}

Status Session::TrySendBatch() noexcept {
  try {
    return SendBatch();
  } catch (...) {
    FailForWantOfMemory();
    return Status(StatusCode::kLimit, {});
  }
}

Status Session::SendBatch() {
  bool ping, acknowledge;
  {
    const MutexLock lock(mutex_);
    ping = ping_;
    acknowledge = acknowledge_;
    ping_ = acknowledge_ = false;
  }
  // Bytes first: when the server meets a command, what belongs to it has arrived.
  for (const Attachment& attachment : sending_.attachments) {
    FARWARP_RETURN_IF_ERROR(SendBulk(attachment));
  }
  std::span<const std::byte> rest(sending_.commands);
  while (!rest.empty()) {
    // Whole commands, as many as a frame holds.
    std::size_t bytes = rest.size();
    if (bytes > wire::kMaxFrameBytes) {
      bytes = 0;
      for (;;) {
        wire::CommandHeader header;
        std::memcpy(&header, rest.data() + bytes, sizeof header);
        const std::size_t next = bytes + sizeof header + header.bytes;
        if (next > wire::kMaxFrameBytes) break;
        bytes = next;
      }
    }
    FARWARP_RETURN_IF_ERROR(SendFrames(wire::FrameKind::kCommands, rest.first(bytes)));
    rest = rest.subspan(bytes);
  }
  if (ping) FARWARP_RETURN_IF_ERROR(SendFrames(wire::FrameKind::kPing, {}));
  if (acknowledge) FARWARP_RETURN_IF_ERROR(SendFrames(wire::FrameKind::kAck, {}));
  return Status::Ok();
}

Status Session::SendFrames(wire::FrameKind kind, std::span<const std::byte> payload) {
  const bool ordered = kind == wire::FrameKind::kCommands;
  const wire::FrameHeader header{kind,
                                 0,
                                 0,
                                 static_cast<std::uint32_t>(payload.size()),
                                 ordered ? NextSequence() : 0,
                                 received_.load(std::memory_order_relaxed)};
  return channel_->Send(header, payload, {}, Deadline::After(kSendPatience));
}

Status Session::SendBulk(const Attachment& attachment) {
  for (std::size_t offset = 0; offset < attachment.bytes;) {
    const std::size_t bytes = std::min(attachment.bytes - offset, wire::kBulkChunkBytes);
    const wire::BulkHeader bulk{attachment.transfer, offset};
    const wire::FrameHeader header{wire::FrameKind::kBulk,
                                   0,
                                   0,
                                   static_cast<std::uint32_t>(sizeof bulk + bytes),
                                   NextSequence(),
                                   received_.load(std::memory_order_relaxed)};
    FARWARP_RETURN_IF_ERROR(channel_->Send(header, std::as_bytes(std::span(&bulk, 1)),
                                           {attachment.data + offset, bytes},
                                           Deadline::After(kSendPatience)));
    offset += bytes;
  }
  return Status::Ok();
}

void Session::WaitForBulk(std::uint64_t batch) noexcept {
  const MutexLock lock(mutex_);
  // After a death, too, the sender must have let go of the caller's memory.
  while (sent_batches_ < batch && (sender_active_ || dead_.load(std::memory_order_relaxed) == 0)) {
    bulk_sent_.WaitUntil(mutex_, std::chrono::steady_clock::now() + std::chrono::seconds(1));
  }
}

CUresult Session::WaitForReply(Waiting& waiting, Reply& reply) noexcept {
  {
    const MutexLock lock(mutex_);
    // Die() answers everybody, so this ends.
    while (!waiting.done) waiting.answered.Wait(mutex_);
  }
  output_.Write();
  reply.Assign(std::move(waiting.body));
  if (cuda::EndsContext(waiting.result) && death() == CUDA_SUCCESS) {
    RecordContextError(calling_context, waiting.result, waiting.ticket);
  }
  return waiting.result;
}

void Session::RunFlusher() {
  for (;;) {
    {
      const MutexLock lock(mutex_);
      while (!stopping_ && (sender_active_ || (tail_.empty() && !ping_ && !acknowledge_))) {
        flusher_asleep_ = true;
        // A sender that is at work takes what has gathered, or says that it leaves it.
        flusher_wakes_up_.Wait(mutex_);
        ++flusher_wakes_;
      }
      flusher_asleep_ = false;
      if (stopping_) return;
    }
    Flush();
  }
}

// ----------------------------------------------------------------------------------------
// receiving

void Session::RunReceiver() {
  try {
    const Status status = ReceiveFrame();
    if (status.ok()) return;
    Die(status.code() == StatusCode::kInvalid ? CUDA_ERROR_UNKNOWN : CUDA_ERROR_DEVICE_UNAVAILABLE,
        status.message().c_str());
  } catch (...) {
    // What was not understood is lost, and with it the order of everything.
    FailForWantOfMemory();
  }
}

Status Session::ReceiveWhole(std::uint32_t bytes) {
  payload_.resize(bytes);
  return channel_->ReceivePayload(payload_, Deadline::After(kSendPatience));
}

// Receives until the session ends.
Status Session::ReceiveFrame() {
  int silent = 0;
  const std::chrono::milliseconds heartbeat(std::max<std::uint32_t>(welcome_.heartbeat_ms, 10));
  while (dead_.load(std::memory_order_relaxed) == 0) {
    const auto header = channel_->ReceiveHeader(Deadline::After(heartbeat));
    if (!header.ok()) {
      if (header.status().code() != StatusCode::kTimeout) return header.status();
      if (++silent >= kSilentHeartbeats) {
        return Status::Timeout("the server has been silent for too long");
      }
      const MutexLock lock(mutex_);
      ping_ = true;
      flusher_asleep_ = false;
      flusher_wakes_up_.NotifyOne();
      continue;
    }
    silent = 0;
    FARWARP_RETURN_IF_ERROR(
        transport::CheckOrder(*header, {received_.load(std::memory_order_relaxed), acknowledged_,
                                        sequence_.load(std::memory_order_acquire)}));
    acknowledged_ = header->acknowledged;
    if (header->kind == wire::FrameKind::kBulk) {
      FARWARP_RETURN_IF_ERROR(OnBulk(header->bytes));
    } else {
      FARWARP_RETURN_IF_ERROR(ReceiveWhole(header->bytes));
    }
    switch (header->kind) {
      case wire::FrameKind::kBulk:
      case wire::FrameKind::kAck:
        break;
      case wire::FrameKind::kReplies:
        FARWARP_RETURN_IF_ERROR(OnReplies(payload_));
        break;
      case wire::FrameKind::kPush:
        FARWARP_RETURN_IF_ERROR(OnPush(payload_));
        break;
      case wire::FrameKind::kPing: {
        const MutexLock lock(mutex_);
        acknowledge_ = true;
        flusher_asleep_ = false;
        flusher_wakes_up_.NotifyOne();
        break;
      }
      case wire::FrameKind::kGoodbye:
      case wire::FrameKind::kRefused:
        OnFarewell(payload_);
        return Status::Ok();
      default:
        return Status::Invalid("the server sent a frame that no client expects");
    }
    if (header->sequence != 0) received_.store(header->sequence, std::memory_order_relaxed);
  }
  return Status::Ok();
}

Status Session::OnReplies(std::span<const std::byte> payload) {
  while (!payload.empty()) {
    wire::ReplyHeader header;
    if (payload.size() < sizeof header) return Status::Invalid("the server sent half a reply");
    std::memcpy(&header, payload.data(), sizeof header);
    payload = payload.subspan(sizeof header);
    if (header.bytes > payload.size()) return Status::Invalid("the server sent half a reply");
    const auto body = payload.first(header.bytes);
    payload = payload.subspan(header.bytes);
    const MutexLock lock(mutex_);
    const auto found = std::find_if(waiting_.begin(), waiting_.end(), [&](const Waiting* entry) {
      return entry->ticket == header.ticket;
    });
    if (found == waiting_.end()) return Status::Invalid("the server answered what nobody asked");
    Waiting& waiting = **found;
    waiting.body.assign(body.begin(), body.end());  // May fail: then Die answers.
    waiting_.erase(found);
    waiting.result = static_cast<CUresult>(header.result);
    waiting.done = true;
    waiting.answered.NotifyOne();
  }
  return Status::Ok();
}

Status Session::OnBulk(std::uint32_t bytes) {
  wire::BulkHeader bulk;
  if (bytes < sizeof bulk) return Status::Invalid("the server sent bulk without a header");
  FARWARP_RETURN_IF_ERROR(channel_->ReceivePayload(std::as_writable_bytes(std::span(&bulk, 1)),
                                                   Deadline::After(kSendPatience)));
  const std::uint64_t length = bytes - sizeof bulk;
  {
    // Held while the bytes arrive: whoever cancels must know that nothing is written any more.
    const MutexLock lock(transfers_mutex_);
    const auto found = std::find_if(incoming_.begin(), incoming_.end(), [&](const Incoming& entry) {
      return entry.transfer == bulk.transfer;
    });
    if (found != incoming_.end()) {
      if (bulk.offset != found->received || length > found->bytes - found->received) {
        return Status::Invalid("the server sent more of a copy than was asked for");
      }
      FARWARP_RETURN_IF_ERROR(
          channel_->ReceivePayload({found->to + bulk.offset, static_cast<std::size_t>(length)},
                                   Deadline::After(kSendPatience)));
      found->received += length;
      if (found->received == found->bytes) {
        incoming_.erase(found);
        transfer_ended_.NotifyAll();
      }
      return Status::Ok();
    }
  }
  // Cancelled meanwhile.
  return ReceiveWhole(static_cast<std::uint32_t>(length));
}

namespace {

// It joins this library's own log, and so what a program reads with cuLogs*.
void LogDriverMessage(std::uint32_t level, std::span<const std::byte> text) noexcept {
  const auto length = static_cast<int>(text.size());
  const auto* first = reinterpret_cast<const char*>(text.data());
  if (level == CU_LOG_LEVEL_ERROR) {
    FARWARP_LOG(kError, "%.*s", length, first);
  } else {
    FARWARP_LOG(kWarn, "%.*s", length, first);
  }
}

}  // namespace

Status Session::OnPush(std::span<const std::byte> payload) {
  wire::Decoder decoder(payload);
  switch (decoder.Get<wire::PushType>()) {
    case wire::PushType::kError: {
      const auto context = decoder.Get<std::uint64_t>();
      const auto result = static_cast<CUresult>(decoder.Get<std::int32_t>());
      const auto command = decoder.Get<std::uint32_t>();
      if (!decoder.finished()) break;
      FARWARP_LOG(kWarn, "command %#x failed after its call had returned: error %d", command,
                  static_cast<int>(result));
      if (cuda::EndsContext(result)) {
        RecordContextError(context, result, 0);
        return Status::Ok();
      }
      const MutexLock lock(errors_mutex_);
      if (async_error_ == CUDA_SUCCESS) async_error_ = result;
      has_errors_.store(true, std::memory_order_release);
      return Status::Ok();
    }
    case wire::PushType::kOutput: {
      const auto text = decoder.GetBlob(payload.size());
      if (!decoder.finished()) break;
      output_.Add(text);
      return Status::Ok();
    }
    case wire::PushType::kHostCallback: {
      const auto callback = decoder.Get<std::uint64_t>();
      if (!decoder.finished()) break;
      if (options_.on_host_callback) options_.on_host_callback(callback);
      return Status::Ok();
    }
    case wire::PushType::kTaken: {
      const auto command_bytes = decoder.Get<std::uint64_t>();
      const auto bulk_bytes = decoder.Get<std::uint64_t>();
      if (!decoder.finished()) break;
      return OnTaken({command_bytes, bulk_bytes});
    }
    case wire::PushType::kLog: {
      const auto level = decoder.Get<std::uint32_t>();
      const auto text = decoder.GetBlob(wire::kMaxDriverMessageBytes);
      if (!decoder.finished()) break;
      LogDriverMessage(level, text);
      return Status::Ok();
    }
  }
  return Status::Invalid("the server sent a push of unknown form");
}

Status Session::OnTaken(const wire::Credit& back) {
  const MutexLock lock(mutex_);
  if (back.command_bytes > under_way_.command_bytes || back.bulk_bytes > under_way_.bulk_bytes) {
    return Status::Invalid("the server gives back more credit than was spent");
  }
  under_way_.command_bytes -= back.command_bytes;
  under_way_.bulk_bytes -= back.bulk_bytes;
  ++credit_returns_;
  tail_drained_.NotifyAll();
  return Status::Ok();
}

void Session::FailForWantOfMemory() noexcept {
  Die(CUDA_ERROR_OUT_OF_MEMORY, "this process is out of memory");
}

void Session::OnFarewell(std::span<const std::byte> payload) {
  const auto farewell = wire::Farewell::Decode(payload);
  if (!farewell.ok()) return Die(CUDA_ERROR_UNKNOWN, farewell.status().message().c_str());
  switch (farewell->code) {
    case wire::RefusalCode::kWorkerDied:
      return Die(CUDA_ERROR_LAUNCH_FAILED, farewell->reason.c_str());
    case wire::RefusalCode::kMalformed:
    case wire::RefusalCode::kVersion:
      return Die(CUDA_ERROR_UNKNOWN, farewell->reason.c_str());
    default:
      return Die(CUDA_ERROR_DEVICE_UNAVAILABLE, farewell->reason.c_str());
  }
}

void Session::Die(CUresult reason, const char* why) noexcept {
  {
    // Whoever waits for a copy's bytes may reuse the memory as soon as it is told.
    const MutexLock lock(transfers_mutex_);
    incoming_.clear();
    transfer_ended_.NotifyAll();
  }
  // Before the receiver finds the link cut, and takes that for the reason.
  int expected = 0;
  const bool first = dead_.compare_exchange_strong(expected, static_cast<int>(reason));
  channel_->Shutdown();
  const MutexLock lock(mutex_);
  if (first && !stopping_) {
    FARWARP_LOG(kError, "the connection to the GPU server has ended: %s", why);
  }
  for (Waiting* waiting : waiting_) {
    waiting->result = static_cast<CUresult>(dead_.load(std::memory_order_relaxed));
    waiting->done = true;
    waiting->answered.NotifyOne();
  }
  waiting_.clear();
  // Nobody may come to send it, and the owners of attached memory have been told.
  tail_.Clear();
  ping_ = acknowledge_ = false;
  tail_drained_.NotifyAll();
  bulk_sent_.NotifyAll();
}

}  // namespace farwarp::client
