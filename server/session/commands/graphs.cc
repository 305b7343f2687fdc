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

GraphHostNode::GraphHostNode(Session& session, std::shared_ptr<HostFunctions> functions, Task task,
                             std::uint64_t number, std::size_t bytes)
    : session_(session),
      functions_(std::move(functions)),
      task_(task),
      number_(number),
      bytes_(bytes),
      staging_(bytes == 0 ? nullptr : new std::byte[bytes]) {}

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
    // The next launch may overwrite the staging area before the bytes have left.
    auto copy = std::shared_ptr<std::byte[]>(new std::byte[bytes_]);
    std::memcpy(copy.get(), staging_.get(), bytes_);
    session_.SendBulk(transfer, {copy.get(), bytes_}, copy);
    return;
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

void ServerGraphs::Drop(const driver::Table& driver, GraphDraft& draft) {
  staging_bytes -= draft.staging_bytes;
  if (draft.graph != nullptr) static_cast<void>(driver.cuGraphDestroy(draft.graph));
}

void ServerGraphs::Drop(const driver::Table& driver, ServerGraph& graph) {
  staging_bytes -= graph.staging_bytes;
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
  if (graphs.drafts.size() + graphs.graphs.size() >= wire::kMaxGraphs) call.MarkBad();
  if (call.bad()) return static_cast<void>(Readable(call));
  GraphDraft& draft = graphs.drafts[number];
  if (draft.graph == nullptr) draft.result = call.driver().cuGraphCreate(&draft.graph, 0);
  for (std::size_t i = 0; i < count && !call.bad(); ++i) {
    if (draft.places.size() >= wire::kMaxGraphNodes) call.MarkBad();
    const std::size_t before = draft.staging_bytes;
    if (!call.bad()) ReadGraphNode(call, draft);
    graphs.staging_bytes += draft.staging_bytes - before;
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
    made.staging_bytes = std::exchange(draft.staging_bytes, 0);
    for (const auto& node : *made.host_nodes) made.sends += node->sends() ? 1 : 0;
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
  std::size_t next = 0;
  for (const auto& node : *graph.host_nodes) {
    if (node->sends()) node->Expect(transfers[next++]);
  }
  CUresult result = call.driver().cuGraphLaunch(graph.exec, stream);
  if (result != CUDA_SUCCESS) {
    for (const auto& node : *graph.host_nodes) {
      if (node->sends()) node->Forget();
    }
  } else if (!graph.host_nodes->empty()) {
    // The host nodes must outlive the launch, which may outlive the graph.
    result = ReleaseBehind(call, stream, [nodes = graph.host_nodes] {});
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
