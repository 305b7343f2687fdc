// Module images as an application passes them: a pointer without a length to a fatbin wrapper, a
// bare fatbin container, a cubin (ELF) or PTX text. FindImage says what it is and how long.
//
//   wrapper   := magic:u32 0x466243B1, version:u32 (1 or 2), container pointer, file name or
//                (version 2) pointer to a null-terminated array of container pointers
//   container := magic:u32 0xBA55ED50, version:u16 1, header bytes:u16 16, entry bytes:u64, entries
//
// The length comes from the image's own headers, so the checks are plausibility checks: nothing
// outside the application's memory is at stake here, and the server checks every byte again.
//
// Pure function, thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "farwarp/base/status.h"

namespace farwarp::client {

enum class ImageKind { kFatbin, kElf, kPtx };

struct Image {
  ImageKind kind = ImageKind::kPtx;
  std::span<const std::byte> bytes;
};

// The Status says what is wrong with the image in one sentence.
Result<Image> FindImage(const void* image);
// The same for an image whose length is known, such as a file's contents. The bytes of PTX are
// those before the first NUL.
Result<Image> FindImage(std::span<const std::byte> contents);

}  // namespace farwarp::client
