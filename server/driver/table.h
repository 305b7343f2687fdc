// The driver as the server calls it: driver::Table has one pointer per entry point of libcuda.so.1,
// under its exact name, so a call reads `driver.cuEventRecord(event, stream)`. The table is
// generated (proto/gen/driver_table.py); an entry point that a driver lacks answers
// CUDA_ERROR_NOT_SUPPORTED.
//
// Immutable after loading; any thread may call through it.
#pragma once

#include <memory>
#include <string>

#include "cuda/driver_table.h"
#include "farwarp/base/status.h"

namespace farwarp::server::driver {

// Fills every member with what `find(library, name)` knows, the rest with functions that answer
// CUDA_ERROR_NOT_SUPPORTED. Returns how many it did not know. Generated.
int FillTable(Table& table, void* (*find)(void* library, const char* name), void* library);

// A loaded driver. It stays loaded for the life of the process: drivers do not survive dlclose.
class Driver {
 public:
  // `path` names a library file, or a library to search for. Does not call into it.
  static Result<std::unique_ptr<Driver>> Load(const std::string& path);

  const Table& table() const noexcept { return table_; }
  int missing() const noexcept { return missing_; }

 private:
  Driver() = default;

  Table table_;
  int missing_ = 0;
};

}  // namespace farwarp::server::driver
