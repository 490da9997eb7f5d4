// AVX-512 with VNNI. In attention, queries, keys, weights and values are rounded to 16 bits, of which vpdpwssd
// multiplies twice as many as there are floats in a vector; sums are exact, softmax is in floats. Numbers are as large
// as lets no sum overflow. The result is off by half a thousandth, a tenth of what rounding it to 8 bits costs next.
#include "avx512_vnni.h"

#include <algorithm>

#include "vector_attention.h"

namespace nimbed {
namespace {

using Vectors = VectorKernels<Avx512Vnni>;

// A pair of int16, the first in the lower half.
using Pair = uint32_t;

constexpr float kMaxSum = 2147483520.0f;  // the largest float below 2^31
constexpr float kValueLevels = 4095.0f;
constexpr float kTotalWeight = 393216.0f;  // of a row; with kValueLevels, what rounding adds to weights has room yet

// x = step * round(x * factor), and |x * factor| <= levels.
struct Scale {
  float factor, step;
  Scale(float largest, float levels)
      : factor(largest > 1e-30f ? levels / largest : 0.0f), step(largest > 1e-30f ? largest / levels : 0.0f) {}
};

// The largest |from[length, dim]|.
float max_abs(const float* from, ptrdiff_t stride, int length, int dim) {
  __m512 largest[4];
  unroll<4>([&](auto i) { largest[i] = _mm512_setzero_ps(); });
  for (int j = 0; j < length; j += 4) {
    for (int d = 0; d < dim; d += 16) {
      unroll<4>([&](auto i) {
        const float* row = from + std::min(j + i, length - 1) * stride;
        largest[i] = _mm512_max_ps(largest[i], _mm512_abs_ps(_mm512_loadu_ps(row + d)));
      });
    }
  }
  const __m512 first = _mm512_max_ps(largest[0], largest[1]), second = _mm512_max_ps(largest[2], largest[3]);
  return _mm512_reduce_max_ps(_mm512_max_ps(first, second));
}

__m512i rounded(const float* from, __m512 factor) {
  return _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(from), factor));
}

// A row of floats as pairs of neighbours, and their sum; `to` may begin where `from` does. `count`: a multiple of 16.
__m512i pair_up(const float* from, int count, float factor, Pair* to) {
  const __m512 all = _mm512_set1_ps(factor);
  __m512i sum = _mm512_setzero_si512();
  for (int i = 0; i < count; i += 16) {
    const __m512i x = rounded(from + i, all);
    sum = _mm512_add_epi32(sum, x);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i / 2), _mm512_cvtsepi32_epi16(x));
  }
  return sum;
}

// to[dim / 2, padded] = pairs of neighbours in each row of from[length, dim]; the columns beyond `length` are zero.
void pair_keys(const float* from, ptrdiff_t stride, int length, int dim, float factor, Pair* to, int padded) {
  alignas(64) float pairs[16 * 16], transposed[16 * 16];
  for (int j = 0; j < padded; j += 16) {
    const int rows = std::min(length - j, 16);
    for (int d = 0; d < dim; d += 32) {
      const int count = std::min(dim - d, 32);
      for (int r = 0; r < rows; ++r) {
        pair_up(from + (j + r) * stride + d, count, factor, reinterpret_cast<Pair*>(pairs + 16 * r));
      }
      Avx512Vnni::transpose(pairs, 16, rows, transposed, 16);
      for (int i = 0; i < count / 2; ++i) {
        _mm512_storeu_si512(to + (d / 2 + i) * padded + j, _mm512_load_si512(transposed + 16 * i));
      }
    }
  }
}

// to[(length + 1) / 2, dim] = pairs of a row of from[length, dim] and the next; zero is beyond the last.
void pair_rows(const float* from, ptrdiff_t stride, int length, int dim, float factor, Pair* to) {
  const __m512 all = _mm512_set1_ps(factor);
  for (int j = 0; j < length; j += 2, from += 2 * stride, to += dim) {
    for (int d = 0; d < dim; d += 16) {
      const __m512i next = j + 1 < length ? rounded(from + stride + d, all) : _mm512_setzero_si512();
      const __m512i upper = _mm512_slli_epi32(next, 16);
      _mm512_storeu_si512(to + d, _mm512_mask_blend_epi16(0xaaaaaaaa, rounded(from + d, all), upper));
    }
  }
}

// sums[16] += a.first * b.first + a.second * b.second; an intrinsic would take a register and a move more.
__m512i add_products(__m512i sum, __m512i a, __m512i b) {
  asm("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
  return sum;
}

// out[r, columns] = steps[r] * the products of R rows of pairs with kColumns vectors of columns.
template <int R, int kColumns>
__attribute__((noinline)) void multiply(const Pair* rows, ptrdiff_t row_stride, int pairs, const Pair* columns,
                                        ptrdiff_t stride, const float* steps, float* out, ptrdiff_t out_stride) {
  __m512i sums[R * kColumns];
  unroll<R * kColumns>([&](auto i) { sums[i] = _mm512_setzero_si512(); });
  for (int p = 0; p < pairs; ++p, columns += stride) {
    __m512i column[kColumns];
    unroll<kColumns>([&](auto c) { column[c] = _mm512_loadu_si512(columns + 16 * c); });
    unroll<R>([&](auto r) {
      const __m512i x = _mm512_set1_epi32(int(rows[r * row_stride + p]));
      unroll<kColumns>([&](auto c) {
        constexpr int i = r * kColumns + c;
        sums[i] = add_products(sums[i], x, column[c]);
      });
    });
  }
  unroll<R * kColumns>([&](auto i) {
    constexpr int r = i / kColumns, c = i % kColumns;
    const __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[i]), _mm512_set1_ps(steps[r]));
    _mm512_storeu_ps(out + r * out_stride + 16 * c, scaled);
  });
}

// The keys and values of a head: keys[dim / 2, padded], values[padded / 2, dim], and what a step of them is worth.
struct Head {
  const Pair *keys, *values;
  int length, padded, dim;
  float levels, key_step, value_step;
};

template <int R>
void attend_rows(const Head& head, const float* q, ptrdiff_t stride, const float* distances, float* out,
                 ptrdiff_t out_stride, float* scores) {
  const int padded = head.padded, dim = head.dim, components = dim / 2, tokens = (head.length + 1) / 2;  // in pairs
  Pair* queries = reinterpret_cast<Pair*>(scores + kTile * padded);
  Pair* weights = reinterpret_cast<Pair*>(scores);  // in the first half of each row of them
  float steps[R], totals[R];
  for (int r = 0; r < R; ++r) {
    const Scale scale(max_abs(q + r * stride, stride, 1, dim), head.levels);
    pair_up(q + r * stride, dim, scale.factor, queries + r * components);
    steps[r] = scale.step * head.key_step;
  }
  const auto score = [&](auto columns, int j) {
    multiply<R, columns>(queries, components, components, head.keys + j, padded, steps, scores + j, padded);
  };
  int j = 0;
  for (; j + 64 <= padded; j += 64) score(std::integral_constant<int, 4>{}, j);
  for (; j < padded; j += 16) score(std::integral_constant<int, 1>{}, j);
  VectorAttention<Avx512Vnni>::softmax_weights<R>(scores, head.length, padded, distances, totals);
  for (int r = 0; r < R; ++r) {
    const float factor = std::min(32767.0f, kTotalWeight / totals[r]);
    const __m512i sum = pair_up(scores + r * padded, padded, factor, weights + r * padded);
    steps[r] = head.value_step / float(_mm512_reduce_add_epi32(sum));  // of the rounded ones: equal ones stay a mean
  }
  const auto sum_values = [&](auto columns, int d) {
    multiply<R, columns>(weights, padded, tokens, head.values + d, dim, steps, out + d, out_stride);
  };
  int d = 0;
  for (; d + 64 <= dim; d += 64) sum_values(std::integral_constant<int, 4>{}, d);
  for (; d + 32 <= dim; d += 32) sum_values(std::integral_constant<int, 2>{}, d);
  for (; d < dim; d += 16) sum_values(std::integral_constant<int, 1>{}, d);
}

void attend(const Attention& a) {
  const int padded = int(round_up(a.length, 16));
  Pair* keys = reinterpret_cast<Pair*>(a.scratch);
  Pair* values = keys + padded * a.dim / 2;
  float* scores = a.scratch + padded * a.dim;  // [kTile, padded], and kTile queries
  const float levels = std::min(32767.0f, std::floor(std::sqrt(kMaxSum / a.dim)));
  const Scale key(max_abs(a.keys, a.stride, a.length, a.dim), levels), value(max_abs(a.values, a.stride, a.length, a.dim), kValueLevels);
  pair_keys(a.keys, a.stride, a.length, a.dim, key.factor, keys, padded);
  pair_rows(a.values, a.stride, a.length, a.dim, value.factor, values);
  const Head head{keys, values, a.length, padded, a.dim, levels, key.step, value.step};
  for_tiles(a.length, [&](auto height, int first) {
    attend_rows<height>(head, a.queries + first * a.stride, a.stride, a.distances ? a.distances - first : nullptr,
                        a.out + first * a.out_stride, a.out_stride, scores);
  });
}

}  // namespace

const Kernels kAvx512Vnni{"avx512_vnni", Vectors::linear, Vectors::quantize, Vectors::add_norm, attend};

}  // namespace nimbed
