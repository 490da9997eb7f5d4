// The kernels, written once over an instruction set's vectors of floats. `Isa` gives their width, the usual
// operations on them, `Isa::template tile<R>`, the product of R rows with a panel, and `Isa::square`, which transposes.
#pragma once

#include <cmath>
#include <type_traits>
#include <utility>

#include "kernels.h"

namespace nimbed {

// body(0), body(1) ... body(N - 1), each with a constant: arrays that are indexed by them are kept in registers.
template <class Body, int... I>
__attribute__((always_inline)) inline void each_of(Body& body, std::integer_sequence<int, I...>) {
  (body(std::integral_constant<int, I>{}), ...);
}

template <int N, class Body>
__attribute__((always_inline)) inline void each(Body body) {
  each_of(body, std::make_integer_sequence<int, N>{});
}

// body(R, first) for tiles of R rows from `first` on, R a constant. Tiles of like height: 8 rows are 4 and 4, not 6
// and 2.
template <class Body>
__attribute__((always_inline)) inline void by_tiles(int rows, Body body) {
  for (int tiles = (rows + kTile - 1) / kTile, first = 0; first < rows; --tiles) {
    const int now = (rows - first + tiles - 1) / tiles;
    each<kTile>([&](auto i) {
      if (now == i + 1) body(std::integral_constant<int, i + 1>{}, first);
    });
    first += now;
  }
}

// A panel's weights, and those of the next, which are fetched from the third-level cache meanwhile: `step` bytes for
// every four inputs.
struct Stream {
  const int8_t *weights, *next;
  ptrdiff_t step;
};

template <class Isa>
struct VectorKernels {
  using F = typename Isa::F;
  static constexpr int kWidth = Isa::kWidth;
  static constexpr int kAbreast = 4;  // vectors that are computed together, lest one waits for its last result
  static constexpr int kStep = kAbreast * kWidth;

  // x * Phi(x) = max(x, 0) - |x| Phi(-|x|), where the root of Phi is nearly a polynomial: within 2.6e-5 of the exact
  // one everywhere, without a division, and exact where x is 0 or far from it. For vectors side by side: one alone
  // would wait for each of its products.
  static void gelu(F (&x)[kAbreast]) {
    constexpr float kRoot[] = {0.84062765f,    0.16575155f,    -0.054629111f,  // Phi(-t) = max(0, sum (-t)^i root[i])^4
                               -0.0085023748f, 0.0028413661f, 0.00049175339f};
    const F zero = Isa::all(0.0f);
    F below[kAbreast], root[kAbreast];
    each<kAbreast>([&](auto i) { below[i] = Isa::minus_abs(x[i]); });
    each<kAbreast>([&](auto i) { root[i] = Isa::fma(Isa::all(kRoot[5]), below[i], Isa::all(kRoot[4])); });
    each<4>([&](auto term) {
      each<kAbreast>([&](auto i) { root[i] = Isa::fma(root[i], below[i], Isa::all(kRoot[3 - term])); });
    });
    each<kAbreast>([&](auto i) { root[i] = Isa::max(root[i], zero); });
    each<kAbreast>([&](auto i) { root[i] = Isa::mul(root[i], root[i]); });
    each<kAbreast>([&](auto i) { root[i] = Isa::mul(root[i], root[i]); });
    each<kAbreast>([&](auto i) { x[i] = Isa::fma(below[i], root[i], Isa::max(x[i], zero)); });
  }

  template <Activation kActivation>
  static void activate(F (&x)[kAbreast]) {
    if constexpr (kActivation == Activation::gelu) gelu(x);
    if constexpr (kActivation == Activation::relu) {
      each<kAbreast>([&](auto i) { x[i] = Isa::max(x[i], Isa::all(0.0f)); });
    }
  }

  // int32 [R, 64] sums to floats.
  template <int R, Activation kActivation>
  static void finish(const int32_t* sums, const RowScale* scales, const Panel& panel, Base base, float* out,
                     ptrdiff_t stride) {
    for (int r = 0; r < R; ++r, sums += kPanel, out += stride, base.from += base.stride) {
      const F step = Isa::all(scales[r].step), low = Isa::all(scales[r].low);
      for (int c = 0; c < kPanel; c += kStep) {
        F x[kAbreast];
        each<kAbreast>([&](auto i) {
          const int at = c + i * kWidth;
          const F scaled = Isa::mul(Isa::from_int(sums + at), Isa::load(panel.scale + at));
          const F offset = Isa::fma(low, Isa::load(panel.sum + at), Isa::load(base.from + at));
          x[i] = Isa::fma(scaled, step, offset);
        });
        activate<kActivation>(x);
        each<kAbreast>([&](auto i) { Isa::store(out + c + i * kWidth, x[i]); });
      }
    }
  }

  template <int R, Activation kActivation>
  __attribute__((noinline)) static void some_rows(const uint8_t* a, ptrdiff_t a_stride, const RowScale* scales, int k,
                                                  const Panel& panel, const Stream& stream, const Base& base,
                                                  float* out, ptrdiff_t out_stride) {
    alignas(64) int32_t sums[R * kPanel];
    Isa::template tile<R>(a, a_stride, k, stream, sums);
    finish<R, kActivation>(sums, scales, panel, base, out, out_stride);
  }

  template <Activation kActivation>
  static void rows_by_panel(const uint8_t* a, ptrdiff_t a_stride, const RowScale* scales, int rows, int k,
                            const Panel& panel, const Base& base, float* out, ptrdiff_t out_stride) {
    const int tiles = (rows + kTile - 1) / kTile;  // each fetches its part of the next panel
    Stream stream{panel.weights, panel.next, 4 * kPanel / tiles};
    by_tiles(rows, [&](auto height, int first) {
      some_rows<height, kActivation>(a + first * a_stride, a_stride, scales + first, k, panel, stream,
                                     {base.from + first * base.stride, base.stride}, out + first * out_stride,
                                     out_stride);
      stream.next += k / 4 * stream.step;
    });
  }

  static void linear(const uint8_t* a, ptrdiff_t a_stride, const RowScale* scales, int rows, int k, const Panel& panel,
                     const Base& base, Activation activation, float* out, ptrdiff_t out_stride) {
    const auto run = activation == Activation::gelu   ? rows_by_panel<Activation::gelu>
                     : activation == Activation::relu ? rows_by_panel<Activation::relu>
                                                      : rows_by_panel<Activation::none>;
    run(a, a_stride, scales, rows, k, panel, base, out, out_stride);
  }

  static RowScale quantise_between(const float* x, F least, F most, int width, uint8_t* q) {
    const float low = Isa::reduce_min(least), range = Isa::reduce_max(most) - low;
    const F inverse = Isa::all(range > 0 ? 255.0f / range : 0.0f), base = Isa::all(low);
    for (int i = 0; i < width; i += kWidth) Isa::store_u8(q + i, Isa::mul(Isa::sub(Isa::load(x + i), base), inverse));
    return {range / 255.0f, low};
  }

  static RowScale quantise(const float* x, int width, uint8_t* q) {
    F least[kAbreast], most[kAbreast];
    each<kAbreast>([&](auto c) { least[c] = most[c] = Isa::load(x + c * kWidth); });
    for (int i = kStep; i < width; i += kStep) {
      each<kAbreast>([&](auto c) {
        const F value = Isa::load(x + i + c * kWidth);
        least[c] = Isa::min(least[c], value), most[c] = Isa::max(most[c], value);
      });
    }
    each<kAbreast - 1>([&](auto c) {
      least[0] = Isa::min(least[0], least[c + 1]), most[0] = Isa::max(most[0], most[c + 1]);
    });
    return quantise_between(x, least[0], most[0], width, q);
  }

  static float total_of(const F (&x)[kAbreast]) {
    return Isa::reduce_add(Isa::add(Isa::add(x[0], x[1]), Isa::add(x[2], x[3])));
  }

  static RowScale add_norm(const float* y, float* x, int size, int width, const Norm& norm, uint8_t* q) {
    F total[kAbreast], squares[kAbreast];
    each<kAbreast>([&](auto c) { total[c] = squares[c] = Isa::all(0.0f); });
    for (int i = 0; i < width; i += kStep) {
      each<kAbreast>([&](auto c) {
        const int at = i + c * kWidth;
        const F sum = Isa::add(Isa::load(x + at), Isa::load(y + at));
        Isa::store(x + at, sum);
        total[c] = Isa::add(total[c], sum);
      });
    }
    const float mean = total_of(total) / size;
    const F centre = Isa::all(mean);
    int i = 0;
    for (; i + kStep <= size; i += kStep) {
      each<kAbreast>([&](auto c) {
        const F off = Isa::sub(Isa::load(x + i + c * kWidth), centre);
        squares[c] = Isa::fma(off, off, squares[c]);
      });
    }
    for (; i + kWidth <= size; i += kWidth) {
      const F off = Isa::sub(Isa::load(x + i), centre);
      squares[0] = Isa::fma(off, off, squares[0]);
    }
    float variance = total_of(squares);
    for (; i < size; ++i) variance += (x[i] - mean) * (x[i] - mean);  // the padding is not of it
    const F factor = Isa::all(1.0f / Isa::sqrt(variance / size + norm.epsilon));
    F least = Isa::all(INFINITY), most = Isa::all(-INFINITY);
    alignas(64) float smoothed[kMostWidth];
    for (i = 0; i < width; i += kWidth) {
      const F standard = Isa::mul(Isa::sub(Isa::load(x + i), centre), factor);
      const F sum = Isa::fma(standard, Isa::load(norm.gamma + i), Isa::load(norm.beta + i));
      const F value = Isa::mul(sum, Isa::load(norm.smooth + i));
      Isa::store(x + i, sum);
      Isa::store(smoothed + i, value);
      least = Isa::min(least, value), most = Isa::max(most, value);
    }
    return quantise_between(smoothed, least, most, width, q);
  }

  // x = e^x for some x <= 0, abreast: 2^n times a polynomial (minimax) for 2^f, f from -1/2 to 1/2. The relative error
  // is 2e-7, and what rounding x / ln 2 gives: 6e-8 |x|.
  template <int N>
  static void exp(F (&x)[N]) {
    constexpr float kTerms[] = {1.0f, 0.69314694f, 0.24022232f, 0.055507794f, 0.0096719991f, 0.0013254603f};
    F whole[N], sum[N];
    each<N>([&](auto i) { x[i] = Isa::max(Isa::mul(x[i], Isa::all(1.44269504f)), Isa::all(-126.0f)); });
    each<N>([&](auto i) { whole[i] = Isa::round(x[i]); });
    each<N>([&](auto i) { x[i] = Isa::sub(x[i], whole[i]); });
    each<N>([&](auto i) { sum[i] = Isa::fma(Isa::all(kTerms[5]), x[i], Isa::all(kTerms[4])); });
    each<4>([&](auto term) {
      each<N>([&](auto i) { sum[i] = Isa::fma(sum[i], x[i], Isa::all(kTerms[3 - term])); });
    });
    each<N>([&](auto i) { x[i] = Isa::times_power_of_two(sum[i], whole[i]); });
  }

  // sink(r, c, sum) for the products of R rows with kColumns vectors of columns. A row has `depth` components, `across`
  // floats from one row to the next; the columns have one component after the other, `stride` floats apart.
  template <int R, int kColumns, class Sink>
  __attribute__((always_inline)) static void multiply(const float* rows, ptrdiff_t across, int depth,
                                                      const float* columns, ptrdiff_t stride, Sink sink) {
    F sums[R * kColumns];
    each<R * kColumns>([&](auto i) { sums[i] = Isa::all(0.0f); });
    for (int d = 0; d < depth; ++d, columns += stride) {
      F column[kColumns];
      each<kColumns>([&](auto c) { column[c] = Isa::load(columns + c * kWidth); });
      each<R>([&](auto r) {
        const F x = Isa::all(rows[r * across + d]);
        each<kColumns>([&](auto c) {
          constexpr int i = r * kColumns + c;
          sums[i] = Isa::fma(x, column[c], sums[i]);
        });
      });
    }
    each<R * kColumns>([&](auto i) { sink(i / kColumns, i % kColumns, sums[i]); });
  }

  // scores[r, columns] = q[r] . keys[:, columns].
  template <int R, int kColumns>
  static void score(const float* q, ptrdiff_t stride, const float* keys, int padded, int dim, float* scores) {
    multiply<R, kColumns>(q, stride, dim, keys, padded,
                          [&](int r, int c, F sum) { Isa::store(scores + r * padded + c * kWidth, sum); });
  }

  // out[r, columns] = weights[r] . v[:, columns] / totals[r].
  template <int R, int kColumns>
  static void gather(const float* weights, int padded, const float* v, ptrdiff_t stride, int length,
                     const float* totals, float* out, ptrdiff_t out_stride) {
    multiply<R, kColumns>(weights, padded, length, v, stride, [&](int r, int c, F sum) {
      Isa::store(out + r * out_stride + c * kWidth, Isa::mul(sum, Isa::all(1.0f / totals[r])));
    });
  }

  // scores[r, j] += distances[j - r].
  template <int R>
  static void add_distances(const float* distances, int padded, float* scores) {
    for (int r = 0; r < R; ++r, scores += padded)
      for (int j = 0; j < padded; j += kWidth)
        Isa::store(scores + j, Isa::add(Isa::load(scores + j), Isa::load(distances + j - r)));
  }

  // Turn rows of scores into weights, and give their sums.
  template <int R>
  static void soften(float* scores, int length, int padded, const float* distances, float* totals) {
    if (distances != nullptr) add_distances<R>(distances, padded, scores);
    F peak[R], total[R];
    each<R>([&](auto r) {
      for (int j = length; j < padded; ++j) scores[r * padded + j] = -INFINITY;  // keys that are not there
      peak[r] = Isa::load(scores + r * padded);
      for (int j = kWidth; j < padded; j += kWidth) peak[r] = Isa::max(peak[r], Isa::load(scores + r * padded + j));
    });
    each<R>([&](auto r) {
      peak[r] = Isa::all(Isa::reduce_max(peak[r]));
      total[r] = Isa::all(0.0f);
    });
    for (int j = 0; j < padded; j += kWidth) {
      F x[R];
      each<R>([&](auto r) { x[r] = Isa::sub(Isa::load(scores + r * padded + j), peak[r]); });
      exp(x);
      each<R>([&](auto r) {
        Isa::store(scores + r * padded + j, x[r]);
        total[r] = Isa::add(total[r], x[r]);
      });
    }
    each<R>([&](auto r) { totals[r] = Isa::reduce_add(total[r]); });
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
    soften<R>(scores, length, padded, distances, totals);
    int d = 0;
    for (; d + 2 * kWidth <= dim; d += 2 * kWidth) {
      gather<R, 2>(scores, padded, v + d, stride, length, totals, out + d, out_stride);
    }
    for (; d < dim; d += kWidth) gather<R, 1>(scores, padded, v + d, stride, length, totals, out + d, out_stride);
  }

  // to[dim, padded] = from[length, dim]; the columns beyond `length` are zero.
  static void transpose(const float* from, ptrdiff_t stride, int length, int dim, float* to, int padded) {
    for (int j = 0; j < padded; j += kWidth)
      for (int d = 0; d < dim; d += kWidth)
        Isa::square(from + j * stride + d, stride, length - j, to + d * padded + j, padded);
  }

  static void attend(const float* q, const float* k, const float* v, ptrdiff_t stride, int length, int dim,
                     const float* distances, float* out, ptrdiff_t out_stride, float* scratch) {
    const int padded = int(round_up(length, kWidth));
    float* keys = scratch;  // [dim, padded], so that a vector holds one component of many keys
    float* scores = scratch + padded * dim;
    transpose(k, stride, length, dim, keys, padded);
    by_tiles(length, [&](auto height, int first) {
      attend_rows<height>(q + first * stride, keys, v, stride, length, dim, distances ? distances - first : nullptr,
                          out + first * out_stride, out_stride, scores);
    });
  }
};

}  // namespace nimbed
