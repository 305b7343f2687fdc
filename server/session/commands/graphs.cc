#include "server/session/commands/graphs.h"

#include <cstring>
#include <span>
#include <utility>

#include "farwarp/wire/encoder.h"
#include "farwarp/wire/push.h"
#include "server/session/call.h"
#include "server/session/commands/commands.h"
#include "server/session/commands/state.h"
#include "server/session/commands/wait.h"
#include "server/session/session.h"

namespace farwarp::server {
namespace {

// Of a graph without nodes, in this process and in the driver.
constexpr std::uint64_t kGraphCost = 4096;

// Behind a launch, until it is over.
constexpr std::uint64_t kLaunchCost = 512;

}  // namespace

GraphHostNode::GraphHostNode(Session& session, std::shared_ptr<HostFunctions> functions, Task task,
                             std::uint64_t number, std::size_t bytes)
    : session_(session),
      functions_(std::move(functions)),
      task_(task),
      number_(number),
      bytes_(bytes) {
  if (bytes == 0) return;
  // Zero: what the client gets of it before a copy has filled it is nobody else's memory.
  staging_.reset(static_cast<std::byte*>(std::calloc(bytes, 1)));
  if (task != Task::kSend) return;
  leaving_ = std::make_shared<Leaving>();
  leaving_->bytes.reset(static_cast<std::byte*>(std::calloc(bytes, 1)));
  if (leaving_->bytes == nullptr) staging_.reset();
}

void GraphHostNode::Reached(void* node) {
  static_cast<GraphHostNode*>(node)->Run();
}

void GraphHostNode::Expect(std::uint64_t transfer) {
  const MutexLock lock(mutex_);
  transfers_.push_back(transfer);
}

void GraphHostNode::Forget() {
  const MutexLock lock(mutex_);
  transfers_.pop_back();
}

void GraphHostNode::Run() {
  if (task_ == Task::kSend) {
    std::uint64_t transfer = 0;
    {
      const MutexLock lock(mutex_);
      if (transfers_.empty()) return;
      transfer = transfers_.front();
      transfers_.pop_front();
    }
    return Send(transfer);
  }
  wire::Buffer body;
  wire::Encoder(body).Put(number_);
  session_.Push(wire::PushType::kHostCallback, body);
  functions_->WaitFor(number_);
  if (task_ == Task::kCall) return;
  const ArrivedBulk bulk = session_.TakeBulk(wire::kFetchedBit | number_);
  // Nothing comes when the session is ending.
  if (bulk.size() == bytes_) std::memcpy(staging_.get(), bulk.bytes().data(), bytes_);
}

// The next launch may overwrite the staging area before the bytes have left, and graphs may make
// them faster than the client takes them: what one launch sends, the next one waits for. It ends:
// a session that ends lets go of what it has not sent.
void GraphHostNode::Send(std::uint64_t transfer) {
  {
    const MutexLock lock(leaving_->mutex);
    while (leaving_->busy) leaving_->left.Wait(leaving_->mutex);
    leaving_->busy = true;
  }
  std::memcpy(leaving_->bytes.get(), staging_.get(), bytes_);
  const std::shared_ptr<const void> owner(leaving_->bytes.get(), [leaving = leaving_](const void*) {
    const MutexLock lock(leaving->mutex);
    leaving->busy = false;
    leaving->left.NotifyAll();
  });
  session_.SendBulk(transfer, {leaving_->bytes.get(), bytes_}, owner);
}

void ServerGraphs::Drop(const driver::Table& driver, GraphDraft& draft) {
  if (draft.graph != nullptr) static_cast<void>(driver.cuGraphDestroy(draft.graph));
}

void ServerGraphs::Fail(const driver::Table& driver, GraphDraft& draft, CUresult result) {
  if (draft.result == CUDA_SUCCESS) draft.result = result;
  Drop(driver, draft);
  draft.graph = nullptr;
  draft.places = {};
  draft.host_nodes.reset();
}

void ServerGraphs::Drop(const driver::Table& driver, ServerGraph& graph) {
  // A launch that is not over goes on; its stream keeps what it needs.
  static_cast<void>(driver.cuGraphExecDestroy(graph.exec));
}

void ServerGraphs::Clear(const driver::Table& driver) {
  for (auto& [number, draft] : drafts) Drop(driver, draft);
  for (auto& [number, graph] : graphs) Drop(driver, graph);
  drafts.clear();
  graphs.clear();
}

void HandleGraphNodes(Call& call) {
  ServerGraphs& graphs = StateOf(call).graphs;
  const auto number = call.args().Get<std::uint64_t>();
  const std::size_t count = call.args().GetCount(wire::kMaxGraphNodes, 16);
  if (call.bad()) return static_cast<void>(Readable(call));
  // A draft that takes a graph's place is not another one.
  if (graphs.drafts.size() + graphs.graphs.size() >= wire::kMaxGraphs &&
      graphs.drafts.count(number) == 0 && graphs.graphs.count(number) == 0) {
    return call.Finish(CUDA_ERROR_OUT_OF_MEMORY);
  }
  const auto [entry, fresh] = graphs.drafts.try_emplace(number);
  GraphDraft& draft = entry->second;
  if (fresh) {
    draft.host_nodes->hold = StateOf(call).host_budget.Take(HostBudget::Kind::kGraphs, kGraphCost);
    CUresult result = CUDA_ERROR_OUT_OF_MEMORY;
    if (draft.host_nodes->hold) result = call.driver().cuGraphCreate(&draft.graph, 0);
    if (result != CUDA_SUCCESS) graphs.Fail(call.driver(), draft, result);
  }
  for (std::size_t i = 0; i < count && !call.bad(); ++i) {
    if (draft.count >= wire::kMaxGraphNodes) call.MarkBad();
    if (!call.bad()) ReadGraphNode(call, draft);
  }
  if (call.bad()) {
    graphs.Drop(call.driver(), draft);
    graphs.drafts.erase(number);
  }
  if (!Readable(call)) return;
  call.Finish(CUDA_SUCCESS);
}

void HandleInstantiateGraph(Call& call) {
  ServerGraphs& graphs = StateOf(call).graphs;
  const auto number = call.args().Get<std::uint64_t>();
  const auto flags = call.args().Get<std::uint64_t>();
  const auto found = graphs.drafts.find(number);
  if (found == graphs.drafts.end()) call.MarkBad();
  if (!Readable(call)) return;
  GraphDraft draft = std::move(found->second);
  graphs.drafts.erase(found);
  ServerGraph made;
  CUresult result = draft.result;
  if (result == CUDA_SUCCESS) {
    result = call.driver().cuGraphInstantiateWithFlags(&made.exec, draft.graph, flags);
  }
  if (result == CUDA_SUCCESS) {
    made.host_nodes = draft.host_nodes;
    for (const auto& node : made.host_nodes->nodes) made.sends += node->sends() ? 1 : 0;
    if (const auto old = graphs.graphs.find(number); old != graphs.graphs.end()) {
      graphs.Drop(call.driver(), old->second);
    }
    graphs.graphs[number] = std::move(made);
  }
  graphs.Drop(call.driver(), draft);
  call.Finish(result);
}

void HandleDestroyGraph(Call& call) {
  ServerGraphs& graphs = StateOf(call).graphs;
  const auto number = call.args().Get<std::uint64_t>();
  if (!Readable(call)) return;
  // It may have failed to become one.
  if (const auto found = graphs.graphs.find(number); found != graphs.graphs.end()) {
    graphs.Drop(call.driver(), found->second);
    graphs.graphs.erase(found);
  }
  call.Finish(CUDA_SUCCESS);
}

void HandleLaunchGraph(Call& call) {
  ServerGraphs& graphs = StateOf(call).graphs;
  const auto number = call.args().Get<std::uint64_t>();
  auto* stream = call.ResolveStream();
  const std::size_t count = call.args().GetCount(wire::kMaxGraphNodes);
  std::vector<std::uint64_t> transfers(count);
  for (std::uint64_t& transfer : transfers) transfer = call.args().Get<std::uint64_t>();
  if (!Readable(call)) return;
  const auto found = graphs.graphs.find(number);
  // Its instantiation failed, which the client has been told.
  if (found == graphs.graphs.end()) return call.Finish(CUDA_ERROR_INVALID_VALUE);
  ServerGraph& graph = found->second;
  if (transfers.size() != graph.sends) return call.Finish(CUDA_ERROR_INVALID_VALUE);
  struct Kept {
    std::shared_ptr<GraphHostNodes> nodes;
    HostBudget::Hold hold;
  };
  std::shared_ptr<Kept> kept;
  if (!graph.host_nodes->nodes.empty()) {
    kept = std::make_shared<Kept>();
    kept->nodes = graph.host_nodes;
    kept->hold = StateOf(call).host_budget.Take(
        HostBudget::Kind::kFunctions, kLaunchCost + transfers.size() * sizeof(std::uint64_t));
    if (!kept->hold) return call.Finish(CUDA_ERROR_OUT_OF_MEMORY);
  }
  std::size_t next = 0;
  for (const auto& node : graph.host_nodes->nodes) {
    if (node->sends()) node->Expect(transfers[next++]);
  }
  CUresult result = call.driver().cuGraphLaunch(graph.exec, stream);
  if (result != CUDA_SUCCESS) {
    for (const auto& node : graph.host_nodes->nodes) {
      if (node->sends()) node->Forget();
    }
  } else if (kept != nullptr) {
    // The host nodes must outlive the launch, which may outlive the graph.
    result = ReleaseBehind(call, stream, [kept] {});
  }
  call.Finish(result);
}

void HandleUploadGraph(Call& call) {
  ServerGraphs& graphs = StateOf(call).graphs;
  const auto number = call.args().Get<std::uint64_t>();
  auto* stream = call.ResolveStream();
  if (!Readable(call)) return;
  const auto found = graphs.graphs.find(number);
  if (found == graphs.graphs.end()) return call.Finish(CUDA_ERROR_INVALID_VALUE);
  call.Finish(call.driver().cuGraphUpload(found->second.exec, stream));
}

}  // namespace farwarp::server
