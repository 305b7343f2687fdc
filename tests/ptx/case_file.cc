#include "tests/ptx/case_file.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <mutex>
#include <sstream>
#include <thread>

#include "server/softgpu/memory/address_space.h"

namespace farwarp::softgpu {
namespace {

Dim3 ReadDim(std::istringstream& line) {
  Dim3 dim;
  line >> dim.x;
  if (!(line >> dim.y)) dim.y = 1;
  if (!(line >> dim.z)) dim.z = 1;
  return dim;
}

std::string Rest(std::istringstream& line) {
  std::string rest;
  std::getline(line >> std::ws, rest);
  return rest;
}

// "f32 x2 8 4 0 linear normalized wrap clamp …": type, channels, width, height, depth, properties.
void ReadTexture(CaseFile& c, bool surface, std::istringstream& line) {
  CaseTexture texture;
  texture.surface = surface;
  TextureState& state = texture.state;
  std::string type, channels, word;
  line >> type >> channels >> state.width >> state.height >> state.depth;
  constexpr const char* kTypes[] = {"u8", "u16", "u32", "s8", "s16", "s32", "f16", "f32"};
  const auto known = std::find(std::begin(kTypes), std::end(kTypes), type);
  if (!line || known == std::end(kTypes) || channels.size() != 2) {
    c.problem = "a texture needs type, channels, width, height, depth";
    return;
  }
  state.type = static_cast<TexelType>(known - std::begin(kTypes));
  state.channels = static_cast<uint8_t>(channels[1] - '0');
  size_t modes = 0, borders = 0;
  constexpr const char* kModes[] = {"wrap", "clamp", "mirror", "border"};
  while (line >> word) {
    const auto mode = std::find(std::begin(kModes), std::end(kModes), word);
    if (mode != std::end(kModes) && modes < 3) {
      state.address[modes++] = static_cast<AddressMode>(mode - std::begin(kModes));
    } else if (word == "linear") {
      state.linear_filter = true;
    } else if (word == "normalized") {
      state.normalized_coordinates = true;
    } else if (word == "float") {
      state.to_float = true;
    } else if (word == "srgb") {
      state.srgb = true;
    } else if (word == "layered") {
      state.layered = true;
    } else if (word == "cube") {
      state.cube = true;
    } else if (word == "memory") {
      state.linear_memory = true;
    } else if (word.starts_with("=") && borders < 4) {
      const auto bits = static_cast<uint32_t>(std::stoul(word.substr(1), nullptr, 16));
      state.border[borders++] = std::bit_cast<float>(bits);
    } else {
      c.problem = "unknown property of a texture: " + word;
    }
  }
  state.pitch = uint64_t{state.width} * state.texel_bytes();
  state.slice = state.pitch * std::max(1u, state.height);
  c.textures.push_back(std::move(texture));
}

void ReadDirective(CaseFile& c, const std::string& key, std::istringstream& line) {
  std::string word;
  if (key == "grid:") {
    c.grid = ReadDim(line);
  } else if (key == "block:") {
    c.block = ReadDim(line);
  } else if (key == "shared:") {
    line >> c.shared_bytes;
  } else if (key == "heap:") {
    line >> c.heap_bytes;
  } else if (key == "in:") {
    while (line >> word) c.in.push_back(static_cast<uint32_t>(std::stoul(word, nullptr, 16)));
  } else if (key == "texture:" || key == "surface:") {
    ReadTexture(c, key == "surface:", line);
  } else if (key == "texels:" && !c.textures.empty()) {
    while (line >> word)
      c.textures.back().texels.push_back(static_cast<uint32_t>(std::stoul(word, nullptr, 16)));
  } else if (key == "out:") {
    while (line >> word) c.out.push_back(word);
  } else if (key == "fault:") {
    c.fault = Rest(line);
  } else if (key == "refused:") {
    c.refused = true;
    c.text = Rest(line);
  } else if (key == "schedule:") {
    c.usual_schedule_only = Rest(line) == "usual";
    if (!c.usual_schedule_only) c.problem = "the only schedule to name is usual";
  } else if (key == "text:") {
    c.text = Rest(line);
  } else if (key.size() > 1 && key.back() == ':') {
    c.problem = "unknown directive " + key;
  }
}

}  // namespace

CaseFile ReadCase(const std::string& path) {
  CaseFile c;
  std::ifstream file(path);
  if (!file) c.problem = "cannot be opened";
  std::string text;
  while (std::getline(file, text)) {
    c.ptx += text + "\n";
    if (!text.starts_with("// ")) continue;
    std::istringstream line(text.substr(3));
    std::string key;
    line >> key;
    ReadDirective(c, key, line);
  }
  if (c.problem.empty() && c.out.empty() && c.fault.empty() && !c.refused)
    c.problem = "expects nothing";
  return c;
}

namespace {

// Whether the upper or lower half of a word is what the token asks for.
bool HalfMatches(const std::string& token, uint32_t half) {
  if (token == "nan16") return (half & 0x7fffu) > 0x7c00u;
  if (token == "nanbf") return (half & 0x7fffu) > 0x7f80u;
  return std::stoul(token, nullptr, 16) == half;
}

// "~3f800000/2": an f32 that many steps away at most.
bool Near(const std::string& token, uint32_t word) {
  const auto ordered = [](uint32_t bits) {
    return (bits >> 31) != 0 ? -static_cast<int64_t>(bits & 0x7fffffffu)
                             : static_cast<int64_t>(bits);
  };
  const size_t slash = token.find('/');
  const auto wanted = static_cast<uint32_t>(std::stoul(token.substr(1, slash - 1), nullptr, 16));
  const int64_t steps = std::stol(token.substr(slash + 1));
  return std::abs(ordered(wanted) - ordered(word)) <= steps && (word & 0x7fffffffu) <= 0x7f800000u;
}

}  // namespace

std::string CompareWord(const std::string& token, uint32_t word) {
  bool equal;
  if (const size_t colon = token.find(':'); colon != std::string::npos) {
    equal = HalfMatches(token.substr(0, colon), word >> 16) &&
            HalfMatches(token.substr(colon + 1), word & 0xffff);
  } else if (token[0] == '~') {
    equal = Near(token, word);
  } else if (token == "*") {
    equal = true;
  } else if (token == "nan") {
    equal = (word & 0x7fffffffu) > 0x7f800000u;
  } else if (token == "nan.hi") {
    equal = (word & 0x7fffffffu) > 0x7ff00000u;
  } else if (token == "nan16" || token == "nanbf") {
    equal = HalfMatches(token, word & 0xffff);
  } else {
    equal = std::stoul(token, nullptr, 16) == word;
  }
  if (equal) return "";
  char text[32];
  std::snprintf(text, sizeof text, "%08x", word);
  return "expected " + token + ", got " + text;
}

DeviceWords::DeviceWords(size_t count, uint32_t fill) {
  auto space = AddressSpace::Get();
  if (!space.ok()) return;
  const size_t pages =
      (count * 4 + AddressSpace::kPage - 1) / AddressSpace::kPage * AddressSpace::kPage;
  auto address = (*space)->Reserve(pages + AddressSpace::kPage);
  if (!address.ok() || !(*space)->Commit(*address, pages).ok()) return;
  address_ = *address;
  for (size_t i = 0; i < pages / 4; ++i) words()[i] = i < count ? fill : kPoison;
}
DeviceWords::~DeviceWords() {
  if (address_ != 0) static_cast<void>((*AddressSpace::Get())->Release(address_));
}

BoundTextures::BoundTextures(const std::vector<CaseTexture>& textures) {
  for (size_t k = 0; k < textures.size(); ++k) {
    TextureState state = textures[k].state;
    const uint64_t bytes = state.slice * std::max(1u, state.depth);
    memory_.push_back(std::make_unique<DeviceWords>(bytes / 4 + 1, 0));
    for (size_t word = 0; word < textures[k].texels.size() && word <= bytes / 4; ++word)
      memory_.back()->words()[word] = textures[k].texels[word];
    state.base = memory_.back()->address();
    const uint64_t kind = textures[k].surface ? 0x0d : 0x0c;
    const uint64_t number = kind << 56 | uint64_t{1} << 32 | (k + 1);
    TextureTable* const table =
        textures[k].surface ? &TextureTable::Surfaces() : &TextureTable::Textures();
    if (table->Publish(number, state)) published_.emplace_back(table, number);
  }
}
BoundTextures::~BoundTextures() {
  for (const auto& [table, number] : published_) table->Withdraw(number);
}

Result<uint64_t> TestPlacer::Place(uint64_t bytes, uint64_t, bool) {
  if (bytes > (64u << 20)) return Status::Invalid("a variable too large for a test");
  memory_.push_back(std::make_unique<DeviceWords>(bytes / 4 + 1, 0));
  return memory_.back()->address();
}

Fault RunWithDeadline(const Kernel& kernel, Dim3 grid, Dim3 block, uint32_t shared_bytes,
                      const DeviceWords& in, const DeviceWords& out, uint64_t seed,
                      DeviceHeap* heap) {
  static WorkerPool pool(1);
  std::atomic<bool> cancel = false;
  std::mutex mutex;
  std::condition_variable wake;
  bool done = false;
  // Long: a sanitizer on a busy machine is slow, and what hangs is cancelled all the same.
  std::thread watchdog([&] {
    std::unique_lock lock(mutex);
    if (!wake.wait_for(lock, std::chrono::seconds(120), [&] { return done; })) cancel = true;
  });
  const uint64_t params[] = {in.address(), out.address()};
  LaunchRequest request;
  request.kernel = &kernel;
  request.grid = grid;
  request.block = block;
  request.dynamic_shared_bytes = shared_bytes;
  request.params = std::as_bytes(std::span(params));
  request.cancel = &cancel;
  request.schedule_seed = seed;
  request.heap = heap;
  Fault fault = Run(request, pool);
  {
    const std::lock_guard lock(mutex);
    done = true;
  }
  wake.notify_all();
  watchdog.join();
  return fault;
}

}  // namespace farwarp::softgpu
