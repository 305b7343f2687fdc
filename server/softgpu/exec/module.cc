#include "server/softgpu/exec/module.h"

#include <cstring>
#include <mutex>
#include <unordered_map>

#include "server/softgpu/exec/decoder.h"
#include "server/softgpu/ptx/parser.h"

namespace farwarp::softgpu {
namespace {

constexpr uint64_t kMaxParamBytes = 32764;  // PTX ISA, from sm_70 on.

uint64_t AlignUp(uint64_t value, uint64_t align) {
  return (value + align - 1) / align * align;
}

}  // namespace

struct Kernel::State {
  ModuleImpl* module = nullptr;
  KernelInfo info;
  uint32_t index = 0;  // Of the function in the module's AST.
  mutable std::once_flag once;
  mutable Status status;
  mutable std::unique_ptr<DecodedKernel> decoded;
};

// The module's text and what the index pass found in it.
class ModuleImpl : public ModuleSymbols {
 public:
  Status Load(std::string_view ptx, GlobalPlacer& placer) {
    text_.assign(ptx);
    auto ast = ParseModule(text_);
    if (!ast.ok()) return ast.status();
    ast_ = std::move(*ast);
    for (uint32_t i = 0; i < ast_.functions.size(); ++i) {
      // A declaration may precede the definition.
      auto [found, fresh] = functions_.try_emplace(ast_.functions[i].name, i);
      if (!fresh && ast_.functions[i].has_body) found->second = i;
    }
    FARWARP_RETURN_IF_ERROR(PlaceVariables(placer));
    FARWARP_RETURN_IF_ERROR(WriteInitials());
    return MakeKernels();
  }

  uint64_t AddressOf(std::string_view name) const override {
    const auto found = addresses_.find(name);
    return found == addresses_.end() ? 0 : found->second;
  }
  const Variable* SharedVariable(std::string_view name) const override {
    const auto found = shared_.find(name);
    return found == shared_.end() ? nullptr : found->second;
  }
  Result<const Function*> BodyOf(std::string_view name) const override {
    const auto found = functions_.find(name);
    if (found == functions_.end() || !ast_.functions[found->second].has_body)
      return static_cast<const Function*>(nullptr);
    return Parsed(found->second);
  }

  // Parses a body at its first use. Callers hold decode_mutex().
  Result<const Function*> Parsed(uint32_t index) const {
    Function& function = ast_.functions[index];
    // What is left of a body with an error is no function.
    const auto [result, fresh] = parsed_.try_emplace(index);
    if (fresh) result->second = ParseBody(text_, function);
    if (!result->second.ok()) return result->second;
    return static_cast<const Function*>(&function);
  }

  std::mutex& decode_mutex() { return decode_mutex_; }
  std::vector<std::unique_ptr<Kernel>> kernels;
  std::vector<const Kernel*> kernel_list;
  std::vector<Global> globals;

 private:
  Status PlaceVariables(GlobalPlacer& placer) {
    for (const Variable& variable : ast_.variables) {
      if (variable.space == Space::kShared) {
        shared_[variable.name] = &variable;
        continue;
      }
      if (variable.space != Space::kGlobal && variable.space != Space::kConst) continue;
      if (variable.is_extern) continue;  // Found by the linker, if there is one.
      if (variable.bytes == 0)
        return Status::Invalid(ErrorAt(variable.at, "variable without a size"));
      if (addresses_.contains(variable.name))
        return Status::Invalid(ErrorAt(variable.at, "variable is defined twice"));
      const bool is_const = variable.space == Space::kConst;
      auto address = placer.Place(variable.bytes, std::max(variable.align, 16u), is_const);
      if (!address.ok()) return address.status();
      addresses_[variable.name] = *address;
      if (is_const) const_bytes_ += variable.bytes;
      globals.push_back(
          {std::string(variable.name), *address, variable.bytes, is_const, variable.is_managed});
    }
    return Status::Ok();
  }

  Status WriteInitials() {
    for (const Variable& variable : ast_.variables) {
      const uint64_t address = AddressOf(variable.name);
      if (address == 0 || variable.is_extern || variable.space == Space::kShared) continue;
      for (const Initial& initial : variable.initials) {
        uint64_t value = initial.value;
        if (!initial.symbol.empty()) {
          const uint64_t target = AddressOf(initial.symbol);
          if (target == 0) {
            // Addresses of functions: kept as zero, and a call through them is refused when its
            // kernel is decoded.
            if (functions_.contains(initial.symbol)) continue;
            return Status::Invalid(ErrorAt(variable.at, "initial value names an unknown symbol"));
          }
          value += target;
        }
        if (initial.offset + initial.bytes > variable.bytes)
          return Status::Invalid(ErrorAt(variable.at, "too many initial values"));
        std::memcpy(reinterpret_cast<void*>(address + initial.offset), &value,
                    std::min<uint64_t>(initial.bytes, sizeof value));
      }
    }
    return Status::Ok();
  }

  Status MakeKernels() {
    for (uint32_t i = 0; i < ast_.functions.size(); ++i) {
      const Function& function = ast_.functions[i];
      if (!function.is_entry || !function.has_body) continue;
      KernelInfo info;
      info.name = std::string(function.name);
      uint64_t offset = 0;
      for (const Variable& parameter : function.params) {
        offset = AlignUp(offset, parameter.align);
        info.params.push_back({static_cast<uint32_t>(offset),
                               static_cast<uint32_t>(parameter.bytes), parameter.align});
        offset += parameter.bytes;
        if (offset > kMaxParamBytes)
          return Status::Invalid(ErrorAt(parameter.at, "the kernel's parameters are too large"));
      }
      info.param_bytes = static_cast<uint32_t>(offset);
      info.const_bytes = const_bytes_;
      info.reqntid = {function.reqntid[0], function.reqntid[1], function.reqntid[2]};
      info.maxntid = {function.maxntid[0], function.maxntid[1], function.maxntid[2]};
      info.min_blocks_per_sm = function.min_blocks;
      for (const Dim3& dim : {info.reqntid, info.maxntid}) {
        if (dim.count() != 0)
          info.max_threads =
              static_cast<uint32_t>(std::min<uint64_t>(info.max_threads, dim.count()));
      }
      info.ptx_version = ast_.version;
      info.target = ast_.target;
      kernels.push_back(std::make_unique<Kernel>(this, std::move(info), i));
      kernel_list.push_back(kernels.back().get());
    }
    return Status::Ok();
  }

  std::string text_;
  mutable ModuleAst ast_;
  mutable std::unordered_map<uint32_t, Status> parsed_;  // Bodies, by function.
  std::mutex decode_mutex_;
  std::unordered_map<std::string_view, uint32_t> functions_;
  std::unordered_map<std::string_view, uint64_t> addresses_;
  std::unordered_map<std::string_view, const Variable*> shared_;
  uint64_t const_bytes_ = 0;
};

Kernel::Kernel(ModuleImpl* module, KernelInfo info, uint32_t index)
    : state_(std::make_unique<State>()) {
  state_->module = module;
  state_->info = std::move(info);
  state_->index = index;
}
Kernel::~Kernel() = default;

Status Kernel::Prepare() const {
  std::call_once(state_->once, [this] {
    const std::lock_guard lock(state_->module->decode_mutex());
    auto function = state_->module->Parsed(state_->index);
    if (!function.ok()) {
      state_->status = function.status();
      return;
    }
    auto decoded = DecodeKernel(**function, *state_->module);
    if (!decoded.ok()) {
      state_->status = decoded.status();
      return;
    }
    state_->decoded = std::move(*decoded);
    state_->info.static_shared_bytes = state_->decoded->static_shared_bytes;
    state_->info.local_bytes = state_->decoded->local_bytes;
    state_->info.registers = std::min(255u, std::max(8u, state_->decoded->registers));
  });
  return state_->status;
}
const KernelInfo& Kernel::info() const {
  return state_->info;
}
const DecodedKernel* Kernel::decoded() const {
  return state_->decoded.get();
}

Module::Module(std::unique_ptr<ModuleImpl> impl) : impl_(std::move(impl)) {}
Module::~Module() = default;

Result<std::unique_ptr<Module>> Module::Load(std::string_view ptx, GlobalPlacer& placer,
                                             JitLog* log) {
  auto impl = std::make_unique<ModuleImpl>();
  if (Status status = impl->Load(ptx, placer); !status.ok()) {
    if (log != nullptr) log->error = status.message();
    return status;
  }
  return std::unique_ptr<Module>(new Module(std::move(impl)));
}

std::span<const Kernel* const> Module::kernels() const {
  return impl_->kernel_list;
}
std::span<const Global> Module::globals() const {
  return impl_->globals;
}

const Kernel* Module::FindKernel(std::string_view name) const {
  for (const Kernel* kernel : impl_->kernel_list) {
    if (kernel->info().name == name) return kernel;
  }
  return nullptr;
}
const Global* Module::FindGlobal(std::string_view name) const {
  for (const Global& global : impl_->globals) {
    if (global.name == name) return &global;
  }
  return nullptr;
}

}  // namespace farwarp::softgpu
