// Linking: all inputs come with one command, and the driver's result goes back whole.
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "farwarp/wire/limits.h"
#include "server/session/call.h"
#include "server/session/commands/commands.h"
#include "server/session/commands/jit.h"
#include "server/session/commands/resolve.h"
#include "server/session/commands/state.h"
#include "server/session/session.h"

namespace farwarp::server {
namespace {

struct Input {
  CUjitInputType type;
  std::string name;
  std::size_t bytes;
};

std::vector<Input> ReadInputs(Call& call) {
  std::vector<Input> inputs;
  const std::size_t count = call.args().GetCount(wire::kMaxLinkInputs, 20);
  for (std::size_t i = 0; i < count && !call.bad(); ++i) {
    const auto type = call.args().Get<std::int32_t>();
    const std::string_view name = call.args().GetString(wire::kMaxLinkNameBytes);
    const auto bytes = call.args().Get<std::uint64_t>();
    if (bytes > wire::kMaxImageBytes) call.MarkBad();
    inputs.push_back(
        {static_cast<CUjitInputType>(type), std::string(name), static_cast<std::size_t>(bytes)});
  }
  return inputs;
}

// The inputs must fill the bytes that came, and each must be whole by itself.
bool Fits(const std::vector<Input>& inputs, std::span<const std::byte> bytes) {
  for (const Input& input : inputs) {
    if (input.bytes == 0 || input.bytes > bytes.size()) return false;
    if (!IsContained(bytes.first(input.bytes))) return false;
    bytes = bytes.subspan(input.bytes);
  }
  return bytes.empty();
}

// A copy of one input: aligned, and terminated since the driver takes PTX for a string.
CUresult AddInput(const driver::Table& driver, CUlinkState state, const Input& input,
                  std::span<const std::byte> bytes) {
  std::string copy(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return driver.cuLinkAddData_v2(
      state, input.type, copy.data(), copy.size() + (input.type == CU_JIT_INPUT_PTX ? 1 : 0),
      input.name.empty() ? nullptr : input.name.c_str(), 0, nullptr, nullptr);
}

// Links; `image` belongs to `state`.
CUresult LinkAll(const driver::Table& driver, CUlinkState state, const std::vector<Input>& inputs,
                 std::span<const std::byte> bytes, std::span<const std::byte>* image) {
  for (const Input& input : inputs) {
    const CUresult result = AddInput(driver, state, input, bytes.first(input.bytes));
    if (result != CUDA_SUCCESS) return result;
    bytes = bytes.subspan(input.bytes);
  }
  void* linked = nullptr;
  std::size_t size = 0;
  const CUresult result = driver.cuLinkComplete(state, &linked, &size);
  if (result != CUDA_SUCCESS) return result;
  if (size > wire::kMaxImageBytes) return CUDA_ERROR_OUT_OF_MEMORY;
  *image = {static_cast<const std::byte*>(linked), size};
  return CUDA_SUCCESS;
}

}  // namespace

void HandleLink(Call& call) {
  const auto number = call.args().Get<std::uint64_t>();
  const std::vector<Input> inputs = ReadInputs(call);
  JitRequest jit;
  jit.Read(call);
  const auto bytes = ReadBulk(call, wire::kMaxImageBytes);
  if (!Fits(inputs, bytes)) call.MarkBad();
  auto& waiting = StateOf(call).linked;
  if (waiting.contains(number)) call.MarkBad();
  if (!Readable(call)) return;
  HostBudget& budget = StateOf(call).host_budget;
  // Until it is linked; the driver has a copy.
  const auto hold = budget.Take(HostBudget::Kind::kImages, bytes.size());
  if (!hold) return call.Finish(CUDA_ERROR_OUT_OF_MEMORY);
  jit.Open();
  CUlinkState state = nullptr;
  std::span<const std::byte> image;
  CUresult result = call.driver().cuLinkCreate_v2(jit.count(), jit.options(), jit.values(), &state);
  if (result == CUDA_SUCCESS) {
    result = LinkAll(call.driver(), state, inputs, bytes, &image);
  }
  if (result == CUDA_SUCCESS && image.size() > wire::kMaxLinkedInReply) {
    auto kept = std::make_shared<LinkedImage>();
    kept->hold = budget.Take(HostBudget::Kind::kImages, image.size());
    if (kept->hold && waiting.size() < kMaxLinkedWaiting) {
      kept->bytes.assign(image.begin(), image.end());
      waiting[number] = std::move(kept);
    } else {
      result = CUDA_ERROR_OUT_OF_MEMORY;
    }
  }
  jit.Answer(call);
  if (result == CUDA_SUCCESS) {
    call.results().Put(static_cast<std::uint64_t>(image.size()));
    if (image.size() <= wire::kMaxLinkedInReply) {
      call.results().PutRaw(image.data(), image.size());
    }
  }
  if (state != nullptr) call.driver().cuLinkDestroy(state);
  call.Finish(result);
}

void HandleLinkedImage(Call& call) {
  const auto number = call.args().Get<std::uint64_t>();
  const auto transfer = call.args().Get<std::uint64_t>();
  if (!Readable(call)) return;
  const auto image = StateOf(call).linked.extract(number);
  if (image.empty()) return call.Finish(CUDA_ERROR_INVALID_VALUE);
  call.session().SendBulk(transfer, image.mapped()->bytes, image.mapped());
  call.Finish(CUDA_SUCCESS);
}

}  // namespace farwarp::server
