#include "client/driver/module/image.h"

#include <elf.h>

#include <algorithm>
#include <cstring>

#include "farwarp/wire/limits.h"

namespace farwarp::client {
namespace {

constexpr std::uint32_t kWrapperMagic = 0x466243B1;
constexpr std::uint32_t kContainerMagic = 0xBA55ED50;
constexpr std::size_t kContainerHeader = 16;

template <typename T>
T Load(const void* at, std::size_t offset) {
  T value;
  std::memcpy(&value, static_cast<const std::byte*>(at) + offset, sizeof value);
  return value;
}

Result<Image> Sized(ImageKind kind, const void* image, std::uint64_t bytes) {
  if (bytes > wire::kMaxImageBytes) {
    return Status::Limit("the module image is larger than " +
                         std::to_string(wire::kMaxImageBytes >> 20) + " MiB");
  }
  return Image{kind, {static_cast<const std::byte*>(image), static_cast<std::size_t>(bytes)}};
}

Result<Image> Container(const void* image) {
  if (Load<std::uint16_t>(image, 4) != 1 || Load<std::uint16_t>(image, 6) != kContainerHeader) {
    return Status::Invalid("the fatbin container has an unknown version");
  }
  const auto entry_bytes = Load<std::uint64_t>(image, 8);
  if (entry_bytes > wire::kMaxImageBytes) return Sized(ImageKind::kFatbin, image, entry_bytes);
  return Sized(ImageKind::kFatbin, image, kContainerHeader + entry_bytes);
}

Result<Image> Wrapper(const void* image) {
  const auto version = Load<std::uint32_t>(image, 4);
  const void* container = nullptr;
  if (version == 1) {
    container = Load<const void*>(image, 8);
  } else if (version == 2) {
    const auto* list = Load<const void* const*>(image, 16);
    if (list != nullptr && list[0] != nullptr && list[1] != nullptr) {
      return Status::Invalid(
          "the image is a program of several relocatable device objects; link them with cuLink*");
    }
    container = list != nullptr ? list[0] : nullptr;
  } else {
    return Status::Invalid("the fatbin wrapper has unknown version " + std::to_string(version));
  }
  if (container == nullptr || Load<std::uint32_t>(container, 0) != kContainerMagic) {
    return Status::Invalid("the fatbin wrapper points to no fatbin");
  }
  return Container(container);
}

Result<Image> Elf(const void* image) {
  const auto header = Load<Elf64_Ehdr>(image, 0);
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB) {
    return Status::Invalid("the cubin is not a 64-bit little-endian ELF file");
  }
  if (header.e_shoff > wire::kMaxImageBytes || header.e_phoff > wire::kMaxImageBytes ||
      (header.e_shnum != 0 && header.e_shentsize != sizeof(Elf64_Shdr)) ||
      (header.e_phnum != 0 && header.e_phentsize != sizeof(Elf64_Phdr))) {
    return Status::Invalid("the cubin's ELF header is malformed");
  }
  std::uint64_t end = std::max(header.e_shoff + std::uint64_t{header.e_shnum} * sizeof(Elf64_Shdr),
                               header.e_phoff + std::uint64_t{header.e_phnum} * sizeof(Elf64_Phdr));
  for (std::size_t i = 0; i < header.e_shnum; ++i) {
    const auto section = Load<Elf64_Shdr>(image, header.e_shoff + i * sizeof(Elf64_Shdr));
    if (section.sh_type == SHT_NOBITS) continue;
    if (section.sh_offset > wire::kMaxImageBytes || section.sh_size > wire::kMaxImageBytes) {
      return Status::Invalid("the cubin's section table is malformed");
    }
    end = std::max(end, section.sh_offset + section.sh_size);
  }
  return Sized(ImageKind::kElf, image, end);
}

Result<Image> Ptx(const char* text, std::size_t most) {
  const std::size_t bytes = ::strnlen(text, most);
  if (bytes > wire::kMaxImageBytes) return Sized(ImageKind::kPtx, text, bytes);
  const char* first = std::find_if(
      text, text + bytes, [](char c) { return c != ' ' && c != '\t' && c != '\n' && c != '\r'; });
  // PTX begins with a comment or a directive.
  if (first == text + bytes || (*first != '.' && *first != '/')) {
    return Status::Invalid("the image is neither a fatbin, a cubin nor PTX text");
  }
  return Sized(ImageKind::kPtx, text, bytes);
}

}  // namespace

Result<Image> FindImage(const void* image) {
  const auto* text = static_cast<const char*>(image);
  // Byte by byte: a short PTX text may end before a magic's fourth byte.
  if (std::memcmp(text, "\x7f", 1) == 0 && std::strncmp(text, ELFMAG, SELFMAG) == 0) {
    return Elf(image);
  }
  if (text[0] != '\0' && text[1] != '\0' && text[2] != '\0') {
    const auto magic = Load<std::uint32_t>(image, 0);
    if (magic == kWrapperMagic) return Wrapper(image);
    if (magic == kContainerMagic) return Container(image);
  }
  return Ptx(text, wire::kMaxImageBytes + 1);
}

Result<Image> FindImage(std::span<const std::byte> contents) {
  const void* image = contents.data();
  const auto within = [&](Result<Image> found) -> Result<Image> {
    if (found.ok() && found->bytes.size() > contents.size()) {
      return Status::Invalid("the module image is truncated");
    }
    return found;
  };
  if (contents.size() >= sizeof(Elf64_Ehdr) && std::memcmp(image, ELFMAG, SELFMAG) == 0) {
    const auto header = Load<Elf64_Ehdr>(image, 0);
    if (header.e_shoff > contents.size() ||
        std::uint64_t{header.e_shnum} * sizeof(Elf64_Shdr) > contents.size() - header.e_shoff) {
      return Status::Invalid("the module image is truncated");
    }
    return within(Elf(image));
  }
  if (contents.size() >= kContainerHeader && Load<std::uint32_t>(image, 0) == kContainerMagic) {
    return within(Container(image));
  }
  return Ptx(static_cast<const char*>(image), contents.size());
}

}  // namespace farwarp::client
