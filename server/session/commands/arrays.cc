// CUDA arrays, textures and surfaces. An array is paid with credit like memory that the application
// maps itself; it is cleared before anybody can read it. Textures and surfaces are known by the
// driver's numbers, so those that a client names must be its own.
#include <algorithm>
#include <cstring>
#include <vector>

#include "server/session/call.h"
#include "server/session/commands/commands.h"
#include "server/session/commands/resolve.h"
#include "server/session/commands/state.h"
#include "server/session/handle_table.h"
#include "server/session/session.h"

namespace farwarp::server {
namespace {

using wire::ArrayShape;
using wire::CopyExtent;
using wire::CopyPlane;
using wire::HandleKind;
using wire::TextureSampler;

constexpr std::size_t kMaxNumbers = std::size_t{1} << 20;
constexpr std::uint64_t kClearBytes = std::uint64_t{1} << 20;

struct Corner {
  CUarray array;
  std::uint64_t x, y, z;
};
Corner ReadCorner(Call& call) {
  auto* array = call.Resolve<CUarray>(HandleKind::kArray);
  const auto x = call.args().Get<std::uint64_t>();
  const auto y = call.args().Get<std::uint64_t>();
  return {array, x, y, call.args().Get<std::uint64_t>()};
}

// The driver checks positions in arrays; what is beside them is checked here.
CopyExtent ReadBox(Call& call) {
  const auto extent = call.args().GetStruct<CopyExtent>();
  if (extent.row_bytes == 0 || extent.rows == 0 || extent.slices == 0) call.MarkBad();
  return extent;
}
CopyPlane ReadMemory(Call& call, const CopyExtent& extent) {
  const auto plane = call.args().GetStruct<CopyPlane>();
  if (call.bad()) return plane;
  // A pitch of 0, or of less than a row, would mean other places to the driver than were checked.
  const bool several = extent.rows > 1 || extent.slices > 1;
  const bool sound = (!several || plane.pitch >= extent.row_bytes) &&
                     (extent.slices == 1 || (plane.slice_pitch % plane.pitch == 0 &&
                                             plane.slice_pitch / plane.pitch >= extent.rows));
  if (!sound || !StateOf(call).Covers(plane, extent)) call.MarkBad();
  return plane;
}

CUDA_MEMCPY3D BoxOf(const CopyExtent& extent) {
  CUDA_MEMCPY3D copy{};
  copy.WidthInBytes = extent.row_bytes;
  copy.Height = extent.rows;
  copy.Depth = extent.slices;
  return copy;
}
std::size_t HeightOf(const CopyPlane& plane, const CopyExtent& extent) {
  return extent.slices == 1 ? extent.rows : plane.slice_pitch / plane.pitch;
}
std::size_t PitchOf(const CopyPlane& plane, const CopyExtent& extent) {
  return extent.rows > 1 || extent.slices > 1 ? plane.pitch : 0;
}
void SetFrom(CUDA_MEMCPY3D* copy, const Corner& corner) {
  copy->srcMemoryType = CU_MEMORYTYPE_ARRAY;
  copy->srcArray = corner.array;
  copy->srcXInBytes = corner.x;
  copy->srcY = corner.y;
  copy->srcZ = corner.z;
}
void SetTo(CUDA_MEMCPY3D* copy, const Corner& corner) {
  copy->dstMemoryType = CU_MEMORYTYPE_ARRAY;
  copy->dstArray = corner.array;
  copy->dstXInBytes = corner.x;
  copy->dstY = corner.y;
  copy->dstZ = corner.z;
}

// Writes zeros to all of an array, in a stream of its own, and waits for it.
CUresult Clear(const driver::Table& driver, CUarray array, const ArrayShape& shape,
               CUstream stream) {
  const std::uint64_t row = shape.width * wire::ChannelBytes(shape.format) * shape.channels;
  const std::uint64_t rows = shape.height == 0 ? 1 : shape.height;
  const std::uint64_t slices = shape.depth == 0 ? 1 : shape.depth;
  const std::uint64_t some = std::min(rows, std::max<std::uint64_t>(1, kClearBytes / row));
  const std::vector<std::byte> zeros(row * some);
  CUresult result = CUDA_SUCCESS;
  for (std::uint64_t z = 0; z < slices && result == CUDA_SUCCESS; ++z) {
    for (std::uint64_t y = 0; y < rows && result == CUDA_SUCCESS; y += some) {
      CUDA_MEMCPY3D copy = BoxOf({row, std::min(some, rows - y), 1});
      copy.srcMemoryType = CU_MEMORYTYPE_HOST;
      copy.srcHost = zeros.data();
      copy.srcPitch = row;
      SetTo(&copy, {array, 0, y, z});
      result = driver.cuMemcpy3DAsync_v2(&copy, stream);
    }
  }
  const CUresult waited = driver.cuStreamSynchronize(stream);
  return result != CUDA_SUCCESS ? result : waited;
}

}  // namespace

CUresult CommandState::PayForArray(wire::Handle handle, std::uint32_t index, std::uint64_t bytes) {
  VgpuMemory* vgpu = FindVgpu(index);
  CUdevice device = 0;
  if (vgpu == nullptr || bytes == 0 || driver_.cuCtxGetDevice(&device) != CUDA_SUCCESS ||
      device != vgpu->device) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  finisher.Settle();
  if (!Afford(*vgpu, bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
  vgpu->mapped += bytes;
  arrays_[handle.bits()] = {index, bytes};
  return CUDA_SUCCESS;
}

CUresult CommandState::ClearArray(CUarray array, const ArrayShape& shape) {
  if (fresh_memory_) return CUDA_SUCCESS;
  CUcontext context = nullptr;
  CUresult result = driver_.cuCtxGetCurrent(&context);
  if (result != CUDA_SUCCESS) return result;
  if (context == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
  WaitPairs::Pair pair;
  result = waits.pairs.Take(driver_, context, &pair);
  if (result != CUDA_SUCCESS) return result;
  result = Clear(driver_, array, shape, pair.stream);
  waits.pairs.Return(pair);
  return result;
}

void CommandState::RefundArray(wire::Handle handle) {
  const auto found = arrays_.find(handle.bits());
  if (found == arrays_.end()) return;
  vgpus_[found->second.vgpu].mapped -= found->second.bytes;
  arrays_.erase(found);
}

void CommandState::LeaveArray(wire::Handle handle, Leaving* leaving) {
  const auto found = arrays_.find(handle.bits());
  if (found == arrays_.end()) return;
  VgpuMemory* vgpu = &vgpus_[found->second.vgpu];
  vgpu->unmapping += found->second.bytes;
  leaving->push_back({vgpu, found->second.bytes});
  arrays_.erase(found);
}

void CommandState::DestroyArray(Call& call, wire::Handle handle, CUarray array, wire::Handle owner,
                                CUcontext context) {
  Leaving leaving;
  LeaveArray(handle, &leaving);
  // Waits for what still uses it.
  finisher.Run(
      call,
      [this, array, context]() -> Finisher::Answer {
        if (const CUresult result = driver_.cuCtxSetCurrent(context); result != CUDA_SUCCESS) {
          return {result, {}};
        }
        const CUresult result = driver_.cuArrayDestroy(array);
        static_cast<void>(driver_.cuCtxSetCurrent(nullptr));
        return {result, {}};
      },
      [this, leaving, owner](CUresult result) {
        Left(leaving, result == CUDA_SUCCESS);
        if (result == CUDA_SUCCESS) return;
        // Of a context that has failed: there until that ends.
        Leaving& stuck = stuck_[owner.bits()];
        stuck.insert(stuck.end(), leaving.begin(), leaving.end());
      });
}

void HandleCreateArray(Call& call) {
  const wire::Handle handle = call.ReadNew(HandleKind::kArray);
  const auto vgpu = call.args().Get<std::uint32_t>();
  const auto shape = call.args().GetStruct<ArrayShape>();
  if (!Readable(call)) return;
  CommandState& state = StateOf(call);
  CUresult result = state.PayForArray(handle, vgpu, wire::ArrayBytes(shape));
  if (result != CUDA_SUCCESS) return call.Finish(result);
  CUDA_ARRAY3D_DESCRIPTOR descriptor{};
  descriptor.Width = shape.width;
  descriptor.Height = shape.height;
  descriptor.Depth = shape.depth;
  descriptor.Format = static_cast<CUarray_format>(shape.format);
  descriptor.NumChannels = shape.channels;
  descriptor.Flags = shape.flags;
  CUarray array = nullptr;
  result = call.driver().cuArray3DCreate_v2(&array, &descriptor);
  if (result == CUDA_SUCCESS) {
    result = state.ClearArray(array, shape);
    if (result != CUDA_SUCCESS) call.driver().cuArrayDestroy(array);
  }
  if (result != CUDA_SUCCESS) {
    state.RefundArray(handle);
    return call.Finish(result);
  }
  call.Bind(handle, array);
  call.Finish(CUDA_SUCCESS);
}

void HandleDestroyArray(Call& call) {
  const wire::Handle handle = PeekHandle(call);
  const wire::Handle owner = call.handles().OwnerOf(handle);
  auto* array = call.Resolve<CUarray>(HandleKind::kArray);
  if (!Readable(call)) return;
  Unbind(call, handle);
  auto* context = static_cast<CUcontext>(call.handles().Find(owner));
  StateOf(call).DestroyArray(call, handle, array, owner, context);
}

void HandleCopyToArray(Call& call) {
  auto* stream = call.ResolveStream();
  const CopyExtent extent = ReadBox(call);
  const Corner to = ReadCorner(call);
  const CopyPlane from = ReadMemory(call, extent);
  if (!Readable(call)) return;
  CUDA_MEMCPY3D copy = BoxOf(extent);
  copy.srcMemoryType = CU_MEMORYTYPE_DEVICE;
  copy.srcDevice = from.address;
  copy.srcPitch = PitchOf(from, extent);
  copy.srcHeight = HeightOf(from, extent);
  SetTo(&copy, to);
  call.Finish(call.driver().cuMemcpy3DAsync_v2(&copy, stream));
}

void HandleCopyFromArray(Call& call) {
  auto* stream = call.ResolveStream();
  const CopyExtent extent = ReadBox(call);
  const Corner from = ReadCorner(call);
  const CopyPlane to = ReadMemory(call, extent);
  if (!Readable(call)) return;
  CUDA_MEMCPY3D copy = BoxOf(extent);
  SetFrom(&copy, from);
  copy.dstMemoryType = CU_MEMORYTYPE_DEVICE;
  copy.dstDevice = to.address;
  copy.dstPitch = PitchOf(to, extent);
  copy.dstHeight = HeightOf(to, extent);
  call.Finish(call.driver().cuMemcpy3DAsync_v2(&copy, stream));
}

void HandleCopyBetweenArrays(Call& call) {
  auto* stream = call.ResolveStream();
  const CopyExtent extent = ReadBox(call);
  const Corner to = ReadCorner(call);
  const Corner from = ReadCorner(call);
  if (!Readable(call)) return;
  CUDA_MEMCPY3D copy = BoxOf(extent);
  SetFrom(&copy, from);
  SetTo(&copy, to);
  call.Finish(call.driver().cuMemcpy3DAsync_v2(&copy, stream));
}

namespace {

// The resource of a texture; memory must be the session's.
CUDA_RESOURCE_DESC ReadResource(Call& call) {
  CUDA_RESOURCE_DESC resource{};
  const auto kind = call.args().Get<std::uint32_t>();
  auto* array = call.ResolveOptional<CUarray>(HandleKind::kArray);
  const auto address = call.args().Get<std::uint64_t>();
  const auto format = call.args().Get<std::uint32_t>();
  const auto channels = call.args().Get<std::uint32_t>();
  const auto width = call.args().Get<std::uint64_t>();
  const auto height = call.args().Get<std::uint64_t>();
  const auto pitch = call.args().Get<std::uint64_t>();
  resource.resType = static_cast<CUresourcetype>(kind);
  if (kind == CU_RESOURCE_TYPE_ARRAY) {
    resource.res.array.hArray = array;
    if (array == nullptr) call.MarkBad();
  } else if (kind == CU_RESOURCE_TYPE_LINEAR) {
    resource.res.linear = {address, static_cast<CUarray_format>(format), channels, width};
    call.CheckMemory(address, width);
    if (width == 0) call.MarkBad();
  } else if (kind == CU_RESOURCE_TYPE_PITCH2D) {
    resource.res.pitch2D = {address, static_cast<CUarray_format>(format), channels, width, height,
                            pitch};
    const std::uint64_t texel = wire::ChannelBytes(format) * std::min(channels, 4u);
    CopyExtent extent{0, height, 1};
    if (texel == 0 || width == 0 || height == 0 ||
        __builtin_mul_overflow(width, texel, &extent.row_bytes) || extent.row_bytes > pitch ||
        !StateOf(call).Covers({address, pitch, 0}, extent)) {
      call.MarkBad();
    }
  } else {
    call.MarkBad();
  }
  return resource;
}

CUDA_TEXTURE_DESC ReadSampler(Call& call) {
  const auto sampler = call.args().GetStruct<TextureSampler>();
  CUDA_TEXTURE_DESC texture{};
  for (int k = 0; k < 3; ++k) {
    texture.addressMode[k] = static_cast<CUaddress_mode>(sampler.address_mode[k]);
  }
  texture.filterMode = static_cast<CUfilter_mode>(sampler.filter_mode);
  texture.flags = sampler.flags;
  texture.maxAnisotropy = sampler.max_anisotropy;
  texture.mipmapFilterMode = static_cast<CUfilter_mode>(sampler.mipmap_filter_mode);
  texture.mipmapLevelBias = sampler.mipmap_level_bias;
  texture.minMipmapLevelClamp = sampler.min_mipmap_level;
  texture.maxMipmapLevelClamp = sampler.max_mipmap_level;
  std::memcpy(texture.borderColor, sampler.border, sizeof(sampler.border));
  return texture;
}

}  // namespace

void HandleCreateTexture(Call& call) {
  const CUDA_RESOURCE_DESC resource = ReadResource(call);
  const CUDA_TEXTURE_DESC texture = ReadSampler(call);
  if (!Readable(call)) return;
  auto& numbers = StateOf(call).textures;
  if (numbers.size() >= kMaxNumbers) return call.Finish(CUDA_ERROR_OUT_OF_MEMORY);
  CUtexObject number = 0;
  const CUresult result = call.driver().cuTexObjectCreate(&number, &resource, &texture, nullptr);
  if (result == CUDA_SUCCESS) {
    numbers.insert({call.session().current_context().bits(), number});
    call.results().Put(std::uint64_t{number});
  }
  call.Finish(result);
}

void HandleDestroyTexture(Call& call) {
  const auto number = call.args().Get<std::uint64_t>();
  if (!Readable(call)) return;
  auto& numbers = StateOf(call).textures;
  if (numbers.erase({call.session().current_context().bits(), number}) == 0) {
    return call.Finish(CUDA_ERROR_INVALID_VALUE);
  }
  call.Finish(call.driver().cuTexObjectDestroy(number));
}

void HandleCreateSurface(Call& call) {
  CUDA_RESOURCE_DESC resource{};
  resource.resType = CU_RESOURCE_TYPE_ARRAY;
  resource.res.array.hArray = call.Resolve<CUarray>(HandleKind::kArray);
  if (!Readable(call)) return;
  auto& numbers = StateOf(call).surfaces;
  if (numbers.size() >= kMaxNumbers) return call.Finish(CUDA_ERROR_OUT_OF_MEMORY);
  CUsurfObject number = 0;
  const CUresult result = call.driver().cuSurfObjectCreate(&number, &resource);
  if (result == CUDA_SUCCESS) {
    numbers.insert({call.session().current_context().bits(), number});
    call.results().Put(std::uint64_t{number});
  }
  call.Finish(result);
}

void HandleDestroySurface(Call& call) {
  const auto number = call.args().Get<std::uint64_t>();
  if (!Readable(call)) return;
  auto& numbers = StateOf(call).surfaces;
  if (numbers.erase({call.session().current_context().bits(), number}) == 0) {
    return call.Finish(CUDA_ERROR_INVALID_VALUE);
  }
  call.Finish(call.driver().cuSurfObjectDestroy(number));
}

}  // namespace farwarp::server
