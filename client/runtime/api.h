// How an exported function of the runtime is written.
//
// RT_API(name, (parameters), { body }) defines an export whose body runs with a context current in
// the calling thread and with `d`, the driver; it returns a CUresult or a cudaError_t. A failure is
// remembered for cudaGetLastError. RT_API_PTSZ and RT_API_PTDS define the export and its twin for
// per-thread default streams, whose `d` holds the driver's twins. RT_API_INIT needs an initialised
// driver but no context.
//
// Pass(function, arguments...) calls a driver function with the runtime's types: pointers to
// structures of the same layout, enumerations of the same values, pointers for device addresses.
#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "client/runtime/process.h"

#define FARWARP_EXPORT __attribute__((visibility("default")))

namespace farwarp::runtime {

// What a body returns: either library's code.
struct Outcome {
  cudaError_t error;
  Outcome(cudaError_t e) : error(e) {}               // NOLINT(google-explicit-constructor)
  Outcome(CUresult r) : error(ToRuntimeError(r)) {}  // NOLINT(google-explicit-constructor)
  bool ok() const noexcept { return error == cudaSuccess; }
};

template <typename Body>
cudaError_t WithContext(StreamMode mode, Body&& body) noexcept {
  Process& process = Process::Get();
  cudaError_t error = process.Bind();
  if (error == cudaSuccess) {
    try {
      error = body(process.driver(mode)).error;
      if (error == cudaErrorDeviceUninitialized && process.Rebind()) {
        error = body(process.driver(mode)).error;
      }
    } catch (...) {
      error = cudaErrorMemoryAllocation;
    }
  }
  return error == cudaSuccess ? error : process.Record(error);
}

// `otherwise` runs if there is no driver to ask.
template <typename Body, typename Otherwise = void (*)()>
cudaError_t WithDriver(Body&& body, Otherwise&& otherwise = [] {}) noexcept {
  Process& process = Process::Get();
  cudaError_t error = process.Start();
  if (error != cudaSuccess) {
    otherwise();
  } else {
    try {
      error = body(process.driver()).error;
    } catch (...) {
      error = cudaErrorMemoryAllocation;
    }
  }
  return error == cudaSuccess ? error : process.Record(error);
}

template <typename To, typename From>
To Convert(From from) noexcept {
  if constexpr (std::is_pointer_v<To> && std::is_pointer_v<From>) {
    using T = std::remove_pointer_t<To>;
    using F = std::remove_pointer_t<From>;
    if constexpr (!std::is_function_v<T> && std::is_object_v<T> && std::is_object_v<F>) {
      // Opaque handles are incomplete types; everything else must agree in size.
      if constexpr (requires { sizeof(T), sizeof(F); }) static_assert(sizeof(T) == sizeof(F));
    }
    return (To)from;  // NOLINT: also takes const away, as the driver's prototypes ask for.
  } else if constexpr (std::is_pointer_v<From> && std::is_integral_v<To>) {
    return static_cast<To>(reinterpret_cast<uintptr_t>(from));
  } else if constexpr (std::is_null_pointer_v<From> || std::is_same_v<To, From>) {
    return from;
  } else if constexpr (std::is_class_v<To>) {
    return std::bit_cast<To>(from);
  } else {
    return static_cast<To>(from);
  }
}

template <typename... Parameters, typename... Arguments>
CUresult Pass(CUresult (*function)(Parameters...), Arguments... arguments) {
  return function(Convert<Parameters>(arguments)...);
}

// A device address as the driver counts it, and back.
inline CUdeviceptr Address(const void* pointer) noexcept {
  return static_cast<CUdeviceptr>(reinterpret_cast<uintptr_t>(pointer));
}
inline void* Pointer(CUdeviceptr address) noexcept {
  return reinterpret_cast<void*>(static_cast<uintptr_t>(address));
}

}  // namespace farwarp::runtime

#define RT_DEFINE(name, mode, params, ...)                        \
  extern "C" FARWARP_EXPORT cudaError_t name params {             \
    return ::farwarp::runtime::WithContext(                       \
        ::farwarp::runtime::StreamMode::mode,                     \
        [&]([[maybe_unused]] const ::farwarp::runtime::Driver& d) \
            -> ::farwarp::runtime::Outcome __VA_ARGS__);          \
  }
#define RT_API(name, params, ...) RT_DEFINE(name, kLegacy, params, __VA_ARGS__)
#define RT_API_PTSZ(name, params, ...)          \
  RT_DEFINE(name, kLegacy, params, __VA_ARGS__) \
  RT_DEFINE(name##_ptsz, kPerThread, params, __VA_ARGS__)
#define RT_API_PTDS(name, params, ...)          \
  RT_DEFINE(name, kLegacy, params, __VA_ARGS__) \
  RT_DEFINE(name##_ptds, kPerThread, params, __VA_ARGS__)
#define RT_API_INIT(name, params, ...)                                                            \
  extern "C" FARWARP_EXPORT cudaError_t name params {                                             \
    return ::farwarp::runtime::WithDriver([&]([[maybe_unused]] const ::farwarp::runtime::Driver&  \
                                                  d) -> ::farwarp::runtime::Outcome __VA_ARGS__); \
  }
