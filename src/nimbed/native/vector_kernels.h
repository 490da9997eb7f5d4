// The kernels without attention, written once over an instruction set's vectors of floats. `Isa` gives their width, the
// usual operations on them, and `Isa::template tile<R>`, the product of R rows with a panel.
#pragma once

#include <cmath>
#include <type_traits>
#include <utility>

#include "kernels.h"

namespace nimbed {

// body(0), body(1) ... body(N - 1), each with a constant: arrays that are indexed by them are kept in registers.
template <class Body, int... I>
__attribute__((always_inline)) inline void unroll_indices(Body& body, std::integer_sequence<int, I...>) {
  (body(std::integral_constant<int, I>{}), ...);
}

template <int N, class Body>
__attribute__((always_inline)) inline void unroll(Body body) {
  unroll_indices(body, std::make_integer_sequence<int, N>{});
}

// body(R, first) for tiles of R rows from `first` on, R a constant. Tiles are of like height: 8 rows are 4 and
// 4, not 6 and 2.
template <class Body>
__attribute__((always_inline)) inline void for_tiles(int rows, Body body) {
  for (int tiles = (rows + kTile - 1) / kTile, first = 0; first < rows; --tiles) {
    const int height = (rows - first + tiles - 1) / tiles;
    unroll<kTile>([&](auto i) {
      if (height == i + 1) body(std::integral_constant<int, i + 1>{}, first);
    });
    first += height;
  }
}

// A panel's weights, and those of the next, which are prefetched from the third-level cache meanwhile: `step` bytes for
// every four inputs.
struct Stream {
  const int8_t *weights, *next;
  ptrdiff_t step;
};

template <class Isa>
struct VectorKernels {
  using F = typename Isa::F;
  static constexpr int kWidth = Isa::kWidth;
  static constexpr int kUnroll = 4;  // vectors that are computed together: one alone would wait for its last result
  static constexpr int kStep = kUnroll * kWidth;

  // x * Phi(x) = max(x, 0) - |x| Phi(-|x|), where the root of Phi is nearly a polynomial: within 2.6e-5 of the exact
  // one everywhere, without a division, and exact where x is 0 or far from it. For vectors side by side: one alone
  // would wait for each of its products.
  static void gelu(F (&x)[kUnroll]) {
    constexpr float kRoot[] = {0.84062765f,    0.16575155f,    -0.054629111f,  // Phi(-t) = max(0, sum (-t)^i root[i])^4
                               -0.0085023748f, 0.0028413661f, 0.00049175339f};
    const F zero = Isa::splat(0.0f);
    F below[kUnroll], root[kUnroll];
    unroll<kUnroll>([&](auto i) { below[i] = Isa::negative_abs(x[i]); });
    unroll<kUnroll>([&](auto i) { root[i] = Isa::fma(Isa::splat(kRoot[5]), below[i], Isa::splat(kRoot[4])); });
    unroll<4>([&](auto term) {
      unroll<kUnroll>([&](auto i) { root[i] = Isa::fma(root[i], below[i], Isa::splat(kRoot[3 - term])); });
    });
    unroll<kUnroll>([&](auto i) { root[i] = Isa::max(root[i], zero); });
    unroll<kUnroll>([&](auto i) { root[i] = Isa::mul(root[i], root[i]); });
    unroll<kUnroll>([&](auto i) { root[i] = Isa::mul(root[i], root[i]); });
    unroll<kUnroll>([&](auto i) { x[i] = Isa::fma(below[i], root[i], Isa::max(x[i], zero)); });
  }

  template <Activation kActivation>
  static void activate(F (&x)[kUnroll]) {
    if constexpr (kActivation == Activation::gelu) gelu(x);
    if constexpr (kActivation == Activation::relu) {
      unroll<kUnroll>([&](auto i) { x[i] = Isa::max(x[i], Isa::splat(0.0f)); });
    }
  }

  // out = activation(what the int32 sums [R, 64] stand for + addend).
  template <int R, Activation kActivation>
  static void dequantize(const int32_t* sums, const RowScale* scales, const Panel& panel, const Epilogue& then) {
    for (int r = 0; r < R; ++r, sums += kPanel) {
      const float* addend = then.addend + r * then.addend_stride;
      float* out = then.out + r * then.out_stride;
      const F step = Isa::splat(scales[r].step), low = Isa::splat(scales[r].low);
      for (int c = 0; c < kPanel; c += kStep) {
        F x[kUnroll];
        unroll<kUnroll>([&](auto i) {
          const int at = c + i * kWidth;
          const F scaled = Isa::mul(Isa::load_int(sums + at), Isa::load(panel.scale + at));
          const F offset = Isa::fma(low, Isa::load(panel.sum + at), Isa::load(addend + at));
          x[i] = Isa::fma(scaled, step, offset);
        });
        activate<kActivation>(x);
        unroll<kUnroll>([&](auto i) { Isa::store(out + c + i * kWidth, x[i]); });
      }
    }
  }

  template <int R, Activation kActivation>
  __attribute__((noinline)) static void linear_tile(const QuantizedRows& x, const Panel& panel, const Stream& stream,
                                                    const Epilogue& then) {
    alignas(64) int32_t sums[R * kPanel];
    Isa::template tile<R>(x.values, x.stride, panel.inputs, stream, sums);
    dequantize<R, kActivation>(sums, x.scales, panel, then);
  }

  template <Activation kActivation>
  static void linear_rows(const QuantizedRows& x, const Panel& panel, const Epilogue& then) {
    const int tiles = (x.rows + kTile - 1) / kTile;  // each prefetches its part of the next panel
    Stream stream{panel.weights, panel.next, 4 * kPanel / tiles};
    for_tiles(x.rows, [&](auto height, int first) {
      linear_tile<height, kActivation>({x.values + first * x.stride, x.stride, x.scales + first, height}, panel, stream,
                                       {then.addend + first * then.addend_stride, then.addend_stride, kActivation,
                                        then.out + first * then.out_stride, then.out_stride});
      stream.next += panel.inputs / 4 * stream.step;
    });
  }

  static void linear(const QuantizedRows& x, const Panel& weights, const Epilogue& then) {
    const auto run = then.activation == Activation::gelu   ? linear_rows<Activation::gelu>
                     : then.activation == Activation::relu ? linear_rows<Activation::relu>
                                                           : linear_rows<Activation::none>;
    run(x, weights, then);
  }

  static RowScale quantize(const float* x, int width, uint8_t* q) {
    F low[kUnroll], high[kUnroll];
    unroll<kUnroll>([&](auto c) { low[c] = high[c] = Isa::load(x + c * kWidth); });
    for (int i = kStep; i < width; i += kStep) {
      unroll<kUnroll>([&](auto c) {
        const F value = Isa::load(x + i + c * kWidth);
        low[c] = Isa::min(low[c], value), high[c] = Isa::max(high[c], value);
      });
    }
    unroll<kUnroll - 1>([&](auto c) {
      low[0] = Isa::min(low[0], low[c + 1]), high[0] = Isa::max(high[0], high[c + 1]);
    });
    const float min = Isa::reduce_min(low[0]), range = Isa::reduce_max(high[0]) - min;
    const F inverse = Isa::splat(range > 0 ? 255.0f / range : 0.0f), base = Isa::splat(min);
    for (int i = 0; i < width; i += kWidth) Isa::store_u8(q + i, Isa::mul(Isa::sub(Isa::load(x + i), base), inverse));
    return {range / 255.0f, min};
  }

  static float sum_of(const F (&x)[kUnroll]) {
    return Isa::reduce_add(Isa::add(Isa::add(x[0], x[1]), Isa::add(x[2], x[3])));
  }

  // x += y, and the sum of x.
  static float add(const float* y, float* x, int width) {
    F total[kUnroll];
    unroll<kUnroll>([&](auto c) { total[c] = Isa::splat(0.0f); });
    for (int i = 0; i < width; i += kStep) {
      unroll<kUnroll>([&](auto c) {
        const int at = i + c * kWidth;
        const F sum = Isa::add(Isa::load(x + at), Isa::load(y + at));
        Isa::store(x + at, sum);
        total[c] = Isa::add(total[c], sum);
      });
    }
    return sum_of(total);
  }

  // The sum of (x - mean)^2, without the padding.
  static float squared_deviations(const float* x, float mean, int size) {
    const F centre = Isa::splat(mean);
    F squares[kUnroll];
    unroll<kUnroll>([&](auto c) { squares[c] = Isa::splat(0.0f); });
    int i = 0;
    for (; i + kStep <= size; i += kStep) {
      unroll<kUnroll>([&](auto c) {
        const F off = Isa::sub(Isa::load(x + i + c * kWidth), centre);
        squares[c] = Isa::fma(off, off, squares[c]);
      });
    }
    for (; i + kWidth <= size; i += kWidth) {
      const F off = Isa::sub(Isa::load(x + i), centre);
      squares[0] = Isa::fma(off, off, squares[0]);
    }
    float sum = sum_of(squares);
    for (; i < size; ++i) sum += (x[i] - mean) * (x[i] - mean);
    return sum;
  }

  static void add_norm(const float* branch, float* x, const Norm& norm, int size, int width, float* normed) {
    const float mean = add(branch, x, width) / size;
    const float variance = squared_deviations(x, mean, size) / size;
    const F centre = Isa::splat(mean), factor = Isa::splat(1.0f / Isa::sqrt(variance + norm.epsilon));
    for (int i = 0; i < width; i += kWidth) {
      const F standard = Isa::mul(Isa::sub(Isa::load(x + i), centre), factor);
      const F sum = Isa::fma(standard, Isa::load(norm.gamma + i), Isa::load(norm.beta + i));
      Isa::store(x + i, sum);
      Isa::store(normed + i, Isa::mul(sum, Isa::load(norm.smooth + i)));
    }
  }
};

}  // namespace nimbed
