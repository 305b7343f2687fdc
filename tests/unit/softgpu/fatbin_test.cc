#include "server/softgpu/image/fatbin.h"

#include <gtest/gtest.h>
#include <lz4.h>
#include <zstd.h>

#include <cstring>

namespace farwarp::softgpu {
namespace {

constexpr char kPtx[] = "\n\n.version 9.0\n.target sm_75\n.address_size 64\n";

enum class Pack { kPlain, kZstd, kLz4 };

template <typename T>
void Put(std::vector<std::byte>& to, std::size_t offset, T value) {
  std::memcpy(to.data() + offset, &value, sizeof value);
}

std::vector<std::byte> Entry(CodeKind kind, int sm, std::uint64_t flags, std::string text,
                             Pack pack = Pack::kPlain, const std::string& options = "") {
  text.push_back('\0');
  std::string payload = text;
  if (pack == Pack::kZstd) {
    payload.resize(ZSTD_compressBound(text.size()));
    payload.resize(ZSTD_compress(payload.data(), payload.size(), text.data(), text.size(), 3));
    flags |= 0x8000;
  } else if (pack == Pack::kLz4) {
    payload.resize(static_cast<std::size_t>(LZ4_compressBound(static_cast<int>(text.size()))));
    payload.resize(static_cast<std::size_t>(
        LZ4_compress_default(text.data(), payload.data(), static_cast<int>(text.size()),
                             static_cast<int>(payload.size()))));
    flags |= 0x2000;
  }
  const std::size_t header = 72 + (options.size() + 7) / 8 * 8;
  std::vector<std::byte> entry(header + (payload.size() + 7) / 8 * 8);
  Put(entry, 0, static_cast<std::uint16_t>(kind));
  Put(entry, 2, std::uint16_t{0x0101});
  Put(entry, 4, static_cast<std::uint32_t>(header));
  Put(entry, 8, static_cast<std::uint64_t>(entry.size() - header));
  if (pack != Pack::kPlain) {
    Put(entry, 16, static_cast<std::uint32_t>(payload.size()));
    Put(entry, 56, static_cast<std::uint64_t>(text.size()));
  }
  if (!options.empty()) {
    Put(entry, 20, std::uint32_t{64});
    Put(entry, 64, std::uint32_t{72});
    Put(entry, 68, static_cast<std::uint32_t>(options.size()));
    std::memcpy(entry.data() + 72, options.data(), options.size());
  }
  Put(entry, 28, static_cast<std::uint32_t>(sm));
  Put(entry, 40, flags);
  std::memcpy(entry.data() + header, payload.data(), payload.size());
  return entry;
}

std::vector<std::byte> Container(const std::vector<std::vector<std::byte>>& entries) {
  std::vector<std::byte> all(16);
  for (const auto& entry : entries) all.insert(all.end(), entry.begin(), entry.end());
  Put(all, 0, std::uint32_t{0xBA55ED50});
  Put(all, 4, std::uint16_t{1});
  Put(all, 6, std::uint16_t{16});
  Put(all, 8, static_cast<std::uint64_t>(all.size() - 16));
  return all;
}

std::string Tagged(const std::string& tag) {
  return std::string(kPtx) + "// " + tag + "\n";
}

TEST(Fatbin, EveryCompressionUnpacks) {
  for (const Pack pack : {Pack::kPlain, Pack::kZstd, Pack::kLz4}) {
    const auto container = Container({Entry(CodeKind::kPtx, 75, 1, Tagged("x"), pack)});
    const LoadedImage image = LoadImageBytes(container, 121);
    ASSERT_EQ(image.problem, ImageProblem::kNone) << image.message;
    EXPECT_EQ(image.ptx.at(0).text, Tagged("x").substr(2));
    EXPECT_FALSE(image.from_text);
  }
}

TEST(Fatbin, TheBestTargetIsChosen) {
  const auto container =
      Container({Entry(CodeKind::kCubin, 90, 1, "elf"), Entry(CodeKind::kPtx, 75, 1, Tagged("75")),
                 Entry(CodeKind::kPtx, 120, 1, Tagged("120")),
                 Entry(CodeKind::kPtx, 90, 1 | 0x100000, Tagged("90a")),
                 Entry(CodeKind::kPtx, 100, 1 | 0x200000, Tagged("100f"))});
  const auto chosen = [&](int sm) { return LoadImageBytes(container, sm).ptx.at(0).text; };
  EXPECT_NE(chosen(121).find("// 120"), std::string::npos);
  EXPECT_NE(chosen(103).find("// 100f"), std::string::npos);
  EXPECT_NE(chosen(90).find("// 90a"), std::string::npos);
  EXPECT_NE(chosen(89).find("// 75"), std::string::npos);
  const LoadedImage none = LoadImageBytes(container, 70);
  EXPECT_EQ(none.problem, ImageProblem::kNoBinary);
  EXPECT_NE(none.message.find("cubins for 90; PTX for 75, 120, 90a, 100f"), std::string::npos)
      << none.message;
}

TEST(Fatbin, MachineCodeAloneIsNoBinary) {
  const auto container =
      Container({Entry(CodeKind::kCubin, 80, 1, "elf"), Entry(CodeKind::kCubin, 90, 1, "elf")});
  const LoadedImage image = LoadImageBytes(container, 121);
  EXPECT_EQ(image.problem, ImageProblem::kNoBinary);
  EXPECT_NE(image.message.find("cubins for 80, 90; no PTX"), std::string::npos) << image.message;
}

TEST(Fatbin, RelocatableCodeIsLinked) {
  const auto container =
      Container({Entry(CodeKind::kPtx, 75, 1, Tagged("r"), Pack::kPlain, " --compile-only ")});
  const LoadedImage image = LoadImageBytes(container, 121);
  EXPECT_EQ(image.problem, ImageProblem::kNone);
  EXPECT_TRUE(image.linked);
  EXPECT_FALSE(LoadImageBytes(Container({Entry(CodeKind::kPtx, 75, 1, Tagged("w"))}), 121).linked);
}

TEST(Fatbin, LinkedImagesKeepNamesAndTexts) {
  const std::vector<PtxText> texts = {{"a.ptx", Tagged("a").substr(2)},
                                      {"", Tagged("b").substr(2)}};
  const std::vector<std::byte> packed = PackLinked(texts, 90);
  const LoadedImage image = LoadImageBytes(packed, 121);
  ASSERT_EQ(image.problem, ImageProblem::kNone) << image.message;
  EXPECT_TRUE(image.linked);
  ASSERT_EQ(image.ptx.size(), 2u);
  EXPECT_EQ(image.ptx[0].name, "a.ptx");
  EXPECT_EQ(image.ptx[0].text, texts[0].text);
  EXPECT_EQ(image.ptx[1].name, "");
  EXPECT_EQ(image.ptx[1].text, texts[1].text);
  const LoadedImage older = LoadImageBytes(packed, 80);
  EXPECT_EQ(older.problem, ImageProblem::kNoBinary);
  EXPECT_NE(older.message.find("linked for compute capability 9.0"), std::string::npos)
      << older.message;
  auto mixed = packed;
  Put(mixed, 16 + 64 + 8 + (texts[0].text.size() + 8) / 8 * 8, std::uint16_t{1});
  EXPECT_EQ(LoadImageBytes(mixed, 121).problem, ImageProblem::kInvalid);
}

TEST(Fatbin, WrappersAndBareContainersLoadFromMemory) {
  alignas(8) static std::vector<std::byte> container;
  container = Container({Entry(CodeKind::kPtx, 75, 1, Tagged("w"))});
  struct {
    std::uint32_t magic = 0x466243B1, version = 1;
    const void* data = container.data();
    const void* file = nullptr;
  } wrapper;
  EXPECT_EQ(LoadImage(&wrapper, 121).ptx.at(0).text, Tagged("w").substr(2));
  EXPECT_EQ(LoadImage(container.data(), 121).ptx.at(0).text, Tagged("w").substr(2));
  const void* linked[] = {container.data(), nullptr};
  wrapper.version = 2;
  wrapper.file = linked;
  EXPECT_TRUE(LoadImage(&wrapper, 121).linked);
  EXPECT_EQ(LoadImage(&wrapper, 121).ptx.size(), 1u);
}

TEST(Fatbin, TextIsRecognised) {
  EXPECT_TRUE(LoadImage("// comment\n/* more */ .version 8.0\n", 121).from_text);
  EXPECT_EQ(LoadImage("hello", 121).problem, ImageProblem::kInvalid);
  EXPECT_EQ(LoadImage("", 121).problem, ImageProblem::kInvalid);
  EXPECT_EQ(LoadImage("\x7f"
                      "ELF",
                      121)
                .problem,
            ImageProblem::kNoBinary);
}

TEST(Fatbin, EveryTruncationIsRefused) {
  const auto container = Container({Entry(CodeKind::kPtx, 75, 1, Tagged("a"), Pack::kZstd),
                                    Entry(CodeKind::kPtx, 90, 1, Tagged("b"), Pack::kLz4)});
  for (std::size_t length = 0; length < container.size(); ++length) {
    // A copy of exactly that length, so that the address sanitizer sees any read behind it.
    const std::vector<std::byte> cut(container.begin(),
                                     container.begin() + static_cast<std::ptrdiff_t>(length));
    EXPECT_NE(LoadImageBytes(cut, 121).problem, ImageProblem::kNone) << length;
  }
}

TEST(Fatbin, EveryDamagedHeaderByteIsSurvived) {
  const auto container = Container({Entry(CodeKind::kPtx, 75, 1, Tagged("a"), Pack::kZstd)});
  for (std::size_t offset = 0; offset < 16 + 72; ++offset) {
    for (const int value : {0, 1, 0x7f, 0x80, 0xff}) {
      auto damaged = container;
      damaged[offset] = static_cast<std::byte>(value);
      const LoadedImage image = LoadImageBytes(damaged, 121);
      EXPECT_EQ(image.problem == ImageProblem::kNone, !image.ptx.empty());
    }
  }
}

TEST(Fatbin, HugeClaimsAreRefused) {
  auto container = Container({Entry(CodeKind::kPtx, 75, 1, Tagged("a"), Pack::kZstd)});
  Put(container, 16 + 56, std::uint64_t{1} << 50);
  const LoadedImage image = LoadImageBytes(container, 121);
  EXPECT_EQ(image.problem, ImageProblem::kInvalid);
  EXPECT_NE(image.message.find("too long"), std::string::npos) << image.message;
}

}  // namespace
}  // namespace farwarp::softgpu
