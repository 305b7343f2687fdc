// Device code as it comes in: PTX text, a fat binary with or without its wrapper, or machine code.
// Finds the PTX that suits a device best and unpacks it.
//
// The container: u32 magic 0xBA55ED50, u16 version 1, u16 header size, u64 bytes of all entries.
// Each entry: u16 kind (1 PTX, 2 cubin, 8 LTO IR), u16, u32 header size, u64 stored payload bytes,
// u32 exact compressed bytes, u32 option offset, u16 minor, u16 major, u32 SM number, u32, u32
// name, u64 flags, u64, u64 uncompressed bytes; the payload follows the header, the next entry the
// payload. The wrapper: u32 magic 0x466243B1, u32 version, pointer to a container, and for version
// 2 a pointer to a null-terminated array of containers.
//
// What cuLinkComplete makes is such a container too, whose entries are the linked texts as they
// came (kind 0x4657): linking for the software GPU means to check the texts and keep them together.
//
// Every count and offset of a container is checked against it. Pure functions, thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "farwarp/base/status.h"

namespace farwarp::softgpu {

enum class CodeKind : std::uint16_t {
  kPtx = 1,
  kCubin = 2,
  kLtoIr = 8,
  // One text of what the software GPU linked. Only cuLinkComplete makes it.
  kLinkedPtx = 0x4657,
};

struct CodeEntry {
  CodeKind kind = CodeKind::kPtx;
  int sm = 0;                    // 75, 90, 120 ...
  bool arch_specific = false;    // sm_90a: runs on exactly that SM.
  bool family_specific = false;  // sm_100f: runs on the same family.
  bool relocatable = false;      // --compile-only: needs linking first.
  std::uint64_t flags = 0;
  std::span<const std::byte> payload;    // As stored, without padding if compressed.
  std::uint64_t uncompressed_bytes = 0;  // 0 if the payload is not compressed.
  std::string name;                      // Of the source, for messages; often empty.
};

// What a container may hold at most. Bigger than any seen, small enough for a hostile one.
inline constexpr std::size_t kMaxCodeEntries = 65536;
inline constexpr std::uint64_t kMaxPtxBytes = std::uint64_t{512} << 20;

// Bytes of the container that starts at `header` (16 readable bytes), or an error if none does.
Result<std::uint64_t> ContainerBytes(std::span<const std::byte> header);
// The entries of one container. Spans point into `container`.
Result<std::vector<CodeEntry>> ParseContainer(std::span<const std::byte> container);
// The PTX to use on a device of compute capability `sm` (121 for 12.1): the highest target not
// above it. nullptr if none fits.
const CodeEntry* ChoosePtx(std::span<const CodeEntry> entries, int sm);
// One sentence of what the entries offer, for error messages: "cubins for 80, 90; no PTX".
std::string DescribeCode(std::span<const CodeEntry> entries);
// The text of a PTX entry, decompressed, without its leading newlines and trailing NUL.
Result<std::string> UnpackPtx(const CodeEntry& entry);

// One text of an image.
struct PtxText {
  std::string name;  // For messages: "b.ptx"; empty if there is only this one.
  std::string text;
};

// kNoBinary is CUDA's "no binary for this GPU", the others are damaged or unknown.
enum class ImageProblem { kNone, kNoBinary, kInvalid };
struct LoadedImage {
  std::vector<PtxText> ptx;  // One text per container that suits.
  bool from_text = false;    // Plain PTX, as a person or a JIT writes it.
  bool linked = false;       // The texts are one module: they use each other's symbols.
  ImageProblem problem = ImageProblem::kNone;
  std::string message;  // Why, if there is a problem.
};
// Takes what a program passes to cuModuleLoadData: an address in this process whose length only its
// contents tell. `image` is not null.
LoadedImage LoadImage(const void* image, int sm);
// The same for contents of known length, such as a file or a message. Wrappers hold pointers and
// are refused here.
LoadedImage LoadImageBytes(std::span<const std::byte> image, int sm);

// The image of a linked module: a container with all its texts, for devices of `sm` and newer.
// LoadImage takes it like any other; no other driver knows it.
std::vector<std::byte> PackLinked(std::span<const PtxText> texts, int sm);

}  // namespace farwarp::softgpu
