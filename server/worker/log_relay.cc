#include "server/worker/log_relay.h"

#include <algorithm>
#include <string_view>

#include "farwarp/wire/limits.h"
#include "farwarp/wire/push.h"

namespace farwarp::server {
namespace {

// A program can make errors in a loop; the first ones tell what is wrong.
constexpr unsigned kMaxMessages = 1000;

void Tell(Session& session, CUlogLevel level, std::string_view text) {
  wire::Buffer body;
  wire::Encoder encoder(body);
  encoder.Put(static_cast<std::uint32_t>(level));
  encoder.PutBlob(text.data(), text.size());
  session.Push(wire::PushType::kLog, body);
}

}  // namespace

LogRelay::LogRelay(const driver::Table& driver, Session& session)
    : driver_(driver), session_(session) {
  if (driver_.cuLogsRegisterCallback == nullptr || driver_.cuLogsUnregisterCallback == nullptr ||
      driver_.cuLogsRegisterCallback(&OnMessage, this, &handle_) != CUDA_SUCCESS) {
    handle_ = nullptr;
  }
}

LogRelay::~LogRelay() {
  if (handle_ != nullptr) driver_.cuLogsUnregisterCallback(handle_);
}

void LogRelay::OnMessage(void* self, CUlogLevel level, char* message, std::size_t length) {
  auto& relay = *static_cast<LogRelay*>(self);
  const unsigned before = relay.told_.fetch_add(1, std::memory_order_relaxed);
  if (before > kMaxMessages) return;
  if (before == kMaxMessages) {
    return Tell(relay.session_, CU_LOG_LEVEL_WARNING, "further messages stay with the server");
  }
  Tell(relay.session_, level, {message, std::min(length, wire::kMaxDriverMessageBytes)});
}

}  // namespace farwarp::server
