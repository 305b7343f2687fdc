#include "server/session/commands/jit.h"

#include <cstdint>
#include <cstring>
#include <string_view>

#include "farwarp/wire/limits.h"
#include "proto/cuda/jit_options.h"

namespace farwarp::server {
namespace {

constexpr std::size_t kMaxOptions = 64;

void* Value(std::uint64_t number) {
  return reinterpret_cast<void*>(static_cast<std::uintptr_t>(number));
}

std::string_view LogText(const std::string& log) {
  return {log.data(), ::strnlen(log.data(), log.size())};
}

}  // namespace

bool IsContained(std::span<const std::byte> code) {
  constexpr std::uint32_t kWrapperMagic = 0x466243B1;
  constexpr std::uint32_t kContainerMagic = 0xBA55ED50;
  std::uint32_t magic = 0;
  if (code.size() < sizeof magic) return true;
  std::memcpy(&magic, code.data(), sizeof magic);
  if (magic == kWrapperMagic) return false;
  if (magic != kContainerMagic) return true;
  std::uint16_t header = 0;
  std::uint64_t entries = 0;
  if (code.size() < 16) return false;
  std::memcpy(&header, code.data() + 6, sizeof header);
  std::memcpy(&entries, code.data() + 8, sizeof entries);
  return header <= code.size() && entries <= code.size() - header;
}

void JitRequest::Read(Call& call) {
  const std::size_t count = call.args().GetCount(kMaxOptions, 16);
  for (std::size_t i = 0; i < count; ++i) {
    const auto option = static_cast<CUjit_option>(call.args().Get<std::int32_t>());
    const auto value = call.args().Get<std::uint64_t>();
    if (cuda::IsNumberForCompiler(option)) {
      options_.push_back(option);
      values_.push_back(Value(value));
    } else {
      // It would be an address in this process.
      call.MarkBad();
    }
  }
  info_bytes_ = call.args().Get<std::uint64_t>();
  error_bytes_ = call.args().Get<std::uint64_t>();
  if (info_bytes_ > wire::kMaxLogBytes || error_bytes_ > wire::kMaxLogBytes) call.MarkBad();
}

void JitRequest::AddLog(CUjit_option buffer, CUjit_option size, std::string& log) {
  if (log.empty()) return;
  options_.push_back(buffer);
  values_.push_back(log.data());
  options_.push_back(size);
  values_.push_back(Value(log.size()));
}

void JitRequest::Open() {
  info_log_.assign(static_cast<std::size_t>(info_bytes_), '\0');
  error_log_.assign(static_cast<std::size_t>(error_bytes_), '\0');
  AddLog(CU_JIT_INFO_LOG_BUFFER, CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES, info_log_);
  AddLog(CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES, error_log_);
  start_ = std::chrono::steady_clock::now();
}

void JitRequest::Answer(Call& call) const {
  const auto passed = std::chrono::steady_clock::now() - start_;
  call.results().PutString(LogText(info_log_));
  call.results().PutString(LogText(error_log_));
  call.results().Put(static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::microseconds>(passed).count()));
}

}  // namespace farwarp::server
