// Leveled logging for code shared by every process and for libraries loaded into the application.
//
// Silent by default; FARWARP_LOG=error|warn|info|debug|trace (read once) turns it on. Lines go to
// standard error unless a process installs a sink (server processes hand them to spdlog). Messages
// are lower case, printf-formatted, one line, without secrets or buffer contents; control
// characters in them, which a peer's name may carry, come out as \xNN. The first place
// that detects an error logs it; callers pass the Status on.
//
// Thread-safe. A suppressed call costs one relaxed load.
#pragma once

#include <atomic>

namespace farwarp {

enum class LogLevel : int { kOff = 0, kError, kWarn, kInfo, kDebug, kTrace };

using LogSink = void (*)(LogLevel level, const char* line);

// Replaces the sink; pass nullptr for standard error. Call before threads start.
void SetLogSink(LogSink sink) noexcept;
void SetLogLevel(LogLevel level) noexcept;
// `listener` gets each line up to `level` besides, whether the log shows it or not. One per
// process; it must not log.
void SetLogListener(LogLevel level, LogSink listener) noexcept;
// Parses a level name; anything unknown is kOff.
LogLevel ParseLogLevel(const char* name) noexcept;

namespace internal {
extern std::atomic<int> log_level;  // Up to which somebody, log or listener, wants lines.
}
inline bool LogEnabled(LogLevel level) noexcept {
  return static_cast<int>(level) <= internal::log_level.load(std::memory_order_relaxed);
}
// Whether lines of `level` are shown; LogEnabled may be true for a listener's sake alone.
bool LogShown(LogLevel level) noexcept;
void LogFormatted(LogLevel level, const char* format, ...) noexcept
    __attribute__((format(printf, 2, 3)));

}  // namespace farwarp

#define FARWARP_LOG(level, ...)                                         \
  do {                                                                  \
    if (::farwarp::LogEnabled(::farwarp::LogLevel::level)) {            \
      ::farwarp::LogFormatted(::farwarp::LogLevel::level, __VA_ARGS__); \
    }                                                                   \
  } while (false)
