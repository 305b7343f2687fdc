#include "client/cli/probe.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "farwarp/base/deadline.h"
#include "farwarp/base/unique_fd.h"

namespace farwarp::cli {
namespace {

constexpr auto kProbeTime = std::chrono::seconds(10);
constexpr int kMaxDevices = 64;
constexpr std::size_t kMaxAnswerBytes = 64 << 10;

// The few driver functions that a probe needs, as CUDA's documentation declares them.
struct DriverFunctions {
  int (*init)(unsigned) = nullptr;
  int (*version)(int*) = nullptr;
  int (*count)(int*) = nullptr;
  int (*get)(int*, int) = nullptr;
  int (*name)(char*, int, int) = nullptr;
  int (*memory)(std::size_t*, int) = nullptr;
};

template <typename Function>
bool Load(void* library, const char* name, Function* function) {
  *function = reinterpret_cast<Function>(::dlsym(library, name));
  return *function != nullptr;
}

bool IsIn(const std::string& file, const std::string& folder) {
  std::error_code error;
  const auto real_folder = std::filesystem::weakly_canonical(folder, error);
  const auto real_file = std::filesystem::weakly_canonical(file, error);
  return real_file.parent_path() == real_folder;
}

// The child's part: one line per fact, the last one is "end" or "error TEXT".
void Answer(FILE* out, const std::string& library, const std::string& own_lib) {
  void* handle = ::dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    std::fprintf(out, "error %s\n", ::dlerror());
    return;
  }
  link_map* map = nullptr;
  const bool known = ::dlinfo(handle, RTLD_DI_LINKMAP, static_cast<void*>(&map)) == 0;
  const std::string path = known && map->l_name != nullptr ? map->l_name : library;
  if (IsIn(path, own_lib)) {
    std::fprintf(out, "error %s is Farwarp's own client library\n", path.c_str());
    return;
  }
  DriverFunctions cuda;
  if (!Load(handle, "cuInit", &cuda.init) || !Load(handle, "cuDriverGetVersion", &cuda.version) ||
      !Load(handle, "cuDeviceGetCount", &cuda.count) || !Load(handle, "cuDeviceGet", &cuda.get) ||
      !Load(handle, "cuDeviceGetName", &cuda.name) ||
      !Load(handle, "cuDeviceTotalMem_v2", &cuda.memory)) {
    std::fprintf(out, "error %s is no CUDA driver library\n", path.c_str());
    return;
  }
  int version = 0;
  int count = 0;
  if (const int error = cuda.init(0); error != 0) {
    std::fprintf(out, "error cuInit of %s fails with CUDA error %d\n", path.c_str(), error);
    return;
  }
  if (cuda.version(&version) != 0 || cuda.count(&count) != 0) count = 0;
  std::fprintf(out, "path %s\nversion %d\n", path.c_str(), version);
  for (int ordinal = 0; ordinal < count && ordinal < kMaxDevices; ++ordinal) {
    int device = 0;
    char name[256] = "";
    std::size_t bytes = 0;
    if (cuda.get(&device, ordinal) != 0 || cuda.name(name, sizeof name, device) != 0 ||
        cuda.memory(&bytes, device) != 0)
      continue;
    std::fprintf(out, "device %d %zu %s\n", ordinal, bytes, name);
  }
  std::fprintf(out, "end\n");
}

Result<std::string> ReadAll(int fd, Deadline deadline) {
  std::string text;
  char buffer[4096];
  for (;;) {
    pollfd ready{fd, POLLIN, 0};
    if (::poll(&ready, 1, deadline.remaining_ms()) == 0)
      return Status::Timeout("the driver library does not answer");
    const ssize_t got = ::read(fd, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return text;
    text.append(buffer, static_cast<std::size_t>(got));
    if (text.size() > kMaxAnswerBytes) return Status::Internal("a driver library says too much");
  }
}

Status ParseLine(const std::string& line, Probed& probed, bool* complete) {
  if (line.starts_with("error ")) return Status::Unavailable(line.substr(6));
  if (line.starts_with("path ")) probed.path = line.substr(5);
  if (line.starts_with("version ")) probed.driver_version = std::atoi(line.c_str() + 8);
  if (line.starts_with("device ")) {
    pool::Device device;
    int name_at = 0;
    unsigned long long bytes = 0;
    if (std::sscanf(line.c_str(), "device %u %llu %n", &device.ordinal, &bytes, &name_at) == 2) {
      device.memory_bytes = bytes;
      device.name = line.substr(static_cast<std::size_t>(name_at));
      device.uuid = std::to_string(device.ordinal);
      probed.devices.push_back(device);
    }
  }
  if (line == "end") *complete = true;
  return Status::Ok();
}

}  // namespace

Result<Probed> ProbeDriver(const std::string& library, const std::string& own_lib) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return Status::FromErrno("pipe", errno);
  UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  const pid_t pid = ::fork();
  if (pid < 0) return Status::FromErrno("fork", errno);
  if (pid == 0) {
    ::unsetenv("FARWARP_GRANT");
    FILE* out = ::fdopen(writer.get(), "w");
    Answer(out, library, own_lib);
    std::fflush(out);
    ::_exit(0);  // Without the driver's farewell.
  }
  writer.reset();
  const auto text = ReadAll(reader.get(), Deadline::After(kProbeTime));
  ::kill(pid, SIGKILL);
  while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  if (!text.ok()) return text.status();
  Probed probed;
  bool complete = false;
  for (std::size_t from = 0; from < text->size();) {
    const std::size_t end = std::min(text->find('\n', from), text->size());
    FARWARP_RETURN_IF_ERROR(ParseLine(text->substr(from, end - from), probed, &complete));
    from = end + 1;
  }
  if (!complete)
    return Status::Unavailable("the driver library " + library + " crashed at its start");
  return probed;
}

}  // namespace farwarp::cli
