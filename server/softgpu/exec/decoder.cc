#include "server/softgpu/exec/decoder.h"

#include "server/softgpu/exec/function_decoder.h"

namespace farwarp::softgpu {

// Constants come behind registers and temporaries: now that their number is known, the slots that
// were marked become offsets.
Status FunctionDecoder::Finish() {
  if (!error_.empty()) return Status::Invalid(error_);
  const uint64_t constants = AlignUp(frame_bytes_, 64);
  if (constants + image_.size() > kMaxFrameBytes)
    return Status::Invalid("function " + out_.name + " has too many registers");
  const auto fix = [&](uint32_t& slot) {
    if (slot != kNoSlot && (slot & kConstantFlag) != 0)
      slot = static_cast<uint32_t>(constants + (slot & ~kConstantFlag));
  };
  for (size_t k = out_.entry; k < kernel_.code.size(); ++k) {
    Ins& ins = kernel_.code[k];
    for (uint32_t* slot : {&ins.d, &ins.a, &ins.b, &ins.c, &ins.e}) fix(*slot);
  }
  for (const size_t k : masks_) {
    auto slot = static_cast<uint32_t>(kernel_.code[k].imm);
    fix(slot);
    kernel_.code[k].imm = slot;
  }
  for (const auto& [first, count] : vector_uses_) {
    for (uint32_t k = first; k < first + count; ++k) fix(kernel_.slots[k]);
  }
  out_.constants = static_cast<uint32_t>(constants);
  out_.frame_bytes = static_cast<uint32_t>(constants + image_.size());
  out_.constant_image = std::move(image_);
  out_.local_bytes = static_cast<uint32_t>(local_bytes_);
  if (number_ == 0) {
    kernel_.registers = registers32_;
    kernel_.local_bytes = AlignUp(own_local_bytes_, 16);
  }
  kernel_.functions[number_] = std::move(out_);
  return Status::Ok();
}

Result<std::unique_ptr<DecodedKernel>> DecodeKernel(const FunctionAst& function,
                                                    const ModuleSymbols& symbols) {
  auto kernel = std::make_unique<DecodedKernel>();
  kernel->name = std::string(function.name);
  KernelBuild build{symbols, *kernel, {}, {}, {}, {}, 0, {}, {}};
  build.functions.push_back({&function, false});
  build.function_numbers[&function] = 0;
  std::map<uint32_t, Status> refused;
  for (uint32_t number = 0; number < build.functions.size(); ++number) {
    kernel->functions.emplace_back();
    const FunctionAst& body = *build.functions[number].function;
    Status status = symbols.ParseBodyOf(body);
    const size_t begin = kernel->code.size();
    if (status.ok()) status = FunctionDecoder(build, body, number).Decode();
    if (status.ok()) continue;
    if (!build.functions[number].optional) return status;
    kernel->code.resize(begin);
    std::erase_if(kernel->notes, [=](const SourceNote& note) { return note.ins >= begin; });
    std::erase_if(build.dynamic_in_code, [=](size_t k) { return k >= begin; });
    std::erase_if(build.dynamic_constants, [=](const auto& c) { return c.function == number; });
    FunctionDecoder(build, body, number).Refuse(status);
    refused.emplace(number, status);
  }
  // A function decoded later may have called by name what only pointers seemed to reach.
  for (const auto& [number, status] : refused) {
    if (!build.functions[number].optional) return status;
  }
  const uint64_t dynamic = AlignUp(build.shared_bytes, 16);
  for (const size_t k : build.dynamic_in_code) kernel->code[k].imm += dynamic;
  for (const auto& constant : build.dynamic_constants) {
    const uint64_t value = dynamic + constant.addend;
    std::byte* image = kernel->functions[constant.function].constant_image.data() + constant.offset;
    for (uint32_t lane = 0; lane < kLanes; ++lane)
      std::memcpy(image + size_t{lane} * constant.bytes, &value, constant.bytes);
  }
  kernel->static_shared_bytes = static_cast<uint32_t>(
      build.dynamic_in_code.empty() && build.dynamic_constants.empty() ? build.shared_bytes
                                                                       : dynamic);
  FARWARP_RETURN_IF_ERROR(MeasureStack(*kernel));
  return kernel;
}

}  // namespace farwarp::softgpu
