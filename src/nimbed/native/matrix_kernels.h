// Products of matrices for the builder, once per instruction set. Each sum has one order, so that a result is the same
// bits on every CPU and on any number of threads.
//
// A matrix lies in panels of kColumns<T> columns: the first columns of all rows, then the next. What a panel has beyond
// the last column is zero.
#pragma once

namespace nimbed {

template <class T>
constexpr int kColumns = int(256 / sizeof(T));  // 64 floats, 32 doubles

struct MatrixKernels {
  const char* name;

  // c -= a^T b: c[r] = fma(-a[k][r], b[k], c[r]), for one k after the other. All three have kColumns<T> numbers from
  // row to row; a[depth, rows] may begin within a panel, b[depth, kColumns<T>] and c[rows, kColumns<T>] begin a row.
  void (*subtract_floats)(const float* a, const float* b, int rows, int depth, float* c);
  void (*subtract_doubles)(const double* a, const double* b, int rows, int depth, double* c);

  void subtract(const float* a, const float* b, int rows, int depth, float* c) const {
    subtract_floats(a, b, rows, depth, c);
  }
  void subtract(const double* a, const double* b, int rows, int depth, double* c) const {
    subtract_doubles(a, b, rows, depth, c);
  }
};

// Plain C++, which the others are tested against.
extern const MatrixKernels kMatrixReference;
#if defined(NIMBED_X86)
extern const MatrixKernels kMatrixAvx2;
extern const MatrixKernels kMatrixAvx512;
#endif

// The kernels of that name, or the best that this CPU has for "auto"; nullptr where it cannot run them.
const MatrixKernels* find_matrix_kernels(const char* name);

}  // namespace nimbed
