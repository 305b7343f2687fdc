// Commands that are not CUDA functions: what the client library says to its worker when a CUDA call
// has been taken apart. Their ids start at 0x10000, above every id of proto/cuda/ids.lock, and are
// append-only. The body of each is written beside it in wire form (wire/encoder.h); "handle" is a
// client-minted handle (wire/handle.h), "stream" a handle or one of CUDA's special values, "vgpu"
// the ordinal of a vGPU in the lease. Client and server compare these comments, up to the first
// full stop or semicolon, with all that they mention (proto/gen/wire_table.py): a body that changes
// changes its comment.
//
//   extent := row_bytes:u64 rows:u64 slices:u64
//   plane  := address:u64 pitch:u64 slice_pitch:u64     (both pitches 0 when one row is meant)
//
// Commands marked "waits" are answered when the work in front of them is done; "asks" are answered
// at once; all others need no ticket.
#pragma once

#include <cstdint>

namespace farwarp::wire {

enum class InternalCommand : std::uint32_t {
  // context:handle-or-0. Makes it the dispatch thread's current context.
  kSetContext = 0x10000,

  // Contexts.
  kRetainPrimaryContext = 0x10010,    // context:handle vgpu:u32 flags:u32
  kReleasePrimaryContext = 0x10011,   // context:handle vgpu:u32
  kSetPrimaryContextFlags = 0x10012,  // vgpu:u32 flags:u32
  kCreateContext = 0x10013,           // context:handle vgpu:u32 flags:u32
  kDestroyContext = 0x10014,          // context:handle
  kSynchronizeContext = 0x10015,      // context:handle — waits
  kGetLimit = 0x10016,                // limit:i32 → value:u64 — asks
  kSetLimit = 0x10017,                // limit:i32 value:u64 — asks
  kSetCacheConfig = 0x10018,          // config:i32
  kResetPersistingL2Cache = 0x1001b,  // (current context)
  kRecordContextEvent = 0x1001c,      // context:handle event:handle
  kContextWaitEvent = 0x1001d,        // context:handle event:handle

  // Device memory: ranges of the address window, and the credit that pays for them.
  kMapRange = 0x10020,       // vgpu:u32 address:u64 bytes:u64
  kUnmapRange = 0x10021,     // vgpu:u32 address:u64 bytes:u64
  kAcquireCredit = 0x10022,  // vgpu:u32 bytes:u64 — asks
  kReturnCredit = 0x10023,   // vgpu:u32 bytes:u64
  kMemoryInfo = 0x10024,     // vgpu:u32 → free:u64 total:u64 — asks
  // Physical memory that the application maps itself, by a number that the client has not used
  // before. It is paid with credit until it is released, which only unmapped memory can be.
  kCreatePhysical = 0x10025,   // physical:u64 vgpu:u32 bytes:u64
  kReleasePhysical = 0x10026,  // physical:u64
  kMapPhysical = 0x10027,      // physical:u64 address:u64 bytes:u64 offset:u64
  kUnmapPhysical = 0x10028,    // address:u64 bytes:u64
  kProtectRange = 0x10029,     // vgpu:u32 address:u64 bytes:u64 access:u32 (CUmemAccess_flags)

  // Copies and fills. Host data is dense: row after row without pitch.
  kCopyToDevice = 0x10030,  // stream extent to:plane bytes:u64 transfer:u64 [data if transfer is 0]
  kCopyFromDevice = 0x10031,  // stream extent from:plane transfer:u64 — waits if it has a ticket
  kCopyOnDevice = 0x10032,    // stream extent to:plane from:plane
  kCopyToPeer = 0x10033,  // stream to:u64 to_context:handle from:u64 from_context:handle bytes:u64
  kFill = 0x10034,  // stream address:u64 pitch:u64 element_bytes:u32 value:u32 width:u64 height:u64

  // Modules, libraries, kernels. `image` := options bytes:u64 transfer:u64 [data if transfer is 0]
  //   options := count:u64 (option:i32 value:u64)* info_log_bytes:u64 error_log_bytes:u64
  //   table   := count:u64 kernel*
  //   kernel  := name:string attribute_count:u64 attribute:i32* param_count:u64 (offset:u32
  //   size:u32)*
  //   logs    := info_log:string error_log:string walltime_us:u64
  // The reply to a load is its logs, then the table on success.
  kLoadModule = 0x10040,           // module:handle image → logs table — asks
  kUnloadModule = 0x10041,         // module:handle
  kModuleGlobal = 0x10042,         // module:handle name:string → address:u64 bytes:u64 — asks
  kBindFunction = 0x10043,         // function:handle module:handle index:u32
  kLoadLibrary = 0x10044,          // library:handle image → logs table — asks
  kUnloadLibrary = 0x10045,        // library:handle
  kLibraryGlobal = 0x10046,        // library:handle name:string → address:u64 bytes:u64 — asks
  kBindKernel = 0x10047,           // kernel:handle library:handle index:u32
  kKernelFunction = 0x10048,       // function:handle kernel:handle
  kLibraryModule = 0x10049,        // module:handle library:handle → table — asks
  kFunctionAttribute = 0x1004a,    // function:handle attribute:i32 value:i32 — asks
  kKernelAttribute = 0x1004b,      // kernel:handle attribute:i32 value:i32 vgpu:u32 — asks
  kFunctionCacheConfig = 0x1004c,  // function:handle config:i32
  kKernelCacheConfig = 0x1004d,    // kernel:handle config:i32 vgpu:u32
  // Linking, under a number that the client has not used before. The inputs lie in the image one
  // behind the other. A result that is too long for the reply waits to be fetched, once.
  kLink = 0x1004e,  // link:u64 count:u64 (type:i32 name:string bytes:u64)* image → logs bytes:u64
                    // [data] — asks
  kLinkedImage = 0x1004f,  // link:u64 transfer:u64 — asks

  // Launches: function:handle stream LaunchShape attribute_count:u64
  //           (id:i32 value[64])* parameter_bytes:u64 parameters
  kLaunch = 0x10050,
  kHostFunction = 0x10051,      // stream callback:u64; pushed when reached, then the stream waits
  kHostFunctionDone = 0x10052,  // callback:u64; the stream goes on

  // Streams and events.
  kCreateStream = 0x10060,       // stream:handle flags:u32 priority:i32
  kDestroyStream = 0x10061,      // stream:handle
  kSynchronizeStream = 0x10062,  // stream — waits
  kQueryStream = 0x10063,        // stream — asks
  kStreamWaitEvent = 0x10064,    // stream event:handle flags:u32
  kCreateEvent = 0x10065,        // event:handle flags:u32
  kDestroyEvent = 0x10066,       // event:handle
  kRecordEvent = 0x10067,        // event:handle stream flags:u32
  kQueryEvent = 0x10068,         // event:handle — asks
  kSynchronizeEvent = 0x10069,   // event:handle — waits
  kElapsedTime = 0x1006a,        // start:handle end:handle → milliseconds:f32 — asks

  // Executable graphs, by a number that the client has not used before. A node names the places of
  // earlier nodes that it follows. Host data is read and written when the graph gets there: the
  // number of a fetch is pushed as a host function's is, and HostFunctionDone carries the bytes as
  // the transfer kFetchedBit | number; a launch names one transfer for each node that sends.
  //   node := kind:u32 count:u64 place:u32* work       (GraphNodeKind says which work)
  kGraphNodes = 0x10070,  // graph:u64 count:u64 node* — gathers nodes
  kInstantiateGraph =
      0x10071,  // graph:u64 flags:u64 — of what was gathered, in its predecessor's place
  kDestroyGraph = 0x10072,  // graph:u64
  kLaunchGraph = 0x10073,   // graph:u64 stream count:u64 transfer:u64*
  kUploadGraph = 0x10074,   // graph:u64 stream

  // CUDA arrays, paid with credit (ArrayBytes), and what kernels read and write through numbers
  // that the driver chooses. Positions in an array count bytes, rows and slices.
  //   texture := kind:u32 array:handle-or-0 address:u64 format:u32 channels:u32 width:u64
  //              height:u64 pitch:u64      (CUresourcetype; of linear memory the width is in bytes)
  kCreateArray = 0x10080,    // array:handle vgpu:u32 ArrayShape — asks
  kDestroyArray = 0x10081,   // array:handle
  kCopyToArray = 0x10082,    // stream extent array:handle x:u64 y:u64 z:u64 from:plane
  kCopyFromArray = 0x10083,  // stream extent array:handle x:u64 y:u64 z:u64 to:plane
  kCopyBetweenArrays =
      0x10084,  // stream extent to:handle x:u64 y:u64 z:u64 from:handle x:u64 y:u64 z:u64
  kCreateTexture = 0x10085,   // texture TextureSampler → number:u64 — asks
  kDestroyTexture = 0x10086,  // number:u64
  kCreateSurface = 0x10087,   // array:handle → number:u64 — asks
  kDestroySurface = 0x10088,  // number:u64

  // A variable declared __managed__, at an address for host and device alike.
  kLibraryManaged = 0x10090,  // library:handle name:string → address:u64 bytes:u64 — asks
};

enum class GraphNodeKind : std::uint32_t {
  kEmpty = 0,   // nothing
  kKernel = 1,  // function:handle context:handle LaunchShape attribute_count:u64
                // (id:i32 value[64])* parameter_bytes:u64 parameters
  kCopy = 2,    // context:handle extent to:plane from:plane
  kFill = 3,    // context:handle address:u64 pitch:u64 element_bytes:u32 value:u32 width:u64
                // height:u64
  kHost = 4,    // callback:u64
  kFetch = 5,   // context:handle extent to:plane callback:u64
  kSend = 6,    // context:handle extent from:plane
  kRecord = 7,  // event:handle
  kWait = 8,    // event:handle
};
inline constexpr std::uint64_t kFetchedBit = std::uint64_t{1} << 63;
inline constexpr std::uint32_t kMaxGraphNodes = 1u << 20;  // Of one executable graph.
inline constexpr std::uint32_t kMaxGraphs = 1u << 16;      // Executable graphs of one session.

constexpr std::uint32_t IdOf(InternalCommand command) {
  return static_cast<std::uint32_t>(command);
}
inline constexpr std::uint32_t kFirstInternalId = 0x10000;
inline constexpr std::uint32_t kInternalIds = 0x100;  // One past the last: kFirstInternalId + this.

// Grid, block and the rest of a launch, as a structure: one copy instead of eight words.
struct LaunchShape {
  std::uint32_t grid[3];
  std::uint32_t block[3];
  std::uint32_t shared_bytes;
  std::uint32_t flags;  // kLaunchCooperative
};
static_assert(sizeof(LaunchShape) == 32);
inline constexpr std::uint32_t kLaunchCooperative = 1;

// CUDA_ARRAY3D_DESCRIPTOR.
struct ArrayShape {
  std::uint64_t width;  // Texels.
  std::uint64_t height;
  std::uint64_t depth;
  std::uint32_t format;
  std::uint32_t channels;
  std::uint32_t flags;
  std::uint32_t reserved;
};
static_assert(sizeof(ArrayShape) == 40);

// CUDA_TEXTURE_DESC.
struct TextureSampler {
  std::uint32_t address_mode[3];
  std::uint32_t filter_mode;
  std::uint32_t flags;
  std::uint32_t max_anisotropy;
  std::uint32_t mipmap_filter_mode;
  float mipmap_level_bias;
  float min_mipmap_level;
  float max_mipmap_level;
  float border[4];
};
static_assert(sizeof(TextureSampler) == 56);

// Bytes of one channel; 0 for formats that arrays here do not have.
constexpr std::uint64_t ChannelBytes(std::uint32_t format) {
  switch (format) {
    case 0x01:  // CU_AD_FORMAT_UNSIGNED_INT8
    case 0x08:
      return 1;
    case 0x02:
    case 0x09:
    case 0x10:  // HALF
      return 2;
    case 0x03:
    case 0x0a:
    case 0x20:  // FLOAT
      return 4;
    default:
      return 0;
  }
}

// What an array costs: devices keep texels in tiles of 64 bytes by 8 rows and give out whole pages.
// 0 for what no array can be.
constexpr std::uint64_t ArrayBytes(const ArrayShape& shape) {
  constexpr std::uint64_t kMost = std::uint64_t{1} << 18;
  const std::uint64_t texel = ChannelBytes(shape.format) * shape.channels;
  if (texel == 0 || shape.channels > 4 || shape.width == 0 || shape.width > kMost ||
      shape.height > kMost || shape.depth > kMost) {
    return 0;
  }
  const std::uint64_t row = (shape.width * texel + 63) / 64 * 64;
  const std::uint64_t rows = shape.height == 0 ? 1 : (shape.height + 7) / 8 * 8;
  const std::uint64_t slices = shape.depth == 0 ? 1 : shape.depth;
  return (row * rows * slices + 0xffff) / 0x10000 * 0x10000;
}

// Rows of a two- or three-dimensional copy, on either side.
struct CopyExtent {
  std::uint64_t row_bytes;
  std::uint64_t rows;
  std::uint64_t slices;
};
struct CopyPlane {
  std::uint64_t address;
  std::uint64_t pitch;
  std::uint64_t slice_pitch;
};
// Bytes of host memory that one copy command moves; larger copies travel as several.
inline constexpr std::uint64_t kMaxCopyBytes = std::uint64_t{32} << 20;
static_assert(sizeof(CopyExtent) == 24 && sizeof(CopyPlane) == 24);

}  // namespace farwarp::wire
