// AVX-512's intrinsics on any CPU with AVX2, as SIMDe computes them: https://github.com/simd-everywhere/simde (MIT).
#pragma once

#include_next <immintrin.h>

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>

// What SIMDe 0.7.4 lacks.
namespace emulated {

template <class Half, class Whole>
struct Halves {
  explicit Halves(Half low, Half high) : low(low), high(high) {}
  explicit Halves(Whole x) { __builtin_memcpy(this, &x, sizeof x); }
  Whole whole() const {
    Whole x;
    __builtin_memcpy(&x, this, sizeof x);
    return x;
  }
  Half low, high;
};
using Floats = Halves<__m256, simde__m512>;
using Ints = Halves<__m256i, simde__m512i>;

inline simde__m512 cvtepi32_ps(simde__m512i x) {
  const Ints from(x);
  return Floats(_mm256_cvtepi32_ps(from.low), _mm256_cvtepi32_ps(from.high)).whole();
}
inline simde__m512i cvtps_epi32(simde__m512 x) {
  const Floats from(x);
  return Ints(_mm256_cvtps_epi32(from.low), _mm256_cvtps_epi32(from.high)).whole();
}
inline simde__m512i cvtepu8_epi32(__m128i x) {
  return Ints(_mm256_cvtepu8_epi32(x), _mm256_cvtepu8_epi32(_mm_srli_si128(x, 8))).whole();
}
inline __m128i cvtusepi32_epi8(simde__m512i x) {
  uint32_t from[16];
  uint8_t to[16];
  __builtin_memcpy(from, &x, sizeof from);
  for (int i = 0; i < 16; ++i) to[i] = from[i] < 255 ? from[i] : 255;
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(to));
}
inline __m256 extractf32x8_ps(simde__m512 x, int number) { return number == 0 ? Floats(x).low : Floats(x).high; }
// Quarters of a vector: two of a, then two of b.
inline simde__m512 shuffle_f32x4(simde__m512 a, simde__m512 b, int which) {
  __m128 from[8], to[4];
  __builtin_memcpy(from, &a, sizeof a);
  __builtin_memcpy(from + 4, &b, sizeof b);
  for (int i = 0; i < 4; ++i) to[i] = from[i / 2 * 4 + (which >> 2 * i & 3)];
  __builtin_memcpy(&a, to, sizeof a);
  return a;
}

}  // namespace emulated

#define _mm512_cvtepi32_ps emulated::cvtepi32_ps
#define _mm512_cvtps_epi32 emulated::cvtps_epi32
#define _mm512_cvtepu8_epi32 emulated::cvtepu8_epi32
#define _mm512_cvtusepi32_epi8 emulated::cvtusepi32_epi8
#define _mm512_extractf32x8_ps emulated::extractf32x8_ps
#define _mm512_shuffle_f32x4 emulated::shuffle_f32x4
