#include "farwarp/base/log.h"

#include <unistd.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace farwarp {
namespace {

constexpr const char* kLevelNames[] = {"off", "error", "warn", "info", "debug", "trace"};
constexpr std::size_t kMaxMessage = 1024;
std::atomic<LogSink> sink{nullptr};
std::atomic<LogSink> listener{nullptr};

int InitialLevel() noexcept {
  const char* name = std::getenv("FARWARP_LOG");
  return static_cast<int>(name == nullptr ? LogLevel::kOff : ParseLogLevel(name));
}

// Names that a stranger chose come into messages too. They may neither begin a line of their own
// nor command the terminal that shows it: each control character becomes \xNN. `to` is big enough
// for kMaxMessage characters, terminator included; what does not fit is cut off.
void CopyEscaped(const char* from, char* to) noexcept {
  constexpr char kDigits[] = "0123456789abcdef";
  constexpr std::size_t kEscapeBytes = 4;
  std::size_t length = 0;
  unsigned char before = 0;
  for (; *from != '\0' && length + kEscapeBytes < kMaxMessage; ++from) {
    const auto c = static_cast<unsigned char>(*from);
    // In UTF-8 the upper control characters, U+0080 to U+009F, are 0xC2 and one byte more.
    const bool control = c < 0x20 || c == 0x7f || (before == 0xc2 && c >= 0x80 && c < 0xa0);
    before = c;
    if (!control) {
      to[length++] = *from;
      continue;
    }
    to[length++] = '\\';
    to[length++] = 'x';
    to[length++] = kDigits[c >> 4];
    to[length++] = kDigits[c & 0xf];
  }
  to[length] = '\0';
}

}  // namespace

namespace internal {
std::atomic<int> log_level{InitialLevel()};
}

namespace {

std::atomic<int> shown_level{InitialLevel()};
std::atomic<int> heard_level{static_cast<int>(LogLevel::kOff)};

void WeighLevels() noexcept {
  internal::log_level.store(std::max(shown_level.load(), heard_level.load()));
}

}  // namespace

void SetLogSink(LogSink new_sink) noexcept {
  sink.store(new_sink);
}
void SetLogLevel(LogLevel level) noexcept {
  shown_level.store(static_cast<int>(level));
  WeighLevels();
}
void SetLogListener(LogLevel level, LogSink new_listener) noexcept {
  listener.store(new_listener);
  heard_level.store(static_cast<int>(level));
  WeighLevels();
}

bool LogShown(LogLevel level) noexcept {
  return static_cast<int>(level) <= shown_level.load();
}

LogLevel ParseLogLevel(const char* name) noexcept {
  for (int level = 0; level <= static_cast<int>(LogLevel::kTrace); ++level) {
    if (std::strcmp(name, kLevelNames[level]) == 0) return static_cast<LogLevel>(level);
  }
  return LogLevel::kOff;
}

void LogFormatted(LogLevel level, const char* format, ...) noexcept {
  char raw[kMaxMessage] = "";
  std::va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(raw, sizeof raw, format, arguments);
  va_end(arguments);
  char text[kMaxMessage];
  CopyEscaped(raw, text);
  const int number = static_cast<int>(level);
  if (const LogSink hears = listener.load(); hears != nullptr && number <= heard_level.load()) {
    hears(level, text);
  }
  if (number > shown_level.load()) return;
  if (const LogSink target = sink.load(); target != nullptr) {
    target(level, text);
    return;
  }
  // One write, so that lines of several threads and processes do not mix.
  char line[1152];
  const int length = std::snprintf(line, sizeof line, "farwarp[%d] %s: %s\n",
                                   static_cast<int>(::getpid()), kLevelNames[number], text);
  if (length > 0) [[maybe_unused]]
    const auto written = ::write(STDERR_FILENO, line, static_cast<std::size_t>(length));
}

}  // namespace farwarp
