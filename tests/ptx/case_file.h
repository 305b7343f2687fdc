// Reads a case file (README.md describes the format) and runs PTX for tests: memory inside the
// address space, a launch with a deadline, comparison word by word. One thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/softgpu/exec/launch.h"
#include "server/softgpu/memory/device_heap.h"
#include "server/softgpu/memory/texture.h"

namespace farwarp::softgpu {

inline constexpr uint32_t kPoison = 0xa5a5a5a5u;

// A texture or surface of a case. Its number is (kind << 56) + (1 << 32) + its place among all of
// the case, counted from 1; the kind is 0c for textures and 0d for surfaces.
struct CaseTexture {
  TextureState state;
  bool surface = false;
  std::vector<uint32_t> texels;  // Rows without gaps.
};

struct CaseFile {
  std::string ptx;
  Dim3 grid;
  Dim3 block;
  uint32_t shared_bytes = 0;
  uint32_t heap_bytes = 0;
  std::vector<uint32_t> in;
  std::vector<CaseTexture> textures;
  std::vector<std::string> out;      // As README.md lists them: hex words, "*", "nan", ….
  std::string fault;                 // Name of the fault kind that ends the launch.
  std::string text;                  // What the fault's text, or the load's error, contains.
  bool refused = false;              // Load or Prepare fails.
  bool usual_schedule_only = false;  // Shows where lanes meet, which PTX leaves open.
  std::string problem;               // Why the file cannot be read as a case.
};

CaseFile ReadCase(const std::string& path);

// "" if the word is what the token asks for.
std::string CompareWord(const std::string& token, uint32_t word);

// Memory of one test in the address space; unmapped pages lie behind it.
class DeviceWords {
 public:
  explicit DeviceWords(size_t count, uint32_t fill);
  ~DeviceWords();
  DeviceWords(const DeviceWords&) = delete;
  DeviceWords& operator=(const DeviceWords&) = delete;
  uint64_t address() const { return address_; }
  volatile uint32_t* words() const { return reinterpret_cast<volatile uint32_t*>(address_); }

 private:
  uint64_t address_ = 0;
};

// Makes the textures and surfaces of a case readable by kernels, with memory of their own.
class BoundTextures {
 public:
  explicit BoundTextures(const std::vector<CaseTexture>& textures);
  ~BoundTextures();
  BoundTextures(const BoundTextures&) = delete;
  BoundTextures& operator=(const BoundTextures&) = delete;

 private:
  std::vector<std::unique_ptr<DeviceWords>> memory_;
  std::vector<std::pair<TextureTable*, uint64_t>> published_;
};

class TestPlacer : public GlobalPlacer {
 public:
  Result<uint64_t> Place(uint64_t bytes, uint64_t align, bool is_const) override;

 private:
  std::vector<std::unique_ptr<DeviceWords>> memory_;
};

// Runs kernel(in, out); a launch that takes longer than 20 seconds is cancelled, which the caller
// sees as an unexpected fault.
Fault RunWithDeadline(const Kernel& kernel, Dim3 grid, Dim3 block, uint32_t shared_bytes,
                      const DeviceWords& in, const DeviceWords& out, uint64_t seed = 0,
                      DeviceHeap* heap = nullptr);

}  // namespace farwarp::softgpu
