// Memory that a client places itself, without the client library's checks: numbers of nobody,
// addresses outside of the window or upon each other, sizes near the end of what a number holds.
// Each is refused, and what is charged stays what is there.
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "farwarp/wire/handle.h"
#include "farwarp/wire/internal_command.h"
#include "tests/remoting/fake_driver.h"
#include "tests/remoting/raw_client.h"

namespace farwarp::tests {
namespace {

using wire::Handle;
using wire::HandleKind;
using wire::InternalCommand;

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr std::uint64_t kGrain = 2 * kMiB;
constexpr std::uint64_t kHuge = std::numeric_limits<std::uint64_t>::max();
constexpr std::uint64_t kHugeGrain = kHuge - kGrain + 1;  // The last number of whole grains.
constexpr std::uint32_t kReadWrite = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
constexpr Handle kContext(HandleKind::kContext, 1, 0);
constexpr CUresult kInvalid = CUDA_ERROR_INVALID_VALUE;

class PhysicalBounds : public testing::Test {
 protected:
  PhysicalBounds() {
    EXPECT_EQ(client_.Retain(kContext), CUDA_SUCCESS);
    client_.SetContext(kContext);
    first_ = client_.quota().Used(0);
  }
  // Whatever was sent: the session lives, and gives everything back.
  ~PhysicalBounds() override {
    EXPECT_EQ(client_.Call(InternalCommand::kMemoryInfo, std::uint32_t{0}), CUDA_SUCCESS);
    client_.Leave();
    EXPECT_EQ(client_.quota().Used(0), 0u);
    EXPECT_EQ(driver_.physical_bytes(), 0u);
    EXPECT_LE(driver_.peak_bytes(), RawClient::kLimit);
  }

  CUresult Create(std::uint64_t number, std::uint64_t bytes, std::uint32_t vgpu = 0) {
    return client_.Call(InternalCommand::kCreatePhysical, number, vgpu, bytes);
  }
  CUresult Release(std::uint64_t number) {
    return client_.Call(InternalCommand::kReleasePhysical, number);
  }
  CUresult Map(std::uint64_t number, std::uint64_t address, std::uint64_t bytes,
               std::uint64_t offset = 0) {
    return client_.Call(InternalCommand::kMapPhysical, number, address, bytes, offset);
  }
  CUresult Unmap(std::uint64_t address, std::uint64_t bytes) {
    return client_.Call(InternalCommand::kUnmapPhysical, address, bytes);
  }
  CUresult Protect(std::uint64_t address, std::uint64_t bytes, std::uint32_t access = kReadWrite,
                   std::uint32_t vgpu = 0) {
    return client_.Call(InternalCommand::kProtectRange, vgpu, address, bytes, access);
  }
  CUresult MapRange(std::uint64_t address, std::uint64_t bytes, std::uint32_t vgpu = 0) {
    return client_.Call(InternalCommand::kMapRange, vgpu, address, bytes);
  }
  CUresult UnmapRange(std::uint64_t address, std::uint64_t bytes, std::uint32_t vgpu = 0) {
    return client_.Call(InternalCommand::kUnmapRange, vgpu, address, bytes);
  }
  CUresult Acquire(std::uint64_t bytes, std::uint32_t vgpu = 0) {
    return client_.Call(InternalCommand::kAcquireCredit, vgpu, bytes);
  }
  CUresult Return(std::uint64_t bytes, std::uint32_t vgpu = 0) {
    return client_.Call(InternalCommand::kReturnCredit, vgpu, bytes);
  }

  FakeDriver driver_;
  RawClient client_{driver_.table()};
  const std::uint64_t base_ = client_.window();
  std::uint64_t first_ = 0;  // Credit that the session began with.
};

TEST_F(PhysicalBounds, IsMadeOnlyOfCreditAndOnlyOnce) {
  for (const std::uint64_t bytes :
       {std::uint64_t{0}, std::uint64_t{1}, kGrain - 1, kGrain + 1, kHuge}) {
    EXPECT_EQ(Create(1, bytes), kInvalid) << bytes;
  }
  for (const std::uint64_t bytes : {first_ + kGrain, kHugeGrain, std::uint64_t{1} << 63}) {
    EXPECT_EQ(Create(1, bytes), CUDA_ERROR_OUT_OF_MEMORY) << bytes;
  }
  EXPECT_EQ(Create(0, kGrain), kInvalid);
  EXPECT_EQ(Create(1, kGrain, 1), kInvalid);
  EXPECT_EQ(Create(1, kGrain, 0xffffffff), kInvalid);
  ASSERT_EQ(Create(1, kGrain), CUDA_SUCCESS);
  EXPECT_EQ(Create(1, kGrain), kInvalid);
  EXPECT_EQ(Release(2), kInvalid);
  EXPECT_EQ(Release(kHuge), kInvalid);
  EXPECT_EQ(Release(1), CUDA_SUCCESS);
  EXPECT_EQ(Release(1), kInvalid);
  EXPECT_EQ(client_.quota().Used(0), first_);
}

TEST_F(PhysicalBounds, IsMappedOnlyInTheWindowAndWithinItself) {
  ASSERT_EQ(Create(1, 2 * kGrain), CUDA_SUCCESS);
  const std::uint64_t end = base_ + RawClient::kWindowBytes;
  for (const std::uint64_t address : {std::uint64_t{0}, kGrain, base_ - kGrain, base_ + 1,
                                      end - kGrain, end, kHugeGrain, kHuge}) {
    EXPECT_EQ(Map(1, address, 2 * kGrain), kInvalid) << std::hex << address;
  }
  for (const std::uint64_t bytes : {std::uint64_t{0}, kGrain / 2, 3 * kGrain, kHugeGrain, kHuge}) {
    EXPECT_EQ(Map(1, base_, bytes), kInvalid) << bytes;
  }
  for (const std::uint64_t offset : {std::uint64_t{1}, kGrain, kHugeGrain, kHuge}) {
    EXPECT_EQ(Map(1, base_, 2 * kGrain, offset), kInvalid) << offset;
  }
  EXPECT_EQ(Map(2, base_, kGrain), kInvalid);
  EXPECT_EQ(Map(1, base_, kGrain, kGrain), CUDA_SUCCESS);
  // Twice is allowed, but not upon itself, nor with less than all of it in one place.
  EXPECT_EQ(Map(1, base_ + kGrain, 2 * kGrain), CUDA_SUCCESS);
  for (const std::uint64_t address : {base_, base_ + kGrain, base_ + 2 * kGrain}) {
    EXPECT_EQ(Map(1, address, kGrain), kInvalid) << std::hex << address;
    EXPECT_EQ(MapRange(address, kGrain), kInvalid) << std::hex << address;
  }
  EXPECT_EQ(Release(1), kInvalid) << "it is mapped";
  EXPECT_EQ(Unmap(base_ + kGrain, kGrain), kInvalid) << "half of a mapping";
  EXPECT_EQ(Unmap(base_ + 2 * kGrain, kGrain), kInvalid);
  EXPECT_EQ(Unmap(base_, 3 * kGrain), kInvalid) << "two at once";
  EXPECT_EQ(Unmap(kHugeGrain, kGrain), kInvalid);
  EXPECT_EQ(Unmap(base_, kHuge), kInvalid);
  EXPECT_EQ(Unmap(base_, kGrain), CUDA_SUCCESS);
  EXPECT_EQ(Unmap(base_, kGrain), kInvalid);
  EXPECT_EQ(Release(1), kInvalid) << "it is mapped once more";
  EXPECT_EQ(Unmap(base_ + kGrain, 2 * kGrain), CUDA_SUCCESS);
  EXPECT_EQ(Release(1), CUDA_SUCCESS);
  // Released in the finisher, then there again.
  EXPECT_EQ(Map(1, base_, kGrain), kInvalid);
  EXPECT_EQ(client_.quota().Used(0), first_);
}

TEST_F(PhysicalBounds, EachKindOfMemoryIsUnmappedInItsOwnWay) {
  ASSERT_EQ(Create(1, kGrain), CUDA_SUCCESS);
  ASSERT_EQ(Map(1, base_, kGrain), CUDA_SUCCESS);
  ASSERT_EQ(MapRange(base_ + kGrain, kGrain), CUDA_SUCCESS);
  EXPECT_EQ(UnmapRange(base_, kGrain), kInvalid);
  EXPECT_EQ(Unmap(base_ + kGrain, kGrain), kInvalid);
  EXPECT_EQ(UnmapRange(base_ + kGrain, 2 * kGrain), kInvalid);
  EXPECT_EQ(UnmapRange(base_ + kGrain, kGrain, 1), kInvalid);
  EXPECT_EQ(UnmapRange(base_ + kGrain, kGrain), CUDA_SUCCESS);
  EXPECT_EQ(UnmapRange(base_ + kGrain, kGrain), kInvalid);
}

TEST_F(PhysicalBounds, AccessIsSetForWholeMappingsOfTheClientsOnly) {
  ASSERT_EQ(Create(1, 2 * kGrain), CUDA_SUCCESS);
  ASSERT_EQ(Map(1, base_, kGrain), CUDA_SUCCESS);
  ASSERT_EQ(Map(1, base_ + kGrain, 2 * kGrain), CUDA_SUCCESS);
  ASSERT_EQ(MapRange(base_ + 3 * kGrain, kGrain), CUDA_SUCCESS);
  EXPECT_EQ(Protect(base_, kGrain), CUDA_SUCCESS);
  EXPECT_EQ(Protect(base_, 3 * kGrain, CU_MEM_ACCESS_FLAGS_PROT_READ), CUDA_SUCCESS);
  EXPECT_EQ(Protect(base_, 4 * kGrain), kInvalid) << "the last one is the server's";
  EXPECT_EQ(Protect(base_ + 3 * kGrain, kGrain, CU_MEM_ACCESS_FLAGS_PROT_NONE), kInvalid);
  EXPECT_EQ(Protect(base_, 2 * kGrain), kInvalid) << "half of a mapping";
  EXPECT_EQ(Protect(base_ + 2 * kGrain, kGrain), kInvalid) << "the middle of one";
  EXPECT_EQ(Protect(base_ + 8 * kGrain, kGrain), kInvalid) << "nothing";
  EXPECT_EQ(Protect(kHugeGrain, kGrain), kInvalid);
  EXPECT_EQ(Protect(base_, kHugeGrain), kInvalid);
  EXPECT_EQ(Protect(base_, 0), kInvalid);
  EXPECT_EQ(Protect(base_, kGrain, kReadWrite, 7), kInvalid);
  // What is no enumerator breaks a rule.
  EXPECT_EQ(Protect(base_, kGrain, 2), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(Protect(base_, kGrain, 0xffffffff), CUDA_ERROR_INVALID_HANDLE);
}

TEST_F(PhysicalBounds, CreditIsNeverMoreThanTheLeaseHas) {
  for (const std::uint64_t bytes : {RawClient::kLimit, kHuge, kHuge - first_ + 1, kHugeGrain}) {
    EXPECT_EQ(Acquire(bytes), CUDA_ERROR_OUT_OF_MEMORY) << bytes;
    EXPECT_EQ(Return(bytes), kInvalid) << bytes;
  }
  EXPECT_EQ(Acquire(0), kInvalid);
  EXPECT_EQ(Acquire(1, 1), kInvalid);
  EXPECT_EQ(Return(1, 0xffffffff), kInvalid);
  EXPECT_EQ(Return(first_ + 1), kInvalid);
  ASSERT_EQ(MapRange(base_, kGrain), CUDA_SUCCESS);
  EXPECT_EQ(Return(first_ - kGrain + 1), kInvalid) << "some of it is mapped";
  EXPECT_EQ(Return(first_ - kGrain), CUDA_SUCCESS);
  EXPECT_EQ(client_.quota().Used(0), kGrain);
  EXPECT_EQ(MapRange(base_ + kGrain, kGrain), CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_EQ(Create(1, kGrain), CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_EQ(Acquire(RawClient::kLimit - kGrain), CUDA_SUCCESS);
  EXPECT_EQ(Acquire(1), CUDA_ERROR_OUT_OF_MEMORY);
  for (const std::uint64_t bytes :
       {std::uint64_t{0}, kGrain - 1, RawClient::kWindowBytes + kGrain, kHugeGrain, kHuge}) {
    EXPECT_EQ(MapRange(base_ + kGrain, bytes), kInvalid) << bytes;
  }
}

TEST_F(PhysicalBounds, CommandsThatAreTooShortOrTooLongDoNothing) {
  for (const InternalCommand command :
       {InternalCommand::kCreatePhysical, InternalCommand::kReleasePhysical,
        InternalCommand::kMapPhysical, InternalCommand::kUnmapPhysical,
        InternalCommand::kProtectRange, InternalCommand::kMapRange, InternalCommand::kUnmapRange,
        InternalCommand::kAcquireCredit, InternalCommand::kReturnCredit}) {
    EXPECT_EQ(client_.Call(command), CUDA_ERROR_INVALID_HANDLE);
    EXPECT_EQ(client_.Call(command, std::uint64_t{1}, std::uint64_t{0}, std::uint64_t{0},
                           std::uint64_t{0}, std::uint64_t{0}),
              CUDA_ERROR_INVALID_HANDLE);
  }
  EXPECT_EQ(client_.quota().Used(0), first_);
}

}  // namespace
}  // namespace farwarp::tests
