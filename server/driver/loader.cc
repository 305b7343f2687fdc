#include <dlfcn.h>

#include "server/driver/table.h"

namespace farwarp::server::driver {

Result<std::unique_ptr<Driver>> Driver::Load(const std::string& path) {
  // Local: its names must not meet those of a client library in the same process (tests).
  void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* why = ::dlerror();
    return Status::NotFound("no CUDA driver at " + path + " (" + (why != nullptr ? why : "?") +
                            "); name another with --driver");
  }
  std::unique_ptr<Driver> driver(new Driver);
  driver->missing_ = FillTable(driver->table_, &::dlsym, library);
  if (::dlsym(library, "cuInit") == nullptr) {
    return Status::Invalid(path + " is a library, but no CUDA driver: it has no cuInit");
  }
  return driver;
}

}  // namespace farwarp::server::driver
