#include "server/softgpu/exec/module.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <deque>
#include <mutex>
#include <unordered_map>

#include "server/softgpu/exec/decoder.h"
#include "server/softgpu/memory/address_space.h"
#include "server/softgpu/ptx/lexer.h"
#include "server/softgpu/ptx/parser.h"
#include "server/softgpu/ptx/scan.h"

namespace farwarp::softgpu {
namespace {

constexpr uint64_t kMaxParamBytes = 32764;  // PTX ISA, from sm_70 on.
constexpr uint64_t kCodeBytes = 16;         // From the address of one function to the next.

uint64_t AlignUp(uint64_t value, uint64_t align) {
  return (value + align - 1) / align * align;
}

}  // namespace

struct Kernel::State {
  ModuleImpl* module = nullptr;
  KernelInfo info;
  const FunctionAst* function = nullptr;  // In the module's AST.
  // Scans the body's declarations; true if they tell what the kernel takes.
  bool Scan() {
    std::call_once(scan_once, [this] { ScanOnce(); });
    return scanned;
  }
  void ScanOnce();

  std::once_flag scan_once;
  bool scanned = false;
  mutable std::once_flag once;
  mutable Status status;
  mutable std::unique_ptr<DecodedKernel> decoded;
  // The same once it is complete: others may ask for it while it is being prepared.
  mutable std::atomic<const DecodedKernel*> published{nullptr};
};

// The module's texts and what the index pass found in them. Names without linkage are those of one
// text; all others are the module's.
class ModuleImpl : public ModuleSymbols {
 public:
  ~ModuleImpl() override {
    if (code_window_ != 0) static_cast<void>((*AddressSpace::Get())->Release(code_window_));
  }

  Status Load(std::span<const LinkInput> inputs, GlobalPlacer& placer, bool linking) {
    for (const LinkInput& input : inputs) {
      Unit& unit = units_.emplace_back();
      unit.name = input.name;
      unit.text.assign(input.ptx);
      auto ast = ParseModule(unit.text);
      if (!ast.ok()) return InUnit(unit, ast.status());
      unit.ast = std::move(*ast);
    }
    for (uint32_t number = 0; number < units_.size(); ++number) {
      if (Status status = Declare(number); !status.ok()) return InUnit(units_[number], status);
    }
    if (linking) FARWARP_RETURN_IF_ERROR(CheckReferences());
    for (Unit& unit : units_) {
      if (Status status = PlaceVariables(unit, placer); !status.ok()) return InUnit(unit, status);
    }
    FARWARP_RETURN_IF_ERROR(PlaceCode());
    for (Unit& unit : units_) {
      Status status = WriteInitials(unit);
      if (status.ok()) status = MakeKernels(unit);
      if (!status.ok()) return InUnit(unit, status);
    }
    return Status::Ok();
  }

  uint64_t AddressOf(std::string_view name, const FunctionAst& from) const override {
    return AddressIn(units_[from.unit], name);
  }
  std::vector<std::pair<uint64_t, uint64_t>> ConstRanges() const override {
    std::vector<std::pair<uint64_t, uint64_t>> ranges;
    for (const Global& global : globals) {
      if (global.is_const) ranges.emplace_back(global.address, global.address + global.bytes);
    }
    std::sort(ranges.begin(), ranges.end());
    return ranges;
  }
  const Variable* SharedVariable(std::string_view name, const FunctionAst& from) const override {
    const Variable* variable = VariableIn(units_[from.unit], name);
    return variable != nullptr && variable->space == Space::kShared ? variable : nullptr;
  }
  Result<const FunctionAst*> BodyOf(std::string_view name, const FunctionAst& from) const override {
    const FunctionAst* function = FunctionIn(units_[from.unit], name);
    if (function == nullptr || !function->has_body) return static_cast<const FunctionAst*>(nullptr);
    FARWARP_RETURN_IF_ERROR(ParseBodyOf(*function));
    return function;
  }
  std::vector<Callable> FunctionsLike(const Prototype& prototype) const override {
    const auto same = [](const std::vector<Variable>& a, const std::vector<Variable>& b) {
      return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                        [](const Variable& x, const Variable& y) { return x.bytes == y.bytes; });
    };
    std::vector<Callable> found;
    for (const auto& [function, address] : code_) {
      if (same(function->params, prototype.params) && same(function->returns, prototype.returns))
        found.push_back({address, function});
    }
    std::sort(found.begin(), found.end(),
              [](const Callable& a, const Callable& b) { return a.address < b.address; });
    return found;
  }
  // At its first use. Callers hold decode_mutex().
  Status ParseBodyOf(const FunctionAst& function) const override {
    // What is left of a body with an error is no function.
    const auto [result, fresh] = parsed_.try_emplace(&function);
    if (fresh) {
      const Unit& unit = units_[function.unit];
      // The AST is this module's own; only its bodies are filled in after loading.
      result->second = InUnit(unit, ParseBody(unit.text, const_cast<FunctionAst&>(function)));
    }
    return result->second;
  }

  // What the declarations of a kernel's body say of it, and whether that is all there is to say.
  // Callers hold decode_mutex().
  BodyFigures Scan(const FunctionAst& kernel) {
    BodyFigures figures = ScanBody(units_[kernel.unit].text, kernel);
    if (shared_elsewhere_ == Shared::kUnknown) shared_elsewhere_ = LookForShared();
    if (shared_elsewhere_ == Shared::kSized ||
        (shared_elsewhere_ == Shared::kUnsized && figures.shared_bytes % 16 != 0))
      figures.certain = false;  // It depends on what the kernel uses of it.
    if (figures.shared_bytes > kMaxSharedBytes || figures.local_bytes > kMaxLocalBytes)
      figures.certain = false;  // The decoder says where it is too much.
    return figures;
  }

  bool used(size_t input) const { return units_[input].used; }

  Status ReadBodies() {
    const std::lock_guard lock(decode_mutex_);
    for (const Unit& unit : units_) {
      for (const FunctionAst& function : unit.ast.functions) {
        if (function.has_body) FARWARP_RETURN_IF_ERROR(ParseBodyOf(function));
      }
    }
    return Status::Ok();
  }

  size_t bodies_read() {
    const std::lock_guard lock(decode_mutex_);
    return parsed_.size();
  }
  std::mutex& decode_mutex() { return decode_mutex_; }
  std::vector<std::unique_ptr<Kernel>> kernels;
  std::vector<const Kernel*> kernel_list;
  std::vector<Global> globals;

 private:
  // Shared memory that is not declared in a kernel's own body.
  enum class Shared { kUnknown, kNone, kUnsized, kSized };
  Shared LookForShared() const {
    Shared found = Shared::kNone;
    for (const Unit& unit : units_) {
      for (const Variable& variable : unit.ast.variables) {
        if (variable.space != Space::kShared) continue;
        if (variable.bytes != 0) return Shared::kSized;
        found = Shared::kUnsized;
      }
      for (const FunctionAst& function : unit.ast.functions) {
        if (function.is_entry || !function.has_body) continue;
        const BodyFigures figures = ScanBody(unit.text, function);
        if (!figures.certain || figures.shared_bytes != 0) return Shared::kSized;
      }
    }
    return found;
  }

  struct Names {
    std::unordered_map<std::string_view, const FunctionAst*> functions;
    std::unordered_map<std::string_view, const Variable*> variables;
  };
  struct Unit {
    std::string name;  // Empty unless this is a linked module.
    std::string text;
    ModuleAst ast;
    Names names;       // Without linkage.
    bool used = true;  // False: left out of a linked module.
  };

  static Status InUnit(const Unit& unit, Status status) {
    if (status.ok() || unit.name.empty()) return status;
    return Status::Invalid(unit.name + ": " + status.message());
  }

  const FunctionAst* FunctionIn(const Unit& unit, std::string_view name) const {
    // A declaration may lack the linkage that the definition has.
    const auto own = unit.names.functions.find(name);
    if (own != unit.names.functions.end() && own->second->has_body) return own->second;
    const auto all = names_.functions.find(name);
    if (all != names_.functions.end()) return all->second;
    return own == unit.names.functions.end() ? nullptr : own->second;
  }
  const Variable* VariableIn(const Unit& unit, std::string_view name) const {
    const auto own = unit.names.variables.find(name);
    if (own != unit.names.variables.end()) return own->second;
    const auto all = names_.variables.find(name);
    return all == names_.variables.end() ? nullptr : all->second;
  }
  uint64_t AddressIn(const Unit& unit, std::string_view name) const {
    if (const Variable* variable = VariableIn(unit, name); variable != nullptr) {
      const auto found = addresses_.find(variable);
      return found == addresses_.end() ? 0 : found->second;
    }
    const auto found = code_.find(FunctionIn(unit, name));
    return found == code_.end() ? 0 : found->second;
  }

  // Enters the names of a text, by the rules of linkage: one strong definition, which wins over
  // weak and common ones; of common ones the largest.
  Status Declare(uint32_t number) {
    Unit& unit = units_[number];
    for (FunctionAst& function : unit.ast.functions) {
      function.unit = number;
      const bool own = !function.is_visible && !function.is_weak && !function.is_extern;
      auto [found, fresh] =
          (own ? unit.names : names_).functions.try_emplace(function.name, &function);
      if (fresh || !function.has_body) continue;
      const FunctionAst& before = *found->second;
      if (before.has_body && before.unit != number && !before.is_weak && !function.is_weak)
        return Multiple(function.name, before.unit, function.at);
      // A declaration may precede the definition.
      if (!before.has_body || before.unit == number || (before.is_weak && !function.is_weak))
        found->second = &function;
    }
    for (Variable& variable : unit.ast.variables) {
      variable.unit = number;
      const bool own =
          !variable.is_visible && !variable.is_weak && !variable.is_common && !variable.is_extern;
      auto [found, fresh] =
          (own ? unit.names : names_).variables.try_emplace(variable.name, &variable);
      if (fresh) continue;
      FARWARP_RETURN_IF_ERROR(Again(found->second, variable));
    }
    return Status::Ok();
  }

  // A second declaration of a variable: keeps the one that counts.
  Status Again(const Variable*& kept, const Variable& variable) {
    const Variable& before = *kept;
    if (before.space != variable.space ||
        (before.bytes != variable.bytes && before.bytes != 0 && variable.bytes != 0 &&
         !(before.is_common && variable.is_common)))
      return Status::Invalid(ErrorAt(variable.at, "Size or space doesn't match for '" +
                                                      std::string(variable.name) +
                                                      "', first specified otherwise"));
    if (variable.is_extern) return Status::Ok();
    if (before.is_extern) {
      kept = &variable;
      return Status::Ok();
    }
    const bool weak = before.is_weak || before.is_common;
    if (before.unit == variable.unit && !(weak && (variable.is_weak || variable.is_common)))
      return Status::Invalid(ErrorAt(variable.at, "variable is defined twice"));
    if (!weak && !variable.is_weak && !variable.is_common)
      return Multiple(variable.name, before.unit, variable.at);
    const bool strong = !variable.is_weak && !variable.is_common;
    if (weak && (strong || (before.is_common && variable.bytes > before.bytes))) kept = &variable;
    return Status::Ok();
  }

  Status Multiple(std::string_view name, uint32_t first, const Token& at) const {
    return Status::Invalid(ErrorAt(at, "Multiple definition of '" + std::string(name) +
                                           "', first defined in '" + units_[first].name + "'"));
  }

  // What a text uses and none of the texts defines; unused declarations are no harm.
  Status FindMissing(const Unit& unit) const {
    std::unordered_map<std::string_view, uint32_t> missing;  // And how often it is declared.
    for (const FunctionAst& function : unit.ast.functions) {
      const FunctionAst* chosen = FunctionIn(unit, function.name);
      if (!chosen->has_body && !IsRuntimeFunction(function.name)) ++missing[function.name];
    }
    for (const Variable& variable : unit.ast.variables) {
      const bool dynamic = variable.space == Space::kShared && variable.bytes == 0;
      if (VariableIn(unit, variable.name)->is_extern && !dynamic) ++missing[variable.name];
    }
    Status found;
    std::unordered_map<std::string_view, uint32_t> seen;
    if (!missing.empty()) {
      ForEachName(unit, [&](std::string_view name) {
        const auto declared = missing.find(name);
        if (!found.ok() || declared == missing.end() || ++seen[name] <= declared->second) return;
        found = Status::Invalid("Undefined reference to '" + std::string(name) + "' in '" +
                                unit.name + "'");
      });
    }
    return found;
  }

  // A linked module may not use what none of its texts defines. A text that lacks something, has no
  // kernels for others and is used by no other text is left out, as a member of a library that
  // nobody asked for: compilers add the whole library of the device's runtime to programs.
  Status CheckReferences() {
    std::vector<Status> missing;
    for (const Unit& unit : units_) missing.push_back(FindMissing(unit));
    std::vector<bool> needed(units_.size());
    std::vector<uint32_t> queue;
    const auto need = [&](uint32_t number) {
      if (!needed[number]) queue.push_back(number);
      needed[number] = true;
    };
    bool whole = true;
    for (uint32_t number = 0; number < units_.size(); ++number) {
      const auto& functions = units_[number].ast.functions;
      const bool has_kernel = std::any_of(
          functions.begin(), functions.end(),
          [](const FunctionAst& f) { return f.is_entry && (f.is_visible || f.is_weak); });
      if (missing[number].ok() || has_kernel) need(number);
      whole = whole && missing[number].ok();
    }
    if (whole) return Status::Ok();
    while (!queue.empty()) {
      const Unit& unit = units_[queue.back()];
      if (const Status& lack = missing[queue.back()]; !lack.ok()) return lack;
      queue.pop_back();
      ForEachName(unit, [&](std::string_view name) {
        if (const FunctionAst* function = FunctionIn(unit, name)) need(function->unit);
        if (const Variable* variable = VariableIn(unit, name)) need(variable->unit);
      });
    }
    for (uint32_t number = 0; number < units_.size(); ++number)
      units_[number].used = needed[number];
    return Status::Ok();
  }

  // Calls `see` for every name in a text.
  template <typename See>
  static void ForEachName(const Unit& unit, See see) {
    Lexer lexer(unit.text);
    for (Token token = lexer.Next(); token.kind != Tok::kEnd && token.kind != Tok::kError;
         token = lexer.Next()) {
      if (token.kind == Tok::kIdent) see(token.text);
    }
  }

  Status PlaceVariables(const Unit& unit, GlobalPlacer& placer) {
    if (!unit.used) return Status::Ok();
    for (const Variable& variable : unit.ast.variables) {
      if (variable.space != Space::kGlobal && variable.space != Space::kConst) continue;
      if (variable.is_extern || VariableIn(unit, variable.name) != &variable) continue;
      if (variable.bytes == 0)
        return Status::Invalid(ErrorAt(variable.at, "variable without a size"));
      const bool is_const = variable.space == Space::kConst;
      auto address = placer.Place(variable.bytes, std::max(variable.align, 16u), is_const);
      if (!address.ok()) return address.status();
      addresses_[&variable] = *address;
      if (is_const) const_bytes_ += variable.bytes;
      globals.push_back(
          {std::string(variable.name), *address, variable.bytes, is_const, variable.is_managed});
    }
    return Status::Ok();
  }

  // Functions get addresses in a window that nobody can read or write: they are only good to be
  // called.
  Status PlaceCode() {
    std::vector<const FunctionAst*> bodies;
    for (const Unit& unit : units_) {
      if (!unit.used) continue;
      for (const FunctionAst& function : unit.ast.functions) {
        if (function.has_body && !function.is_entry && FunctionIn(unit, function.name) == &function)
          bodies.push_back(&function);
      }
    }
    if (bodies.empty()) return Status::Ok();
    auto space = AddressSpace::Get();
    if (!space.ok()) return space.status();
    auto window = (*space)->Reserve(bodies.size() * kCodeBytes);
    if (!window.ok()) return window.status();
    code_window_ = *window;
    for (size_t i = 0; i < bodies.size(); ++i) code_[bodies[i]] = *window + i * kCodeBytes;
    return Status::Ok();
  }

  Status WriteInitials(const Unit& unit) {
    for (const Variable& variable : unit.ast.variables) {
      const auto placed = addresses_.find(&variable);
      if (placed == addresses_.end()) continue;
      for (const Initial& initial : variable.initials) {
        uint64_t value = initial.value;
        if (!initial.symbol.empty()) {
          const uint64_t target = AddressIn(unit, initial.symbol);
          // What the device's runtime brings along has no address.
          if (target == 0 && FunctionIn(unit, initial.symbol) != nullptr) continue;
          if (target == 0)
            return Status::Invalid(ErrorAt(variable.at, "initial value names an unknown symbol"));
          value += target;
        }
        if (initial.offset + initial.bytes > variable.bytes)
          return Status::Invalid(ErrorAt(variable.at, "too many initial values"));
        std::memcpy(reinterpret_cast<void*>(placed->second + initial.offset), &value,
                    std::min<uint64_t>(initial.bytes, sizeof value));
      }
    }
    return Status::Ok();
  }

  Status MakeKernels(const Unit& unit) {
    if (!unit.used) return Status::Ok();
    for (const FunctionAst& function : unit.ast.functions) {
      if (!function.is_entry || !function.has_body || FunctionIn(unit, function.name) != &function)
        continue;
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
      info.reqncluster = {function.reqncluster[0], function.reqncluster[1],
                          function.reqncluster[2]};
      info.max_cluster_rank = function.max_cluster_rank;
      info.explicit_cluster = function.explicit_cluster;
      for (const Dim3& dim : {info.reqntid, info.maxntid}) {
        if (dim.count() != 0)
          info.max_threads =
              static_cast<uint32_t>(std::min<uint64_t>(info.max_threads, dim.count()));
      }
      info.ptx_version = unit.ast.version;
      info.target = unit.ast.target;
      kernels.push_back(std::make_unique<Kernel>(this, std::move(info), function));
      kernel_list.push_back(kernels.back().get());
    }
    return Status::Ok();
  }

  std::deque<Unit> units_;
  Names names_;  // With linkage.
  mutable std::unordered_map<const FunctionAst*, Status> parsed_;
  std::mutex decode_mutex_;
  std::unordered_map<const Variable*, uint64_t> addresses_;
  std::unordered_map<const FunctionAst*, uint64_t> code_;
  uint64_t code_window_ = 0;
  uint64_t const_bytes_ = 0;
  Shared shared_elsewhere_ = Shared::kUnknown;
};

Kernel::Kernel(ModuleImpl* module, KernelInfo info, const FunctionAst& function)
    : state_(std::make_unique<State>()) {
  state_->module = module;
  state_->info = std::move(info);
  state_->function = &function;
}
Kernel::~Kernel() = default;

uint32_t CompiledRegisters(const KernelInfo& info, uint32_t used) {
  constexpr uint64_t kPerMultiprocessor = 65536;
  const uint64_t threads =
      AlignUp(std::max(info.max_threads, 1u), 32) * std::max(info.min_blocks_per_sm, 1u);
  const auto limit = static_cast<uint32_t>(kPerMultiprocessor / threads / 8 * 8);
  return std::clamp(std::min(used, limit), 8u, 255u);
}

void Kernel::State::ScanOnce() {
  const std::lock_guard lock(module->decode_mutex());
  const BodyFigures figures = module->Scan(*function);
  scanned = figures.certain;
  if (!scanned) return;
  info.static_shared_bytes = static_cast<uint32_t>(figures.shared_bytes);
  info.local_bytes = AlignUp(figures.local_bytes, 16);
  info.registers = CompiledRegisters(info, figures.registers);
}

Status Kernel::Measure() const {
  return state_->Scan() ? Status::Ok() : Prepare();
}

Status Kernel::Prepare() const {
  const bool scanned = state_->Scan();
  std::call_once(state_->once, [this, scanned] {
    const std::lock_guard lock(state_->module->decode_mutex());
    auto decoded = DecodeKernel(*state_->function, *state_->module);
    if (!decoded.ok()) {
      state_->status = decoded.status();
      return;
    }
    state_->decoded = std::move(*decoded);
    if (!scanned) {
      state_->info.static_shared_bytes = state_->decoded->static_shared_bytes;
      state_->info.local_bytes = state_->decoded->local_bytes;
      state_->info.registers = CompiledRegisters(state_->info, state_->decoded->registers);
    }
    state_->published.store(state_->decoded.get(), std::memory_order_release);
  });
  return state_->status;
}
const KernelInfo& Kernel::info() const {
  return state_->info;
}
const DecodedKernel* Kernel::decoded() const {
  return state_->published.load(std::memory_order_acquire);
}

Status CheckText(std::string_view ptx) {
  auto ast = ParseModule(ptx);
  if (!ast.ok() || ptx.size() > kCheckedTextBytes) return ast.status();
  for (FunctionAst& function : ast->functions) {
    if (function.has_body) FARWARP_RETURN_IF_ERROR(ParseBody(ptx, function));
  }
  return Status::Ok();
}

Module::Module(std::unique_ptr<ModuleImpl> impl) : impl_(std::move(impl)) {}
Module::~Module() = default;

Result<std::unique_ptr<Module>> Module::Load(std::string_view ptx, GlobalPlacer& placer,
                                             JitLog* log) {
  const LinkInput input{"", ptx};
  return Make({&input, 1}, placer, false, log);
}

Result<std::unique_ptr<Module>> Module::Link(std::span<const LinkInput> inputs,
                                             GlobalPlacer& placer, JitLog* log) {
  return Make(inputs, placer, true, log);
}

Result<std::unique_ptr<Module>> Module::Make(std::span<const LinkInput> inputs,
                                             GlobalPlacer& placer, bool linking, JitLog* log) {
  auto impl = std::make_unique<ModuleImpl>();
  if (Status status = impl->Load(inputs, placer, linking); !status.ok()) {
    if (log != nullptr) log->error = status.message();
    return status;
  }
  return std::unique_ptr<Module>(new Module(std::move(impl)));
}

Status Module::ReadBodies() const {
  return impl_->ReadBodies();
}
size_t Module::bodies_read() const {
  return impl_->bodies_read();
}
bool Module::Uses(size_t input) const {
  return impl_->used(input);
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
