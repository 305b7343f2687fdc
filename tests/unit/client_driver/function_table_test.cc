// FunctionTable and parameter packing, hostile tables included.
#include "client/driver/module/function_table.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "farwarp/wire/encoder.h"
#include "farwarp/wire/limits.h"

namespace farwarp::client {
namespace {

void PutKernel(wire::Encoder& to, std::string_view name, std::vector<KernelParameter> parameters) {
  to.PutString(name);
  to.Put<std::uint64_t>(4);
  for (int i = 0; i < 4; ++i) to.Put<std::int32_t>(i * 10);
  to.Put<std::uint64_t>(parameters.size());
  for (const auto& parameter : parameters) {
    to.Put(parameter.offset);
    to.Put(parameter.size);
  }
}

wire::Buffer TwoKernels() {
  wire::Buffer buffer;
  wire::Encoder to(buffer);
  to.Put<std::uint64_t>(2);
  PutKernel(to, "add", {{0, 8}, {8, 8}, {16, 8}, {24, 4}});
  PutKernel(to, "mixed", {{0, 1}, {4, 12}, {16, 3}});
  return buffer;
}

TEST(FunctionTable, FindsKernelsAndTheirLayout) {
  const auto buffer = TwoKernels();
  wire::Decoder decoder(buffer);
  const auto table = FunctionTable::Decode(decoder);
  ASSERT_TRUE(decoder.finished());
  ASSERT_TRUE(table.Find("mixed").has_value());
  EXPECT_FALSE(table.Find("absent").has_value());
  const KernelInfo& add = table.kernels()[*table.Find("add")];
  EXPECT_EQ(add.parameter_bytes, 28u);
  EXPECT_EQ(add.attributes[3], 30);
  EXPECT_EQ(add.attributes[5], 0);
}

TEST(FunctionTable, EveryTruncationFails) {
  const auto buffer = TwoKernels();
  for (std::size_t bytes = 0; bytes < buffer.size(); ++bytes) {
    wire::Decoder decoder(std::span(buffer).first(bytes));
    FunctionTable::Decode(decoder);
    ASSERT_TRUE(decoder.failed()) << bytes;
  }
}

TEST(FunctionTable, AParameterBeyondTheLimitFails) {
  for (const KernelParameter bad :
       {KernelParameter{0, 0xffffffff}, {0xfffffff0, 32}, {wire::kMaxKernelParameterBytes, 1}}) {
    wire::Buffer buffer;
    wire::Encoder to(buffer);
    to.Put<std::uint64_t>(1);
    PutKernel(to, "bad", {bad});
    wire::Decoder decoder(buffer);
    FunctionTable::Decode(decoder);
    EXPECT_TRUE(decoder.failed());
  }
}

TEST(FunctionTable, RandomBytesNeverCrash) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 2000; ++round) {
    auto buffer = TwoKernels();
    for (int i = 0; i < 4; ++i) {
      const std::uint64_t word = random() % 3 == 0 ? random() : random() % 64;
      std::memcpy(buffer.data() + random() % (buffer.size() / 8) * 8, &word, 8);
    }
    wire::Decoder decoder(buffer);
    const auto table = FunctionTable::Decode(decoder);
    for (const auto& kernel : table.kernels()) {
      ASSERT_LE(kernel.parameter_bytes, wire::kMaxKernelParameterBytes);
    }
  }
}

TEST(PackParameters, GathersByOffsetAndZeroesHoles) {
  KernelInfo info;
  info.parameters = {{0, 1}, {4, 12}, {16, 8}};
  info.parameter_bytes = 24;
  unsigned char one = 0xab;
  std::uint32_t three[3] = {1, 2, 3};
  std::uint64_t eight = 0x1122334455667788;
  void* parameters[] = {&one, three, &eight};
  std::byte packed[24];
  std::memset(packed, 0xff, sizeof packed);
  ASSERT_TRUE(PackParameters(info, parameters, packed));
  EXPECT_EQ(packed[0], std::byte{0xab});
  EXPECT_EQ(packed[1], std::byte{0});
  EXPECT_EQ(packed[3], std::byte{0});
  EXPECT_EQ(std::memcmp(packed + 4, three, 12), 0);
  EXPECT_EQ(std::memcmp(packed + 16, &eight, 8), 0);
}

TEST(PackParameters, NullsAreRefused) {
  KernelInfo info;
  EXPECT_TRUE(PackParameters(info, nullptr, nullptr));
  info.parameters = {{0, 4}};
  info.parameter_bytes = 4;
  std::byte packed[4];
  void* parameters[] = {nullptr};
  EXPECT_FALSE(PackParameters(info, nullptr, packed));
  EXPECT_FALSE(PackParameters(info, parameters, packed));
}

}  // namespace
}  // namespace farwarp::client
