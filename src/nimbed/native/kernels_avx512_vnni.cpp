#include "avx512_vnni.h"
#include "vector_attention.h"
#include "vector_kernels.h"
#include "vector_linear.h"

namespace nimbed {

const Kernels kAvx512Vnni{"avx512_vnni",
                     VectorLinear<Avx512Vnni>::linear,
                     VectorLinear<Avx512Vnni>::linear_fp32,
                     VectorKernels<Avx512Vnni>::quantize,
                     VectorKernels<Avx512Vnni>::remainder,
                     VectorKernels<Avx512Vnni>::add_norm,
                     VectorKernels<Avx512Vnni>::norm_heads,
                     VectorKernels<Avx512Vnni>::rotate,
                     VectorAttention<Avx512Vnni, PairProducts<Avx512Vnni>>::attend,
                     VectorAttention<Avx512Vnni, FloatProducts<Avx512Vnni>>::attend};

}  // namespace nimbed
