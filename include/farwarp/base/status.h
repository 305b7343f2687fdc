// Status and Result<T>: how Farwarp reports what the world can break.
//
// A Status is success or a code with one sentence that names what was wrong and, where possible,
// what to do. Bugs are not statuses; they are CHECKs (check.h). No exception crosses a component
// boundary. A code exists only where some caller reacts differently to it.
//
// Thread-safety: value types, external lock.
#pragma once

#include <optional>
#include <string>
#include <utility>

namespace farwarp {

enum class StatusCode {
  kOk = 0,
  kInvalid,          // The input is malformed or a rule is broken; repeating it will not help.
  kNotFound,         // The named thing does not exist.
  kUnauthenticated,  // The peer could not prove what it claims.
  kVersion,          // The peer comes from a version of Farwarp that this one cannot talk to.
  kLimit,            // A quota or a hard limit would be exceeded.
  kTimeout,          // A deadline passed.
  kClosed,           // The peer or the session is gone.
  kUnavailable,      // Not possible now, may be later (no server, full pool).
  kInternal,         // The operating system or a library refused what should work.
};

// Short lower-case name of a code, for logs.
const char* StatusCodeName(StatusCode code) noexcept;

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(StatusCode code, std::string message) : code_(code), message_(std::move(message)) {}

  static Status Ok() { return {}; }
  static Status Invalid(std::string m) { return {StatusCode::kInvalid, std::move(m)}; }
  static Status NotFound(std::string m) { return {StatusCode::kNotFound, std::move(m)}; }
  static Status Unauthenticated(std::string m) {
    return {StatusCode::kUnauthenticated, std::move(m)};
  }
  static Status Version(std::string m) { return {StatusCode::kVersion, std::move(m)}; }
  static Status Limit(std::string m) { return {StatusCode::kLimit, std::move(m)}; }
  static Status Timeout(std::string m) { return {StatusCode::kTimeout, std::move(m)}; }
  static Status Closed(std::string m) { return {StatusCode::kClosed, std::move(m)}; }
  static Status Unavailable(std::string m) { return {StatusCode::kUnavailable, std::move(m)}; }
  static Status Internal(std::string m) { return {StatusCode::kInternal, std::move(m)}; }
  // `what` plus the text of `error_number` (an errno value).
  static Status FromErrno(const std::string& what, int error_number);

  bool ok() const noexcept { return code_ == StatusCode::kOk; }
  StatusCode code() const noexcept { return code_; }
  const std::string& message() const noexcept { return message_; }
  // "ok" or "<code>: <message>".
  std::string ToString() const;

 private:
  StatusCode code_ = StatusCode::kOk;
  std::string message_;
};

// A value or the Status that explains its absence.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}         // NOLINT(google-explicit-constructor)
  Result(Status status) : status_(std::move(status)) {  // NOLINT(google-explicit-constructor)
    if (status_.ok()) status_ = Status::Internal("a Result was built from an ok Status");
  }

  bool ok() const noexcept { return value_.has_value(); }
  const Status& status() const noexcept { return status_; }
  // Precondition of all three: ok().
  T& value() & { return *value_; }
  const T& value() const& { return *value_; }
  T&& value() && { return std::move(*value_); }
  T& operator*() & { return *value_; }
  const T& operator*() const& { return *value_; }
  T&& operator*() && { return std::move(*value_); }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }

 private:
  Status status_;
  std::optional<T> value_;
};

}  // namespace farwarp

// Returns the Status of `expression` from the calling function unless it is ok.
#define FARWARP_RETURN_IF_ERROR(expression)                                      \
  do {                                                                           \
    if (::farwarp::Status status_ = (expression); !status_.ok()) return status_; \
  } while (false)
