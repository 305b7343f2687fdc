// The function table that arrives with each module load: per kernel its name, attributes and
// parameter layout. From it the client answers name look-ups and attribute queries, and packs
// launch parameters, without asking the server.
//
//   table  := count:u64 kernel*
//   kernel := name:string attribute_count:u64 attribute:i32* param_count:u64 (offset:u32 size:u32)*
//
// Immutable after decoding; any thread may read.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "farwarp/wire/decoder.h"

namespace farwarp::client {

inline constexpr std::size_t kKernelAttributes = 16;  // CUfunction_attribute values 0..15.

struct KernelParameter {
  std::uint32_t offset = 0;
  std::uint32_t size = 0;
};

struct KernelInfo {
  std::string name;
  std::array<int, kKernelAttributes> attributes{};
  std::vector<KernelParameter> parameters;
  std::uint32_t parameter_bytes = 0;  // End of the last parameter.
};

class FunctionTable {
 public:
  // Reads a table; marks the decoder failed if it breaks a rule.
  static FunctionTable Decode(wire::Decoder& decoder);

  const std::vector<KernelInfo>& kernels() const noexcept { return kernels_; }
  std::optional<std::uint32_t> Find(std::string_view name) const;

 private:
  std::vector<KernelInfo> kernels_;
  std::map<std::string_view, std::uint32_t> by_name_;  // Keys point into kernels_.
};

// Gathers cuLaunchKernel's kernelParams into `packed` (info.parameter_bytes bytes, holes zeroed).
// False if `parameters` or one of its entries is null where the kernel has one.
bool PackParameters(const KernelInfo& info, void* const* parameters, std::byte* packed) noexcept;

}  // namespace farwarp::client
