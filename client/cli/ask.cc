#include "client/cli/ask.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <optional>

#include "farwarp/base/bytes.h"
#include "farwarp/base/duration.h"

namespace farwarp::cli {
namespace {

// A plain decimal number and nothing else.
std::optional<double> ParseDecimal(const std::string& text) {
  if (text.empty() || text.size() > 20 ||
      text.find_first_not_of("0123456789.") != std::string::npos)
    return std::nullopt;
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (*end != '\0') return std::nullopt;
  return value;
}

Result<std::uint32_t> ParseCount(const std::string& text) {
  const auto value = ParseDecimal(text);
  if (!value || *value != std::floor(*value) || *value < 1 ||
      *value > static_cast<double>(pool::kMaxVgpusPerLease)) {
    return Status::Invalid("-n takes a number of vGPUs from 1 to " +
                           std::to_string(pool::kMaxVgpusPerLease) + ", not '" +
                           text.substr(0, 40) + "'");
  }
  return static_cast<std::uint32_t>(*value);
}

Result<std::uint32_t> ParseFraction(const std::string& text) {
  const auto value = ParseDecimal(text);
  if (!value || *value <= 0 || *value > 1) {
    return Status::Invalid(
        "-p takes a part of a device above 0 and up to 1, for example 0.5, not '" +
        text.substr(0, 40) + "'");
  }
  return static_cast<std::uint32_t>(std::max(1.0, std::round(*value * 100)));
}

Result<std::uint32_t> ParsePercent(std::string text) {
  const std::string original = text;
  if (!text.empty() && text.back() == '%') text.pop_back();
  const auto value = ParseDecimal(text);
  if (!value || *value != std::floor(*value) || *value < 1 || *value > 100) {
    return Status::Invalid("--compute takes a whole percentage from 1 to 100, not '" +
                           original.substr(0, 40) + "'");
  }
  return static_cast<std::uint32_t>(*value);
}

Result<std::vector<std::uint64_t>> ParseMemory(const std::string& text) {
  std::vector<std::uint64_t> sizes;
  for (std::size_t from = 0; from <= text.size();) {
    const std::size_t comma = std::min(text.find(',', from), text.size());
    const auto size = ParseBytes(std::string_view(text).substr(from, comma - from));
    if (!size.ok()) return Status::Invalid("-m: " + size.status().message());
    sizes.push_back(*size);
    if (sizes.size() > pool::kMaxVgpusPerLease) {
      return Status::Invalid("-m names more than " + std::to_string(pool::kMaxVgpusPerLease) +
                             " sizes");
    }
    from = comma + 1;
  }
  return sizes;
}

}  // namespace

Result<Ask> ParseAsk(const AskText& text) {
  pool::VgpuAsk all;
  std::vector<std::uint64_t> sizes;
  if (!text.fraction.empty()) {
    const auto percent = ParseFraction(text.fraction);
    if (!percent.ok()) return percent.status();
    all.compute_percent = *percent;
    if (text.memory.empty()) all.memory_percent = *percent;
  }
  if (!text.compute.empty()) {
    const auto percent = ParsePercent(text.compute);
    if (!percent.ok()) return percent.status();
    all.compute_percent = *percent;
  }
  if (!text.memory.empty()) {
    auto parsed = ParseMemory(text.memory);
    if (!parsed.ok()) return parsed.status();
    sizes = std::move(*parsed);
  }
  std::size_t count = std::max<std::size_t>(1, sizes.size());
  if (!text.count.empty()) {
    const auto parsed = ParseCount(text.count);
    if (!parsed.ok()) return parsed.status();
    count = *parsed;
  }
  if (sizes.size() > 1 && sizes.size() != count) {
    return Status::Invalid("-m names " + std::to_string(sizes.size()) + " sizes and -n asks for " +
                           std::to_string(count) + " vGPUs; give one size, or one for each");
  }
  Ask ask;
  ask.vgpus.assign(count, all);
  for (std::size_t i = 0; i < count && !sizes.empty(); ++i)
    ask.vgpus[i].memory_bytes = sizes.size() == 1 ? sizes[0] : sizes[i];
  if (!text.wait.empty()) {
    const auto wait = ParseDuration(text.wait);
    if (!wait.ok()) return Status::Invalid("--wait: " + wait.status().message());
    ask.wait = *wait;
  }
  return ask;
}

}  // namespace farwarp::cli
