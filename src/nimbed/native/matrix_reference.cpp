// The builder's products in plain loops, and which of the others this CPU runs.
#include <cmath>
#include <cstring>

#include "cpu.h"
#include "matrix_kernels.h"

namespace nimbed {
namespace {

template <class T>
void subtract(const T* a, const T* b, int rows, int depth, T* c) {
  constexpr int kRow = kColumns<T>;
  for (int r = 0; r < rows; ++r) {
    for (int k = 0; k < depth; ++k) {
      for (int i = 0; i < kRow; ++i) c[r * kRow + i] = std::fma(-a[k * kRow + r], b[k * kRow + i], c[r * kRow + i]);
    }
  }
}

struct Choice {
  const MatrixKernels* kernels;
  bool (*runs)();
};

// Best first.
const Choice kChoices[] = {
#if defined(NIMBED_X86)
    {&kMatrixAvx512, cpu_has_avx512},
    {&kMatrixAvx2, cpu_has_avx2},
#endif
    {&kMatrixReference, [] { return true; }},
};

}  // namespace

const MatrixKernels kMatrixReference{"reference", subtract<float>, subtract<double>};

const MatrixKernels* find_matrix_kernels(const char* name) {
  for (const Choice& choice : kChoices) {
    if ((std::strcmp(name, "auto") == 0 || std::strcmp(name, choice.kernels->name) == 0) && choice.runs()) {
      return choice.kernels;
    }
  }
  return nullptr;
}

}  // namespace nimbed
