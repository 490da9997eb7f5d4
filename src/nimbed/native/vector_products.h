// What multiplies queries with keys and weights with values in attention: pairs of 16 bits, or floats.
//
// In 16 bits, queries, keys, weights and values are rounded to as many levels as let no sum overflow; sums are exact,
// softmax is in floats. The result is off by half a thousandth, a tenth of what rounding it to 8 bits costs next.
#pragma once

#include <algorithm>

#include "attention.h"
#include "vector.h"

namespace nimbed {

// Rows as a product reads them, `stride` numbers from one to the next.
template <class Number>
struct Rows {
  const Number* values;
  ptrdiff_t stride;
};

// Products of pairs of int16, two neighbours along the depth in 32 bits, the first in the lower half.
template <class Isa>
struct PairProducts {
  using F = typename Isa::F;
  using Number = uint32_t;
  using Vector = typename Isa::I;
  static constexpr int kNumbers = 2;

  static Vector zero() { return Isa::zero_int(); }
  static Vector load(const Number* p) { return Isa::load_pairs(p); }
  static Vector add_products(Vector sum, Number x, Vector column) { return Isa::add_products(sum, x, column); }
  static F to_float(Vector sum) { return Isa::to_float(sum); }

  static constexpr bool kRounds = true;

  explicit PairProducts(const Attention& a)
      : dim(a.dim), levels(key_levels(a.dim)), key(max_abs<4>(a.keys, a.key_stride, a.keys_count, dim), levels),
        value(max_abs<4>(a.values, a.key_stride, a.keys_count, dim), kValueLevels) {}

  // Rounds the keys and values from `first` on, `count` of them, by the largest of all that the text has.
  // keys [dim / 2, padded], values [padded / 2, dim].
  void prepare(const Attention& a, int first, int count, int padded, Number* new_keys, Number* new_values) {
    keys = new_keys, values = {new_values, dim};
    pair_keys(a.keys + first * a.key_stride, a.key_stride, count, key.factor, new_keys, padded);
    pair_rows(a.values + first * a.key_stride, a.key_stride, count, value.factor, new_values);
  }

  // R queries, and what a product of each with a key is to be multiplied by.
  template <int R>
  Rows<Number> queries(const float* from, ptrdiff_t stride, Number* to, float* steps) const {
    for (int r = 0; r < R; ++r, from += stride) {
      const Scale scale(max_abs<1>(from, stride, 1, dim), levels);
      pair_up(from, dim, scale.factor, to + r * dim / 2);
      steps[r] = scale.step * key.step;
    }
    return {to, dim / 2};
  }

  // R rows of weights, which take the first half of the floats' place, and the same for the values.
  template <int R>
  Rows<Number> weights(float* from, ptrdiff_t stride, int count, const float* totals, float* steps) const {
    Number* to = reinterpret_cast<Number*>(from);
    for (int r = 0; r < R; ++r) {
      const float factor = std::min(kMaxWeight, kTotalWeight / totals[r]);
      const Vector rounded = pair_up(from + r * stride, count, factor, to + r * stride);
      const float sum = Isa::reduce_add(Isa::to_float(rounded));  // exact: it is less than 2^24
      steps[r] = sum == 0 ? 0.0f : value.step / sum;  // of the rounded ones: equal ones stay a mean
    }
    return {to, stride};
  }

  // The largest |from[length, dim]|, of N rows in turn.
  template <int N>
  static float max_abs(const float* from, ptrdiff_t stride, int length, int dim) {
    F largest[N];
    unroll<N>([&](auto i) { largest[i] = Isa::splat(0.0f); });
    for (int j = 0; j < length; j += N) {
      for (int d = 0; d < dim; d += kLanes) {
        unroll<N>([&](auto i) {
          const float* row = from + std::min(j + i, length - 1) * stride;
          largest[i] = Isa::max(largest[i], Isa::abs(Isa::load(row + d)));
        });
      }
    }
    unroll<N - 1>([&](auto i) { largest[0] = Isa::max(largest[0], largest[i + 1]); });
    return Isa::reduce_max(largest[0]);
  }

  // A row of floats as pairs of neighbours, and their sum; `to` may begin where `from` does. `count`: a multiple of 16.
  static Vector pair_up(const float* from, int count, float factor, Number* to) {
    const F all = Isa::splat(factor);
    Vector sum = Isa::zero_int();
    for (int i = 0; i < count; i += kLanes) {
      const Vector x = Isa::to_int(Isa::mul(Isa::load(from + i), all));
      sum = Isa::add(sum, x);
      Isa::store_int16(to + i / 2, x);
    }
    return sum;
  }

  void pair_keys(const float* from, ptrdiff_t stride, int count, float factor, Number* to, int padded) const {
    alignas(64) float pairs[kLanes * kLanes], transposed[kLanes * kLanes];
    for (int j = 0; j < count; j += kLanes) {
      const int rows = std::min(count - j, kLanes);
      for (int d = 0; d < dim; d += 2 * kLanes) {
        const int width = std::min(dim - d, 2 * kLanes);
        for (int r = 0; r < rows; ++r) {
          pair_up(from + (j + r) * stride + d, width, factor, reinterpret_cast<Number*>(pairs + kLanes * r));
        }
        Isa::transpose(pairs, kLanes, rows, transposed, kLanes);
        for (int i = 0; i < width / 2; ++i) {
          Isa::store(reinterpret_cast<float*>(to + (d / 2 + i) * padded + j), Isa::load(transposed + kLanes * i));
        }
      }
    }
  }

  // to[(count + 1) / 2, dim] = pairs of a row of from[count, dim] and the next; zero is beyond the last.
  void pair_rows(const float* from, ptrdiff_t stride, int count, float factor, Number* to) const {
    const F all = Isa::splat(factor), zero = Isa::splat(0.0f);
    for (int j = 0; j < count; j += 2, from += 2 * stride, to += dim) {
      for (int d = 0; d < dim; d += kLanes) {
        const F next = j + 1 < count ? Isa::mul(Isa::load(from + stride + d), all) : zero;
        Isa::store_pairs(to + d, Isa::to_int(Isa::mul(Isa::load(from + d), all)), Isa::to_int(next));
      }
    }
  }

  int dim;
  float levels;
  Scale key, value;
  const Number* keys = nullptr;
  Rows<Number> values{};
};

// Products of floats, fused, one after the other along the depth.
template <class Isa>
struct FloatProducts {
  using F = typename Isa::F;
  using Number = float;
  using Vector = F;
  static constexpr int kNumbers = 1;

  static Vector zero() { return Isa::splat(0.0f); }
  static Vector load(const Number* p) { return Isa::load(p); }
  static Vector add_products(Vector sum, Number x, Vector column) { return Isa::fma(Isa::splat(x), column, sum); }
  static F to_float(Vector sum) { return sum; }

  static constexpr bool kRounds = false;

  explicit FloatProducts(const Attention&) {}

  // keys [dim, padded]; the values stay where they are.
  void prepare(const Attention& a, int first, int count, int padded, Number* new_keys, Number*) {
    keys = new_keys, values = {a.values + first * a.key_stride, a.key_stride};
    const float* from = a.keys + first * a.key_stride;
    for (int j = 0; j < count; j += kLanes) {
      for (int d = 0; d < a.dim; d += kLanes) {
        const int rows = std::min(count - j, kLanes);
        Isa::transpose(from + j * a.key_stride + d, a.key_stride, rows, new_keys + d * padded + j, padded);
      }
    }
  }

  template <int R>
  Rows<Number> queries(const float* from, ptrdiff_t stride, Number*, float* steps) const {
    std::fill_n(steps, R, 1.0f);
    return {from, stride};
  }

  template <int R>
  Rows<Number> weights(float* from, ptrdiff_t stride, int, const float* totals, float* steps) const {
    for (int r = 0; r < R; ++r) steps[r] = totals[r] == 0 ? 0.0f : 1.0f / totals[r];
    return {from, stride};
  }

  const Number* keys = nullptr;
  Rows<Number> values{};
};

}  // namespace nimbed
