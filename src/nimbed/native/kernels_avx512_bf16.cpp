// AVX-512 with VNNI and BF16 (Intel: Cooper Lake, and from Sapphire Rapids on; AMD from Zen 4 on): queries, keys,
// weights and values of attention are rounded to bfloat16, whose products take half the time. Sums and the softmax
// are in 32 bits. The result is off by 2 to 4 thousandths, a third of what rounding it to 8 bits costs next.
#include <algorithm>

#include "avx512_vnni.h"

namespace nimbed {
namespace {

using Set = VectorKernels<Avx512Vnni>;

// A pair of bfloat16, the first in the lower half.
using Pair = uint32_t;

// sums[16] += a.first * b.first + a.second * b.second; an intrinsic would take a register and a move more.
__m512 add_products(__m512 sum, __m512i a, __m512i b) {
  asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
  return sum;
}

// sink(r, c, sum) for the products of R rows of pairs with kColumns vectors of columns.
template <int R, int kColumns, class Sink>
__attribute__((always_inline)) inline void multiply(const Pair* rows, ptrdiff_t row_stride, int pairs,
                                                    const Pair* columns, ptrdiff_t stride, Sink sink) {
  __m512 sums[R * kColumns];
  each<R * kColumns>([&](auto i) { sums[i] = _mm512_setzero_ps(); });
  for (int p = 0; p < pairs; ++p, columns += stride) {
    __m512i column[kColumns];
    each<kColumns>([&](auto c) { column[c] = _mm512_loadu_si512(columns + 16 * c); });
    each<R>([&](auto r) {
      const __m512i x = _mm512_set1_epi32(int(rows[r * row_stride + p]));
      each<kColumns>([&](auto c) {
        constexpr int i = r * kColumns + c;
        sums[i] = add_products(sums[i], x, column[c]);
      });
    });
  }
  each<R * kColumns>([&](auto i) { sink(i / kColumns, i % kColumns, sums[i]); });
}

// scores[r, columns] = q[r] . keys[:, columns].
template <int R, int kColumns>
__attribute__((noinline)) void score(const Pair* q, int pairs, const Pair* keys, int padded, float* scores) {
  multiply<R, kColumns>(q, pairs, pairs, keys, padded,
                        [&](int r, int c, __m512 sum) { _mm512_storeu_ps(scores + r * padded + 16 * c, sum); });
}

// out[r, columns] = weights[r] . v[:, columns] / totals[r].
template <int R, int kColumns>
__attribute__((noinline)) void gather(const Pair* weights, int padded, int pairs, const Pair* v, int dim,
                                      const float* totals, float* out, ptrdiff_t out_stride) {
  multiply<R, kColumns>(weights, padded, pairs, v, dim, [&](int r, int c, __m512 sum) {
    _mm512_storeu_ps(out + r * out_stride + 16 * c, _mm512_mul_ps(sum, _mm512_set1_ps(1.0f / totals[r])));
  });
}

// A row of floats as pairs of neighbours; `to` may begin where `from` does. `count`: a multiple of 16.
void pair_up(const float* from, int count, Pair* to) {
  for (int i = 0; i < count; i += 16) {
    const __m256i half = __m256i(_mm512_cvtneps_pbh(_mm512_loadu_ps(from + i)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i / 2), half);
  }
}

// to[dim / 2, padded] = pairs of neighbours in each row of from[length, dim]; the columns beyond `length` are zero.
void pair_keys(const float* from, ptrdiff_t stride, int length, int dim, Pair* to, int padded) {
  alignas(64) float pairs[16 * 16], turned[16 * 16];
  for (int j = 0; j < padded; j += 16) {
    const int rows = std::min(length - j, 16);
    for (int d = 0; d < dim; d += 32) {
      const int count = std::min(dim - d, 32);
      for (int r = 0; r < rows; ++r) {
        pair_up(from + (j + r) * stride + d, count, reinterpret_cast<Pair*>(pairs + 16 * r));
      }
      Avx512Vnni::square(pairs, 16, rows, turned, 16);
      for (int i = 0; i < count / 2; ++i) {
        _mm512_storeu_si512(to + (d / 2 + i) * padded + j, _mm512_load_si512(turned + 16 * i));
      }
    }
  }
}

// to[(length + 1) / 2, dim] = pairs of a row of from[length, dim] and the next; zero is beyond the last.
void pair_rows(const float* from, ptrdiff_t stride, int length, int dim, Pair* to) {
  const __m512i lower = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i upper = _mm512_add_epi32(lower, _mm512_set1_epi32(16));
  const __m512i order = _mm512_or_si512(lower, _mm512_slli_epi32(upper, 16));  // 0 16 1 17 ... in 16 bits
  for (int j = 0; j < length; j += 2, from += 2 * stride, to += dim) {
    for (int d = 0; d < dim; d += 16) {
      const __m512 row = _mm512_loadu_ps(from + d);
      const __m512 next = j + 1 < length ? _mm512_loadu_ps(from + stride + d) : _mm512_setzero_ps();
      _mm512_storeu_si512(to + d, _mm512_permutexvar_epi16(order, __m512i(_mm512_cvtne2ps_pbh(next, row))));
    }
  }
}

template <int R>
void attend_rows(const float* q, const Pair* keys, const Pair* v, ptrdiff_t stride, int length, int dim,
                 const float* distances, float* out, ptrdiff_t out_stride, float* scores) {
  const int padded = int(round_up(length, 16)), components = dim / 2, tokens = (length + 1) / 2;  // in pairs
  Pair* queries = reinterpret_cast<Pair*>(scores + kTile * padded);
  Pair* weights = reinterpret_cast<Pair*>(scores);  // in the first half of each row of them
  float totals[R];
  for (int r = 0; r < R; ++r) pair_up(q + r * stride, dim, queries + r * components);
  int j = 0;
  for (; j + 64 <= padded; j += 64) score<R, 4>(queries, components, keys + j, padded, scores + j);
  for (; j < padded; j += 16) score<R, 1>(queries, components, keys + j, padded, scores + j);
  Set::soften<R>(scores, length, padded, distances, totals);
  for (int r = 0; r < R; ++r) pair_up(scores + r * padded, padded, weights + r * padded);
  int d = 0;
  for (; d + 64 <= dim; d += 64) gather<R, 4>(weights, padded, tokens, v + d, dim, totals, out + d, out_stride);
  for (; d + 32 <= dim; d += 32) gather<R, 2>(weights, padded, tokens, v + d, dim, totals, out + d, out_stride);
  for (; d < dim; d += 16) gather<R, 1>(weights, padded, tokens, v + d, dim, totals, out + d, out_stride);
}

void attend(const float* q, const float* k, const float* v, ptrdiff_t stride, int length, int dim,
            const float* distances, float* out, ptrdiff_t out_stride, float* scratch) {
  const int padded = int(round_up(length, 16));
  Pair* keys = reinterpret_cast<Pair*>(scratch);  // [dim / 2, padded]
  Pair* values = keys + padded * dim / 2;         // [padded / 2, dim]
  float* scores = scratch + padded * dim;         // [kTile, padded], and kTile queries
  pair_keys(k, stride, length, dim, keys, padded);
  pair_rows(v, stride, length, dim, values);
  by_tiles(length, [&](auto height, int first) {
    attend_rows<height>(q + first * stride, keys, values, stride, length, dim, distances ? distances - first : nullptr,
                        out + first * out_stride, out_stride, scores);
  });
}

}  // namespace

const Kernels kAvx512Bf16{"avx512_bf16", Set::linear, Set::quantise, Set::add_norm, attend};

}  // namespace nimbed
