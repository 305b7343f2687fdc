#include "farwarp/wire/grant.h"

#include <charconv>

#include "farwarp/base/bytes.h"
#include "farwarp/wire/limits.h"

namespace farwarp::wire {
namespace {

// Takes what stands before the next `separator`, or everything.
std::string_view Next(std::string_view& text, char separator) {
  const std::size_t at = text.find(separator);
  const std::string_view part = text.substr(0, at);
  text = at == std::string_view::npos ? std::string_view() : text.substr(at + 1);
  return part;
}

template <typename T>
bool ParseNumber(std::string_view text, T* value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value);
  return error == std::errc() && end == text.data() + text.size();
}

Result<GrantedGpu> ParseGpu(std::string_view text) {
  GrantedGpu gpu;
  gpu.endpoint = Next(text, '/');
  if (gpu.endpoint.empty() || !ParseNumber(Next(text, '/'), &gpu.ordinal) ||
      !ParseNumber(Next(text, '/'), &gpu.memory_bytes) ||
      !ParseNumber(text, &gpu.compute_percent)) {
    return Status::Invalid("a gpu entry is not endpoint/ordinal/memory_bytes/compute_percent");
  }
  if (gpu.ordinal >= kMaxDevices || gpu.memory_bytes == 0 || gpu.compute_percent == 0 ||
      gpu.compute_percent > 100) {
    return Status::Invalid("a gpu entry has a number out of range");
  }
  return gpu;
}

}  // namespace

Result<Grant> ParseGrant(std::string_view text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.remove_suffix(1);
  if (Next(text, ';') != "v1") return Status::Invalid("the grant does not begin with 'v1;'");
  Grant grant;
  bool lease = false;
  bool secret = false;
  while (!text.empty()) {
    std::string_view value = Next(text, ';');
    const std::string_view key = Next(value, '=');
    if (key == "lease") {
      FARWARP_RETURN_IF_ERROR(HexDecode(value, grant.lease));
      lease = true;
    } else if (key == "secret") {
      // The reason must not repeat the text.
      if (!HexDecode(value, grant.secret).ok())
        return Status::Invalid("the grant's secret is not 64 hexadecimal digits");
      secret = true;
    } else if (key == "gpu") {
      auto gpu = ParseGpu(value);
      if (!gpu.ok()) return gpu.status();
      if (grant.gpus.size() == kMaxDevices) return Status::Invalid("the grant names too many GPUs");
      grant.gpus.push_back(std::move(*gpu));
    } else {
      return Status::Invalid("the grant has an unknown field");
    }
  }
  if (!lease || !secret || grant.gpus.empty())
    return Status::Invalid("the grant lacks a lease, a secret or a gpu");
  return grant;
}

std::string FormatGrant(const Grant& grant) {
  std::string text = "v1;lease=" + HexEncode(grant.lease) + ";secret=" + HexEncode(grant.secret);
  for (const GrantedGpu& gpu : grant.gpus) {
    text += ";gpu=" + gpu.endpoint + "/" + std::to_string(gpu.ordinal) + "/" +
            std::to_string(gpu.memory_bytes) + "/" + std::to_string(gpu.compute_percent);
  }
  return text;
}

}  // namespace farwarp::wire
