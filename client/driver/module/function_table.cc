#include "client/driver/module/function_table.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "farwarp/wire/limits.h"

namespace farwarp::client {
namespace {

KernelInfo DecodeKernel(wire::Decoder& decoder) {
  KernelInfo info;
  info.name = decoder.GetString();
  const std::size_t attributes = decoder.GetCount(64);
  for (std::size_t i = 0; i < attributes; ++i) {
    const int value = decoder.Get<std::int32_t>();
    if (i < kKernelAttributes) info.attributes[i] = value;
  }
  const std::size_t parameters = decoder.GetCount(wire::kMaxKernelParameterBytes, 16);
  info.parameters.reserve(parameters);
  for (std::size_t i = 0; i < parameters; ++i) {
    const KernelParameter parameter{decoder.Get<std::uint32_t>(), decoder.Get<std::uint32_t>()};
    if (parameter.offset > wire::kMaxKernelParameterBytes ||
        parameter.size > wire::kMaxKernelParameterBytes - parameter.offset) {
      decoder.Fail();
      return info;
    }
    info.parameter_bytes = std::max(info.parameter_bytes, parameter.offset + parameter.size);
    info.parameters.push_back(parameter);
  }
  return info;
}

}  // namespace

FunctionTable FunctionTable::Decode(wire::Decoder& decoder) {
  FunctionTable table;
  const std::size_t count = decoder.GetCount(wire::kMaxModuleEntries, 24);
  table.kernels_.reserve(count);
  for (std::size_t i = 0; i < count && !decoder.failed(); ++i) {
    table.kernels_.push_back(DecodeKernel(decoder));
  }
  for (std::uint32_t i = 0; i < table.kernels_.size(); ++i) {
    table.by_name_.emplace(table.kernels_[i].name, i);
  }
  return table;
}

std::optional<std::uint32_t> FunctionTable::Find(std::string_view name) const {
  const auto found = by_name_.find(name);
  if (found == by_name_.end()) return std::nullopt;
  return found->second;
}

bool PackParameters(const KernelInfo& info, void* const* parameters, std::byte* packed) noexcept {
  if (info.parameters.empty()) return true;
  if (parameters == nullptr) return false;
  std::uint32_t filled = 0;
  for (std::size_t i = 0; i < info.parameters.size(); ++i) {
    const KernelParameter parameter = info.parameters[i];
    const void* value = parameters[i];
    if (value == nullptr) return false;
    if (parameter.offset > filled) std::memset(packed + filled, 0, parameter.offset - filled);
    // Fixed sizes first: they become single moves.
    if (parameter.size == 8) {
      std::memcpy(packed + parameter.offset, value, 8);
    } else if (parameter.size == 4) {
      std::memcpy(packed + parameter.offset, value, 4);
    } else {
      std::memcpy(packed + parameter.offset, value, parameter.size);
    }
    filled = std::max(filled, parameter.offset + parameter.size);
  }
  return true;
}

}  // namespace farwarp::client
