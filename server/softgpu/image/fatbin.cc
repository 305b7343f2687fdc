#include "server/softgpu/image/fatbin.h"

#include <lz4.h>
#include <zstd.h>

#include <algorithm>
#include <climits>
#include <cstring>
#include <set>
#include <string_view>

namespace farwarp::softgpu {
namespace {

constexpr std::uint32_t kContainerMagic = 0xBA55ED50;
constexpr std::size_t kContainerHeader = 16;
constexpr std::size_t kEntryHeader = 64;
constexpr std::uint64_t kFlagLz4 = 0x2000;
constexpr std::uint64_t kFlagZstd = 0x8000;
constexpr std::uint64_t kFlagObfuscated = 0x10000;
constexpr std::uint64_t kFlagArch = 0x100000;
constexpr std::uint64_t kFlagFamily = 0x200000;

// Reads a little-endian number; the caller has checked the bounds.
template <typename T>
T Load(std::span<const std::byte> bytes, std::size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

// Whether the option string of an entry asks for separate compilation. A bad offset means no.
bool IsRelocatable(std::span<const std::byte> entry, std::uint32_t descriptor) {
  if (descriptor == 0 || descriptor > entry.size() || entry.size() - descriptor < 8) return false;
  const auto offset = Load<std::uint32_t>(entry, descriptor);
  const auto length = Load<std::uint32_t>(entry, descriptor + 4);
  if (offset > entry.size() || length > entry.size() - offset) return false;
  const std::string_view options(reinterpret_cast<const char*>(entry.data()) + offset, length);
  return options.find("--compile-only") != std::string_view::npos;
}

// The name that an entry's header mentions. A bad offset means none.
std::string NameOf(std::span<const std::byte> header) {
  constexpr std::size_t kMaxName = 255;
  const auto offset = Load<std::uint32_t>(header, 32);
  const auto length = Load<std::uint32_t>(header, 36);
  if (offset < kEntryHeader || offset > header.size() || length > header.size() - offset) return {};
  const std::string_view name(reinterpret_cast<const char*>(header.data()) + offset,
                              std::min<std::size_t>(length, kMaxName));
  return std::string(name.substr(0, name.find('\0')));
}

Result<CodeEntry> ParseEntry(std::span<const std::byte> rest, std::uint64_t* entry_bytes) {
  if (rest.size() < kEntryHeader) return Status::Invalid("fatbin: an entry's header is cut off");
  const auto header = Load<std::uint32_t>(rest, 4);
  const auto stored = Load<std::uint64_t>(rest, 8);
  if (header < kEntryHeader || header > rest.size()) {
    return Status::Invalid("fatbin: an entry has a header of " + std::to_string(header) + " bytes");
  }
  if (stored > rest.size() - header) {
    return Status::Invalid("fatbin: an entry of " + std::to_string(stored) +
                           " bytes runs over its container");
  }
  CodeEntry entry;
  entry.kind = static_cast<CodeKind>(Load<std::uint16_t>(rest, 0));
  const auto sm = Load<std::uint32_t>(rest, 28);
  entry.sm = sm <= 9999 ? static_cast<int>(sm) : 9999;
  entry.flags = Load<std::uint64_t>(rest, 40);
  entry.arch_specific = (entry.flags & kFlagArch) != 0;
  entry.family_specific = (entry.flags & kFlagFamily) != 0;
  std::uint64_t bytes = stored;
  if ((entry.flags & (kFlagLz4 | kFlagZstd)) != 0) {
    bytes = Load<std::uint32_t>(rest, 16);
    entry.uncompressed_bytes = Load<std::uint64_t>(rest, 56);
    if (bytes > stored) return Status::Invalid("fatbin: a compressed entry is longer than stored");
  }
  entry.payload = rest.subspan(header, bytes);
  entry.name = NameOf(rest.first(header));
  entry.relocatable = entry.kind == CodeKind::kPtx &&
                      IsRelocatable(rest.first(header), Load<std::uint32_t>(rest, 20));
  *entry_bytes = header + stored;
  return entry;
}

// NVIDIA's blank comments leave newlines in front and a NUL behind.
std::string Trim(std::string_view text) {
  const std::size_t nul = text.find('\0');
  if (nul != std::string_view::npos) text = text.substr(0, nul);
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  return first == std::string_view::npos ? std::string() : std::string(text.substr(first));
}

Result<std::string> Decompress(const CodeEntry& entry) {
  std::string text(entry.uncompressed_bytes, '\0');
  if ((entry.flags & kFlagZstd) != 0) {
    const std::size_t got =
        ZSTD_decompress(text.data(), text.size(), entry.payload.data(), entry.payload.size());
    if (ZSTD_isError(got) != 0) {
      return Status::Invalid(std::string("fatbin: zstd says ") + ZSTD_getErrorName(got));
    }
    text.resize(got);
    return text;
  }
  if (entry.payload.size() > INT_MAX) return Status::Invalid("fatbin: an LZ4 block is too long");
  const int got =
      LZ4_decompress_safe(reinterpret_cast<const char*>(entry.payload.data()), text.data(),
                          static_cast<int>(entry.payload.size()), static_cast<int>(text.size()));
  if (got < 0) return Status::Invalid("fatbin: an LZ4 block is damaged");
  text.resize(static_cast<std::size_t>(got));
  return text;
}

std::string ListTargets(std::span<const CodeEntry> entries, CodeKind kind) {
  std::set<std::string> names;
  std::string text;
  for (const CodeEntry& entry : entries) {
    if (entry.kind != kind) continue;
    std::string name = std::to_string(entry.sm);
    if (entry.arch_specific) name += 'a';
    if (entry.family_specific) name += 'f';
    if (names.insert(name).second) text += (text.empty() ? "" : ", ") + name;
  }
  return text;
}

}  // namespace

Result<std::uint64_t> ContainerBytes(std::span<const std::byte> header) {
  if (header.size() < kContainerHeader) return Status::Invalid("fatbin: the header is cut off");
  if (Load<std::uint32_t>(header, 0) != kContainerMagic) {
    return Status::Invalid("fatbin: no container starts here");
  }
  const auto version = Load<std::uint16_t>(header, 4);
  const auto header_bytes = Load<std::uint16_t>(header, 6);
  const auto entries = Load<std::uint64_t>(header, 8);
  if (version != 1 || header_bytes < kContainerHeader) {
    return Status::Invalid("fatbin: container version " + std::to_string(version) + " is unknown");
  }
  if (entries > (std::uint64_t{1} << 40)) {
    return Status::Invalid("fatbin: a container claims " + std::to_string(entries) + " bytes");
  }
  return header_bytes + entries;
}

Result<std::vector<CodeEntry>> ParseContainer(std::span<const std::byte> container) {
  Result<std::uint64_t> bytes = ContainerBytes(container);
  if (!bytes.ok()) return bytes.status();
  if (*bytes > container.size()) return Status::Invalid("fatbin: the container is cut off");
  std::span<const std::byte> rest = container.first(*bytes);
  rest = rest.subspan(Load<std::uint16_t>(container, 6));
  std::vector<CodeEntry> entries;
  while (!rest.empty()) {
    std::uint64_t used = 0;
    Result<CodeEntry> entry = ParseEntry(rest, &used);
    if (!entry.ok()) return entry.status();
    if (entries.size() == kMaxCodeEntries) return Status::Invalid("fatbin: too many entries");
    entries.push_back(*entry);
    rest = rest.subspan(used);
  }
  return entries;
}

const CodeEntry* ChoosePtx(std::span<const CodeEntry> entries, int sm) {
  const CodeEntry* best = nullptr;
  for (const CodeEntry& entry : entries) {
    if (entry.kind != CodeKind::kPtx || entry.sm > sm) continue;
    if (entry.arch_specific && entry.sm != sm) continue;
    if (entry.family_specific && entry.sm / 10 != sm / 10) continue;
    if (best == nullptr || entry.sm > best->sm) best = &entry;
  }
  return best;
}

std::string DescribeCode(std::span<const CodeEntry> entries) {
  const std::string cubins = ListTargets(entries, CodeKind::kCubin);
  const std::string ptx = ListTargets(entries, CodeKind::kPtx);
  const std::string lto = ListTargets(entries, CodeKind::kLtoIr);
  std::string text = cubins.empty() ? "no cubins" : "cubins for " + cubins;
  if (!lto.empty()) text += "; LTO IR for " + lto;
  return text + (ptx.empty() ? "; no PTX" : "; PTX for " + ptx);
}

Result<std::string> UnpackPtx(const CodeEntry& entry) {
  if ((entry.flags & kFlagObfuscated) != 0) {
    return Status::Invalid("fatbin: the payload is in a form that nobody but its maker can read");
  }
  if ((entry.flags & (kFlagLz4 | kFlagZstd)) == 0) {
    if (entry.payload.size() > kMaxPtxBytes) return Status::Invalid("fatbin: PTX is too long");
    return Trim({reinterpret_cast<const char*>(entry.payload.data()), entry.payload.size()});
  }
  if (entry.uncompressed_bytes > kMaxPtxBytes) {
    return Status::Invalid("fatbin: PTX of " + std::to_string(entry.uncompressed_bytes) +
                           " bytes is too long");
  }
  Result<std::string> text = Decompress(entry);
  if (!text.ok()) return text.status();
  return Trim(*text);
}

std::vector<std::byte> PackLinked(std::span<const PtxText> texts, int sm) {
  std::vector<std::byte> image(kContainerHeader);
  const auto store = [&](std::size_t offset, auto value) {
    std::memcpy(image.data() + offset, &value, sizeof value);
  };
  const auto aligned = [](std::size_t bytes) { return (bytes + 7) / 8 * 8; };
  for (const PtxText& text : texts) {
    const std::size_t start = image.size();
    const std::size_t header = kEntryHeader + aligned(text.name.size() + 1);
    const std::size_t payload = aligned(text.text.size() + 1);
    image.resize(start + header + payload);
    store(start, static_cast<std::uint16_t>(CodeKind::kLinkedPtx));
    store(start + 2, std::uint16_t{0x0101});
    store(start + 4, static_cast<std::uint32_t>(header));
    store(start + 8, static_cast<std::uint64_t>(payload));
    store(start + 28, static_cast<std::uint32_t>(sm));
    store(start + 32, static_cast<std::uint32_t>(kEntryHeader));
    store(start + 36, static_cast<std::uint32_t>(text.name.size()));
    store(start + 40, std::uint64_t{1});
    std::memcpy(image.data() + start + kEntryHeader, text.name.data(), text.name.size());
    std::memcpy(image.data() + start + header, text.text.data(), text.text.size());
  }
  store(0, kContainerMagic);
  store(4, std::uint16_t{1});
  store(6, static_cast<std::uint16_t>(kContainerHeader));
  store(8, static_cast<std::uint64_t>(image.size() - kContainerHeader));
  return image;
}

}  // namespace farwarp::softgpu
