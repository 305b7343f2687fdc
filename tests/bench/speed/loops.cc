#include "loops.h"

#include <algorithm>
#include <array>

#include "formulas.h"
#include "harness.h"

namespace farwarp::bench {

void AddLoop(const float* __restrict a, const float* __restrict b, float* __restrict sum,
             std::size_t begin, std::size_t end) {
  for (std::size_t i = begin; i < end; ++i) sum[i] = a[i] + b[i];
}

unsigned SumLoop(const unsigned* values, std::size_t begin, std::size_t end) {
  unsigned sum = 0;
  for (std::size_t i = begin; i < end; ++i) sum += values[i];
  return sum;
}

void HistogramLoop(const unsigned char* values, unsigned* bins, std::size_t begin,
                   std::size_t end) {
  for (std::size_t i = begin; i < end; ++i) ++bins[values[i]];
}

void StencilLoop(const float* __restrict from, float* __restrict to, std::size_t width,
                 std::size_t begin, std::size_t end) {
  for (std::size_t y = std::max<std::size_t>(begin, 1); y < std::min(end, width - 1); ++y) {
    const float* const row = from + y * width;
    for (std::size_t x = 1; x < width - 1; ++x)
      to[y * width + x] =
          0.5f * row[x] + 0.125f * (row[x - 1] + row[x + 1] + row[x - width] + row[x + width]);
  }
}

void MatmulLoop(const float* __restrict a, const float* __restrict b, float* __restrict c,
                std::size_t width, std::size_t begin, std::size_t end) {
  for (std::size_t i = begin; i < end; ++i) {
    float* const row = c + i * width;
    std::fill(row, row + width, 0.0f);
    for (std::size_t k = 0; k < width; ++k) {
      const float factor = a[i * width + k];
      for (std::size_t j = 0; j < width; ++j) row[j] += factor * b[k * width + j];
    }
  }
}

void BlackScholesLoop(const float* price, const float* strike, const float* years,
                      float* __restrict call, float* __restrict put, std::size_t begin,
                      std::size_t end) {
  for (std::size_t i = begin; i < end; ++i)
    PriceOption(price[i], strike[i], years[i], &call[i], &put[i]);
}

void NbodyLoop(const float* bodies, float* __restrict accelerations, std::size_t count,
               std::size_t begin, std::size_t end) {
  for (std::size_t i = begin; i < end; ++i) {
    const float* const here = bodies + 4 * i;
    float ax = 0.0f, ay = 0.0f, az = 0.0f;
    for (std::size_t j = 0; j < count; ++j) {
      const float* const other = bodies + 4 * j;
      const float dx = other[0] - here[0], dy = other[1] - here[1], dz = other[2] - here[2];
      const float inverse = 1.0f / std::sqrt(dx * dx + dy * dy + dz * dz + kSoftening);
      const float strength = other[3] * inverse * inverse * inverse;
      ax += dx * strength, ay += dy * strength, az += dz * strength;
    }
    float* const out = accelerations + 4 * i;
    out[0] = ax, out[1] = ay, out[2] = az, out[3] = 0.0f;
  }
}

void SoftmaxLoop(const float* __restrict from, float* __restrict to, std::size_t width,
                 std::size_t begin, std::size_t end) {
  for (std::size_t row = begin; row < end; ++row) {
    const float* const in = from + row * width;
    float* const out = to + row * width;
    float largest = in[0];
    for (std::size_t i = 1; i < width; ++i) largest = std::max(largest, in[i]);
    float sum = 0.0f;
    for (std::size_t i = 0; i < width; ++i) {
      out[i] = std::exp(in[i] - largest);
      sum += out[i];
    }
    const float scale = 1.0f / sum;
    for (std::size_t i = 0; i < width; ++i) out[i] *= scale;
  }
}

void LayernormLoop(const float* __restrict from, float* __restrict to, std::size_t width,
                   std::size_t begin, std::size_t end) {
  for (std::size_t row = begin; row < end; ++row) {
    const float* const in = from + row * width;
    float* const out = to + row * width;
    float sum = 0.0f;
    for (std::size_t i = 0; i < width; ++i) sum += in[i];
    const float mean = sum / static_cast<float>(width);
    float squares = 0.0f;
    for (std::size_t i = 0; i < width; ++i) squares += (in[i] - mean) * (in[i] - mean);
    const float scale = 1.0f / std::sqrt(squares / static_cast<float>(width) + kLayernormEpsilon);
    for (std::size_t i = 0; i < width; ++i) out[i] = (in[i] - mean) * scale;
  }
}

void RadixSortLoop(const std::vector<unsigned>& from, std::vector<unsigned>& to, unsigned cores) {
  using Counts = std::array<std::size_t, 256>;
  const std::size_t count = from.size();
  std::vector<unsigned> other(count);
  to.resize(count);
  for (unsigned shift = 0; shift < 32; shift += 8) {
    const unsigned* const source = shift == 0        ? from.data()
                                   : shift % 16 == 0 ? to.data()
                                                     : other.data();
    unsigned* const target = shift % 16 == 0 ? other.data() : to.data();
    std::vector<Counts> counts(cores, Counts{});
    Spread(cores, count, [&](unsigned part, std::size_t begin, std::size_t end) {
      Counts mine{};
      for (std::size_t i = begin; i < end; ++i) ++mine[source[i] >> shift & 255];
      counts[part] = mine;
    });
    std::size_t before = 0;
    for (unsigned digit = 0; digit < 256; ++digit) {
      for (Counts& part : counts) {
        const std::size_t here = part[digit];
        part[digit] = before;
        before += here;
      }
    }
    Spread(cores, count, [&](unsigned part, std::size_t begin, std::size_t end) {
      Counts at = counts[part];
      for (std::size_t i = begin; i < end; ++i) target[at[source[i] >> shift & 255]++] = source[i];
    });
  }
}

void ScanLoop(const std::vector<unsigned>& from, std::vector<unsigned>& to, unsigned cores) {
  to.resize(from.size());
  std::vector<unsigned> starts(cores, 0);
  if (cores > 1) {
    std::vector<unsigned> sums(cores, 0);
    Spread(cores, from.size(), [&](unsigned part, std::size_t begin, std::size_t end) {
      sums[part] = SumLoop(from.data(), begin, end);
    });
    for (unsigned part = 1; part < cores; ++part) starts[part] = starts[part - 1] + sums[part - 1];
  }
  Spread(cores, from.size(), [&](unsigned part, std::size_t begin, std::size_t end) {
    unsigned sum = starts[part];
    for (std::size_t i = begin; i < end; ++i) {
      to[i] = sum;
      sum += from[i];
    }
  });
}

}  // namespace farwarp::bench
