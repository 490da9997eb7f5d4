// The builder's arithmetic: second moments of a product's inputs, and weights rounded for them. Every sum has one
// order, whatever the threads and the instruction set.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>

#include "matrix_kernels.h"

namespace nimbed {

// Adds x^T x to the lower triangle of sums[inputs, inputs]; x: [rows, inputs]. Up to 256 rows are added in float, and
// their sums in double.
void add_second_moments(const MatrixKernels& kernels, const float* x, size_t rows, size_t inputs, int threads,
                        double* sums);

// A product's weights, float[outputs, inputs]; steps[outputs, groups]; the group of each input; and the second moments
// of the inputs, of which the lower triangle is read.
struct Unrounded {
  const float* weights;
  size_t outputs, inputs;
  const float* steps;
  size_t groups;
  const int64_t* group_of;
  const double* moments;
};

struct NotPositiveDefinite : std::domain_error {
  using std::domain_error::domain_error;
};

// Weights in steps, rounded[outputs, inputs], by GPTQ (Frantar et al. 2023, https://arxiv.org/abs/2210.17323): one input
// after the other is rounded, the largest moment first, and the weights of later inputs make good what that changes.
void gptq(const MatrixKernels& kernels, const Unrounded& from, int threads, int8_t* rounded);

}  // namespace nimbed
