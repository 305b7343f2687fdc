// Graphs and sparse matrices: breadth-first search by frontiers, SpMV by rows and by warps, connected components by hooking.
#include <algorithm>
#include <numeric>
#include <vector>

#include "common.h"

__global__ void Expand(const int* rows, const int* columns, int* depth, const int* frontier, int size, int* next, int* next_size, int level) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= size) return;
  const int node = frontier[i];
  for (int e = rows[node]; e < rows[node + 1]; ++e) {
    if (atomicCAS(&depth[columns[e]], -1, level + 1) == -1) next[atomicAdd(next_size, 1)] = columns[e];
  }
}

__global__ void MultiplyRows(const int* rows, const int* columns, const double* values, const double* x, double* y, int n) {
  const int row = blockIdx.x * blockDim.x + threadIdx.x;
  if (row >= n) return;
  double sum = 0.0;
  for (int e = rows[row]; e < rows[row + 1]; ++e) sum += values[e] * x[columns[e]];
  y[row] = sum;
}

// A warp per row; its lanes' sums meet by shuffles.
__global__ void MultiplyWarps(const int* rows, const int* columns, const double* values, const double* x, double* y, int n) {
  const int row = (blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32;
  if (row >= n) return;
  double sum = 0.0;
  for (int e = rows[row] + lane; e < rows[row + 1]; e += 32) sum += values[e] * x[columns[e]];
  for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, offset);
  if (lane == 0) y[row] = sum;
}

__global__ void Hook(const int* rows, const int* columns, int* parent, int n, int* changed) {
  const int node = blockIdx.x * blockDim.x + threadIdx.x;
  if (node >= n) return;
  for (int e = rows[node]; e < rows[node + 1]; ++e) {
    const int mine = parent[node], other = parent[columns[e]];
    if (other < mine) atomicMin(&parent[mine], other), *changed = 1;
    else if (mine < other) atomicMin(&parent[other], mine), *changed = 1;
  }
}

__global__ void Jump(int* parent, int n) {
  const int node = blockIdx.x * blockDim.x + threadIdx.x;
  if (node < n) {
    while (parent[node] != parent[parent[node]]) parent[node] = parent[parent[node]];
  }
}

int main() {
  const int n = 3000, blocks = (n + 127) / 128;
  Random random(19);
  std::vector<std::vector<int>> edges(n);
  for (int i = 0; i < n; ++i) {  // Islands of 500, some hubs.
    for (int k = 0; k < (i % 97 == 0 ? 150 : 2); ++k) {
      const int j = i / 500 * 500 + static_cast<int>(random.Next() % 500);
      if (random.Next() % 8) edges[i].push_back(j), edges[j].push_back(i);
    }
  }
  std::vector<int> rows(1, 0), columns;
  std::vector<double> values, x(n), y(n);
  for (auto& list : edges) {
    columns.insert(columns.end(), list.begin(), list.end());
    rows.push_back(static_cast<int>(columns.size()));
  }
  for (size_t i = 0; i < columns.size(); ++i) values.push_back(static_cast<int>(random.Next() % 64) * 0.25);
  for (double& value : x) value = static_cast<int>(random.Next() % 100) - 50;
  int *d_rows, *d_columns, *d_depth, *d_frontier, *d_next, *d_size;
  double *d_values, *d_x, *d_y;
  CHECK(cudaMalloc(&d_rows, rows.size() * sizeof(int)));
  CHECK(cudaMalloc(&d_columns, columns.size() * sizeof(int)));
  CHECK(cudaMalloc(&d_values, values.size() * sizeof(double)));
  CHECK(cudaMalloc(&d_x, n * sizeof(double)));
  CHECK(cudaMalloc(&d_y, n * sizeof(double)));
  for (int** p : {&d_depth, &d_frontier, &d_next, &d_size}) CHECK(cudaMalloc(p, n * sizeof(int)));
  CHECK(cudaMemcpy(d_rows, rows.data(), rows.size() * sizeof(int), cudaMemcpyHostToDevice));
  CHECK(cudaMemcpy(d_columns, columns.data(), columns.size() * sizeof(int), cudaMemcpyHostToDevice));
  CHECK(cudaMemcpy(d_values, values.data(), values.size() * sizeof(double), cudaMemcpyHostToDevice));
  CHECK(cudaMemcpy(d_x, x.data(), n * sizeof(double), cudaMemcpyHostToDevice));

  std::vector<int> depth(n), expected(n, -1), queue(1, 0);
  expected[0] = 0;
  for (size_t at = 0; at < queue.size(); ++at) {
    for (int next : edges[queue[at]]) {
      if (expected[next] < 0) expected[next] = expected[queue[at]] + 1, queue.push_back(next);
    }
  }
  CHECK(cudaMemset(d_depth, 0xff, n * sizeof(int)));
  const int start = 0;
  int size = 1, level = 0;
  CHECK(cudaMemcpy(d_frontier, &start, sizeof start, cudaMemcpyHostToDevice));
  CHECK(cudaMemcpy(d_depth, &start, sizeof start, cudaMemcpyHostToDevice));
  for (; size > 0; ++level) {
    CHECK(cudaMemset(d_size, 0, sizeof(int)));
    Expand<<<(size + 127) / 128, 128>>>(d_rows, d_columns, d_depth, d_frontier, size, d_next, d_size, level);
    CHECK(cudaMemcpy(&size, d_size, sizeof size, cudaMemcpyDeviceToHost));
    std::swap(d_frontier, d_next);
  }
  CHECK(cudaMemcpy(depth.data(), d_depth, n * sizeof(int), cudaMemcpyDeviceToHost));
  bool ok = depth == expected;
  std::printf("search: %d levels, checksum %016llx\n", level, (unsigned long long)Checksum(depth.data(), n * sizeof(int)));

  for (const bool warps : {false, true}) {  // Quarters of small integers: every order gives the same sums.
    if (warps) MultiplyWarps<<<(n + 3) / 4, 128>>>(d_rows, d_columns, d_values, d_x, d_y, n);
    else MultiplyRows<<<blocks, 128>>>(d_rows, d_columns, d_values, d_x, d_y, n);
    CHECK(cudaMemcpy(y.data(), d_y, n * sizeof(double), cudaMemcpyDeviceToHost));
    for (int i = 0; i < n; ++i) {
      double sum = 0.0;
      for (int e = rows[i]; e < rows[i + 1]; ++e) sum += values[e] * x[columns[e]];
      ok = ok && sum == y[i];
    }
    std::printf("product %016llx\n", (unsigned long long)Checksum(y.data(), n * sizeof(double)));
  }

  std::vector<int> parent(n), root(n);
  std::iota(parent.begin(), parent.end(), 0);
  CHECK(cudaMemcpy(d_depth, parent.data(), n * sizeof(int), cudaMemcpyHostToDevice));
  for (int changed = 1; changed;) {
    CHECK(cudaMemset(d_size, 0, sizeof(int)));
    Hook<<<blocks, 128>>>(d_rows, d_columns, d_depth, n, d_size);
    Jump<<<blocks, 128>>>(d_depth, n);
    CHECK(cudaMemcpy(&changed, d_size, sizeof changed, cudaMemcpyDeviceToHost));
  }
  CHECK(cudaMemcpy(parent.data(), d_depth, n * sizeof(int), cudaMemcpyDeviceToHost));
  std::fill(root.begin(), root.end(), -1);
  for (int i = 0; i < n; ++i) {
    if (root[i] >= 0) continue;
    queue.assign(1, i);
    root[i] = i;
    for (size_t at = 0; at < queue.size(); ++at) {
      for (int next : edges[queue[at]]) {
        if (root[next] < 0) root[next] = i, queue.push_back(next);
      }
    }
  }
  ok = ok && parent == root;
  std::printf("components %016llx\n", (unsigned long long)Checksum(parent.data(), n * sizeof(int)));
  return Finish("graphSearch", ok);
}
