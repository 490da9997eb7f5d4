// The kernels for one row of activations: rounding, norms, rotary positions.
#pragma once

#include "vector.h"

namespace nimbed {

template <class Isa>
struct VectorKernels {
  using F = typename Isa::F;
  static constexpr int kUnroll = 4;  // vectors that are computed in turn: one alone would wait for its last result
  static constexpr int kStep = kUnroll * kLanes;

  static RowScale quantize(const float* x, int width, uint8_t* q) {
    F low[kUnroll], high[kUnroll];
    unroll<kUnroll>([&](auto c) { low[c] = high[c] = Isa::load(x + c * kLanes); });
    for (int i = kStep; i < width; i += kStep) {
      unroll<kUnroll>([&](auto c) {
        const F value = Isa::load(x + i + c * kLanes);
        low[c] = Isa::min(low[c], value), high[c] = Isa::max(high[c], value);
      });
    }
    unroll<kUnroll - 1>([&](auto c) {
      low[0] = Isa::min(low[0], low[c + 1]), high[0] = Isa::max(high[0], high[c + 1]);
    });
    const float smallest = Isa::reduce_min(low[0]) + 0.0f;  // no -0
    const float range = Isa::reduce_max(high[0]) + 0.0f - smallest;
    const F inverse = Isa::splat(range > 0 ? 255.0f / range : 0.0f), base = Isa::splat(smallest);
    for (int i = 0; i < width; i += kLanes) Isa::store_u8(q + i, Isa::mul(Isa::sub(Isa::load(x + i), base), inverse));
    return {range / 255.0f, smallest};
  }

  static void remainder(const float* x, const uint8_t* q, RowScale scale, int width, float* rest) {
    const F step = Isa::splat(scale.step), low = Isa::splat(scale.low);
    for (int i = 0; i < width; i += kLanes) {
      Isa::store(rest + i, Isa::sub(Isa::load(x + i), Isa::fma(step, Isa::load_u8(q + i), low)));
    }
  }

  static float sum_of(const F (&x)[kUnroll]) {
    return Isa::reduce_add(Isa::add(Isa::add(x[0], x[2]), Isa::add(x[1], x[3])));
  }

  // x += branch, where there is one, and the sum of x, or of its squares.
  template <bool kSquares>
  static float add(const float* branch, float* x, int width) {
    F total[kUnroll];
    unroll<kUnroll>([&](auto c) { total[c] = Isa::splat(0.0f); });
    for (int i = 0; i < width; i += kStep) {
      unroll<kUnroll>([&](auto c) {
        const int at = i + c * kLanes;
        F sum = Isa::load(x + at);
        if (branch != nullptr) Isa::store(x + at, sum = Isa::add(sum, Isa::load(branch + at)));
        total[c] = kSquares ? Isa::fma(sum, sum, total[c]) : Isa::add(total[c], sum);
      });
    }
    return sum_of(total);
  }

  // The sum of (x - mean)^2, without the padding.
  static float squared_deviations(const float* x, float mean, int size) {
    const F centre = Isa::splat(mean);
    F squares[kUnroll];
    unroll<kUnroll>([&](auto c) { squares[c] = Isa::splat(0.0f); });
    const auto add_square = [&](auto c, F off) { squares[c] = Isa::fma(off, off, squares[c]); };
    int i = 0;
    for (; i + kStep <= size; i += kStep) {
      unroll<kUnroll>([&](auto c) { add_square(c, Isa::sub(Isa::load(x + i + c * kLanes), centre)); });
    }
    if (i < size) {
      unroll<kUnroll>([&](auto c) {
        const int at = i + c * kLanes;
        add_square(c, Isa::first(Isa::sub(Isa::load(x + at), centre), size - at));
      });
    }
    return sum_of(squares);
  }

  static void add_norm(const float* branch, float* x, const Norm& norm, int size, int width, float* normed) {
    const float mean = norm.rms ? 0.0f : add<false>(branch, x, width) / float(size);
    const float squares = norm.rms ? add<true>(branch, x, width) : squared_deviations(x, mean, size);
    const float variance = squares / float(size);
    const F centre = Isa::splat(mean), factor = Isa::splat(1.0f / Isa::sqrt(variance + norm.epsilon));
    for (int i = 0; i < width; i += kLanes) {
      const F standard = Isa::mul(Isa::sub(Isa::load(x + i), centre), factor);
      const F value = Isa::fma(standard, Isa::load(norm.gamma + i), Isa::load(norm.beta + i));
      if (!norm.keeps) Isa::store(x + i, value);
      Isa::store(normed + i, Isa::mul(value, Isa::load(norm.smooth + i)));
    }
  }

  static void norm_heads(float* x, int heads, int dim, const HeadNorm& norm) {
    for (int head = 0; head < heads; ++head, x += dim) {
      F squares = Isa::splat(0.0f);
      for (int i = 0; i < dim; i += kLanes) squares = Isa::fma(Isa::load(x + i), Isa::load(x + i), squares);
      const F factor = Isa::splat(1.0f / Isa::sqrt(Isa::reduce_add(squares) / float(norm.size) + norm.epsilon));
      for (int i = 0; i < dim; i += kLanes) {
        Isa::store(x + i, Isa::mul(Isa::mul(Isa::load(x + i), factor), Isa::load(norm.gamma + i)));
      }
    }
  }

  static void rotate(float* x, int heads, int dim, const float* rotation) {
    const int half = dim / 2;
    for (int head = 0; head < heads; ++head, x += dim) {
      for (int i = 0; i < half; i += kLanes) {
        const F a = Isa::load(x + i), b = Isa::load(x + half + i);
        const F cosine = Isa::load(rotation + i), sine = Isa::load(rotation + half + i);
        Isa::store(x + i, Isa::sub(Isa::mul(a, cosine), Isa::mul(b, sine)));
        Isa::store(x + half + i, Isa::add(Isa::mul(b, cosine), Isa::mul(a, sine)));
      }
    }
  }
};

}  // namespace nimbed
