#include "proto/cuda/driver_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string_view>
#include <utility>

namespace farwarp::cuda {
namespace {

constexpr std::size_t kMaxLines = 100;
constexpr std::size_t kMaxBytes = 25600;
constexpr std::string_view kLost = "[W] older messages are lost\n";

UniqueFd OpenForAppending(const char* path) {
  constexpr int kMode = 0644;
  return UniqueFd(::open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, kMode));
}

UniqueFd OpenLogFile() {
  const char* name = std::getenv("CUDA_LOG_FILE");
  if (name == nullptr || *name == '\0') return {};
  if (std::strcmp(name, "stdout") == 0) return UniqueFd(::fcntl(1, F_DUPFD_CLOEXEC, 3));
  if (std::strcmp(name, "stderr") == 0) return UniqueFd(::fcntl(2, F_DUPFD_CLOEXEC, 3));
  return OpenForAppending(name);
}

bool WriteAll(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

// As many of the latest lines as fit into `room`, with a word about the others; none if not one
// fits.
std::string Latest(const std::vector<std::string>& lines, std::size_t room) {
  std::size_t all = 0;
  for (const std::string& line : lines) all += line.size();
  auto first = lines.begin();
  for (; first != lines.end() && all + (first == lines.begin() ? 0 : kLost.size()) > room;
       ++first) {
    all -= first->size();
  }
  if (first == lines.end()) return {};
  std::string text(first == lines.begin() ? std::string_view() : kLost);
  for (; first != lines.end(); ++first) text += *first;
  return text;
}

}  // namespace

DriverLog& DriverLog::Get() {
  static auto* const log = [] {
    auto* made = new DriverLog;
    SetLogListener(LogLevel::kWarn, [](LogLevel level, const char* text) {
      try {
        Get().Add(level, text);
      } catch (const std::bad_alloc&) {
        // Who has no memory left has no log either.
      }
    });
    return made;
  }();
  return *log;
}

DriverLog::DriverLog() : file_(OpenLogFile()) {}

void DriverLog::Add(LogLevel level, const char* text) {
  const bool error = level == LogLevel::kError;
  std::string line = std::string(error ? "[E] " : "[W] ") + text + "\n";
  if (file_.valid()) static_cast<void>(WriteAll(file_.get(), line));
  {
    const MutexLock lock(mutex_);
    bytes_ += line.size();
    lines_.push_back(std::move(line));
    ++next_;
    while (lines_.size() > kMaxLines || bytes_ > kMaxBytes) {
      bytes_ -= lines_.front().size();
      lines_.pop_front();
    }
  }
  Tell(error ? CU_LOG_LEVEL_ERROR : CU_LOG_LEVEL_WARNING, text);
}

void DriverLog::Tell(CUlogLevel level, const std::string& text) {
  const std::lock_guard<std::recursive_mutex> lock(telling_);
  // By number, since a function may unregister itself or others.
  for (std::uintptr_t after = 0;;) {
    const auto found = std::find_if(registered_.begin(), registered_.end(),
                                    [after](const Registered& one) { return one.number > after; });
    if (found == registered_.end()) return;
    after = found->number;
    std::string copy = text;
    found->function(found->user_data, level, copy.data(), copy.size());
  }
}

CUresult DriverLog::Register(CUlogsCallback function, void* user_data,
                             CUlogsCallbackHandle* handle) {
  if (function == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const std::lock_guard<std::recursive_mutex> lock(telling_);
  registered_.push_back({++last_number_, function, user_data});
  if (handle != nullptr) *handle = reinterpret_cast<CUlogsCallbackHandle>(last_number_);
  return CUDA_SUCCESS;
}

CUresult DriverLog::Unregister(CUlogsCallbackHandle handle) {
  const std::lock_guard<std::recursive_mutex> lock(telling_);
  const auto number = reinterpret_cast<std::uintptr_t>(handle);
  const auto removed =
      std::erase_if(registered_, [number](const Registered& one) { return one.number == number; });
  return removed == 0 ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

CUresult DriverLog::Current(CUlogIterator* iterator, unsigned flags) {
  if (iterator == nullptr || flags != 0) return CUDA_ERROR_INVALID_VALUE;
  const MutexLock lock(mutex_);
  *iterator = next_;
  return CUDA_SUCCESS;
}

std::vector<std::string> DriverLog::Since(const CUlogIterator* iterator, CUlogIterator* next) {
  const MutexLock lock(mutex_);
  *next = next_;
  // The difference is right across a wrap-around; a number that was never given counts as "all".
  const std::size_t wanted = iterator != nullptr ? next_ - *iterator : next_;
  const std::size_t there = std::min(wanted, lines_.size());
  std::vector<std::string> since;
  if (there < wanted) since.emplace_back(kLost);
  since.insert(since.end(), lines_.end() - static_cast<std::ptrdiff_t>(there), lines_.end());
  return since;
}

CUresult DriverLog::DumpToFile(CUlogIterator* iterator, const char* path, unsigned flags) {
  if (path == nullptr || flags != 0) return CUDA_ERROR_INVALID_VALUE;
  const UniqueFd file = OpenForAppending(path);
  if (!file.valid()) return CUDA_ERROR_INVALID_VALUE;
  CUlogIterator next = 0;
  for (const std::string& line : Since(iterator, &next)) {
    if (!WriteAll(file.get(), line)) return CUDA_ERROR_OPERATING_SYSTEM;
  }
  if (iterator != nullptr) *iterator = next;
  return CUDA_SUCCESS;
}

CUresult DriverLog::DumpToMemory(CUlogIterator* iterator, char* buffer, std::size_t* size,
                                 unsigned flags) {
  if (buffer == nullptr || size == nullptr || *size == 0 || flags != 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  CUlogIterator next = 0;
  const std::vector<std::string> lines = Since(iterator, &next);
  const std::size_t room = std::exchange(*size, 0) - 1;
  *buffer = '\0';
  std::string text = Latest(lines, room);
  if (text.empty() && !lines.empty()) return CUDA_ERROR_INVALID_VALUE;
  std::memcpy(buffer, text.c_str(), text.size() + 1);
  *size = text.size();
  if (iterator != nullptr) *iterator = next;
  return CUDA_SUCCESS;
}

}  // namespace farwarp::cuda
