#include "client/driver/copy/arrays.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "client/driver/memory/managed.h"
#include "client/driver/memory/pools.h"
#include "client/driver/plain_call.h"
#include "client/driver/process.h"
#include "client/session/command.h"
#include "farwarp/wire/internal_command.h"

namespace farwarp::client {

using wire::ArrayShape;
using wire::IdOf;
using wire::InternalCommand;

namespace {

// Host data goes through device memory in pieces of about this size.
constexpr std::uint64_t kStagingBytes = std::uint64_t{8} << 20;

// Where a copy begins in an array.
struct Corner {
  CUarray array;
  std::uint64_t x, y, z;
};
void Put(wire::Encoder& body, const Corner& corner) {
  body.PutPointer(corner.array);
  body.Put(corner.x);
  body.Put(corner.y);
  body.Put(corner.z);
}

bool Fits(std::uint64_t at, std::uint64_t count, std::uint64_t size) {
  return at <= size && count <= size - at;
}

// The box must lie inside the array.
CUresult CheckCorner(Process& process, const Corner& corner, const wire::CopyExtent& extent) {
  const auto array = process.arrays().Find(corner.array);
  if (!array.has_value()) return CUDA_ERROR_INVALID_HANDLE;
  const CUDA_ARRAY3D_DESCRIPTOR& d = array->descriptor;
  const std::uint64_t row =
      d.Width * d.NumChannels * wire::ChannelBytes(static_cast<std::uint32_t>(d.Format));
  return Fits(corner.x, extent.row_bytes, row) &&
                 Fits(corner.y, extent.rows, std::max<std::uint64_t>(1, d.Height)) &&
                 Fits(corner.z, extent.slices, std::max<std::uint64_t>(1, d.Depth))
             ? CUDA_SUCCESS
             : CUDA_ERROR_INVALID_VALUE;
}

// Bytes of rows without gaps.
wire::CopyPlane Dense(std::uint64_t address, const wire::CopyExtent& extent) {
  return {address, extent.row_bytes, extent.row_bytes * extent.rows};
}

CUresult PostMove(const Caller& caller, const StreamUse& use, InternalCommand id,
                  const Corner& corner, const wire::CopyPlane& plane,
                  const wire::CopyExtent& extent) {
  Command command(caller.session(), IdOf(id));
  command.body().PutPointer(use.wire);
  command.body().PutStruct(extent);
  Put(command.body(), corner);
  command.body().PutStruct(plane);
  use.context->work.Begin(use.beside_legacy());
  return command.Post();
}

CUresult PostBetween(const Caller& caller, const StreamUse& use, const Corner& to,
                     const Corner& from, const wire::CopyExtent& extent) {
  Command command(caller.session(), IdOf(InternalCommand::kCopyBetweenArrays));
  command.body().PutPointer(use.wire);
  command.body().PutStruct(extent);
  Put(command.body(), to);
  Put(command.body(), from);
  use.context->work.Begin(use.beside_legacy());
  return command.Post();
}

// One side that is no array.
struct Memory {
  wire::CopyPlane plane{};
  Side side = Side::kHost;
};

// The side of `copy` that is no array, as a request whose other side does not matter yet.
CUresult ReadMemory(Process& process, const CUDA_MEMCPY3D& copy, bool source,
                    const wire::CopyExtent& extent, Memory* memory) {
  const CUmemorytype type = source ? copy.srcMemoryType : copy.dstMemoryType;
  CopySide side;
  side.x_bytes = source ? copy.srcXInBytes : copy.dstXInBytes;
  side.y = source ? copy.srcY : copy.dstY;
  side.z = source ? copy.srcZ : copy.dstZ;
  side.pitch = source ? copy.srcPitch : copy.dstPitch;
  side.height = source ? copy.srcHeight : copy.dstHeight;
  side.base = source ? copy.srcDevice : copy.dstDevice;
  switch (type) {
    case CU_MEMORYTYPE_HOST:
      side.base = reinterpret_cast<std::uint64_t>(source ? copy.srcHost : copy.dstHost);
      memory->side = Side::kHost;
      break;
    case CU_MEMORYTYPE_DEVICE:
      memory->side = Side::kDevice;
      break;
    case CU_MEMORYTYPE_UNIFIED:
      memory->side = SideOf(process, side.base);
      break;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
  const auto plane = PlaneOf(side, extent);
  if (!plane.has_value()) return CUDA_ERROR_INVALID_VALUE;
  memory->plane = *plane;
  if (memory->side == Side::kHost)
    return plane->address != 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  return CoversDevice(process, *plane, extent) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

// Device memory whose slices are not whole rows apart, managed memory and the application's own are
// reached through memory without gaps.
bool IsDirect(Process& process, const Memory& memory, const wire::CopyExtent& extent) {
  const bool whole_rows =
      extent.slices == 1 ||
      (memory.plane.pitch != 0 && memory.plane.slice_pitch % memory.plane.pitch == 0);
  return memory.side == Side::kDevice && whole_rows &&
         (!process.managed().any() || process.managed().Find(memory.plane.address).address == 0);
}

// One stream's copy between an array and memory.
struct Move {
  const Caller& caller;
  StreamUse use;
  CUstream stream;
  NullStream null;
  Timing timing;
  wire::CopyExtent extent;
  Corner corner;
  Memory memory;

  CopyRequest Between(std::uint64_t staging, bool to_array) const {
    CopyRequest request;
    request.stream = stream;
    request.null = null;
    request.timing = timing;
    request.extent = extent;
    request.to = to_array ? Dense(staging, extent) : memory.plane;
    request.to_side = to_array ? Side::kDevice : memory.side;
    request.from = to_array ? memory.plane : Dense(staging, extent);
    request.from_side = to_array ? memory.side : Side::kDevice;
    return request;
  }

  // Through memory of the stream's pool, piece by piece, so that little of it is needed.
  CUresult Run(bool to_array) const {
    if (IsDirect(*caller.process, memory, extent)) {
      const auto id = to_array ? InternalCommand::kCopyToArray : InternalCommand::kCopyFromArray;
      return PostMove(caller, use, id, corner, memory.plane, extent);
    }
    const std::uint64_t slice_bytes = extent.row_bytes * extent.rows;  // An array holds as much.
    const std::uint64_t slices = std::max<std::uint64_t>(1, kStagingBytes / slice_bytes);
    const std::uint64_t rows = slice_bytes <= kStagingBytes
                                   ? extent.rows
                                   : std::max<std::uint64_t>(1, kStagingBytes / extent.row_bytes);
    for (std::uint64_t z = 0; z < extent.slices; z += slices) {
      for (std::uint64_t y = 0; y < extent.rows; y += rows) {
        Move piece = *this;
        piece.extent.rows = std::min(rows, extent.rows - y);
        piece.extent.slices = std::min(slices, extent.slices - z);
        piece.corner.y += y;
        piece.corner.z += z;
        piece.memory.plane.address += z * memory.plane.slice_pitch + y * memory.plane.pitch;
        if (const CUresult result = piece.Stage(to_array); result != CUDA_SUCCESS) return result;
      }
    }
    return CUDA_SUCCESS;
  }

  CUresult Stage(bool to_array) const {
    Pools& pools = caller.process->pools();
    CUdeviceptr staging = 0;
    CUresult result = pools.Allocate(caller, use, pools.Default(use.context->ordinal),
                                     *CopyBytes(extent), &staging);
    if (result != CUDA_SUCCESS) return result;
    const wire::CopyPlane plane = Dense(staging, extent);
    if (to_array) {
      result = Copy(caller, Between(staging, true));
      if (result == CUDA_SUCCESS) {
        result = PostMove(caller, use, InternalCommand::kCopyToArray, corner, plane, extent);
      }
    } else {
      result = PostMove(caller, use, InternalCommand::kCopyFromArray, corner, plane, extent);
      if (result == CUDA_SUCCESS) result = Copy(caller, Between(staging, false));
    }
    const CUresult freed = pools.Free(caller, use, staging);
    return result != CUDA_SUCCESS ? result : freed;
  }
};

wire::TextureSampler SamplerOf(const CUDA_TEXTURE_DESC& texture) {
  wire::TextureSampler sampler{};
  for (int k = 0; k < 3; ++k) {
    sampler.address_mode[k] = static_cast<std::uint32_t>(texture.addressMode[k]);
  }
  sampler.filter_mode = static_cast<std::uint32_t>(texture.filterMode);
  sampler.flags = texture.flags;
  sampler.max_anisotropy = texture.maxAnisotropy;
  sampler.mipmap_filter_mode = static_cast<std::uint32_t>(texture.mipmapFilterMode);
  sampler.mipmap_level_bias = texture.mipmapLevelBias;
  sampler.min_mipmap_level = texture.minMipmapLevelClamp;
  sampler.max_mipmap_level = texture.maxMipmapLevelClamp;
  std::memcpy(sampler.border, texture.borderColor, sizeof(sampler.border));
  return sampler;
}

}  // namespace

CUresult Arrays::Create(const Caller& caller, const CUDA_ARRAY3D_DESCRIPTOR& descriptor,
                        CUarray* array) {
  ArrayShape shape{descriptor.Width,
                   descriptor.Height,
                   descriptor.Depth,
                   static_cast<std::uint32_t>(descriptor.Format),
                   descriptor.NumChannels,
                   descriptor.Flags,
                   0};
  const std::uint64_t bytes = wire::ArrayBytes(shape);
  if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  Device& device = caller.device();
  CUresult result = device.memory.Spend(bytes);
  if (result != CUDA_SUCCESS) return result;
  const wire::Handle handle = MintPlainHandle(wire::HandleKind::kArray);
  if (handle.bits() == 0) {
    static_cast<void>(device.memory.Regain(bytes));
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  {
    Command command(caller.session(), IdOf(InternalCommand::kCreateArray));
    command.body().Put(handle.bits());
    command.body().Put(device.vgpu);
    command.body().PutStruct(shape);
    Reply reply;
    result = command.Call(reply);
  }
  if (result != CUDA_SUCCESS) {
    RetireHandle(handle);
    static_cast<void>(device.memory.Regain(bytes));
    return result;
  }
  const MutexLock lock(mutex_);
  arrays_[handle.bits()] = {descriptor, &device, caller.context_handle, bytes};
  *array = wire::ToPointer<CUarray>(handle);
  return CUDA_SUCCESS;
}

CUresult Arrays::Destroy(const Caller& caller, CUarray array) {
  const wire::Handle handle = wire::FromPointer(array);
  Array gone;
  {
    const MutexLock lock(mutex_);
    const auto found = arrays_.find(handle.bits());
    if (found == arrays_.end()) return CUDA_ERROR_INVALID_HANDLE;
    gone = found->second;
    arrays_.erase(found);
  }
  {
    Command command(caller.session(), IdOf(InternalCommand::kDestroyArray));
    command.body().Put(handle.bits());
    if (const CUresult result = command.Post(); result != CUDA_SUCCESS) return result;
  }
  RetireHandle(handle);
  return gone.device->memory.Regain(gone.bytes);
}

std::optional<Arrays::Array> Arrays::Find(CUarray array) {
  const MutexLock lock(mutex_);
  const auto found = arrays_.find(wire::FromPointer(array).bits());
  if (found == arrays_.end()) return std::nullopt;
  return found->second;
}

CUresult Arrays::CreateTexture(const Caller& caller, const CUDA_RESOURCE_DESC& resource,
                               const CUDA_TEXTURE_DESC& texture, CUtexObject* number) {
  CUarray array = nullptr;
  std::uint64_t address = 0, width = 0, height = 0, pitch = 0;
  std::uint32_t format = 0, channels = 0;
  if (resource.flags != 0) return CUDA_ERROR_INVALID_VALUE;
  switch (resource.resType) {
    case CU_RESOURCE_TYPE_ARRAY:
      array = resource.res.array.hArray;
      if (!Find(array).has_value()) return CUDA_ERROR_INVALID_HANDLE;
      break;
    case CU_RESOURCE_TYPE_LINEAR: {
      const auto& linear = resource.res.linear;
      address = linear.devPtr;
      format = static_cast<std::uint32_t>(linear.format);
      channels = linear.numChannels;
      width = linear.sizeInBytes;
      if (width == 0 || !CoversDevice(process_, {address, 0, 0}, {width, 1, 1})) {
        return CUDA_ERROR_INVALID_VALUE;
      }
      break;
    }
    case CU_RESOURCE_TYPE_PITCH2D: {
      const auto& image = resource.res.pitch2D;
      address = image.devPtr;
      format = static_cast<std::uint32_t>(image.format);
      channels = image.numChannels;
      width = image.width;
      height = image.height;
      pitch = image.pitchInBytes;
      const std::uint64_t texel = wire::ChannelBytes(format) * channels;
      wire::CopyExtent extent{0, height, 1};
      if (texel == 0 || channels > 4 || width == 0 || height == 0 ||
          __builtin_mul_overflow(width, texel, &extent.row_bytes) || extent.row_bytes > pitch ||
          pitch > (std::uint64_t{1} << 32) || height > (std::uint64_t{1} << 24) ||
          !CoversDevice(process_, {address, pitch, 0}, extent)) {
        return CUDA_ERROR_INVALID_VALUE;
      }
      break;
    }
    case CU_RESOURCE_TYPE_MIPMAPPED_ARRAY:
      return CUDA_ERROR_NOT_SUPPORTED;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
  Reply reply;
  {
    Command command(caller.session(), IdOf(InternalCommand::kCreateTexture));
    wire::Encoder& body = command.body();
    body.Put(static_cast<std::uint32_t>(resource.resType));
    body.PutPointer(array);
    body.Put(address);
    body.Put(format);
    body.Put(channels);
    body.Put(width);
    body.Put(height);
    body.Put(pitch);
    body.PutStruct(SamplerOf(texture));
    if (const CUresult result = command.Call(reply); result != CUDA_SUCCESS) return result;
  }
  const auto made = reply.body().Get<std::uint64_t>();
  if (const CUresult result = reply.Finish(); result != CUDA_SUCCESS) return result;
  const MutexLock lock(mutex_);
  textures_[{caller.context_handle.bits(), made}] = {resource, texture};
  *number = made;
  return CUDA_SUCCESS;
}

CUresult Arrays::DestroyTexture(const Caller& caller, CUtexObject number) {
  {
    const MutexLock lock(mutex_);
    if (textures_.erase({caller.context_handle.bits(), number}) == 0) {
      return CUDA_ERROR_INVALID_HANDLE;
    }
  }
  Command command(caller.session(), IdOf(InternalCommand::kDestroyTexture));
  command.body().Put(std::uint64_t{number});
  return command.Post();
}

std::optional<Arrays::Texture> Arrays::FindTexture(const Caller& caller, CUtexObject number) {
  const MutexLock lock(mutex_);
  const auto found = textures_.find({caller.context_handle.bits(), number});
  if (found == textures_.end()) return std::nullopt;
  return found->second;
}

CUresult Arrays::CreateSurface(const Caller& caller, const CUDA_RESOURCE_DESC& resource,
                               CUsurfObject* number) {
  if (resource.resType != CU_RESOURCE_TYPE_ARRAY || resource.flags != 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (!Find(resource.res.array.hArray).has_value()) return CUDA_ERROR_INVALID_HANDLE;
  Reply reply;
  {
    Command command(caller.session(), IdOf(InternalCommand::kCreateSurface));
    command.body().PutPointer(resource.res.array.hArray);
    if (const CUresult result = command.Call(reply); result != CUDA_SUCCESS) return result;
  }
  const auto made = reply.body().Get<std::uint64_t>();
  if (const CUresult result = reply.Finish(); result != CUDA_SUCCESS) return result;
  const MutexLock lock(mutex_);
  surfaces_[{caller.context_handle.bits(), made}] = resource;
  *number = made;
  return CUDA_SUCCESS;
}

CUresult Arrays::DestroySurface(const Caller& caller, CUsurfObject number) {
  {
    const MutexLock lock(mutex_);
    if (surfaces_.erase({caller.context_handle.bits(), number}) == 0) {
      return CUDA_ERROR_INVALID_HANDLE;
    }
  }
  Command command(caller.session(), IdOf(InternalCommand::kDestroySurface));
  command.body().Put(std::uint64_t{number});
  return command.Post();
}

std::optional<CUDA_RESOURCE_DESC> Arrays::FindSurface(const Caller& caller, CUsurfObject number) {
  const MutexLock lock(mutex_);
  const auto found = surfaces_.find({caller.context_handle.bits(), number});
  if (found == surfaces_.end()) return std::nullopt;
  return found->second;
}

void Arrays::DropContext(wire::Handle context) {
  std::vector<std::pair<Device*, std::uint64_t>> refunds;
  {
    const MutexLock lock(mutex_);
    const auto mine = [&](const auto& entry) { return entry.first.first == context.bits(); };
    std::erase_if(textures_, mine);
    std::erase_if(surfaces_, mine);
    std::erase_if(arrays_, [&](const auto& entry) {
      if (entry.second.context.bits() != context.bits()) return false;
      refunds.emplace_back(entry.second.device, entry.second.bytes);
      RetireHandle(wire::Handle(entry.first));
      return true;
    });
  }
  // A dead session owes nothing any more: the result changes nothing.
  for (const auto& [device, bytes] : refunds) static_cast<void>(device->memory.Regain(bytes));
}

CUresult CopyWithArray(const Caller& caller, const CUDA_MEMCPY3D& copy, CUstream stream,
                       NullStream null, Timing timing) {
  Process& process = *caller.process;
  if (process.graphs().capturing()) {
    // Only streams under capture are in the way; the copy itself cannot be recorded.
    const CUresult result = process.graphs().CheckStream(stream, null == NullStream::kPerThread);
    if (result != CUDA_SUCCESS) return result;
  }
  if (copy.srcLOD != 0 || copy.dstLOD != 0) return CUDA_ERROR_INVALID_VALUE;
  const wire::CopyExtent extent{copy.WidthInBytes, copy.Height, copy.Depth};
  const bool from_array = copy.srcMemoryType == CU_MEMORYTYPE_ARRAY;
  const bool to_array = copy.dstMemoryType == CU_MEMORYTYPE_ARRAY;
  const Corner from{copy.srcArray, copy.srcXInBytes, copy.srcY, copy.srcZ};
  const Corner to{copy.dstArray, copy.dstXInBytes, copy.dstY, copy.dstZ};
  CUresult result = from_array ? CheckCorner(process, from, extent) : CUDA_SUCCESS;
  if (result == CUDA_SUCCESS && to_array) result = CheckCorner(process, to, extent);
  StreamUse use;
  if (result == CUDA_SUCCESS) result = ResolveForWork(caller, stream, null, &use);
  if (result != CUDA_SUCCESS) return result;
  if (extent.row_bytes == 0 || extent.rows == 0 || extent.slices == 0) return CUDA_SUCCESS;
  if (from_array && to_array) return PostBetween(caller, use, to, from, extent);
  Memory memory;
  result = ReadMemory(process, copy, to_array, extent, &memory);
  if (result != CUDA_SUCCESS) return result;
  const Move move{caller, use, stream, null, timing, extent, to_array ? to : from, memory};
  result = move.Run(to_array);
  // What lies in the array only now was in the staging memory when the pieces' copies ended.
  const bool ends = result == CUDA_SUCCESS && to_array && memory.side == Side::kHost &&
                    timing == Timing::kSynchronous;
  return ends ? EndSynchronousCopy(process, use) : result;
}

}  // namespace farwarp::client
