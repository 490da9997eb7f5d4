// Plain loops: slow, short, and what every other set of kernels is tested against. Compiled without contraction of
// products and sums, so that the rounded values are those of the vector kernels bit for bit.
#include <algorithm>
#include <cmath>

#include "kernels.h"

namespace nimbed {
namespace {

float activated(float x, Activation activation) {
  switch (activation) {
    case Activation::gelu:
      return x * 0.5f * (1.0f + std::erf(x * 0.70710678f));  // Hendrycks and Gimpel 2016
    case Activation::relu:
      return std::max(x, 0.0f);
    default:
      return x;
  }
}

void linear(const uint8_t* a, ptrdiff_t a_stride, const RowScale* scales, int rows, int k, const Panel& panel,
            const Addend& addend, Activation activation, float* out, ptrdiff_t out_stride) {
  for (int r = 0; r < rows; ++r, a += a_stride, out += out_stride) {
    for (int c = 0; c < kPanel; ++c) {
      int32_t sum = 0;
      for (int i = 0; i < k; ++i) sum += a[i] * panel.weights[(i / 4 * kPanel + c) * 4 + i % 4];
      const float product = float(sum) * panel.scale[c] * scales[r].step + scales[r].low * panel.sum[c];
      const float value = product + addend.values[r * addend.stride + c];
      out[c] = activated(value, activation);
    }
  }
}

RowScale quantize(const float* x, int width, uint8_t* q) {
  const auto [low, high] = std::minmax_element(x, x + width);
  const float range = *high - *low;
  const float inverse = range > 0 ? 255.0f / range : 0.0f;
  for (int i = 0; i < width; ++i) {
    q[i] = uint8_t(std::min(255.0f, std::nearbyint((x[i] - *low) * inverse)));
  }
  return {range / 255.0f, *low};
}

RowScale add_norm(const float* y, float* x, int size, int width, const Norm& norm, uint8_t* q) {
  double mean = 0, variance = 0;
  for (int i = 0; i < size; ++i) mean += x[i] = x[i] + y[i];
  mean /= size;
  for (int i = 0; i < size; ++i) variance += (x[i] - mean) * (x[i] - mean);
  const float factor = float(1 / std::sqrt(variance / size + norm.epsilon));
  float smoothed[kMaxWidth] = {};
  for (int i = 0; i < size; ++i) {
    const float standard = float(x[i] - mean) * factor;
    x[i] = standard * norm.gamma[i] + norm.beta[i];
    smoothed[i] = x[i] * norm.smooth[i];
  }
  return quantize(smoothed, width, q);
}

void attend(const float* q, const float* k, const float* v, ptrdiff_t stride, int length, int dim,
            const float* distances, float* out, ptrdiff_t out_stride, float* scratch) {
  for (int i = 0; i < length; ++i, q += stride, out += out_stride) {
    float largest = -INFINITY, total = 0;
    for (int j = 0; j < length; ++j) {
      float score = 0;
      for (int d = 0; d < dim; ++d) score += q[d] * k[j * stride + d];
      if (distances != nullptr) score += distances[j - i];
      scratch[j] = score;
      largest = std::max(largest, score);
    }
    for (int j = 0; j < length; ++j) total += scratch[j] = std::exp(scratch[j] - largest);
    for (int d = 0; d < dim; ++d) {
      float sum = 0;
      for (int j = 0; j < length; ++j) sum += scratch[j] * v[j * stride + d];
      out[d] = sum / total;
    }
  }
}

}  // namespace

const Kernels kReference{"reference", linear, quantize, add_norm, attend};

}  // namespace nimbed
