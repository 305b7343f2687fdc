#include "tests/unit/softgpu/fake_engine.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <sstream>

#include "server/softgpu/ptx/ast.h"

namespace farwarp::softgpu {

struct DecodedKernel {};
class ModuleImpl {
 public:
  std::vector<std::unique_ptr<Kernel>> kernels;
  std::vector<const Kernel*> pointers;
  std::vector<Global> globals;
};
struct Kernel::State {
  KernelInfo info;
  bool broken = false;
  mutable std::atomic<bool> prepared{false};
};

namespace {
std::mutex bodies_mutex;
std::map<std::string, fake::Body>& Bodies() {
  static auto* bodies = new std::map<std::string, fake::Body>;
  return *bodies;
}

KernelInfo MakeInfo(std::istringstream& words) {
  KernelInfo info;
  words >> info.name;
  for (uint32_t bytes; words >> bytes;) {
    const uint32_t align = std::min<uint32_t>(bytes, 8);
    info.param_bytes = (info.param_bytes + align - 1) / align * align;
    info.params.push_back({info.param_bytes, bytes, align});
    info.param_bytes += bytes;
  }
  info.registers = 32;
  info.ptx_version = 90;
  info.target = 75;
  return info;
}
}  // namespace

void fake::Define(const std::string& kernel, Body body) {
  const std::lock_guard lock(bodies_mutex);
  Bodies()[kernel] = std::move(body);
}

Kernel::Kernel(ModuleImpl*, KernelInfo info, const FunctionAst& function) : state_(new State) {
  state_->info = std::move(info);
  state_->broken = !function.has_body;
}
Kernel::~Kernel() = default;
Status Kernel::Measure() const {
  return Prepare();
}
Status Kernel::Prepare() const {
  if (state_->broken) return Status::Invalid("ptx:7:3: unknown opcode, near 'frob.u32'");
  state_->prepared = true;
  return Status::Ok();
}
const KernelInfo& Kernel::info() const {
  return state_->info;
}
const DecodedKernel* Kernel::decoded() const {
  static const DecodedKernel decoded;
  return state_->prepared ? &decoded : nullptr;
}

Module::Module(std::unique_ptr<ModuleImpl> impl) : impl_(std::move(impl)) {}
Module::~Module() = default;

Result<std::unique_ptr<Module>> Module::Load(std::string_view ptx, GlobalPlacer& placer,
                                             JitLog* log) {
  auto impl = std::make_unique<ModuleImpl>();
  std::map<std::string, std::pair<uint32_t, uint32_t>> limits;
  std::istringstream lines{std::string(ptx)};
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string directive;
    words >> directive;
    if (directive == ".entry" || directive == ".broken") {
      FunctionAst function;
      function.has_body = directive == ".entry";
      KernelInfo info = MakeInfo(words);
      if (limits.contains(info.name)) {
        std::tie(info.max_threads, info.static_shared_bytes) = limits[info.name];
      }
      impl->kernels.push_back(std::make_unique<Kernel>(impl.get(), std::move(info), function));
    } else if (directive == ".limits") {
      std::string name;
      uint32_t threads, shared;
      words >> name >> threads >> shared;
      limits[name] = {threads, shared};
    } else if (directive == ".global") {
      Global global;
      words >> global.name >> global.bytes;
      Result<uint64_t> at = placer.Place(global.bytes, 16, false);
      if (!at.ok()) return at.status();
      global.address = *at;
      impl->globals.push_back(global);
    } else if (directive == ".error") {
      const std::string text = "ptx:2:1: syntax error, near '.error'";
      if (log != nullptr) log->error = text;
      return Status::Invalid(text);
    }
  }
  for (const auto& kernel : impl->kernels) impl->pointers.push_back(kernel.get());
  return std::unique_ptr<Module>(new Module(std::move(impl)));
}
Result<std::unique_ptr<Module>> Module::Link(std::span<const LinkInput> inputs,
                                             GlobalPlacer& placer, JitLog* log) {
  std::string all;
  for (const LinkInput& input : inputs) all += std::string(input.ptx) + "\n";
  return Load(all, placer, log);
}
Status CheckText(std::string_view ptx) {
  return ptx.find(".error") == std::string_view::npos ? Status::Ok() : Status::Invalid("error");
}
Status Module::ReadBodies() const {
  return Status::Ok();
}
size_t Module::bodies_read() const {
  return 0;
}
bool Module::Uses(size_t) const {
  return true;
}
std::span<const Kernel* const> Module::kernels() const {
  return impl_->pointers;
}
const Kernel* Module::FindKernel(std::string_view name) const {
  for (const Kernel* kernel : impl_->pointers) {
    if (kernel->info().name == name) return kernel;
  }
  return nullptr;
}
std::span<const Global> Module::globals() const {
  return impl_->globals;
}
const Global* Module::FindGlobal(std::string_view name) const {
  for (const Global& global : impl_->globals) {
    if (global.name == name) return &global;
  }
  return nullptr;
}

class WorkerPool::Impl {};
WorkerPool::WorkerPool(unsigned) {}
WorkerPool::~WorkerPool() = default;
unsigned WorkerPool::DefaultThreads() {
  return 0;
}
const char* FaultKindName(FaultKind) noexcept {
  return "fault";
}
Status CheckCpu() {
  return Status::Ok();
}

Fault Run(const LaunchRequest& request, WorkerPool&) {
  fake::Body body;
  {
    const std::lock_guard lock(bodies_mutex);
    const auto found = Bodies().find(request.kernel->info().name);
    if (found != Bodies().end()) body = found->second;
  }
  return body == nullptr ? Fault{} : body(request);
}

}  // namespace farwarp::softgpu
