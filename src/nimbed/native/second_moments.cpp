// Second moments of a product's inputs.
#include "panels.h"
#include "rounding.h"

namespace nimbed {
namespace {

constexpr size_t kWidth = Panels<float>::kWidth;
constexpr size_t kBlock = 256;       // rows that are added in float
constexpr size_t kRows = 4 * kBlock;  // and those whose sums are added up before they go to memory

// panel[rows, kWidth] = columns of x from `first` on.
void pack(const float* x, size_t rows, size_t inputs, size_t first, float* panel) {
  const size_t count = std::min(kWidth, inputs - first);
  for (size_t r = 0; r < rows; ++r) std::copy_n(x + r * inputs + first, count, panel + r * kWidth);
}

// What one thread adds up in.
struct Sums {
  alignas(64) float block[kWidth * kWidth];
  alignas(64) double all[kWidth * kWidth];
};

// to.all = a^T b, over as many rows.
void multiply(const MatrixKernels& kernels, const float* a, const float* b, size_t rows, Sums& to) {
  std::fill_n(to.all, kWidth * kWidth, 0.0);
  for (size_t first = 0; first < rows; first += kBlock) {
    std::fill_n(to.block, kWidth * kWidth, 0.0f);
    const size_t from = first * kWidth;
    kernels.subtract(a + from, b + from, int(kWidth), int(std::min(kBlock, rows - first)), to.block);
    for (size_t i = 0; i < kWidth * kWidth; ++i) to.all[i] -= to.block[i];
  }
}

// Adds the tile to the lower triangle of sums[inputs, inputs].
void add(const Sums& tile, size_t row, size_t column, size_t inputs, double* sums) {
  for (size_t r = 0; r < std::min(kWidth, inputs - row); ++r) {
    double* to = sums + (row + r) * inputs + column;
    const size_t count = std::min(kWidth, row + r + 1 - column);
    for (size_t c = 0; c < count; ++c) to[c] += tile.all[r * kWidth + c];
  }
}

}  // namespace

void add_second_moments(const MatrixKernels& kernels, const float* x, size_t rows, size_t inputs, int threads,
                        double* sums) {
  const Panels<float> packed(std::min(rows, kRows), inputs);
  const size_t count = packed.count();
  for (size_t first = 0; first < rows; first += kRows, x += kRows * inputs) {
    const size_t now = std::min(kRows, rows - first);
    parallel_for(threads, count, [&](int, size_t p) { pack(x, now, inputs, p * kWidth, packed.panel(p)); });
    parallel_for(threads, count, [&](int, size_t i) {
      const size_t a = count - 1 - i;  // the longest row of tiles first
      Sums tile;
      for (size_t b = 0; b <= a; ++b) {
        multiply(kernels, packed.panel(a), packed.panel(b), now, tile);
        add(tile, a * kWidth, b * kWidth, inputs, sums);
      }
    });
  }
}

}  // namespace nimbed
