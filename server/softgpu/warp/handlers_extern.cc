// Functions that the compiler leaves to the device's runtime: vprintf and __assertfail.
//
// They read strings out of device memory, which may fault at any byte: until that is done, nothing
// here owns memory or holds a lock.
#include <cstdio>
#include <cstring>

#include "server/softgpu/memory/address_space.h"
#include "server/softgpu/warp/handlers.h"
#include "server/softgpu/warp/lanes.h"

namespace farwarp::softgpu {
namespace {

constexpr size_t kMaxText = 4096;
constexpr size_t kMaxSpecification = 32;
constexpr size_t kMaxDigits = 3;  // Of a width or a precision: more would format for seconds.

// A parameter of the call: it lies in the caller's local memory, which is still the running
// frame's.
template <typename T>
T Argument(const Warp& warp, const CallSite& site, uint32_t lane, size_t index) {
  const uint64_t thread = uint64_t{warp.index} * kLanes + lane;
  const uint64_t local =
      warp.block->local_base + thread * warp.block->local_stride + warp.frame->local;
  T value;
  std::memcpy(&value, reinterpret_cast<const void*>(local + site.params[index]), sizeof value);
  return value;
}

void CheckPointer(Warp& warp, uint64_t address, uint32_t lane) {
  if ((address & warp.block->space_mask) == warp.block->space_base) return;
  RaiseFault(warp, FaultKind::kIllegalAddress, address, 1u << lane, "illegal address of a string");
}

// Copies a string of the device, cut at the buffer's size.
void CopyString(Warp& warp, uint64_t address, uint32_t lane, char* to, size_t size) {
  size_t length = 0;
  for (; length + 1 < size; ++length) {
    CheckPointer(warp, address + length, lane);
    to[length] = *reinterpret_cast<const volatile char*>(address + length);
    if (to[length] == '\0') return;
  }
  to[length] = '\0';
}

// The arguments of one vprintf: each aligned to its own size.
struct Arguments {
  Warp& warp;
  uint32_t lane;
  uint64_t at;

  template <typename T>
  T Next() {
    at = (at + sizeof(T) - 1) / sizeof(T) * sizeof(T);
    CheckPointer(warp, at, lane);
    T value;
    std::memcpy(&value, reinterpret_cast<const void*>(at), sizeof value);
    at += sizeof(T);
    return value;
  }
};

// Formats one specification, such as "%-8.3f", and returns how many characters that gave.
int FormatOne(Arguments& arguments, const char* specification, size_t longs, char* to,
              size_t size) {
  const char conversion = specification[std::strlen(specification) - 1];
  switch (conversion) {
    case 'd':
    case 'i':
    case 'u':
    case 'x':
    case 'X':
    case 'o':
      if (longs != 0) return std::snprintf(to, size, specification, arguments.Next<long long>());
      return std::snprintf(to, size, specification, arguments.Next<int>());
    case 'c':
      return std::snprintf(to, size, specification, arguments.Next<int>());
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G':
    case 'a':
    case 'A':
      return std::snprintf(to, size, specification, arguments.Next<double>());
    case 'p':
      return std::snprintf(to, size, specification,
                           reinterpret_cast<void*>(arguments.Next<uint64_t>()));
    case 's': {
      char text[kMaxText];
      CopyString(arguments.warp, arguments.Next<uint64_t>(), arguments.lane, text, sizeof text);
      return std::snprintf(to, size, specification, text);
    }
    default:
      return std::snprintf(to, size, "%s", specification);
  }
}

// Takes the specification at `from` apart; returns where it ends. Length modifiers become "ll" or
// vanish; '*' is not supported by CUDA's printf and prints as it stands.
const char* ReadSpecification(const char* from, char (&to)[kMaxSpecification], size_t* longs) {
  size_t length = 0;
  *longs = 0;
  to[length++] = *from++;
  size_t digits = 0;
  while (*from != '\0' && std::strchr("-+ #0123456789.lhjzt", *from) != nullptr &&
         length < kMaxSpecification - 5) {
    const bool modifier = std::strchr("lhjzt", *from) != nullptr;
    digits = *from >= '0' && *from <= '9' ? digits + 1 : 0;
    if (modifier && *from != 'h') ++*longs;
    if (!modifier && digits <= kMaxDigits) to[length++] = *from;
    ++from;
  }
  if (*from == '\0') {
    to[length] = '\0';
    return from;
  }
  const bool integer = std::strchr("diuxXo", *from) != nullptr;
  if (*longs != 0 && integer) to[length++] = 'l', to[length++] = 'l';
  to[length++] = *from++;
  to[length] = '\0';
  return from;
}

size_t Format(Arguments& arguments, const char* format, char* to, size_t size) {
  size_t length = 0;
  while (*format != '\0' && length + 1 < size) {
    if (*format != '%') {
      to[length++] = *format++;
      continue;
    }
    if (format[1] == '%') {
      to[length++] = '%';
      format += 2;
      continue;
    }
    char specification[kMaxSpecification];
    size_t longs = 0;
    format = ReadSpecification(format, specification, &longs);
    const int written = FormatOne(arguments, specification, longs, to + length, size - length);
    if (written > 0) length = std::min(size - 1, length + static_cast<size_t>(written));
  }
  to[length] = '\0';
  return length;
}

}  // namespace

void PrintFormatted(Warp& warp, const Ins& ins) {
  const CallSite& site = warp.kernel->calls[ins.target];
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    if ((warp.active >> lane & 1) == 0) continue;
    char format[kMaxText];
    char text[kMaxText];
    CopyString(warp, Argument<uint64_t>(warp, site, lane, 0), lane, format, sizeof format);
    Arguments arguments{warp, lane, Argument<uint64_t>(warp, site, lane, 1)};
    const size_t length = Format(arguments, format, text, sizeof text);
    if (TextSink* sink = warp.block->request->print; sink != nullptr) sink->Write({text, length});
  }
}

void AssertFailed(Warp& warp, const Ins& ins) {
  const CallSite& site = warp.kernel->calls[ins.target];
  const auto lane = static_cast<uint32_t>(__builtin_ctz(warp.active));
  char message[1024];
  char file[1024];
  CopyString(warp, Argument<uint64_t>(warp, site, lane, 0), lane, message, sizeof message);
  CopyString(warp, Argument<uint64_t>(warp, site, lane, 1), lane, file, sizeof file);
  const auto line = Argument<uint32_t>(warp, site, lane, 2);
  const uint32_t thread = warp.index * kLanes + lane;
  const Dim3& dim = warp.block->request->block;
  char text[kMaxText];
  const int length = std::snprintf(
      text, sizeof text, "%s:%u: block: [%u,%u,%u], thread: [%u,%u,%u] Assertion `%s` failed.\n",
      file, line, warp.block->id.x, warp.block->id.y, warp.block->id.z, thread % dim.x,
      thread / dim.x % dim.y, thread / dim.x / dim.y, message);
  if (TextSink* sink = warp.block->request->print; sink != nullptr && length > 0) {
    sink->Write({text, std::min(static_cast<size_t>(length), sizeof text - 1)});
  }
  RaiseFault(warp, FaultKind::kAssert, 0, 1u << lane, "assertion failed");
}

}  // namespace farwarp::softgpu
