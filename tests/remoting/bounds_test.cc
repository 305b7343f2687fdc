// What a client may make its worker keep in host memory: each kind has an end, which is an error
// for the command that goes beyond it and nothing else.
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "farwarp/wire/handle.h"
#include "server/session/arrived_bulk.h"
#include "server/session/host_budget.h"
#include "tests/remoting/fake_driver.h"
#include "tests/remoting/raw_client.h"

namespace farwarp::tests {
namespace {

using server::HostBudget;
using wire::Handle;
using wire::HandleKind;
using wire::InternalCommand;

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr Handle kContext(HandleKind::kContext, 1, 0);
constexpr Handle kModule(HandleKind::kModule, 1, 0);

TEST(HostBudget, GivesEachKindItsOwnShareAndTakesItBack) {
  HostBudget budget(64 * kMiB);
  EXPECT_EQ(budget.limit(HostBudget::Kind::kImages), 16 * kMiB);
  HostBudget::Hold all = budget.Take(HostBudget::Kind::kImages, 16 * kMiB);
  ASSERT_TRUE(all);
  EXPECT_FALSE(budget.Take(HostBudget::Kind::kImages, 1));
  EXPECT_FALSE(all.Grow(1));
  EXPECT_FALSE(budget.Take(HostBudget::Kind::kGraphs, ~std::uint64_t{0}));
  HostBudget::Hold graph = budget.Take(HostBudget::Kind::kGraphs, 1);
  EXPECT_FALSE(graph.Grow(~std::uint64_t{0}));
  ASSERT_TRUE(graph.Grow(16 * kMiB - 1));
  EXPECT_FALSE(graph.Grow(1));
  {
    const HostBudget::Hold moved = std::move(all);
    EXPECT_EQ(moved.bytes(), 16 * kMiB);
    EXPECT_EQ(budget.used(HostBudget::Kind::kImages), 16 * kMiB);
  }
  EXPECT_EQ(budget.used(HostBudget::Kind::kImages), 0u);
  graph = {};
  EXPECT_EQ(budget.used(HostBudget::Kind::kGraphs), 0u);
  EXPECT_TRUE(budget.Take(HostBudget::Kind::kGraphs, 0));
}

TEST(ArrivedBulk, KeepsItsBytesAndReservesLittleMore) {
  for (const std::size_t piece : {std::size_t{1000}, std::size_t{70'001}, std::size_t{1} << 20}) {
    SCOPED_TRACE(piece);
    server::ArrivedBulk bulk;
    for (int i = 0; i < 40; ++i) {
      std::memset(bulk.Extend(piece).data(), i, piece);
      ASSERT_LE(bulk.capacity(), 2 * bulk.size() + 4096);
      ASSERT_EQ(bulk.bytes().data()[bulk.size()], std::byte{0});
    }
    server::ArrivedBulk moved = std::move(bulk);
    ASSERT_EQ(moved.size(), 40 * piece);
    EXPECT_EQ(bulk.size(), 0u);
    for (int i = 0; i < 40; ++i) {
      const auto at = moved.bytes().subspan(static_cast<std::size_t>(i) * piece, piece);
      ASSERT_EQ(at.front(), static_cast<std::byte>(i));
      ASSERT_EQ(at.back(), static_cast<std::byte>(i));
    }
  }
}

std::size_t seen_image;

class Bounds : public testing::Test {
 protected:
  // The worker has so little that a test can use it up.
  Bounds() : client_(Counting(driver_), 16 * kMiB) {
    EXPECT_EQ(client_.Retain(kContext), CUDA_SUCCESS);
    client_.SetContext(kContext);
  }

  // Sees how long the text of an image is.
  static const server::driver::Table& Counting(FakeDriver& driver) {
    auto& table = const_cast<server::driver::Table&>(driver.table());
    load = table.cuModuleLoadDataEx;
    table.cuModuleLoadDataEx = [](CUmodule* module, const void* image, unsigned count,
                                  CUjit_option* options, void** values) {
      seen_image = std::strlen(static_cast<const char*>(image));
      return load(module, image, count, options, values);
    };
    return driver.table();
  }
  CUresult Load(Handle module, std::size_t bytes) {
    const std::string image(bytes, 'x');
    wire::Buffer body;
    wire::Encoder encoder(body);
    encoder.Put(module.bits());
    encoder.Put(std::uint64_t{0});  // Options.
    encoder.Put(std::uint64_t{64});
    encoder.Put(std::uint64_t{64});
    encoder.Put(static_cast<std::uint64_t>(bytes));
    const std::uint64_t transfer = bytes > 4096 ? ++transfers_ : 0;
    encoder.Put(transfer);
    const auto data = std::as_bytes(std::span(image));
    if (transfer == 0) {
      encoder.PutRaw(data.data(), data.size());
    } else {
      client_.SendBulk(transfer, data);
    }
    return client_.CallWith(InternalCommand::kLoadModule, std::move(body));
  }
  CUresult HostFunction(std::uint64_t number) {
    return client_.Call(InternalCommand::kHostFunction, std::uint64_t{0}, number);
  }

  static decltype(server::driver::Table::cuModuleLoadDataEx) load;
  FakeDriver driver_;
  RawClient client_;
  std::uint64_t transfers_ = 0;
};
decltype(server::driver::Table::cuModuleLoadDataEx) Bounds::load = nullptr;

TEST_F(Bounds, ImagesHaveAnEndAndUnloadingMakesRoom) {
  constexpr Handle kOther(HandleKind::kModule, 1, 1);
  constexpr Handle kSmall(HandleKind::kModule, 1, 2);
  ASSERT_EQ(Load(kModule, 3 * kMiB), CUDA_SUCCESS);
  EXPECT_EQ(seen_image, 3 * kMiB);
  EXPECT_EQ(Load(kOther, 2 * kMiB), CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_EQ(seen_image, 3 * kMiB);  // The driver has not heard of it.
  EXPECT_EQ(Load(kSmall, 100), CUDA_SUCCESS);
  EXPECT_EQ(seen_image, 100u);
  EXPECT_EQ(client_.Call(InternalCommand::kUnloadModule, kModule.bits()), CUDA_SUCCESS);
  // Its part is free when the driver has unloaded it, which the answer does not wait for to the
  // last instruction.
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  CUresult result = CUDA_ERROR_OUT_OF_MEMORY;
  while (result == CUDA_ERROR_OUT_OF_MEMORY && std::chrono::steady_clock::now() < until) {
    result = Load(kOther, 2 * kMiB);
  }
  EXPECT_EQ(result, CUDA_SUCCESS);
}

TEST_F(Bounds, HostFunctionsThatWaitHaveAnEnd) {
  // 512 KiB for functions: a thousand of them wait for the first, which the client does not run.
  std::uint64_t accepted = 0;
  CUresult result = CUDA_SUCCESS;
  for (; accepted < 5000 && result == CUDA_SUCCESS; ++accepted) {
    result = HostFunction(accepted);
  }
  EXPECT_EQ(result, CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_GT(accepted, 500u);
  EXPECT_LT(accepted, 2000u);
  // The rest of the session goes on.
  EXPECT_EQ(client_.Call(InternalCommand::kMemoryInfo, std::uint32_t{0}), CUDA_SUCCESS);
  EXPECT_EQ(Load(kModule, 100), CUDA_SUCCESS);
  // The first failed one was refused. Those that were not go on, and make room.
  for (std::uint64_t number = 0; number + 1 < accepted; ++number) {
    wire::Buffer body;
    wire::Encoder(body).Put(number);
    client_.Post(InternalCommand::kHostFunctionDone, body);
  }
  EXPECT_EQ(client_.Call(InternalCommand::kSynchronizeContext, kContext.bits()), CUDA_SUCCESS);
  EXPECT_EQ(HostFunction(accepted), CUDA_SUCCESS);
}

TEST_F(Bounds, ContextsHaveAnEnd) {
  std::uint32_t made = 0;
  CUresult result = CUDA_SUCCESS;
  const auto handle = [](std::uint32_t index) {
    return Handle(HandleKind::kContext, 1, index + 1);
  };
  while (made < 1000 && result == CUDA_SUCCESS) {
    result = client_.Call(InternalCommand::kCreateContext, handle(made).bits(), std::uint32_t{0},
                          std::uint32_t{0});
    if (result == CUDA_SUCCESS) ++made;
  }
  EXPECT_EQ(result, CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_EQ(made, 255u);  // And the primary one.
  EXPECT_EQ(client_.Call(InternalCommand::kDestroyContext, handle(0).bits()), CUDA_SUCCESS);
  EXPECT_EQ(client_.Call(InternalCommand::kCreateContext, handle(0).bits(), std::uint32_t{0},
                         std::uint32_t{0}),
            CUDA_SUCCESS);
}

TEST_F(Bounds, WhatStillWaitsAtTheEndIsGivenBack) {
  while (HostFunction(0) == CUDA_SUCCESS) {
  }
  client_.Leave();
  EXPECT_EQ(client_.quota().Used(0), 0u);
  EXPECT_EQ(driver_.objects(), 0u);
}

}  // namespace
}  // namespace farwarp::tests
