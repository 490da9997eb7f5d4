// AVX2 with FMA (Intel from Haswell on, AMD from Zen on). Its product of 8 bits, vpmaddubsw, saturates at 16 bits; so
// both sides are widened to 16 bits first, where vpmaddwd is exact: 16 products, added in pairs to 8 sums of 32 bits.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cmath>

#include "vector.h"

namespace nimbed {
namespace {

struct Avx2 {
  struct F {  // 16 floats
    __m256 low, high;
  };
  struct I {  // 16 sums of 32 bits, or pairs of 16 bits
    __m256i low, high;
  };
  static constexpr int kTogether = 2;  // vectors of an activation that are computed together
  static constexpr int kRows = 2;      // and rows of a softmax
  // Vectors of a product's columns beside R rows: 6 rows have 12 sums in registers, the column 2 and the row one.
  static constexpr int columns(int rows) { return rows > 2 ? 1 : rows == 2 ? 2 : 4; }

  static F splat(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
  static F load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
  static void store(float* p, F x) { _mm256_storeu_ps(p, x.low), _mm256_storeu_ps(p + 8, x.high); }
  static F load_int(const int32_t* p) { return to_float(load_pairs(reinterpret_cast<const uint32_t*>(p))); }
  static F load_u8(const uint8_t* p) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return to_float({_mm256_cvtepu8_epi32(bytes), _mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8))});
  }
  static void store_u8(uint8_t* p, F x) {
    const I whole = to_int(min(x, splat(255.0f)));  // 255 too where x is no number
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32(whole.low, whole.high), 0xd8);
    const __m128i low = _mm256_castsi256_si128(words), high = _mm256_extracti128_si256(words, 1);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(low, high));
  }
  static F add(F a, F b) { return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)}; }
  static F sub(F a, F b) { return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)}; }
  static F mul(F a, F b) { return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)}; }
  static F div(F a, F b) { return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)}; }
  static F fma(F a, F b, F c) {
    return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
  }
  static F min(F a, F b) { return {_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)}; }
  static F max(F a, F b) { return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)}; }
  static F abs(F x) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return {_mm256_andnot_ps(sign, x.low), _mm256_andnot_ps(sign, x.high)};
  }
  static F negative_abs(F x) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return {_mm256_or_ps(x.low, sign), _mm256_or_ps(x.high, sign)};
  }
  static F round(F x) {
    constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    return {_mm256_round_ps(x.low, kNearest), _mm256_round_ps(x.high, kNearest)};
  }
  // x * 2^power for whole numbers up to 127; 0 where they are below -126.
  static F times_power_of_two(F x, F power) {
    return {times_power_of_two(x.low, power.low), times_power_of_two(x.high, power.high)};
  }
  static __m256 times_power_of_two(__m256 x, __m256 power) {
    const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(power), _mm256_set1_epi32(127));
    const __m256 there = _mm256_cmp_ps(power, _mm256_set1_ps(-126.0f), _CMP_NLT_UQ);
    return _mm256_and_ps(there, _mm256_mul_ps(x, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23))));
  }
  // a where x has a sign, else b.
  static F where_negative(F x, F a, F b) {
    return {_mm256_blendv_ps(b.low, a.low, x.low), _mm256_blendv_ps(b.high, a.high, x.high)};
  }
  // x, but 0 from the lane `count` on.
  static F first(F x, int count) {
    const __m256i end = _mm256_set1_epi32(count), low = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i high = _mm256_add_epi32(low, _mm256_set1_epi32(8));
    return {_mm256_and_ps(x.low, _mm256_castsi256_ps(_mm256_cmpgt_epi32(end, low))),
            _mm256_and_ps(x.high, _mm256_castsi256_ps(_mm256_cmpgt_epi32(end, high)))};
  }
  static float reduce_add(F x) {
    return reduce(_mm256_add_ps(x.low, x.high), [](__m128 a, __m128 b) { return _mm_add_ps(a, b); });
  }
  static float reduce_min(F x) {
    return reduce(_mm256_min_ps(x.low, x.high), [](__m128 a, __m128 b) { return _mm_min_ps(a, b); });
  }
  static float reduce_max(F x) {
    return reduce(_mm256_max_ps(x.low, x.high), [](__m128 a, __m128 b) { return _mm_max_ps(a, b); });
  }
  static float sqrt(float x) { return std::sqrt(x); }
  static void prefetch(const char* p) { _mm_prefetch(p, _MM_HINT_T1); }
  static F in_register(F x) { return x; }

  template <class Combine>
  static float reduce(__m256 x, Combine combine) {
    __m128 rest = combine(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    rest = combine(rest, _mm_movehl_ps(rest, rest));
    return _mm_cvtss_f32(combine(rest, _mm_movehdup_ps(rest)));
  }

  static I zero_int() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
  static I to_int(F x) { return {_mm256_cvtps_epi32(x.low), _mm256_cvtps_epi32(x.high)}; }
  static F to_float(I x) { return {_mm256_cvtepi32_ps(x.low), _mm256_cvtepi32_ps(x.high)}; }
  static I load_pairs(const uint32_t* p) {
    const auto* from = reinterpret_cast<const __m256i*>(p);
    return {_mm256_loadu_si256(from), _mm256_loadu_si256(from + 1)};
  }
  static I add(I a, I b) { return {_mm256_add_epi32(a.low, b.low), _mm256_add_epi32(a.high, b.high)}; }
  static void store_int16(uint32_t* p, I x) {
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(x.low, x.high), 0xd8);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), words);
  }
  // Pairs of numbers that fit int16.
  static void store_pairs(uint32_t* p, I first, I second) {
    auto* to = reinterpret_cast<__m256i*>(p);
    _mm256_storeu_si256(to, _mm256_blend_epi16(first.low, _mm256_slli_epi32(second.low, 16), 0xaa));
    _mm256_storeu_si256(to + 1, _mm256_blend_epi16(first.high, _mm256_slli_epi32(second.high, 16), 0xaa));
  }
  // sum += x.first * column.first + x.second * column.second.
  static I add_products(I sum, uint32_t x, I column) {
    add_products(sum.low, sum.high, _mm256_set1_epi32(int(x)), column.low, column.high);
    return sum;
  }

  // Intrinsics would let the compiler multiply all first and spill the products.
  __attribute__((always_inline)) static void add_products(__m256i& sum0, __m256i& sum1, __m256i x, __m256i w0,
                                                          __m256i w1) {
    __m256i to0 = sum0, to1 = sum1, products;
    asm("vpmaddwd %4, %3, %2\n\tvpmaddwd %5, %3, %3\n\tvpaddd %2, %0, %0\n\tvpaddd %3, %1, %1"
        : "+x"(to0), "+x"(to1), "=&x"(products), "+x"(x)
        : "x"(w0), "x"(w1));
    sum0 = to0, sum1 = to1;
  }

  static constexpr int kTall = kTile;  // rows of a tile in 8 bits

  static constexpr int kDepth = 384;  // inputs that pass at once: a panel's weights of them stay in the L1 cache

  template <int R, class Tile>
  static void tile(const Tile& tile, const Stream<int8_t>& from) {
    alignas(64) int32_t sums[R * kPanel];
    Stream<int8_t> stream = from;
    for (int g = 0, begin = 0; g < tile.panel.groups; begin = tile.panel.end(g++)) {
      multiply<R>(tile.values + begin, tile.stride, tile.panel.end(g) - begin, tile.panel.strip(), stream, sums);
      for (int c = 0; c < kPanel; c += kLanes) {
        tile.prefetch(g, c);
        const auto column = tile.column(g, c);
        for (int r = 0; r < R; ++r) column.add(r, load_int(sums + r * kPanel + c));
      }
    }
  }

  // out[R, 64] = a[R, inputs] times the weights, which the stream has passed then.
  template <int R>
  __attribute__((noinline)) static void multiply(const uint8_t* a, ptrdiff_t stride, int inputs, ptrdiff_t strip,
                                                 Stream<int8_t>& stream, int32_t* out) {
    constexpr int kVectors = R > 2 ? 2 : 4;  // of sums in each row of a block
    alignas(64) uint16_t wide[R * kDepth];
    for (int begin = 0; begin < inputs; begin += kDepth) {
      const int depth = std::min(inputs - begin, kDepth);
      widen<R>(a + begin, stride, depth, wide);
      const ptrdiff_t fetched = depth / 4 * stream.step * 4 * kVectors / kPanel;
      for (int c = 0; c < kPanel; c += 4 * kVectors, stream.next += fetched) {
        for (ptrdiff_t i = 0; i < fetched; i += 64) prefetch(stream.next + i);
        block<R, kVectors>(wide, depth, stream.weights + c / kStrip * strip + c % kStrip * 4, begin > 0, out + c);
      }
      stream.weights += depth * kStrip;
    }
  }

  template <int R>
  static void widen(const uint8_t* a, ptrdiff_t stride, int depth, uint16_t* wide) {
    for (int i = 0; i < depth; i += 16) {
      unroll<R>([&](auto r) {
        const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(a + r * stride + i));
        _mm256_store_si256(reinterpret_cast<__m256i*>(wide + r * kDepth + i), _mm256_cvtepu8_epi16(bytes));
      });
    }
  }

  // out[R, 4 * kVectors] = a[R, depth] x weights, or has that added. A vector of sums has two for each of 4 columns: of
  // the even and of the odd pairs of inputs.
  template <int R, int kVectors>
  __attribute__((noinline)) static void block(const uint16_t* a, int depth, const int8_t* weights, bool adds,
                                              int32_t* out) {
    __m256i sums[R * kVectors];
    unroll<R * kVectors>([&](auto i) { sums[i] = _mm256_setzero_si256(); });
    for (int i = 0; i < depth; i += 4, a += 4, weights += 4 * kStrip) {
      __m256i w[kVectors];
      unroll<kVectors>([&](auto c) {
        w[c] = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(weights + 16 * c)));
      });
      unroll<R>([&](auto r) {
        int64_t four;
        __builtin_memcpy(&four, a + r * kDepth, 8);
        const __m256i x = _mm256_set1_epi64x(four);
        unroll<kVectors / 2>([&](auto c) {
          constexpr int j = r * kVectors + 2 * c;
          add_products(sums[j], sums[j + 1], x, w[2 * c], w[2 * c + 1]);
        });
      });
    }
    unroll<R * kVectors / 2>([&](auto i) {
      const __m256i both = _mm256_hadd_epi32(sums[2 * i], sums[2 * i + 1]);  // columns 0 1 4 5 2 3 6 7
      auto* to = reinterpret_cast<__m256i*>(out + i / (kVectors / 2) * kPanel + i % (kVectors / 2) * 8);
      const __m256i found = _mm256_permute4x64_epi64(both, 0xd8);
      _mm256_store_si256(to, adds ? _mm256_add_epi32(_mm256_load_si256(to), found) : found);
    });
  }

  // to[16, 16] = the transposed from[16, 16], of which `rows` are there; the others are zero.
  static void transpose(const float* from, ptrdiff_t stride, int rows, float* to, int padded) {
    for (int i = 0; i < 16; i += 8) {
      for (int j = 0; j < 16; j += 8) transpose_8(from + i * stride + j, stride, rows - i, to + j * padded + i, padded);
    }
  }

  static void transpose_8(const float* from, ptrdiff_t stride, int rows, float* to, int padded) {
    __m256 r[8], t[8];
    for (int i = 0; i < 8; ++i) r[i] = i < rows ? _mm256_loadu_ps(from + i * stride) : _mm256_setzero_ps();
    for (int i = 0; i < 8; i += 2) {
      t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
      t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
      r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
      r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
      r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
      r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    for (int i = 0; i < 4; ++i) {
      _mm256_storeu_ps(to + i * padded, _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
      _mm256_storeu_ps(to + (i + 4) * padded, _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
    }
  }
};

}  // namespace
}  // namespace nimbed
