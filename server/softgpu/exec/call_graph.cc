// How deep calls go: the largest sum of frames along a path of the call graph.
#include <algorithm>

#include "server/softgpu/exec/function_decoder.h"

namespace farwarp::softgpu {
namespace {

// Who calls whom, each pair once.
struct CallGraph {
  std::vector<std::vector<uint32_t>> callees;
  std::vector<std::vector<uint32_t>> callers;

  explicit CallGraph(const DecodedKernel& kernel)
      : callees(kernel.functions.size()), callers(kernel.functions.size()) {
    // The code of a function ends where the next one begins.
    for (uint32_t caller = 0; caller < kernel.functions.size(); ++caller) {
      const size_t end = caller + 1 < kernel.functions.size() ? kernel.functions[caller + 1].entry
                                                              : kernel.code.size();
      std::vector<uint32_t>& called = callees[caller];
      for (size_t k = kernel.functions[caller].entry; k < end; ++k) {
        const Ins& ins = kernel.code[k];
        if (ins.run == CallFunction) {
          called.push_back(kernel.calls[ins.target].function);
        } else if (ins.run == CallIndirect) {
          for (const auto& [address, number] :
               kernel.call_targets[kernel.calls[ins.target].targets])
            called.push_back(number);
        }
      }
      std::sort(called.begin(), called.end());
      called.erase(std::unique(called.begin(), called.end()), called.end());
      for (const uint32_t callee : called) callers[callee].push_back(caller);
    }
  }
};

}  // namespace

// From the leaves up: a function is measured when all that it calls are. What is left over is
// recursive or leads to recursion.
Status MeasureStack(DecodedKernel& kernel) {
  const CallGraph graph(kernel);
  const size_t count = kernel.functions.size();
  std::vector<size_t> unmeasured(count);
  std::vector<uint64_t> need(count, 0);  // Of the deepest callee; then with the function's own.
  std::vector<uint32_t> ready;
  for (uint32_t k = 0; k < count; ++k) {
    unmeasured[k] = graph.callees[k].size();
    if (unmeasured[k] == 0) ready.push_back(k);
  }
  std::vector<bool> measured(count, false);
  while (!ready.empty()) {
    const uint32_t number = ready.back();
    ready.pop_back();
    measured[number] = true;
    need[number] += AlignUp(kernel.functions[number].local_bytes, 16);
    for (const uint32_t caller : graph.callers[number]) {
      need[caller] = std::max(need[caller], need[number]);
      if (--unmeasured[caller] == 0) ready.push_back(caller);
    }
  }
  if (measured[0]) {
    kernel.stack_bytes = need[0];
  } else {
    kernel.open_stack = true;
    uint64_t once = 0;
    uint64_t below = 0;
    for (uint32_t k = 0; k < count; ++k) {
      if (measured[k]) {
        below = std::max(below, need[k]);
      } else {
        once += AlignUp(kernel.functions[k].local_bytes, 16);
      }
    }
    kernel.stack_bytes = std::min(once + below, kMaxLocalBytes);
  }
  if (kernel.stack_bytes > kMaxLocalBytes) {
    return Status::Invalid("the calls of kernel " + kernel.name + " need " +
                           std::to_string(kernel.stack_bytes) + " bytes of stack in each thread; " +
                           std::to_string(kMaxLocalBytes) + " is the most");
  }
  return Status::Ok();
}

}  // namespace farwarp::softgpu
