// Attention in float32, written once over an instruction set's vectors of floats. `Isa` also gives `kAttentionColumns`,
// how many vectors of a row's scores are computed together, and `transpose`, of a square as wide as a vector.
#pragma once

#include <cmath>

#include "vector_kernels.h"

namespace nimbed {

template <class Isa>
struct VectorAttention {
  using F = typename Isa::F;
  static constexpr int kWidth = Isa::kWidth;

  // x = e^x for N vectors of x <= 0, side by side: 2^n times a polynomial (minimax) for 2^f, f from -1/2 to 1/2. The
  // relative error is 2e-7, and what rounding x / ln 2 gives: 6e-8 |x|.
  template <int N>
  static void exp(F (&x)[N]) {
    constexpr float kTerms[] = {1.0f, 0.69314694f, 0.24022232f, 0.055507794f, 0.0096719991f, 0.0013254603f};
    F whole[N], sum[N];
    unroll<N>([&](auto i) { x[i] = Isa::max(Isa::mul(x[i], Isa::splat(1.44269504f)), Isa::splat(-126.0f)); });
    unroll<N>([&](auto i) { whole[i] = Isa::round(x[i]); });
    unroll<N>([&](auto i) { x[i] = Isa::sub(x[i], whole[i]); });
    unroll<N>([&](auto i) { sum[i] = Isa::fma(Isa::splat(kTerms[5]), x[i], Isa::splat(kTerms[4])); });
    unroll<4>([&](auto term) {
      unroll<N>([&](auto i) { sum[i] = Isa::fma(sum[i], x[i], Isa::splat(kTerms[3 - term])); });
    });
    unroll<N>([&](auto i) { x[i] = Isa::times_power_of_two(sum[i], whole[i]); });
  }

  // store(r, c, sum) for the products of R rows with kColumns vectors of columns. A row has `depth` components, and
  // `row_stride` floats from it to the next; the columns have one component after the other, `stride` floats apart.
  template <int R, int kColumns, class Store>
  __attribute__((always_inline)) static void multiply(const float* rows, ptrdiff_t row_stride, int depth,
                                                      const float* columns, ptrdiff_t stride, Store store) {
    F sums[R * kColumns];
    unroll<R * kColumns>([&](auto i) { sums[i] = Isa::splat(0.0f); });
    for (int d = 0; d < depth; ++d, columns += stride) {
      F column[kColumns];
      unroll<kColumns>([&](auto c) { column[c] = Isa::load(columns + c * kWidth); });
      unroll<R>([&](auto r) {
        const F x = Isa::splat(rows[r * row_stride + d]);
        unroll<kColumns>([&](auto c) {
          constexpr int i = r * kColumns + c;
          sums[i] = Isa::fma(x, column[c], sums[i]);
        });
      });
    }
    unroll<R * kColumns>([&](auto i) { store(i / kColumns, i % kColumns, sums[i]); });
  }

  // scores[r, columns] = q[r] . keys[:, columns].
  template <int R, int kColumns>
  static void score(const float* q, ptrdiff_t stride, const float* keys, int padded, int dim, float* scores) {
    multiply<R, kColumns>(q, stride, dim, keys, padded,
                          [&](int r, int c, F sum) { Isa::store(scores + r * padded + c * kWidth, sum); });
  }

  // out[r, columns] = weights[r] . v[:, columns] / totals[r].
  template <int R, int kColumns>
  static void sum_values(const float* weights, int padded, const float* v, ptrdiff_t stride, int length,
                         const float* totals, float* out, ptrdiff_t out_stride) {
    multiply<R, kColumns>(weights, padded, length, v, stride, [&](int r, int c, F sum) {
      Isa::store(out + r * out_stride + c * kWidth, Isa::mul(sum, Isa::splat(1.0f / totals[r])));
    });
  }

  // scores[r, j] += distances[j - r].
  template <int R>
  static void add_distances(const float* distances, int padded, float* scores) {
    for (int r = 0; r < R; ++r, scores += padded)
      for (int j = 0; j < padded; j += kWidth)
        Isa::store(scores + j, Isa::add(Isa::load(scores + j), Isa::load(distances + j - r)));
  }

  // The first half of softmax: scores become weights, e^(score - the row's largest), and totals the rows' sums of them.
  template <int R>
  static void softmax_weights(float* scores, int length, int padded, const float* distances, float* totals) {
    if (distances != nullptr) add_distances<R>(distances, padded, scores);
    F peak[R], total[R];
    unroll<R>([&](auto r) {
      for (int j = length; j < padded; ++j) scores[r * padded + j] = -INFINITY;  // keys that are not there
      peak[r] = Isa::load(scores + r * padded);
      for (int j = kWidth; j < padded; j += kWidth) peak[r] = Isa::max(peak[r], Isa::load(scores + r * padded + j));
    });
    unroll<R>([&](auto r) {
      peak[r] = Isa::splat(Isa::reduce_max(peak[r]));
      total[r] = Isa::splat(0.0f);
    });
    for (int j = 0; j < padded; j += kWidth) {
      F x[R];
      unroll<R>([&](auto r) { x[r] = Isa::sub(Isa::load(scores + r * padded + j), peak[r]); });
      exp(x);
      unroll<R>([&](auto r) {
        Isa::store(scores + r * padded + j, x[r]);
        total[r] = Isa::add(total[r], x[r]);
      });
    }
    unroll<R>([&](auto r) { totals[r] = Isa::reduce_add(total[r]); });
  }

  template <int R>
  __attribute__((noinline)) static void attend_rows(const float* q, const float* keys, const float* v,
                                                    ptrdiff_t stride, int length, int dim, const float* distances,
                                                    float* out, ptrdiff_t out_stride, float* scores) {
    constexpr int kWide = Isa::kAttentionColumns;
    const int padded = int(round_up(length, kWidth));
    float totals[R];
    int j = 0;
    for (; j + kWide * kWidth <= padded; j += kWide * kWidth) {
      score<R, kWide>(q, stride, keys + j, padded, dim, scores + j);
    }
    for (; j < padded; j += kWidth) score<R, 1>(q, stride, keys + j, padded, dim, scores + j);
    softmax_weights<R>(scores, length, padded, distances, totals);
    int d = 0;
    for (; d + 2 * kWidth <= dim; d += 2 * kWidth) {
      sum_values<R, 2>(scores, padded, v + d, stride, length, totals, out + d, out_stride);
    }
    for (; d < dim; d += kWidth) sum_values<R, 1>(scores, padded, v + d, stride, length, totals, out + d, out_stride);
  }

  // to[dim, padded] = from[length, dim]; the columns beyond `length` are zero.
  static void transpose_keys(const float* from, ptrdiff_t stride, int length, int dim, float* to, int padded) {
    for (int j = 0; j < padded; j += kWidth)
      for (int d = 0; d < dim; d += kWidth)
        Isa::transpose(from + j * stride + d, stride, length - j, to + d * padded + j, padded);
  }

  static void attend(const Attention& a) {
    const int padded = int(round_up(a.length, kWidth));
    float* keys = a.scratch;  // [dim, padded], so that a vector holds one component of many keys
    float* scores = a.scratch + padded * a.dim;
    transpose_keys(a.keys, a.stride, a.length, a.dim, keys, padded);
    for_tiles(a.length, [&](auto height, int first) {
      attend_rows<height>(a.queries + first * a.stride, keys, a.values, a.stride, a.length, a.dim,
                          a.distances ? a.distances - first : nullptr, a.out + first * a.out_stride, a.out_stride,
                          scores);
    });
  }
};

}  // namespace nimbed
