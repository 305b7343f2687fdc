#include "farwarp/base/log.h"

#include <unistd.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace farwarp {
namespace {

constexpr const char* kLevelNames[] = {"off", "error", "warn", "info", "debug", "trace"};
std::atomic<LogSink> sink{nullptr};

int InitialLevel() noexcept {
  const char* name = std::getenv("FARWARP_LOG");
  return static_cast<int>(name == nullptr ? LogLevel::kOff : ParseLogLevel(name));
}

}  // namespace

namespace internal {
std::atomic<int> log_level{InitialLevel()};
}

void SetLogSink(LogSink new_sink) noexcept {
  sink.store(new_sink);
}
void SetLogLevel(LogLevel level) noexcept {
  internal::log_level.store(static_cast<int>(level));
}

LogLevel ParseLogLevel(const char* name) noexcept {
  for (int level = 0; level <= static_cast<int>(LogLevel::kTrace); ++level) {
    if (std::strcmp(name, kLevelNames[level]) == 0) return static_cast<LogLevel>(level);
  }
  return LogLevel::kOff;
}

void LogFormatted(LogLevel level, const char* format, ...) noexcept {
  char text[1024];
  std::va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  if (const LogSink target = sink.load(); target != nullptr) {
    target(level, text);
    return;
  }
  // One write, so that lines of several threads and processes do not mix.
  char line[1152];
  const int length =
      std::snprintf(line, sizeof line, "farwarp[%d] %s: %s\n", static_cast<int>(::getpid()),
                    kLevelNames[static_cast<int>(level)], text);
  if (length > 0) [[maybe_unused]]
    const auto written = ::write(STDERR_FILENO, line, static_cast<std::size_t>(length));
}

}  // namespace farwarp
