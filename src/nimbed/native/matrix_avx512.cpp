// The builder's products with AVX-512.
#include <immintrin.h>

#include "matrix_tiles.h"

namespace nimbed {
namespace {

struct Floats {
  using T = float;
  using V = __m512;
  static constexpr int kWidth = 16;
  static constexpr int kVectors = 4;  // kTile x 4 sums, 4 of b and a factor: 29 of 32 registers

  static V splat(float x) { return _mm512_set1_ps(x); }
  static V load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, V x) { _mm512_storeu_ps(p, x); }
  static V subtract_product(V a, V b, V c) { return _mm512_fnmadd_ps(a, b, c); }
};

struct Doubles {
  using T = double;
  using V = __m512d;
  static constexpr int kWidth = 8;
  static constexpr int kVectors = 4;

  static V splat(double x) { return _mm512_set1_pd(x); }
  static V load(const double* p) { return _mm512_loadu_pd(p); }
  static void store(double* p, V x) { _mm512_storeu_pd(p, x); }
  static V subtract_product(V a, V b, V c) { return _mm512_fnmadd_pd(a, b, c); }
};

}  // namespace

const MatrixKernels kMatrixAvx512{"avx512", MatrixTiles<Floats>::subtract, MatrixTiles<Doubles>::subtract};

}  // namespace nimbed
