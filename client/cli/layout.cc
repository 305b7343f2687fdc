#include "client/cli/layout.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

namespace farwarp::cli {
namespace {

bool IsExecutable(const std::string& path) {
  struct stat info{};
  return ::stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode) &&
         ::access(path.c_str(), X_OK) == 0;
}

}  // namespace

Result<Layout> FindLayout() {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return Status::Internal("cannot tell where farwarp is: " + error.message());
  Layout layout;
  const auto bin = self.parent_path();
  layout.bin = bin.string();
  const auto lib = bin.parent_path() / "lib";
  const auto installed = lib / "farwarp";
  layout.lib = std::filesystem::exists(installed / "libcuda.so.1", error) ? installed.string()
                                                                          : lib.string();
  layout.softgpu_lib = layout.lib + "/softgpu";
  return layout;
}

Result<std::string> FindProgram(const std::string& name, const char* path_variable) {
  if (name.empty()) return Status::NotFound("the program's name is empty");
  if (name.find('/') != std::string::npos) {
    if (IsExecutable(name)) return name;
    std::error_code error;
    if (!std::filesystem::exists(name, error)) return Status::NotFound(name + ": not found");
    return Status::Invalid(name + ": cannot be executed");
  }
  const std::string path = path_variable == nullptr ? "/usr/bin:/bin" : path_variable;
  bool found = false;
  for (std::size_t from = 0; from <= path.size();) {
    const std::size_t colon = std::min(path.find(':', from), path.size());
    const std::string folder = path.substr(from, colon - from);
    const std::string candidate = (folder.empty() ? "." : folder) + "/" + name;
    if (IsExecutable(candidate)) return candidate;
    found = found || ::access(candidate.c_str(), F_OK) == 0;
    from = colon + 1;
  }
  if (found) return Status::Invalid(name + ": cannot be executed");
  return Status::NotFound(name + ": not found in PATH");
}

}  // namespace farwarp::cli
