// AVX-512 with VNNI (Intel from Cascade Lake on, AMD from Zen 4 on): vpdpbusd multiplies 64 pairs of 8 bits and adds
// them in fours to 16 sums of 32 bits, without overflow on the way.
#pragma once

#include <immintrin.h>

#include <cmath>

#include "avx2.h"

namespace nimbed {
namespace {

struct Avx512Vnni {
  using F = __m512;
  using I = __m512i;
  static constexpr int kTogether = 4, kRows = 6;
  static constexpr int columns(int) { return 4; }  // 6 rows have 24 sums in registers, the columns 4 and the row one

  static F splat(float x) { return _mm512_set1_ps(x); }
  static F load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, F x) { _mm512_storeu_ps(p, x); }
  static F load_u8(const uint8_t* p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
  }
  static F load_int(const int32_t* p) { return _mm512_cvtepi32_ps(_mm512_load_si512(p)); }
  static void store_u8(uint8_t* p, F x) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(x)));
  }
  static F add(F a, F b) { return _mm512_add_ps(a, b); }
  static F sub(F a, F b) { return _mm512_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static F min(F a, F b) { return _mm512_min_ps(a, b); }
  static F max(F a, F b) { return _mm512_max_ps(a, b); }
  static F div(F a, F b) { return _mm512_div_ps(a, b); }
  static F abs(F x) { return _mm512_abs_ps(x); }
  static F negative_abs(F x) { return _mm512_or_ps(x, splat(-0.0f)); }
  static F round(F x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static F times_power_of_two(F x, F power) {
    return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(power, splat(-126.0f), _CMP_NLT_UQ), x, power);
  }
  static F where_negative(F x, F a, F b) {
    return _mm512_mask_mov_ps(b, _mm512_movepi32_mask(_mm512_castps_si512(x)), a);
  }
  static F first(F x, int count) {
    return _mm512_maskz_mov_ps(__mmask16(count >= kLanes ? 0xffff : count <= 0 ? 0 : (1 << count) - 1), x);
  }
  static Avx2::F halves(F x) { return {_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1)}; }
  static float reduce_add(F x) { return Avx2::reduce_add(halves(x)); }
  static float reduce_min(F x) { return Avx2::reduce_min(halves(x)); }
  static float reduce_max(F x) { return Avx2::reduce_max(halves(x)); }
  static void prefetch(const char* p) { asm volatile("prefetcht0 %0" : : "m"(*p)); }

  static I zero_int() { return _mm512_setzero_si512(); }
  static F to_float(I x) { return _mm512_cvtepi32_ps(x); }
  static I load_pairs(const uint32_t* p) { return _mm512_loadu_si512(p); }
  static I to_int(F x) { return _mm512_cvtps_epi32(x); }
  static I add(I a, I b) { return _mm512_add_epi32(a, b); }
  static void store_int16(uint32_t* p, I x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtsepi32_epi16(x));
  }
  static void store_pairs(uint32_t* p, I first, I second) {
    _mm512_storeu_si512(p, _mm512_mask_blend_epi16(0xaaaaaaaa, first, _mm512_slli_epi32(second, 16)));
  }
  static I add_products(I sum, uint32_t x, I column) {
    return add_products_in_twos(sum, _mm512_set1_epi32(int(x)), column);
  }
  static float sqrt(float x) { return std::sqrt(x); }

  static constexpr int kTall = 14;  // rows of a tile in 8 bits: with the 2 vectors of a strip 28 sums are in registers

  template <int R, class Tile>
  static void tile(const Tile& tile, const Stream<int8_t>& stream) {
    const int8_t* weights = stream.weights;
    for (int c = 0; c < kPanel; c += kStrip, weights += tile.panel.strip()) strip<R>(tile, c, weights);
  }

  static constexpr int kUnaided = 4;  // so few rows are no faster than what the processor fetches by itself
  // Bytes from weights to those that are fetched for more rows, into the L2 cache: for what is to come into the L1
  // cache a core has too few places to wait in, and would read and multiply by turns.
  static constexpr ptrdiff_t kAhead = 8 << 10;

  // Columns of a strip from c on. A function of its own: inlined into a larger one, the compiler would spill the sums.
  template <int R, class Tile>
  __attribute__((noinline)) static void strip(const Tile& tile, int c, const int8_t* weights) {
    constexpr int kVectors = kStrip / kLanes;
    const uint8_t* a = tile.values;
    const ptrdiff_t stride = tile.stride;
    for (int g = 0; g < tile.panel.groups; ++g) {
      __m512i sums[R * kVectors];
      unroll<R * kVectors>([&](auto i) { sums[i] = _mm512_setzero_si512(); });
      unroll<kVectors>([&](auto v) { tile.prefetch(g, c + v * kLanes); });
      for (const uint8_t* end = tile.values + tile.panel.end(g); a < end; a += 4, weights += 4 * kStrip) {
        __m512i w[kVectors];
        unroll<kVectors>([&](auto v) {
          if (R > kUnaided) _mm_prefetch(weights + kAhead + v * 64, _MM_HINT_T1);
          w[v] = in_register(_mm512_loadu_si512(weights + v * 64));
        });
        unroll<R>([&](auto r) {
          int32_t four;
          __builtin_memcpy(&four, a + r * stride, 4);
          const __m512i x = _mm512_set1_epi32(four);
          unroll<kVectors>([&](auto v) {
            sums[r * kVectors + v] = add_products_in_fours(sums[r * kVectors + v], x, w[v]);
          });
        });
      }
      unroll<kVectors>([&](auto v) {
        const auto column = tile.column(g, c + v * kLanes);
        unroll<R>([&](auto r) { column.add(r, to_float(sums[r * kVectors + v])); });
      });
    }
  }

#if defined(__AVX512VNNI__)
  // Else the compiler, short of its favourite registers, would load the weights again for each row.
  template <class Vector>
  static Vector in_register(Vector x) {
    asm("" : "+v"(x));
    return x;
  }

  // The intrinsics give the sum a register of its own, and a move to it.
  static I add_products_in_twos(I sum, I x, I w) {
    asm("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w));
    return sum;
  }
  static I add_products_in_fours(I sum, I x, I w) {
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w));
    return sum;
  }
#else  // NIMBED_EMULATE_AVX512
  template <class Vector>
  static Vector in_register(Vector x) {
    return x;
  }
  static I add_products_in_twos(I sum, I x, I w) { return _mm512_dpwssd_epi32(sum, x, w); }
  static I add_products_in_fours(I sum, I x, I w) { return _mm512_dpbusd_epi32(sum, x, w); }
#endif

  // to[16, 16] = the transposed from[16, 16], of which `rows` are there; the others are zero.
  static void transpose(const float* from, ptrdiff_t stride, int rows, float* to, int padded) {
    __m512 r[16], t[16];
    for (int i = 0; i < 16; ++i) r[i] = i < rows ? _mm512_loadu_ps(from + i * stride) : _mm512_setzero_ps();
    for (int i = 0; i < 16; i += 2) {
      t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
      t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
      r[i] = _mm512_shuffle_ps(t[i], t[i + 2], 0x44);
      r[i + 1] = _mm512_shuffle_ps(t[i], t[i + 2], 0xee);
      r[i + 2] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0x44);
      r[i + 3] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    for (int i = 0; i < 4; ++i) {
      t[i] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0x88);
      t[i + 4] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0xdd);
      t[i + 8] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0x88);
      t[i + 12] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0xdd);
    }
    for (int i = 0; i < 4; ++i) {
      _mm512_storeu_ps(to + i * padded, _mm512_shuffle_f32x4(t[i], t[i + 8], 0x88));
      _mm512_storeu_ps(to + (i + 8) * padded, _mm512_shuffle_f32x4(t[i], t[i + 8], 0xdd));
      _mm512_storeu_ps(to + (i + 4) * padded, _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0x88));
      _mm512_storeu_ps(to + (i + 12) * padded, _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0xdd));
    }
  }
};

}  // namespace
}  // namespace nimbed
