// Graphs of a client that means no good, on a driver that runs them: what names something that is
// not there, or memory that is not the client's, is refused; what asks for too much ends in an
// error; and the session goes on.
#include <gtest/gtest.h>

#include <cstdlib>
#include <limits>
#include <optional>
#include <vector>

#include "farwarp/wire/handle.h"
#include "farwarp/wire/internal_command.h"
#include "server/driver/table.h"
#include "tests/remoting/raw_client.h"

namespace farwarp::tests {
namespace {

using wire::CopyExtent;
using wire::CopyPlane;
using wire::GraphNodeKind;
using wire::Handle;
using wire::HandleKind;
using wire::InternalCommand;

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr std::uint64_t kHuge = std::numeric_limits<std::uint64_t>::max();
constexpr Handle kContext(HandleKind::kContext, 1, 0);
constexpr Handle kStream(HandleKind::kStream, 1, 0);
constexpr Handle kNothing(HandleKind::kStream, 3, 17);
constexpr CopyExtent kFlat{4096, 1, 1};

class GraphBounds : public testing::Test {
 protected:
  void SetUp() override {
    setenv("FARWARP_SOFTGPU", "devices=1,memory=256MiB", 1);
    auto loaded = server::driver::Driver::Load(FARWARP_SOFTGPU_LIBRARY);
    ASSERT_TRUE(loaded.ok()) << loaded.status().ToString();
    driver_ = std::move(*loaded);
    table_ = driver_->table();
    ASSERT_EQ(table_.cuInit(0), CUDA_SUCCESS);
    // Of 16 MiB, 4 are for graphs.
    client_.emplace(table_, 16 * kMiB);
    window_ = client_->window();
    ASSERT_EQ(client_->Retain(kContext), CUDA_SUCCESS);
    client_->SetContext(kContext);
    ASSERT_EQ(client_->Call(InternalCommand::kCreateStream, kStream.bits(), std::uint32_t{1},
                            std::int32_t{0}),
              CUDA_SUCCESS);
    ASSERT_EQ(client_->Call(InternalCommand::kMapRange, std::uint32_t{0}, window_, 4 * kMiB),
              CUDA_SUCCESS);
  }
  void TearDown() override {
    // Whatever was sent: the session lives, and gives everything back.
    EXPECT_EQ(client_->Call(InternalCommand::kMemoryInfo, std::uint32_t{0}), CUDA_SUCCESS);
    client_->Leave();
    EXPECT_EQ(client_->quota().Used(0), 0u);
  }

  // Puts nodes together.
  struct Nodes {
    wire::Buffer bytes;
    std::uint64_t count = 0;

    wire::Encoder Add(GraphNodeKind kind, const std::vector<std::uint32_t>& after = {}) {
      ++count;
      wire::Encoder body(bytes);
      body.Put(static_cast<std::uint32_t>(kind));
      body.Put(static_cast<std::uint64_t>(after.size()));
      for (const std::uint32_t place : after) body.Put(place);
      return body;
    }
    Nodes& Empty(const std::vector<std::uint32_t>& after = {}) {
      Add(GraphNodeKind::kEmpty, after);
      return *this;
    }
    Nodes& Host(std::uint64_t number, const std::vector<std::uint32_t>& after = {}) {
      Add(GraphNodeKind::kHost, after).Put(number);
      return *this;
    }
    Nodes& Send(const CopyExtent& extent, const CopyPlane& from, Handle context = kContext) {
      wire::Encoder body = Add(GraphNodeKind::kSend);
      body.Put(context.bits());
      body.PutStruct(extent);
      body.PutStruct(from);
      return *this;
    }
    Nodes& Fetch(const CopyExtent& extent, const CopyPlane& to, std::uint64_t number) {
      wire::Encoder body = Add(GraphNodeKind::kFetch);
      body.Put(kContext.bits());
      body.PutStruct(extent);
      body.PutStruct(to);
      body.Put(number);
      return *this;
    }
    Nodes& Copy(const CopyExtent& extent, const CopyPlane& to, const CopyPlane& from) {
      wire::Encoder body = Add(GraphNodeKind::kCopy);
      body.Put(kContext.bits());
      body.PutStruct(extent);
      body.PutStruct(to);
      body.PutStruct(from);
      return *this;
    }
    Nodes& Fill(std::uint64_t address, std::uint64_t pitch, std::uint32_t element,
                std::uint64_t width, std::uint64_t height) {
      wire::Encoder body = Add(GraphNodeKind::kFill);
      body.Put(kContext.bits());
      body.Put(address);
      body.Put(pitch);
      body.Put(element);
      body.Put(std::uint32_t{7});
      body.Put(width);
      body.Put(height);
      return *this;
    }
  };

  CUresult Gather(std::uint64_t graph, const Nodes& nodes) {
    return Gather(graph, nodes, nodes.count);
  }
  CUresult Gather(std::uint64_t graph, const Nodes& nodes, std::uint64_t count) {
    wire::Buffer body;
    wire::Encoder encoder(body);
    encoder.Put(graph);
    encoder.Put(count);
    encoder.PutRaw(nodes.bytes.data(), nodes.bytes.size());
    return client_->CallWith(InternalCommand::kGraphNodes, std::move(body));
  }
  CUresult Instantiate(std::uint64_t graph) {
    return client_->Call(InternalCommand::kInstantiateGraph, graph, std::uint64_t{0});
  }
  CUresult Make(std::uint64_t graph, const Nodes& nodes) {
    if (const CUresult result = Gather(graph, nodes); result != CUDA_SUCCESS) return result;
    return Instantiate(graph);
  }
  CUresult Launch(std::uint64_t graph, const std::vector<std::uint64_t>& transfers = {}) {
    wire::Buffer body;
    wire::Encoder encoder(body);
    encoder.Put(graph);
    encoder.Put(kStream.bits());
    encoder.Put(static_cast<std::uint64_t>(transfers.size()));
    for (const std::uint64_t transfer : transfers) encoder.Put(transfer);
    return client_->CallWith(InternalCommand::kLaunchGraph, std::move(body));
  }
  CUresult Destroy(std::uint64_t graph) {
    return client_->Call(InternalCommand::kDestroyGraph, graph);
  }
  CUresult Synchronize() {
    return client_->Call(InternalCommand::kSynchronizeStream, kStream.bits());
  }
  void Done(std::uint64_t number) {
    wire::Buffer body;
    wire::Encoder(body).Put(number);
    client_->Post(InternalCommand::kHostFunctionDone, body);
  }
  // None of it becomes a graph, and nothing of it stays behind.
  void Refused(const char* what, const Nodes& nodes) {
    EXPECT_EQ(Gather(77, nodes), CUDA_ERROR_INVALID_HANDLE) << what;
    EXPECT_EQ(Instantiate(77), CUDA_ERROR_INVALID_HANDLE) << what;
    EXPECT_EQ(Launch(77), CUDA_ERROR_INVALID_VALUE) << what;
  }

  std::unique_ptr<server::driver::Driver> driver_;
  server::driver::Table table_;
  std::optional<RawClient> client_;
  std::uint64_t window_ = 0;
};

TEST_F(GraphBounds, NodesFollowOnlyEarlierOnes) {
  Refused("itself", Nodes().Empty({0}));
  Refused("a later one, which closes a cycle", Nodes().Empty({1}).Empty({0}));
  Refused("none", Nodes().Empty().Empty({kHuge & 0xffffffff}));
  // The same one twice is the driver's to judge.
  EXPECT_NE(Make(1, Nodes().Empty().Empty({0, 0})), CUDA_ERROR_UNKNOWN);
  EXPECT_EQ(Make(2, Nodes().Empty().Empty({0})), CUDA_SUCCESS);
  EXPECT_EQ(Launch(2), CUDA_SUCCESS);
  EXPECT_EQ(Synchronize(), CUDA_SUCCESS);
}

TEST_F(GraphBounds, CountsAreBelievedOnlyAsFarAsThereAreBytes) {
  for (const std::uint64_t count : {kHuge, kHuge / 8, std::uint64_t{1} << 32, std::uint64_t{2}}) {
    EXPECT_EQ(Gather(1, Nodes().Empty(), count), CUDA_ERROR_INVALID_HANDLE) << count;
    Nodes nodes;
    nodes.count = 1;
    wire::Encoder body(nodes.bytes);
    body.Put(static_cast<std::uint32_t>(GraphNodeKind::kEmpty));
    body.Put(count);
    EXPECT_EQ(Gather(1, nodes), CUDA_ERROR_INVALID_HANDLE) << count;
    EXPECT_EQ(client_->Call(InternalCommand::kLaunchGraph, std::uint64_t{1}, kStream.bits(), count),
              CUDA_ERROR_INVALID_HANDLE);
  }
  // More than was announced.
  EXPECT_EQ(Gather(1, Nodes().Empty().Empty(), 1), CUDA_ERROR_INVALID_HANDLE);
}

TEST_F(GraphBounds, NodesNameOnlyWhatThereIs) {
  Refused("a kind", [] {
    Nodes nodes;
    nodes.Add(static_cast<GraphNodeKind>(99));
    return nodes;
  }());
  Refused("a context", Nodes().Send(kFlat, {window_, 0, 0}, kNothing));
  for (const GraphNodeKind kind : {GraphNodeKind::kRecord, GraphNodeKind::kWait}) {
    Nodes nodes;
    nodes.Add(kind).Put(kStream.bits());
    Refused("an event", nodes);
  }
  for (const Handle function : {kStream, kNothing, Handle(HandleKind::kKernel, 1, 5), Handle()}) {
    Nodes nodes;
    wire::Encoder body = nodes.Add(GraphNodeKind::kKernel);
    body.Put(function.bits());
    body.Put(kContext.bits());
    body.PutStruct(wire::LaunchShape{{1, 1, 1}, {1, 1, 1}, 0, 0});
    body.Put(std::uint64_t{0});
    body.Put(std::uint64_t{0});
    Refused("a function", nodes);
  }
  EXPECT_EQ(Make(1, Nodes().Empty()), CUDA_SUCCESS);
  EXPECT_EQ(client_->Call(InternalCommand::kLaunchGraph, std::uint64_t{1}, kNothing.bits(),
                          std::uint64_t{0}),
            CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(client_->Call(InternalCommand::kUploadGraph, std::uint64_t{1}, kNothing.bits()),
            CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(client_->Call(InternalCommand::kUploadGraph, std::uint64_t{2}, kStream.bits()),
            CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(Launch(2), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(Launch(1, {1}), CUDA_ERROR_INVALID_VALUE);  // It sends nothing.
  EXPECT_EQ(Destroy(1), CUDA_SUCCESS);
  EXPECT_EQ(Launch(1), CUDA_ERROR_INVALID_VALUE);
}

TEST_F(GraphBounds, CopiesAndFillsStayInTheClientsMemory) {
  const std::uint64_t end = window_ + 4 * kMiB;
  const CopyPlane own{window_, 0, 0};
  for (const std::uint64_t address : {std::uint64_t{0}, kHuge, kHuge - 4095, window_ - 1,
                                      end - 4095, end, window_ + RawClient::kWindowBytes}) {
    const CopyPlane forged{address, 0, 0};
    Refused("a target", Nodes().Copy(kFlat, forged, own));
    Refused("a source", Nodes().Copy(kFlat, own, forged));
    Refused("a fetch", Nodes().Fetch(kFlat, forged, 1));
    Refused("a send", Nodes().Send(kFlat, forged));
    Refused("a fill", Nodes().Fill(address, 0, 4, 1024, 1));
  }
  for (const CopyExtent& extent :
       {CopyExtent{0, 1, 1}, CopyExtent{1, 0, 1}, CopyExtent{1, 1, 0}, CopyExtent{kHuge, 1, 1},
        CopyExtent{1, kHuge, 1}, CopyExtent{1, 1, kHuge}, CopyExtent{kHuge, kHuge, kHuge},
        CopyExtent{std::uint64_t{1} << 32, std::uint64_t{1} << 32, 1}}) {
    const CopyPlane plane{window_, extent.row_bytes, extent.row_bytes * extent.rows};
    Refused("a target", Nodes().Copy(extent, plane, plane));
    Refused("a fetch", Nodes().Fetch(extent, plane, 1));
    Refused("a send", Nodes().Send(extent, plane));
    if (extent.slices == 1) {
      Refused("a fill", Nodes().Fill(window_, 1, 4, extent.row_bytes, extent.rows));
    }
  }
  Refused("an element", Nodes().Fill(window_, 0, 3, 4, 1));
  // Rows upon each other, and slices that no number of rows are apart: what the driver would make
  // of them reaches beyond what was checked.
  Refused("rows", Nodes().Copy({64, 100, 1}, {window_, 32, 0}, {window_, 64, 0}));
  const CopyExtent boxes{1, 2, 4};
  Refused("slices", Nodes().Send(boxes, {window_, kMiB, kMiB + 1}));
  Refused("slices", Nodes().Fetch(boxes, {window_, kMiB, kMiB + 1}, 1));
  Refused("slices", Nodes().Send({1, 1, 3}, {window_, 0, kMiB}));
  EXPECT_EQ(Make(1, Nodes().Send(boxes, {window_, 4096, 8192}).Fill(window_, 0, 4, 9, 1)),
            CUDA_SUCCESS);
}

TEST_F(GraphBounds, GraphsAreLimitedByTheirBytes) {
  Nodes thousand;
  for (int i = 0; i < 1000; ++i) thousand.Empty();
  EXPECT_EQ(Make(1, thousand), CUDA_SUCCESS);
  // A failed draft is told once, and keeps nothing.
  for (int i = 0; i < 10; ++i) EXPECT_EQ(Gather(2, thousand), CUDA_SUCCESS);
  EXPECT_EQ(Instantiate(2), CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_EQ(Launch(2), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(Make(3, thousand), CUDA_SUCCESS);
  EXPECT_EQ(Make(4, thousand), CUDA_SUCCESS);
  EXPECT_EQ(Make(5, thousand), CUDA_SUCCESS);
  EXPECT_EQ(Make(8, thousand), CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_EQ(Launch(1), CUDA_SUCCESS);
  EXPECT_EQ(Destroy(1), CUDA_SUCCESS);
  EXPECT_EQ(Make(6, thousand), CUDA_SUCCESS);
  // One without a ticket becomes the client's asynchronous error.
  wire::Buffer body;
  wire::Encoder encoder(body);
  encoder.Put(std::uint64_t{7});
  encoder.Put(std::uint64_t{0});
  ASSERT_EQ(Gather(7, thousand), CUDA_SUCCESS);
  client_->Post(InternalCommand::kInstantiateGraph, body);
  EXPECT_EQ(Synchronize(), CUDA_SUCCESS);
  EXPECT_EQ(client_->pushed(), CUDA_ERROR_OUT_OF_MEMORY);
}

TEST_F(GraphBounds, EdgesCountToo) {
  Nodes nodes;
  std::vector<std::uint32_t> all;
  for (std::uint32_t i = 0; i < 500; ++i) {
    nodes.Empty(all);
    all.push_back(i);
  }
  EXPECT_EQ(Make(1, nodes), CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_EQ(Make(1, Nodes().Empty()), CUDA_SUCCESS);
}

TEST_F(GraphBounds, StagingCountsAsLongAsALaunchNeedsIt) {
  // A send needs it twice.
  EXPECT_EQ(Make(1, Nodes().Send({2 * kMiB, 1, 1}, {window_, 0, 0})), CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_EQ(Make(2, Nodes().Send({kMiB, 1, 1}, {window_, 0, 0})), CUDA_SUCCESS);
  EXPECT_EQ(Make(3, Nodes().Send({kMiB, 1, 1}, {window_, 0, 0})), CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_EQ(Make(4, Nodes().Fetch({kMiB, 1, 1}, {window_, 0, 0}, 9)), CUDA_SUCCESS);
  ASSERT_EQ(Launch(4), CUDA_SUCCESS);
  EXPECT_EQ(Destroy(4), CUDA_SUCCESS);
  EXPECT_EQ(Make(5, Nodes().Fetch({kMiB, 1, 1}, {window_, 0, 0}, 9)), CUDA_ERROR_OUT_OF_MEMORY);
  Done(9);
  EXPECT_EQ(Synchronize(), CUDA_SUCCESS);
  EXPECT_EQ(Destroy(2), CUDA_SUCCESS);
  EXPECT_EQ(Make(6, Nodes().Fetch({kMiB, 1, 1}, {window_, 0, 0}, 9)), CUDA_SUCCESS);
}

TEST_F(GraphBounds, AFetchWithoutBytesBringsNobodyElsesMemory) {
  ASSERT_EQ(Make(1, Nodes().Fill(window_, 0, 1, 4096, 1)), CUDA_SUCCESS);
  ASSERT_EQ(Launch(1), CUDA_SUCCESS);
  ASSERT_EQ(Make(2, Nodes().Fetch(kFlat, {window_, 0, 0}, 9)), CUDA_SUCCESS);
  ASSERT_EQ(Launch(2), CUDA_SUCCESS);
  Done(9);
  ASSERT_EQ(Make(3, Nodes().Send(kFlat, {window_, 0, 0})), CUDA_SUCCESS);
  ASSERT_EQ(Launch(3, {55}), CUDA_SUCCESS);
  ASSERT_EQ(Synchronize(), CUDA_SUCCESS);
  EXPECT_EQ(client_->Arrived(55), wire::Buffer(4096));
}

TEST_F(GraphBounds, SendsKeepTheirOrderAndBytesHoweverManyAreLaunched) {
  constexpr std::uint64_t kLaunches = 60;
  ASSERT_EQ(Make(1, Nodes().Send({kMiB, 1, 1}, {window_, 0, 0})), CUDA_SUCCESS);
  for (std::uint64_t i = 0; i < kLaunches; ++i) {
    ASSERT_EQ(
        client_->Call(InternalCommand::kFill, kStream.bits(), window_, std::uint64_t{0},
                      std::uint32_t{1}, static_cast<std::uint32_t>(i + 1), kMiB, std::uint64_t{1}),
        CUDA_SUCCESS);
    ASSERT_EQ(Launch(1, {1000 + i}), CUDA_SUCCESS);
  }
  ASSERT_EQ(Synchronize(), CUDA_SUCCESS);
  for (std::uint64_t i = 0; i < kLaunches; ++i) {
    EXPECT_EQ(client_->Arrived(1000 + i), wire::Buffer(kMiB, static_cast<std::byte>(i + 1)));
  }
}

TEST_F(GraphBounds, ALaunchThatCannotBeNotedKeepsWhatItUses) {
  // The driver takes the graph, and then nothing that would tell when it is over.
  client_.reset();
  table_.cuLaunchHostFunc = [](CUstream, CUhostFn, void*) { return CUDA_ERROR_OUT_OF_MEMORY; };
  client_.emplace(table_, 16 * kMiB);
  ASSERT_EQ(client_->Retain(kContext), CUDA_SUCCESS);
  client_->SetContext(kContext);
  ASSERT_EQ(client_->Call(InternalCommand::kCreateStream, kStream.bits(), std::uint32_t{1},
                          std::int32_t{0}),
            CUDA_SUCCESS);
  ASSERT_EQ(Make(1, Nodes().Host(7).Host(8, {0})), CUDA_SUCCESS);
  EXPECT_EQ(Launch(1), CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_EQ(Destroy(1), CUDA_SUCCESS);
  Done(7);
  Done(8);
  EXPECT_EQ(Synchronize(), CUDA_SUCCESS);
  EXPECT_EQ(client_->callbacks(), 2u);
}

// A client at the limit may still change what it has.
TEST_F(GraphBounds, AGraphInTheLastPlaceCanBeReplaced) {
  client_->Leave();
  // Only the books are of interest here.
  table_.cuGraphCreate = [](CUgraph* graph, unsigned) { return *graph = nullptr, CUDA_SUCCESS; };
  table_.cuGraphAddEmptyNode = [](CUgraphNode* node, CUgraph, const CUgraphNode*, std::size_t) {
    return *node = nullptr, CUDA_SUCCESS;
  };
  table_.cuGraphInstantiateWithFlags = [](CUgraphExec* exec, CUgraph, unsigned long long) {
    return *exec = nullptr, CUDA_SUCCESS;
  };
  table_.cuGraphDestroy = [](CUgraph) { return CUDA_SUCCESS; };
  table_.cuGraphExecDestroy = [](CUgraphExec) { return CUDA_SUCCESS; };
  client_.emplace(table_, 8192 * kMiB);
  ASSERT_EQ(client_->Retain(kContext), CUDA_SUCCESS);
  client_->SetContext(kContext);
  Nodes one;
  one.Empty();
  for (std::uint64_t number = 1; number <= wire::kMaxGraphs; ++number) {
    wire::Buffer nodes, instantiate;
    wire::Encoder body(nodes);
    body.Put(number);
    body.Put(one.count);
    body.PutRaw(one.bytes.data(), one.bytes.size());
    client_->Post(InternalCommand::kGraphNodes, nodes);
    wire::Encoder(instantiate).Put(number);
    wire::Encoder(instantiate).Put(std::uint64_t{0});
    client_->Post(InternalCommand::kInstantiateGraph, instantiate);
    if (number % 64 != 0) continue;
    ASSERT_EQ(client_->Call(InternalCommand::kMemoryInfo, std::uint32_t{0}), CUDA_SUCCESS);
    ASSERT_EQ(client_->pushed(), CUDA_SUCCESS) << number;
  }
  EXPECT_EQ(Gather(wire::kMaxGraphs + 1, one), CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_EQ(Gather(1, one), CUDA_SUCCESS);
  EXPECT_EQ(client_->Call(InternalCommand::kInstantiateGraph, std::uint64_t{1}, std::uint64_t{0}),
            CUDA_SUCCESS);
}

}  // namespace
}  // namespace farwarp::tests
