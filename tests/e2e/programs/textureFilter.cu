// Reads images through texture objects: rotated with linear filtering, at texels, with each address
// mode, normalized bytes, layers, a volume, a cubemap, plain and pitched memory; compares what it
// can with the same arithmetic on the host.
#include <cmath>
#include <vector>

#include "common.h"

constexpr int kWidth = 61, kHeight = 47, kOut = 96;

__global__ void Rotate(cudaTextureObject_t image, float* out, float angle) {
  const int x = blockIdx.x * blockDim.x + threadIdx.x;
  const int y = blockIdx.y * blockDim.y + threadIdx.y;
  if (x >= kOut || y >= kOut) return;
  const float u = (x + 0.5f) / kOut - 0.5f, v = (y + 0.5f) / kOut - 0.5f;
  out[y * kOut + x] = tex2D<float>(image, u * cosf(angle) - v * sinf(angle) + 0.5f,
                                   u * sinf(angle) + v * cosf(angle) + 0.5f);
}

__global__ void Texels(cudaTextureObject_t image, uchar4* out) {
  const int x = blockIdx.x * blockDim.x + threadIdx.x;
  const int y = blockIdx.y * blockDim.y + threadIdx.y;
  if (x < kWidth && y < kHeight) out[y * kWidth + x] = tex2D<uchar4>(image, x + 0.5f, y + 0.5f);
}

__global__ void Shapes(cudaTextureObject_t layers, cudaTextureObject_t volume,
                       cudaTextureObject_t cube, cudaTextureObject_t bytes, float4* out) {
  const int i = threadIdx.x;
  const float t = (i + 0.25f) / blockDim.x;
  float4 r;
  r.x = tex2DLayered<float>(layers, t * 8, t * 4, i % 3);
  r.y = tex3D<float>(volume, t, 1 - t, t * t);
  r.z = texCubemap<float>(cube, t - 0.5f, (i % 7 - 3) * 0.2f, 0.5f - (i % 5) * 0.3f);
  const float4 b = tex1D<float4>(bytes, t);
  r.w = b.x + 2 * b.y + 4 * b.z + 8 * b.w;
  out[i] = r;
}

__global__ void Linear(cudaTextureObject_t memory, cudaTextureObject_t pitched, int n, int2* out) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) out[i] = make_int2(tex1Dfetch<int>(memory, i - 4), tex2D<int>(pitched, i % 10, i / 10));
}

cudaTextureObject_t Make(const cudaResourceDesc& resource, cudaTextureAddressMode address,
                         cudaTextureFilterMode filter, cudaTextureReadMode read, bool normalized) {
  cudaTextureDesc desc = {};
  for (auto& mode : desc.addressMode) mode = address;
  desc.filterMode = filter;
  desc.readMode = read;
  desc.normalizedCoords = normalized;
  cudaTextureObject_t object = 0;
  CHECK(cudaCreateTextureObject(&object, &resource, &desc, nullptr));
  cudaTextureDesc told = {};
  CHECK(cudaGetTextureObjectTextureDesc(&told, object));
  if (told.filterMode != filter || told.addressMode[0] != address) std::exit(3);
  return object;
}

cudaResourceDesc Of(cudaArray_t array) {
  cudaResourceDesc resource = {};
  resource.resType = cudaResourceTypeArray;
  resource.res.array.array = array;
  return resource;
}

template <typename T>
cudaArray_t Box(const std::vector<T>& data, int width, int height, int depth, unsigned flags) {
  const cudaChannelFormatDesc format = cudaCreateChannelDesc<T>();
  cudaArray_t array;
  CHECK(cudaMalloc3DArray(&array, &format, make_cudaExtent(width, height, depth), flags));
  cudaMemcpy3DParms copy = {};
  copy.srcPtr = make_cudaPitchedPtr(const_cast<T*>(data.data()), width * sizeof(T), width,
                                    height > 0 ? height : 1);
  copy.dstArray = array;
  copy.extent = make_cudaExtent(width, height > 0 ? height : 1, depth > 0 ? depth : 1);
  copy.kind = cudaMemcpyHostToDevice;
  CHECK(cudaMemcpy3D(&copy));
  return array;
}

std::vector<float> Floats(int count, uint32_t seed) {
  std::vector<float> values(count);
  Random random(seed);
  for (float& value : values) value = random.Uniform(-1.0f, 1.0f);
  return values;
}

// What the hardware does for clamped, normalized coordinates.
float Reference(const std::vector<float>& image, float s, float t) {
  const auto at = [&](int x, int y) {
    x = x < 0 ? 0 : x >= kWidth ? kWidth - 1 : x;
    y = y < 0 ? 0 : y >= kHeight ? kHeight - 1 : y;
    return double(image[y * kWidth + x]);
  };
  const double u = double(s) * kWidth - 0.5, v = double(t) * kHeight - 0.5;
  const double i = std::floor(u), j = std::floor(v);
  const double a = std::floor((u - i) * 256 + 0.5) / 256, b = std::floor((v - j) * 256 + 0.5) / 256;
  const int x = int(i), y = int(j);
  return float((1 - a) * (1 - b) * at(x, y) + a * (1 - b) * at(x + 1, y) +
               (1 - a) * b * at(x, y + 1) + a * b * at(x + 1, y + 1));
}

bool Rotation() {
  const std::vector<float> image = Floats(kWidth * kHeight, 1);
  const cudaChannelFormatDesc format = cudaCreateChannelDesc<float>();
  cudaArray_t array;
  CHECK(cudaMallocArray(&array, &format, kWidth, kHeight));
  CHECK(cudaMemcpy2DToArray(array, 0, 0, image.data(), kWidth * 4, kWidth * 4, kHeight,
                            cudaMemcpyHostToDevice));
  cudaChannelFormatDesc told;
  cudaExtent extent;
  unsigned flags;
  CHECK(cudaArrayGetInfo(&told, &extent, &flags, array));
  bool ok = told.x == 32 && extent.width == kWidth && extent.height == kHeight && flags == 0;
  float* out;
  CHECK(cudaMalloc(&out, kOut * kOut * 4));
  std::vector<float> got(kOut * kOut);
  const dim3 block(16, 16), grid(kOut / 16, kOut / 16);
  for (const auto mode : {cudaAddressModeWrap, cudaAddressModeClamp, cudaAddressModeMirror,
                          cudaAddressModeBorder}) {
    for (const auto filter : {cudaFilterModePoint, cudaFilterModeLinear}) {
      const auto object = Make(Of(array), mode, filter, cudaReadModeElementType, true);
      Rotate<<<grid, block>>>(object, out, 0.0f);
      CHECK(cudaMemcpy(got.data(), out, got.size() * 4, cudaMemcpyDeviceToHost));
      if (mode == cudaAddressModeClamp && filter == cudaFilterModeLinear) {
        for (int y = 0; y < kOut; ++y) {
          for (int x = 0; x < kOut; ++x) {
            const float s = ((x + 0.5f) / kOut - 0.5f) + 0.5f, t = ((y + 0.5f) / kOut - 0.5f) + 0.5f;
            ok = ok && std::fabs(got[y * kOut + x] - Reference(image, s, t)) < 0.02f;
          }
        }
      }
      Rotate<<<grid, block>>>(object, out, 0.7f);
      CHECK(cudaMemcpy(got.data(), out, got.size() * 4, cudaMemcpyDeviceToHost));
      std::printf("rotated, mode %d, filter %d: %016llx\n", mode, filter,
                  (unsigned long long)Checksum(got.data(), got.size() * 4));
      CHECK(cudaDestroyTextureObject(object));
    }
  }
  std::vector<float> back(image.size());
  CHECK(cudaMemcpy2DFromArray(back.data(), kWidth * 4, array, 0, 0, kWidth * 4, kHeight,
                              cudaMemcpyDeviceToHost));
  ok = ok && back == image;
  CHECK(cudaFree(out));
  CHECK(cudaFreeArray(array));
  return ok;
}

bool TexelsAsTheyAre() {
  std::vector<uchar4> image(kWidth * kHeight), got(image.size());
  Random random(2);
  for (uchar4& pixel : image) pixel = make_uchar4(random.Next(), random.Next(), random.Next(), 7);
  cudaArray_t array = Box(image, kWidth, kHeight, 0, 0);
  const auto object = Make(Of(array), cudaAddressModeClamp, cudaFilterModePoint,
                           cudaReadModeElementType, false);
  uchar4* out;
  CHECK(cudaMalloc(&out, image.size() * 4));
  Texels<<<dim3(4, 3), dim3(16, 16)>>>(object, out);
  CHECK(cudaMemcpy(got.data(), out, got.size() * 4, cudaMemcpyDeviceToHost));
  CHECK(cudaDestroyTextureObject(object));
  CHECK(cudaFreeArray(array));
  CHECK(cudaFree(out));
  return Checksum(image.data(), image.size() * 4) == Checksum(got.data(), got.size() * 4);
}

bool AllShapes() {
  cudaArray_t layers = Box(Floats(8 * 4 * 3, 3), 8, 4, 3, cudaArrayLayered);
  cudaArray_t volume = Box(Floats(9 * 7 * 5, 4), 9, 7, 5, 0);
  cudaArray_t cube = Box(Floats(4 * 4 * 6, 5), 4, 4, 6, cudaArrayCubemap);
  std::vector<uchar4> row(31);
  Random random(6);
  for (uchar4& pixel : row) {
    pixel = make_uchar4(random.Next(), random.Next(), random.Next(), random.Next());
  }
  cudaArray_t bytes = Box(row, 31, 0, 0, 0);
  constexpr auto kLinear = cudaFilterModeLinear;
  constexpr auto kElement = cudaReadModeElementType;
  const cudaTextureObject_t objects[] = {
      Make(Of(layers), cudaAddressModeClamp, kLinear, kElement, false),
      Make(Of(volume), cudaAddressModeMirror, kLinear, kElement, true),
      Make(Of(cube), cudaAddressModeClamp, kLinear, kElement, true),
      Make(Of(bytes), cudaAddressModeWrap, kLinear, cudaReadModeNormalizedFloat, true)};
  constexpr int kThreads = 256;
  float4* out;
  CHECK(cudaMalloc(&out, kThreads * sizeof(float4)));
  Shapes<<<1, kThreads>>>(objects[0], objects[1], objects[2], objects[3], out);
  std::vector<float4> got(kThreads);
  CHECK(cudaMemcpy(got.data(), out, kThreads * sizeof(float4), cudaMemcpyDeviceToHost));
  std::printf("layers, volume, cubemap, bytes: %016llx\n",
              (unsigned long long)Checksum(got.data(), kThreads * sizeof(float4)));
  for (const auto object : objects) CHECK(cudaDestroyTextureObject(object));
  for (const auto array : {layers, volume, cube, bytes}) CHECK(cudaFreeArray(array));
  CHECK(cudaFree(out));
  return true;
}

bool Memory() {
  constexpr int kCount = 100;
  std::vector<int> values(kCount);
  for (int i = 0; i < kCount; ++i) values[i] = i * i - 50;
  int *plain, *image;
  size_t pitch;
  int2* out;
  CHECK(cudaMalloc(&plain, kCount * 4));
  CHECK(cudaMallocPitch(&image, &pitch, 40, 10));
  CHECK(cudaMalloc(&out, (kCount + 8) * sizeof(int2)));
  CHECK(cudaMemcpy(plain, values.data(), kCount * 4, cudaMemcpyHostToDevice));
  CHECK(cudaMemcpy2D(image, pitch, values.data(), 40, 40, 10, cudaMemcpyHostToDevice));
  cudaResourceDesc linear = {}, pitched = {};
  linear.resType = cudaResourceTypeLinear;
  linear.res.linear.devPtr = plain;
  linear.res.linear.desc = cudaCreateChannelDesc<int>();
  linear.res.linear.sizeInBytes = kCount * 4;
  pitched.resType = cudaResourceTypePitch2D;
  pitched.res.pitch2D.devPtr = image;
  pitched.res.pitch2D.desc = cudaCreateChannelDesc<int>();
  pitched.res.pitch2D.width = pitched.res.pitch2D.height = 10;
  pitched.res.pitch2D.pitchInBytes = pitch;
  const auto a = Make(linear, cudaAddressModeClamp, cudaFilterModePoint, cudaReadModeElementType, false);
  const auto b = Make(pitched, cudaAddressModeClamp, cudaFilterModePoint, cudaReadModeElementType, false);
  Linear<<<1, 128>>>(a, b, kCount + 8, out);
  std::vector<int2> got(kCount + 8);
  CHECK(cudaMemcpy(got.data(), out, got.size() * sizeof(int2), cudaMemcpyDeviceToHost));
  bool ok = true;
  for (int i = 0; i < kCount + 8; ++i) {
    const int expected = i < 4 || i >= kCount + 4 ? 0 : values[i - 4];
    ok = ok && got[i].x == expected && (i >= kCount || got[i].y == values[i]);
  }
  cudaResourceDesc told = {};
  CHECK(cudaGetTextureObjectResourceDesc(&told, a));
  ok = ok && told.resType == cudaResourceTypeLinear && told.res.linear.devPtr == plain;
  CHECK(cudaDestroyTextureObject(a));
  CHECK(cudaDestroyTextureObject(b));
  CHECK(cudaFree(plain));
  CHECK(cudaFree(image));
  CHECK(cudaFree(out));
  return ok;
}

int main() {
  const bool ok[] = {Rotation(), TexelsAsTheyAre(), AllShapes(), Memory()};
  std::printf("rotation %d, texels %d, shapes %d, memory %d\n", ok[0], ok[1], ok[2], ok[3]);
  return Finish("textureFilter", ok[0] && ok[1] && ok[2] && ok[3]);
}
