// The builder's products with AVX2 and FMA.
#include <immintrin.h>

#include "matrix_tiles.h"

namespace nimbed {
namespace {

struct Floats {
  using T = float;
  using V = __m256;
  static constexpr int kWidth = 8;
  static constexpr int kVectors = 2;  // kTile x 2 sums, 2 of b and a factor: 15 of 16 registers

  static V splat(float x) { return _mm256_set1_ps(x); }
  static V load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, V x) { _mm256_storeu_ps(p, x); }
  static V subtract_product(V a, V b, V c) { return _mm256_fnmadd_ps(a, b, c); }
};

struct Doubles {
  using T = double;
  using V = __m256d;
  static constexpr int kWidth = 4;
  static constexpr int kVectors = 2;

  static V splat(double x) { return _mm256_set1_pd(x); }
  static V load(const double* p) { return _mm256_loadu_pd(p); }
  static void store(double* p, V x) { _mm256_storeu_pd(p, x); }
  static V subtract_product(V a, V b, V c) { return _mm256_fnmadd_pd(a, b, c); }
};

}  // namespace

const MatrixKernels kMatrixAvx2{"avx2", MatrixTiles<Floats>::subtract, MatrixTiles<Doubles>::subtract};

}  // namespace nimbed
