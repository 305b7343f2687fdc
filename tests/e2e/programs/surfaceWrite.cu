// Writes images through surface objects and reads them back through surfaces, textures and copies:
// formats, vectors, layers, a volume, and what happens outside.
#include <vector>

#include "common.h"

constexpr int kWidth = 40, kHeight = 24;

__global__ void Fill(cudaSurfaceObject_t surface, int width, int height) {
  const int x = blockIdx.x * blockDim.x + threadIdx.x;
  const int y = blockIdx.y * blockDim.y + threadIdx.y;
  if (x < width && y < height) {
    surf2Dwrite(make_float2(x + 0.25f * y, x * y), surface, x * sizeof(float2), y);
  }
}

__global__ void Blur(cudaSurfaceObject_t in, cudaSurfaceObject_t out) {
  const int x = blockIdx.x * blockDim.x + threadIdx.x;
  const int y = blockIdx.y * blockDim.y + threadIdx.y;
  float2 sum = make_float2(0, 0);
  for (int dy = -1; dy <= 1; ++dy) {
    for (int dx = -1; dx <= 1; ++dx) {
      float2 one;
      surf2Dread(&one, in, (x + dx) * (int)sizeof(float2), y + dy, cudaBoundaryModeClamp);
      sum.x += one.x;
      sum.y += one.y;
    }
  }
  // Those outside are dropped.
  surf2Dwrite(sum, out, x * sizeof(float2), y, cudaBoundaryModeZero);
}

__global__ void Others(cudaSurfaceObject_t layers, cudaSurfaceObject_t volume,
                       cudaSurfaceObject_t bytes, int* out) {
  const int i = threadIdx.x;
  surf2DLayeredwrite((short)(i * 3), layers, (i % 8) * 2, i / 8 % 4, i / 32);
  surf3Dwrite(make_int4(i, -i, i * i, 1), volume, i % 4 * 16, i / 4 % 4, i / 16);
  surf1Dwrite((unsigned char)(i + 1), bytes, i);
  __syncthreads();
  const short a = surf2DLayeredread<short>(layers, (i % 8) * 2, i / 8 % 4, i / 32);
  const int4 b = surf3Dread<int4>(volume, i % 4 * 16, i / 4 % 4, i / 16);
  const unsigned char c = surf1Dread<unsigned char>(bytes, i + 1, cudaBoundaryModeZero);
  out[i] = a + b.x * 5 + b.y * 7 + b.z + b.w + c * 1000;
}

__global__ void Outside(cudaSurfaceObject_t surface) {
  surf2Dwrite(make_float2(1, 2), surface, 0, kHeight);
}

cudaSurfaceObject_t Open(cudaArray_t array) {
  cudaResourceDesc resource = {};
  resource.resType = cudaResourceTypeArray;
  resource.res.array.array = array;
  cudaSurfaceObject_t surface = 0;
  CHECK(cudaCreateSurfaceObject(&surface, &resource));
  return surface;
}

template <typename T>
cudaArray_t Make(int width, int height, int depth, unsigned flags) {
  const cudaChannelFormatDesc format = cudaCreateChannelDesc<T>();
  cudaArray_t array;
  CHECK(cudaMalloc3DArray(&array, &format, make_cudaExtent(width, height, depth),
                          flags | cudaArraySurfaceLoadStore));
  return array;
}

bool Images() {
  cudaArray_t first = Make<float2>(kWidth, kHeight, 0, 0), second = Make<float2>(kWidth, kHeight, 0, 0);
  const auto in = Open(first), out = Open(second);
  Fill<<<dim3(5, 3), dim3(8, 8)>>>(in, kWidth, kHeight);
  Blur<<<dim3(6, 4), dim3(8, 8)>>>(in, out);
  std::vector<float2> got(kWidth * kHeight);
  const size_t row = kWidth * sizeof(float2);
  CHECK(cudaMemcpy2DFromArray(got.data(), row, second, 0, 0, row, kHeight, cudaMemcpyDeviceToHost));
  bool ok = true;
  const auto clamp = [](int value, int last) { return value < 0 ? 0 : value > last ? last : value; };
  for (int y = 0; y < kHeight; ++y) {
    for (int x = 0; x < kWidth; ++x) {
      float2 sum = make_float2(0, 0);
      for (int dy = -1; dy <= 1; ++dy) {
        for (int dx = -1; dx <= 1; ++dx) {
          const int u = clamp(x + dx, kWidth - 1), v = clamp(y + dy, kHeight - 1);
          sum.x += u + 0.25f * v;
          sum.y += u * v;
        }
      }
      ok = ok && got[y * kWidth + x].x == sum.x && got[y * kWidth + x].y == sum.y;
    }
  }
  std::printf("blurred: %016llx\n", (unsigned long long)Checksum(got.data(), got.size() * 8));
  // A copy from array to array, at an offset, and back.
  CHECK(cudaMemcpy2DArrayToArray(first, 8, 1, second, 0, 0, row - 8, kHeight - 1,
                                 cudaMemcpyDeviceToDevice));
  std::vector<float2> moved(kWidth * kHeight);
  CHECK(cudaMemcpy2DFromArray(moved.data(), row, first, 0, 0, row, kHeight, cudaMemcpyDeviceToHost));
  for (int y = 1; y < kHeight; ++y) {
    for (int x = 1; x < kWidth; ++x) {
      ok = ok && moved[y * kWidth + x].y == got[(y - 1) * kWidth + x - 1].y;
    }
  }
  CHECK(cudaDestroySurfaceObject(in));
  CHECK(cudaDestroySurfaceObject(out));
  CHECK(cudaFreeArray(first));
  CHECK(cudaFreeArray(second));
  return ok;
}

bool Shapes() {
  cudaArray_t layers = Make<short>(8, 4, 2, cudaArrayLayered), volume = Make<int4>(4, 4, 4, 0),
              bytes = Make<unsigned char>(64, 0, 0, 0);
  const cudaSurfaceObject_t surfaces[] = {Open(layers), Open(volume), Open(bytes)};
  int* out;
  CHECK(cudaMalloc(&out, 64 * 4));
  Others<<<1, 64>>>(surfaces[0], surfaces[1], surfaces[2], out);
  std::vector<int> got(64);
  CHECK(cudaMemcpy(got.data(), out, 64 * 4, cudaMemcpyDeviceToHost));
  bool ok = true;
  for (int i = 0; i < 64; ++i) {
    ok = ok && got[i] == i * 3 + i * 5 - i * 7 + i * i + 1 + (i < 63 ? (i + 2) * 1000 : 0);
  }
  for (const auto surface : surfaces) CHECK(cudaDestroySurfaceObject(surface));
  for (const auto array : {layers, volume, bytes}) CHECK(cudaFreeArray(array));
  CHECK(cudaFree(out));
  return ok;
}

// The last: the context does not live on.
bool Trap() {
  cudaArray_t array = Make<float2>(kWidth, kHeight, 0, 0);
  Outside<<<1, 1>>>(Open(array));
  const cudaError_t error = cudaDeviceSynchronize();
  std::printf("a write outside: %s\n", error == cudaSuccess ? "unnoticed" : "an error");
  return error != cudaSuccess;
}

int main() {
  const bool images = Images(), shapes = Shapes(), trap = Trap();
  std::printf("images %d, shapes %d, trap %d\n", images, shapes, trap);
  return Finish("surfaceWrite", images && shapes && trap);
}
