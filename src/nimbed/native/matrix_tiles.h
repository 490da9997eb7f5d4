// The product of matrices, written once over an instruction set's vectors. `Isa` gives the type of their numbers, how
// many there are in one, and how many vectors of a row are computed together.
#pragma once

#include "matrix_kernels.h"
#include "vector_kernels.h"

namespace nimbed {

template <class Isa>
struct MatrixTiles {
  using T = typename Isa::T;
  using V = typename Isa::V;
  static constexpr int kRow = kColumns<T>;
  static constexpr int kVectors = Isa::kVectors;
  static constexpr int kWide = kVectors * Isa::kWidth;

  // R rows and kWide columns: the sums stay in registers.
  template <int R>
  __attribute__((noinline)) static void tile(const T* a, const T* b, int depth, T* c) {
    V sums[R * kVectors];
    unroll<R * kVectors>([&](auto i) { sums[i] = Isa::load(c + i / kVectors * kRow + i % kVectors * Isa::kWidth); });
    for (; depth > 0; --depth, a += kRow, b += kRow) {
      V x[kVectors];
      unroll<kVectors>([&](auto v) { x[v] = Isa::load(b + v * Isa::kWidth); });
      unroll<R>([&](auto r) {
        const V factor = Isa::splat(a[r]);
        unroll<kVectors>([&](auto v) {
          constexpr int i = r * kVectors + v;
          sums[i] = Isa::subtract_product(factor, x[v], sums[i]);
        });
      });
    }
    unroll<R * kVectors>([&](auto i) { Isa::store(c + i / kVectors * kRow + i % kVectors * Isa::kWidth, sums[i]); });
  }

  static void subtract(const T* a, const T* b, int rows, int depth, T* c) {
    for_tiles(rows, [&](auto height, int first) {
      for (int column = 0; column < kRow; column += kWide) {
        tile<height>(a + first, b + column, depth, c + first * kRow + column);
      }
    });
  }
};

}  // namespace nimbed
