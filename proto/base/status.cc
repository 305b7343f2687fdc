#include "farwarp/base/status.h"

#include <system_error>

namespace farwarp {

const char* StatusCodeName(StatusCode code) noexcept {
  switch (code) {
    case StatusCode::kOk:
      return "ok";
    case StatusCode::kInvalid:
      return "invalid";
    case StatusCode::kNotFound:
      return "not found";
    case StatusCode::kUnauthenticated:
      return "unauthenticated";
    case StatusCode::kVersion:
      return "version";
    case StatusCode::kLimit:
      return "limit";
    case StatusCode::kTimeout:
      return "timeout";
    case StatusCode::kClosed:
      return "closed";
    case StatusCode::kUnavailable:
      return "unavailable";
    case StatusCode::kInternal:
      return "internal";
  }
  return "unknown";
}

Status Status::FromErrno(const std::string& what, int error_number) {
  return Internal(what + ": " + std::generic_category().message(error_number));
}

std::string Status::ToString() const {
  if (ok()) return "ok";
  return std::string(StatusCodeName(code_)) + ": " + message_;
}

}  // namespace farwarp
