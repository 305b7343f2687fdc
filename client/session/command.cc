#include "client/session/command.h"

#include <cstring>

#include "client/session/session.h"
#include "farwarp/base/log.h"
#include "farwarp/wire/frame.h"
#include "farwarp/wire/internal_command.h"
#include "farwarp/wire/limits.h"

namespace farwarp::client {
namespace {

void Append(wire::Buffer& buffer, const void* data, std::size_t bytes) {
  const std::size_t at = buffer.size();
  buffer.resize(at + bytes);
  std::memcpy(buffer.data() + at, data, bytes);
}

}  // namespace

// The analysis cannot follow a lock that a constructor takes and another function gives back.
Command::Command(Session& session, std::uint32_t id, std::size_t bulk_bytes)
    : session_(session), id_(id), open_(Open(bulk_bytes)), body_(session.tail_.commands) {}

bool Command::Open(std::size_t bulk_bytes) NO_THREAD_SAFETY_ANALYSIS {
  context_ = CallingThreadContext();
  const bool urgent = id_ == wire::IdOf(wire::InternalCommand::kHostFunctionDone);
  has_credit_ = session_.LockTail(bulk_bytes, urgent);
  locked_ = true;
  wire::Buffer& commands = session_.tail_.commands;
  start_ = commands.size();
  attachments_before_ = session_.tail_.attachments.size();
  context_before_ = session_.tail_context_;
  try {
    // Context 0 changes nothing: commands that need none run in whichever there is.
    if (context_ != context_before_ && context_ != 0) {
      const wire::CommandHeader header{wire::IdOf(wire::InternalCommand::kSetContext),
                                       sizeof context_, 0};
      Append(commands, &header, sizeof header);
      Append(commands, &context_, sizeof context_);
      session_.tail_context_ = context_;
    }
    header_ = commands.size();
    const wire::CommandHeader header{id_, 0, 0};
    Append(commands, &header, sizeof header);
  } catch (...) {
    Drop();
    throw;
  }
  return true;
}

Command::~Command() {
  if (locked_) Drop();
}

void Command::AttachBulk(std::uint64_t transfer, const void* data,
                         std::size_t bytes) NO_THREAD_SAFETY_ANALYSIS {
  session_.tail_.attachments.push_back({transfer, static_cast<const std::byte*>(data), bytes});
  session_.under_way_.bulk_bytes += wire::BulkCharge(session_.welcome_.credit, transfer, bytes);
  has_bulk_ = true;
}

void Command::Drop() noexcept NO_THREAD_SAFETY_ANALYSIS {
  session_.tail_.commands.resize(start_);
  while (session_.tail_.attachments.size() > attachments_before_) {
    const Attachment& last = session_.tail_.attachments.back();
    session_.under_way_.bulk_bytes -=
        wire::BulkCharge(session_.welcome_.credit, last.transfer, last.bytes);
    session_.tail_.attachments.pop_back();
  }
  session_.tail_context_ = context_before_;
  Unlock();
}

void Command::Unlock() noexcept NO_THREAD_SAFETY_ANALYSIS {
  locked_ = false;
  session_.UnlockTail();
}

CUresult Command::Seal(std::uint64_t ticket) noexcept NO_THREAD_SAFETY_ANALYSIS {
  const CUresult error = despite_context_error_ ? session_.death() : session_.error();
  if (error != CUDA_SUCCESS) {
    Drop();
    return error;
  }
  if (!has_credit_) {
    Drop();
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  if (session_.Unknown(id_)) {
    Drop();
    return CUDA_ERROR_NOT_SUPPORTED;
  }
  const std::size_t bytes = session_.tail_.commands.size() - header_ - sizeof(wire::CommandHeader);
  if (bytes > wire::kMaxCommandBytes) {
    Drop();
    FARWARP_LOG(kError, "a command of %zu bytes is too large to send", bytes);
    return CUDA_ERROR_INVALID_VALUE;
  }
  const wire::CommandHeader header{id_, static_cast<std::uint32_t>(bytes), ticket};
  std::memcpy(session_.tail_.commands.data() + header_, &header, sizeof header);
  ++session_.calls_;
  batch_ = session_.tail_batch_;
  return CUDA_SUCCESS;
}

CUresult Command::Post() noexcept NO_THREAD_SAFETY_ANALYSIS {
  if (const CUresult result = Seal(0); result != CUDA_SUCCESS) return result;
  if (!has_bulk_) {
    session_.WakeFlusher();
    Unlock();
    return CUDA_SUCCESS;
  }
  Unlock();
  session_.Flush(batch_);
  session_.WaitForBulk(batch_);
  return session_.error();
}

CUresult Command::Call(Reply& reply) noexcept NO_THREAD_SAFETY_ANALYSIS {
  Session::Waiting waiting;
  waiting.ticket = session_.next_ticket_;
  if (const CUresult result = Seal(waiting.ticket); result != CUDA_SUCCESS) return result;
  ++session_.next_ticket_;
  try {
    session_.waiting_.push_back(&waiting);
  } catch (...) {
    Drop();
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  ++session_.round_trips_;
  Unlock();
  session_.Flush(batch_);
  return session_.WaitForReply(waiting, reply);
}

CUresult Reply::Finish() const noexcept {
  if (body_.finished()) return CUDA_SUCCESS;
  FARWARP_LOG(kError, "the server sent a reply of unexpected form");
  return CUDA_ERROR_UNKNOWN;
}

}  // namespace farwarp::client
