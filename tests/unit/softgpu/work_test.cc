#include "server/softgpu/api/stream/work.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

namespace farwarp::softgpu {
namespace {

TEST(Work, RunsAfterAllItsPredecessors) {
  Executor executor;
  std::atomic<int> count{0};
  std::vector<std::shared_ptr<Work>> first;
  auto last = std::make_shared<Work>(Lane::kKernel, 0, [&] { EXPECT_EQ(count, 20); });
  for (int i = 0; i < 20; ++i) {
    first.push_back(
        std::make_shared<Work>(i % 2 ? Lane::kKernel : Lane::kCopy, 0, [&] { ++count; }));
    last->After(first.back());
  }
  executor.Submit(last);
  EXPECT_FALSE(last->done());
  for (const auto& work : first) executor.Submit(work);
  last->Wait();
  EXPECT_TRUE(last->done());
}

TEST(Work, LongChainsOfInlineWorkNeedNoStack) {
  Executor executor;
  auto first = std::make_shared<Work>(Lane::kInline, 0, nullptr);
  std::shared_ptr<Work> last = first;
  int count = 0;
  for (int i = 0; i < 200000; ++i) {
    auto next = std::make_shared<Work>(Lane::kInline, 0, [&] { ++count; });
    next->After(last);
    executor.Submit(next);
    last = next;
  }
  executor.Submit(first);
  EXPECT_TRUE(last->done());
  EXPECT_EQ(count, 200000);
}

TEST(Work, BodyIsDestroyedAfterItRan) {
  Executor executor;
  auto resource = std::make_shared<int>(1);
  const std::weak_ptr<int> seen = resource;
  auto work = std::make_shared<Work>(Lane::kInline, 0, [held = std::move(resource)] {});
  EXPECT_FALSE(seen.expired());
  executor.Submit(work);
  EXPECT_TRUE(seen.expired());
}

TEST(Work, ExceptionsDoNotEndTheProcess) {
  Executor executor;
  auto work = std::make_shared<Work>(Lane::kHost, 0, [] { throw std::bad_alloc(); });
  executor.Submit(work);
  work->Wait();
}

}  // namespace
}  // namespace farwarp::softgpu
