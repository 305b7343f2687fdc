// Commands that no client library sends: handles of another kind, of another life, or of somebody
// else's object, and addresses of somebody else's memory. Each is refused, and the driver sees
// neither a stale object nor a foreign address.
#include <gtest/gtest.h>

#include <cstring>
#include <span>
#include <vector>

#include "cuda/wire_ids.h"
#include "farwarp/wire/handle.h"
#include "farwarp/wire/internal_command.h"
#include "tests/remoting/fake_driver.h"
#include "tests/remoting/raw_client.h"
#include "tests/wire/test_window.h"

namespace farwarp::tests {
namespace {

using wire::Handle;
using wire::HandleKind;
using wire::InternalCommand;

constexpr Handle kPrimary(HandleKind::kContext, 1, 0);
constexpr Handle kSecond(HandleKind::kContext, 1, 1);
constexpr Handle kStream(HandleKind::kStream, 1, 0);
constexpr Handle kEvent(HandleKind::kEvent, 1, 0);

class Forged : public testing::Test {
 protected:
  CUresult Retain(Handle context) { return client_.Retain(context); }
  template <typename... Arguments>
  CUresult Call(Arguments... arguments) {
    return client_.Call(arguments...);
  }
  CUresult Release(Handle context) {
    return Call(InternalCommand::kReleasePrimaryContext, context.bits(), std::uint32_t{0});
  }
  CUresult Create(Handle context) {
    return Call(InternalCommand::kCreateContext, context.bits(), std::uint32_t{0},
                std::uint32_t{0});
  }
  CUresult Destroy(Handle context) {
    return Call(InternalCommand::kDestroyContext, context.bits());
  }

  FakeDriver driver_;
  RawClient client_{driver_.table()};
};

TEST_F(Forged, AContextEndsOnlyInTheWayItBegan) {
  ASSERT_EQ(Retain(kPrimary), CUDA_SUCCESS);
  ASSERT_EQ(Create(kSecond), CUDA_SUCCESS);
  EXPECT_EQ(Release(kSecond), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(Destroy(kPrimary), CUDA_ERROR_INVALID_HANDLE);
  // Neither attempt has taken a handle away.
  EXPECT_EQ(Call(InternalCommand::kSynchronizeContext, kPrimary.bits()), CUDA_SUCCESS);
  EXPECT_EQ(Call(InternalCommand::kSynchronizeContext, kSecond.bits()), CUDA_SUCCESS);
  EXPECT_EQ(Destroy(kSecond), CUDA_SUCCESS);
  EXPECT_EQ(Release(kPrimary), CUDA_SUCCESS);
  EXPECT_EQ(Release(kPrimary), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(driver_.objects(), 0u);
}

TEST_F(Forged, APrimaryContextHasOneHandle) {
  ASSERT_EQ(Retain(kPrimary), CUDA_SUCCESS);
  EXPECT_EQ(Retain(kSecond), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(Release(kPrimary), CUDA_SUCCESS);
  EXPECT_EQ(driver_.objects(), 0u);
  EXPECT_EQ(Retain(kSecond), CUDA_SUCCESS);
}

TEST_F(Forged, MakingAContextCurrentTakesOneHandle) {
  ASSERT_EQ(Retain(kPrimary), CUDA_SUCCESS);
  EXPECT_EQ(Call(InternalCommand::kSetContext, kPrimary.bits()), CUDA_SUCCESS);
  EXPECT_EQ(Call(InternalCommand::kSetContext), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(Call(InternalCommand::kSetContext, std::uint64_t{0}, std::uint64_t{0}),
            CUDA_ERROR_INVALID_HANDLE);
  // None of which changed anything.
  EXPECT_EQ(Call(InternalCommand::kCreateEvent, kEvent.bits(), std::uint32_t{0}), CUDA_SUCCESS);
}

TEST_F(Forged, WhatEndedWithItsContextIsFoundNoMore) {
  ASSERT_EQ(Retain(kPrimary), CUDA_SUCCESS);
  ASSERT_EQ(Create(kSecond), CUDA_SUCCESS);
  client_.SetContext(kSecond);
  ASSERT_EQ(Call(InternalCommand::kCreateStream, kStream.bits(), std::uint32_t{0}, std::int32_t{0}),
            CUDA_SUCCESS);
  ASSERT_EQ(Call(InternalCommand::kCreateEvent, kEvent.bits(), std::uint32_t{0}), CUDA_SUCCESS);
  client_.SetContext(kPrimary);
  ASSERT_EQ(Destroy(kSecond), CUDA_SUCCESS);
  EXPECT_EQ(Call(InternalCommand::kQueryStream, kStream.bits()), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(Call(InternalCommand::kQueryEvent, kEvent.bits()), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(Call(InternalCommand::kDestroyStream, kStream.bits()), CUDA_ERROR_INVALID_HANDLE);
}

constexpr std::uint64_t kRangeBytes = std::uint64_t{2} << 20;
constexpr std::uint64_t kNobodys = 0x1234;
// What the driver was given: reset by each test.
std::vector<CUdeviceptr> seen_addresses;

// Functions that wait for and write to memory from a stream, with a range to do it in.
class ForgedAddress : public Forged {
 protected:
  ForgedAddress() {
    seen_addresses.clear();
    // The table is the fake driver's own, not constant; nothing calls these before the tests do.
    auto& table = const_cast<server::driver::Table&>(driver_.table());
    const auto value32 = [](CUstream, CUdeviceptr address, cuuint32_t, unsigned) {
      return seen_addresses.push_back(address), CUDA_SUCCESS;
    };
    const auto value64 = [](CUstream, CUdeviceptr address, cuuint64_t, unsigned) {
      return seen_addresses.push_back(address), CUDA_SUCCESS;
    };
    const auto batch = [](CUstream, unsigned count, CUstreamBatchMemOpParams* operations,
                          unsigned) {
      for (unsigned i = 0; i < count; ++i) {
        seen_addresses.push_back(operations[i].waitValue.address);
        seen_addresses.push_back(operations[i].waitValue.alias);
      }
      return CUDA_SUCCESS;
    };
    table.cuStreamWaitValue32 = table.cuStreamWaitValue32_v2 = value32;
    table.cuStreamWriteValue32 = table.cuStreamWriteValue32_v2 = value32;
    table.cuStreamWaitValue64 = table.cuStreamWaitValue64_v2 = value64;
    table.cuStreamWriteValue64 = table.cuStreamWriteValue64_v2 = value64;
    table.cuStreamBatchMemOp = table.cuStreamBatchMemOp_v2 = batch;
    EXPECT_EQ(Retain(kPrimary), CUDA_SUCCESS);
    client_.SetContext(kPrimary);
    EXPECT_EQ(Call(InternalCommand::kMapRange, std::uint32_t{0}, kTestWindow, kRangeBytes),
              CUDA_SUCCESS);
  }

  static CUstreamBatchMemOpParams Write(std::uint64_t address, bool wide) {
    CUstreamBatchMemOpParams operation{};
    operation.writeValue.operation =
        wide ? CU_STREAM_MEM_OP_WRITE_VALUE_64 : CU_STREAM_MEM_OP_WRITE_VALUE_32;
    operation.writeValue.address = address;
    operation.writeValue.alias = kNobodys;
    return operation;
  }
  CUresult Batch(std::uint32_t id, std::span<const CUstreamBatchMemOpParams> operations) {
    wire::Buffer body;
    wire::Encoder encoder(body);
    encoder.Put(std::uint64_t{0});  // Stream.
    encoder.Put(static_cast<std::uint32_t>(operations.size()));
    encoder.Put(std::uint32_t{0});
    encoder.PutRaw(operations.data(), operations.size_bytes());
    return client_.CallWith(id, std::move(body));
  }
};

TEST_F(ForgedAddress, ValuesAreWaitedForAndWrittenOnlyInTheClientsMemory) {
  const std::uint64_t end = kTestWindow + kRangeBytes;
  const auto of = [this](std::uint32_t id, std::uint64_t address) {
    return Call(id, std::uint64_t{0}, address, std::uint64_t{7}, std::uint32_t{0});
  };
  const auto only_own = [&](std::uint32_t id, std::uint64_t bytes) {
    SCOPED_TRACE(id);
    seen_addresses.clear();
    for (const std::uint64_t forged :
         {kNobodys, std::uint64_t{0}, ~std::uint64_t{0}, kTestWindow - bytes, end - bytes + 1, end,
          kTestWindow + (std::uint64_t{1} << 37)}) {
      EXPECT_EQ(of(id, forged), CUDA_ERROR_INVALID_VALUE) << std::hex << forged;
    }
    EXPECT_TRUE(seen_addresses.empty());
    EXPECT_EQ(of(id, kTestWindow), CUDA_SUCCESS);
    EXPECT_EQ(of(id, end - bytes), CUDA_SUCCESS);
    EXPECT_EQ(seen_addresses, (std::vector<CUdeviceptr>{kTestWindow, end - bytes}));
  };
  only_own(wire_id::cuStreamWaitValue32, 4);
  only_own(wire_id::cuStreamWaitValue32_v2, 4);
  only_own(wire_id::cuStreamWriteValue32, 4);
  only_own(wire_id::cuStreamWriteValue32_v2, 4);
  only_own(wire_id::cuStreamWaitValue64, 8);
  only_own(wire_id::cuStreamWaitValue64_v2, 8);
  only_own(wire_id::cuStreamWriteValue64, 8);
  only_own(wire_id::cuStreamWriteValue64_v2, 8);
}

TEST_F(ForgedAddress, UnmappedMemoryIsNobodys) {
  ASSERT_EQ(Call(InternalCommand::kUnmapRange, std::uint32_t{0}, kTestWindow, kRangeBytes),
            CUDA_SUCCESS);
  EXPECT_EQ(Call(wire_id::cuStreamWriteValue32_v2, std::uint64_t{0}, kTestWindow, std::uint32_t{7},
                 std::uint32_t{0}),
            CUDA_ERROR_INVALID_VALUE);
  EXPECT_TRUE(seen_addresses.empty());
}

TEST_F(ForgedAddress, EachOperationOfABatchIsChecked) {
  const std::uint64_t last_word = kTestWindow + kRangeBytes - 4;
  for (const std::uint32_t id : {wire_id::cuStreamBatchMemOp, wire_id::cuStreamBatchMemOp_v2}) {
    SCOPED_TRACE(id);
    seen_addresses.clear();
    const auto own = Write(last_word, false);
    const CUstreamBatchMemOpParams forged[] = {own, Write(kNobodys, false)};
    EXPECT_EQ(Batch(id, forged), CUDA_ERROR_INVALID_VALUE);
    const CUstreamBatchMemOpParams too_wide[] = {Write(last_word, true)};
    EXPECT_EQ(Batch(id, too_wide), CUDA_ERROR_INVALID_VALUE);
    CUstreamBatchMemOpParams waits[] = {own, own};
    waits[1].waitValue.operation = CU_STREAM_MEM_OP_WAIT_VALUE_64;
    EXPECT_EQ(Batch(id, waits), CUDA_ERROR_INVALID_VALUE);
    CUstreamBatchMemOpParams unknown[] = {own};
    const std::uint32_t no_operation = 77;
    std::memcpy(&unknown[0], &no_operation, sizeof no_operation);
    EXPECT_EQ(Batch(id, unknown), CUDA_ERROR_INVALID_VALUE);
    EXPECT_TRUE(seen_addresses.empty());

    const CUstreamBatchMemOpParams good[] = {own, Write(kTestWindow, true)};
    EXPECT_EQ(Batch(id, good), CUDA_SUCCESS);
    // The second address of each is the driver's to fill in.
    EXPECT_EQ(seen_addresses, (std::vector<CUdeviceptr>{last_word, 0, kTestWindow, 0}));
    CUstreamBatchMemOpParams barrier[1] = {};
    barrier[0].operation = CU_STREAM_MEM_OP_BARRIER;
    EXPECT_EQ(Batch(id, barrier), CUDA_SUCCESS);
  }
}

}  // namespace
}  // namespace farwarp::tests
