// AVX2 with FMA (Intel from Haswell on, AMD from Zen on). Its product of 8 bits, vpmaddubsw, saturates at 16 bits; so
// both sides are widened to 16 bits first, where vpmaddwd is exact: 16 products, added in pairs to 8 sums of 32 bits.
#include <immintrin.h>

#include <algorithm>
#include <cmath>

#include "vector_attention.h"

namespace nimbed {
namespace {

struct Avx2 {
  using F = __m256;
  static constexpr int kWidth = 8;
  static constexpr int kAttentionColumns = 2;  // kTile x 2 sums, 2 keys and a query: 15 of 16 registers

  static F splat(float x) { return _mm256_set1_ps(x); }
  static F load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, F x) { _mm256_storeu_ps(p, x); }
  static F load_int(const int32_t* p) {
    return _mm256_cvtepi32_ps(_mm256_load_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static void store_u8(uint8_t* p, F x) {
    const __m256i whole = _mm256_cvtps_epi32(_mm256_min_ps(x, splat(255.0f)));  // 255 too where x is no number
    const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(words, words));
  }
  static F add(F a, F b) { return _mm256_add_ps(a, b); }
  static F sub(F a, F b) { return _mm256_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm256_mul_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static F min(F a, F b) { return _mm256_min_ps(a, b); }
  static F max(F a, F b) { return _mm256_max_ps(a, b); }
  static F negative_abs(F x) { return _mm256_or_ps(x, splat(-0.0f)); }
  static F round(F x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  // `power` is a whole number from -126 to 127.
  static F times_power_of_two(F x, F power) {
    const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(power), _mm256_set1_epi32(127));
    return mul(x, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
  }
  static float reduce_add(F x) { return reduce(x, [](__m128 a, __m128 b) { return _mm_add_ps(a, b); }); }
  static float reduce_min(F x) { return reduce(x, [](__m128 a, __m128 b) { return _mm_min_ps(a, b); }); }
  static float reduce_max(F x) { return reduce(x, [](__m128 a, __m128 b) { return _mm_max_ps(a, b); }); }
  static float sqrt(float x) { return std::sqrt(x); }

  template <class Combine>
  static float reduce(F x, Combine combine) {
    __m128 rest = combine(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    rest = combine(rest, _mm_movehl_ps(rest, rest));
    return _mm_cvtss_f32(combine(rest, _mm_movehdup_ps(rest)));
  }

  static constexpr int kDepth = 384;  // inputs that pass at once: a panel's weights of them stay in the L1 cache

  template <int R>
  __attribute__((noinline)) static void tile(const uint8_t* a, ptrdiff_t stride, int k, Stream stream, int32_t* out) {
    constexpr int kVectors = R > 2 ? 2 : R == 2 ? 4 : 8;  // of sums in each row of a block
    alignas(64) uint16_t wide[R * kDepth];
    for (int i = 0; i < R * kPanel; i += 8) _mm256_store_si256(reinterpret_cast<__m256i*>(out + i), __m256i{});
    for (; k > 0; k -= kDepth, a += kDepth, stream.weights += kDepth * kPanel) {
      const int depth = std::min(k, kDepth);
      for (int r = 0; r < R; ++r) widen(a + r * stride, depth, wide + r * kDepth);
      for (int c = 0; c < kPanel; c += 4 * kVectors) {
        block<R, kVectors>(wide, depth, stream.weights + 4 * c, out + c);
      }
    }
  }

  static void widen(const uint8_t* a, int depth, uint16_t* wide) {
    for (int i = 0; i < depth; i += 16) {
      const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(a + i));
      _mm256_store_si256(reinterpret_cast<__m256i*>(wide + i), _mm256_cvtepu8_epi16(bytes));
    }
  }

  // out[R, 4 * kVectors] += a[R, depth] x weights. A vector of sums has two for each of 4 columns: of the even and of
  // the odd pairs of inputs.
  template <int R, int kVectors>
  __attribute__((noinline)) static void block(const uint16_t* a, int depth, const int8_t* weights, int32_t* out) {
    __m256i sums[R * kVectors];
    unroll<R * kVectors>([&](auto i) { sums[i] = _mm256_setzero_si256(); });
    for (int i = 0; i < depth; i += 4, a += 4, weights += 4 * kPanel) {
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
      _mm256_store_si256(to, _mm256_add_epi32(_mm256_load_si256(to), _mm256_permute4x64_epi64(both, 0xd8)));
    });
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

  // to[8, 8] = the transposed from[8, 8], of which `rows` are there; the others are zero.
  static void transpose(const float* from, ptrdiff_t stride, int rows, float* to, int padded) {
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

using Vectors = VectorKernels<Avx2>;

}  // namespace

const Kernels kAvx2{"avx2", Vectors::linear, Vectors::quantize, Vectors::add_norm, VectorAttention<Avx2>::attend};

}  // namespace nimbed
