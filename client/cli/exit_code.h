// The exit codes of the `farwarp` program (docs/operations.md). Constants.
#pragma once

namespace farwarp::cli {

// `farwarp run` ends with the program's own code, 128 + n when signal n ended it, or, as env(1)
// does:
inline constexpr int kRunFailed = 125;      // farwarp itself failed: no vGPU, wrong options.
inline constexpr int kCannotExecute = 126;  // The program was found and cannot be started.
inline constexpr int kProgramNotFound = 127;
inline constexpr int kSignalBase = 128;

// Every other command:
inline constexpr int kSuccess = 0;
inline constexpr int kFailed = 1;      // No controller, no such node, a failed check.
inline constexpr int kUsageError = 2;  // Wrong options.

}  // namespace farwarp::cli
