#include "avx2.h"
#include "vector_attention.h"
#include "vector_kernels.h"
#include "vector_linear.h"

namespace nimbed {

const Kernels kAvx2{"avx2",
                     VectorLinear<Avx2>::linear,
                     VectorLinear<Avx2>::linear_fp32,
                     VectorKernels<Avx2>::quantize,
                     VectorKernels<Avx2>::remainder,
                     VectorKernels<Avx2>::add_norm,
                     VectorKernels<Avx2>::norm_heads,
                     VectorKernels<Avx2>::rotate,
                     VectorAttention<Avx2, PairProducts<Avx2>>::attend,
                     VectorAttention<Avx2, FloatProducts<Avx2>>::attend};

}  // namespace nimbed
