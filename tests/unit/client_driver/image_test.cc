// FindImage: what an application may pass as a module image, and what it may not.
#include "client/driver/module/image.h"

#include <elf.h>
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace farwarp::client {
namespace {

struct Wrapper {
  std::uint32_t magic = 0x466243B1;
  std::uint32_t version = 1;
  const void* container = nullptr;
  const void* list = nullptr;
};

std::vector<std::byte> Container(std::size_t entry_bytes) {
  std::vector<std::byte> bytes(16 + entry_bytes);
  const std::uint32_t magic = 0xBA55ED50;
  const std::uint16_t version = 1, header = 16;
  const std::uint64_t length = entry_bytes;
  std::memcpy(bytes.data(), &magic, 4);
  std::memcpy(bytes.data() + 4, &version, 2);
  std::memcpy(bytes.data() + 6, &header, 2);
  std::memcpy(bytes.data() + 8, &length, 8);
  return bytes;
}

TEST(FindImage, PtxTextEndsAtItsNul) {
  const auto image = FindImage("\n\n.version 9.0\n");
  ASSERT_TRUE(image.ok());
  EXPECT_EQ(image->kind, ImageKind::kPtx);
  EXPECT_EQ(image->bytes.size(), 15u);
}

TEST(FindImage, AContainerAndAWrapperOfIt) {
  const auto container = Container(64);
  Wrapper wrapper{.container = container.data()};
  for (const void* pointer :
       {static_cast<const void*>(container.data()), static_cast<const void*>(&wrapper)}) {
    const auto image = FindImage(pointer);
    ASSERT_TRUE(image.ok());
    EXPECT_EQ(image->kind, ImageKind::kFatbin);
    EXPECT_EQ(image->bytes.data(), container.data());
    EXPECT_EQ(image->bytes.size(), 80u);
  }
}

TEST(FindImage, AVersionTwoWrapperOfOneContainer) {
  const auto container = Container(8);
  const void* list[] = {container.data(), nullptr};
  Wrapper wrapper{.version = 2, .container = nullptr, .list = list};
  EXPECT_TRUE(FindImage(&wrapper).ok());
  const void* two[] = {container.data(), container.data(), nullptr};
  wrapper.list = two;
  EXPECT_FALSE(FindImage(&wrapper).ok());
  wrapper.list = nullptr;
  EXPECT_FALSE(FindImage(&wrapper).ok());
}

TEST(FindImage, BrokenWrappersAndContainers) {
  auto container = Container(8);
  Wrapper wrapper{.version = 3, .container = container.data()};
  EXPECT_FALSE(FindImage(&wrapper).ok());
  wrapper = {.container = nullptr};
  EXPECT_FALSE(FindImage(&wrapper).ok());
  const Wrapper inner{};
  wrapper = {.container = &inner};
  EXPECT_FALSE(FindImage(&wrapper).ok());
  const std::uint64_t huge = ~std::uint64_t{0} - 3;
  std::memcpy(container.data() + 8, &huge, 8);
  EXPECT_FALSE(FindImage(container.data()).ok());
}

TEST(FindImage, TextThatIsNotPtx) {
  EXPECT_FALSE(FindImage("").ok());
  EXPECT_FALSE(FindImage("  \n").ok());
  EXPECT_FALSE(FindImage("hello").ok());
}

TEST(FindImage, ACubinEndsWithItsLastPart) {
  std::vector<std::byte> bytes(sizeof(Elf64_Ehdr) + sizeof(Elf64_Shdr) + 100);
  Elf64_Ehdr header{};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_shoff = sizeof(Elf64_Ehdr);
  header.e_shnum = 1;
  header.e_shentsize = sizeof(Elf64_Shdr);
  Elf64_Shdr section{};
  section.sh_type = SHT_PROGBITS;
  section.sh_offset = sizeof(Elf64_Ehdr) + sizeof(Elf64_Shdr);
  section.sh_size = 100;
  std::memcpy(bytes.data(), &header, sizeof header);
  std::memcpy(bytes.data() + sizeof header, &section, sizeof section);
  const auto image = FindImage(bytes.data());
  ASSERT_TRUE(image.ok());
  EXPECT_EQ(image->kind, ImageKind::kElf);
  EXPECT_EQ(image->bytes.size(), bytes.size());
  EXPECT_TRUE(FindImage(std::span<const std::byte>(bytes)).ok());
  for (std::size_t n = 0; n < bytes.size(); ++n) {
    EXPECT_FALSE(FindImage(std::span<const std::byte>(bytes).first(n)).ok()) << n;
  }
}

TEST(FindImage, FilesMayBeTruncated) {
  const auto container = Container(64);
  EXPECT_TRUE(FindImage(std::span<const std::byte>(container)).ok());
  for (std::size_t n = 0; n < container.size(); ++n) {
    EXPECT_FALSE(FindImage(std::span<const std::byte>(container).first(n)).ok()) << n;
  }
}

}  // namespace
}  // namespace farwarp::client
