// AVX-512 with VNNI.
#include "avx512_vnni.h"

namespace nimbed {
namespace {

using Set = VectorKernels<Avx512Vnni>;

}  // namespace

const Kernels kAvx512Vnni{"avx512_vnni", Set::linear, Set::quantise, Set::add_norm, Set::attend};

}  // namespace nimbed
