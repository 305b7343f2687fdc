// A hostile client past its proof: commands with arbitrary ids and bodies, or arbitrary frames,
// into a server session on a fake driver.
//
//   input := 0 bytes          raw frames
//          | 1 (id:u8 words:u8 body[words * 8])*     commands of the client library, each answered
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <thread>
#include <type_traits>

#include "farwarp/transport/socket_channel.h"
#include "farwarp/wire/internal_command.h"
#include "server/session/quota.h"
#include "server/session/session.h"
#include "tests/remoting/fake_driver.h"

using namespace farwarp;

namespace {

constexpr std::uint64_t kLastTicket = 1u << 20;

Deadline Soon() {
  return Deadline::After(std::chrono::seconds(8));
}

void Append(wire::Buffer& frame, std::uint32_t id, std::uint64_t ticket,
            std::span<const std::byte> body) {
  const wire::CommandHeader header{id, static_cast<std::uint32_t>(body.size()), ticket};
  const auto* bytes = reinterpret_cast<const std::byte*>(&header);
  frame.insert(frame.end(), bytes, bytes + sizeof header);
  frame.insert(frame.end(), body.begin(), body.end());
}

wire::Buffer MakeCommands(std::span<const std::byte> input) {
  wire::Buffer frame;
  std::uint64_t ticket = 0;
  while (input.size() >= 2) {
    const auto id = wire::kFirstInternalId + std::to_integer<std::uint32_t>(input[0]);
    const std::size_t bytes =
        std::min<std::size_t>(std::to_integer<std::size_t>(input[1]) % 32, (input.size() - 2) / 8) *
        8;
    // Half of the commands want no answer.
    Append(frame, id, std::to_integer<int>(input[1]) >= 128 ? 0 : ++ticket,
           input.subspan(2, bytes));
    input = input.subspan(2 + bytes);
  }
  const std::uint64_t vgpu = 0;
  Append(frame, wire::IdOf(wire::InternalCommand::kMemoryInfo), kLastTicket,
         std::as_bytes(std::span(&vgpu, 1)));
  return frame;
}

// Reads until the last command is answered or the server has gone.
void AwaitEnd(transport::Channel& channel) {
  for (;;) {
    auto header = channel.ReceiveHeader(Soon());
    if (!header.ok()) {
      if (header.status().code() == StatusCode::kTimeout) __builtin_trap();
      return;
    }
    wire::Buffer payload(header->bytes);
    if (!channel.ReceivePayload(payload, Soon()).ok()) return;
    if (header->kind != wire::FrameKind::kReplies) continue;
    wire::ReplyHeader reply;
    std::memcpy(&reply, payload.data(), sizeof reply);
    if (reply.ticket == kLastTicket) return;
  }
}

// Graphs that take everything and do nothing.
void AddGraphs(server::driver::Table& table) {
  const auto make = [](auto* object) {
    static std::atomic<std::uintptr_t> next{0x1000};
    *object = reinterpret_cast<std::remove_pointer_t<decltype(object)>>(next.fetch_add(16));
    return CUDA_SUCCESS;
  };
  static constexpr auto kMake = make;
  using Node = CUgraphNode;
  using Nodes = const CUgraphNode*;
  table.cuGraphCreate = [](CUgraph* graph, unsigned) { return kMake(graph); };
  table.cuGraphDestroy = [](CUgraph) { return CUDA_SUCCESS; };
  table.cuGraphAddEmptyNode = [](Node* node, CUgraph, Nodes, std::size_t) { return kMake(node); };
  table.cuGraphAddHostNode = [](Node* node, CUgraph, Nodes, std::size_t,
                                const CUDA_HOST_NODE_PARAMS*) { return kMake(node); };
  table.cuGraphAddMemcpyNode = [](Node* node, CUgraph, Nodes, std::size_t, const CUDA_MEMCPY3D*,
                                  CUcontext) { return kMake(node); };
  table.cuGraphAddMemsetNode = [](Node* node, CUgraph, Nodes, std::size_t,
                                  const CUDA_MEMSET_NODE_PARAMS*,
                                  CUcontext) { return kMake(node); };
  table.cuGraphAddKernelNode_v2 = [](Node* node, CUgraph, Nodes, std::size_t,
                                     const CUDA_KERNEL_NODE_PARAMS*) { return kMake(node); };
  table.cuGraphKernelNodeSetAttribute = [](Node, CUkernelNodeAttrID, const CUkernelNodeAttrValue*) {
    return CUDA_SUCCESS;
  };
  const auto event = [](Node* node, CUgraph, Nodes, std::size_t, CUevent) { return kMake(node); };
  table.cuGraphAddEventRecordNode = event;
  table.cuGraphAddEventWaitNode = event;
  table.cuGraphInstantiateWithFlags = [](CUgraphExec* exec, CUgraph, unsigned long long) {
    return kMake(exec);
  };
  table.cuGraphExecDestroy = [](CUgraphExec) { return CUDA_SUCCESS; };
  table.cuGraphLaunch = [](CUgraphExec, CUstream) { return CUDA_SUCCESS; };
  table.cuGraphUpload = [](CUgraphExec, CUstream) { return CUDA_SUCCESS; };
}

// Arrays, textures and surfaces likewise; only copies of memory alone are copies.
void AddArrays(server::driver::Table& table) {
  static std::atomic<std::uint64_t> next{0x1000};
  static decltype(table.cuMemcpy3DAsync_v2) copy_memory;
  copy_memory = table.cuMemcpy3DAsync_v2;
  table.cuCtxGetDevice = [](CUdevice* device) { return *device = 0, CUDA_SUCCESS; };
  table.cuArray3DCreate_v2 = [](CUarray* array, const CUDA_ARRAY3D_DESCRIPTOR*) {
    *array = reinterpret_cast<CUarray>(next.fetch_add(16));
    return CUDA_SUCCESS;
  };
  table.cuArrayDestroy = [](CUarray) { return CUDA_SUCCESS; };
  table.cuMemcpy3DAsync_v2 = [](const CUDA_MEMCPY3D* copy, CUstream stream) {
    const bool array =
        copy->srcMemoryType == CU_MEMORYTYPE_ARRAY || copy->dstMemoryType == CU_MEMORYTYPE_ARRAY;
    return array ? CUDA_SUCCESS : copy_memory(copy, stream);
  };
  table.cuTexObjectCreate = [](CUtexObject* number, const CUDA_RESOURCE_DESC*,
                               const CUDA_TEXTURE_DESC*, const CUDA_RESOURCE_VIEW_DESC*) {
    return *number = next.fetch_add(16), CUDA_SUCCESS;
  };
  table.cuSurfObjectCreate = [](CUsurfObject* number, const CUDA_RESOURCE_DESC*) {
    return *number = next.fetch_add(16), CUDA_SUCCESS;
  };
  table.cuTexObjectDestroy = [](CUtexObject) { return CUDA_SUCCESS; };
  table.cuSurfObjectDestroy = [](CUsurfObject) { return CUDA_SUCCESS; };
}

}  // namespace

// The fake driver forgets the objects of a context that ends; a driver frees them.
extern "C" const char* __lsan_default_suppressions();
extern "C" const char* __lsan_default_suppressions() {
  return "leak:farwarp::tests::";
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0 || size > 4096) return 0;
  tests::FakeDriver driver;
  // Kernels would write wherever their forged arguments point, as on a GPU; here that is this
  // process.
  server::driver::Table table = driver.table();
  table.cuLaunchKernel = [](CUfunction, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                            unsigned, CUstream, void**, void**) { return CUDA_SUCCESS; };
  table.cuLaunchKernelEx = [](const CUlaunchConfig*, CUfunction, void**, void**) {
    return CUDA_SUCCESS;
  };
  AddGraphs(table);
  AddArrays(table);
  // Likewise, copies under way when a hostile client unmaps their memory fault on a GPU, not here.
  table.cuMemUnmap = [](CUdeviceptr, std::size_t) { return CUDA_SUCCESS; };
  const std::uint64_t limit = 64 << 20;
  auto book = server::QuotaBook::Create(std::span(&limit, 1));
  auto quota = server::Quota::Map(book->fd(), *book->TakeSlot());
  auto [client_end, server_end] = transport::MakeChannelPair();
  server::Session::Options options;
  options.driver = &table;
  options.quota = &*quota;
  options.device_ordinals = {0};
  {
    server::Session session(std::move(server_end), options);
    wire::Hello hello;
    hello.windows = {{0x2000'0000'0000, std::uint64_t{1} << 40}};
    if (!session.Start(hello).ok()) __builtin_trap();
    // Either ending is right.
    std::thread serving([&] { static_cast<void>(session.Run()); });
    const std::span<const std::byte> input(reinterpret_cast<const std::byte*>(data) + 1, size - 1);
    if (data[0] % 2 == 0) {
      static_cast<void>(::send(client_end->fd(), input.data(), input.size(), MSG_NOSIGNAL));
      ::shutdown(client_end->fd(), SHUT_WR);
    } else {
      const wire::Buffer frame = MakeCommands(input);
      static_cast<void>(client_end->Send(
          {wire::FrameKind::kCommands, 0, 0, static_cast<std::uint32_t>(frame.size()), 1, 0}, frame,
          {}, Soon()));
      AwaitEnd(*client_end);
      client_end->Shutdown();
    }
    serving.join();
  }
  // Nothing of a hostile client is left behind.
  if (driver.physical_bytes() != 0 || quota->Used(0) != 0) __builtin_trap();
  return 0;
}
