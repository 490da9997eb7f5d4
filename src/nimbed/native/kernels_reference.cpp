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

void linear(const QuantizedRows& x, const Panel& panel, const Epilogue& then) {
  for (int r = 0; r < x.rows; ++r) {
    const uint8_t* row = x.values + r * x.stride;
    for (int c = 0; c < kPanel; ++c) {
      int32_t sum = 0;
      for (int i = 0; i < panel.inputs; ++i) sum += row[i] * panel.weights[(i / 4 * kPanel + c) * 4 + i % 4];
      const float product = float(sum) * panel.scale[c] * x.scales[r].step + x.scales[r].low * panel.sum[c];
      const float value = product + then.addend[r * then.addend_stride + c];
      then.out[r * then.out_stride + c] = activated(value, then.activation);
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

void add_norm(const float* branch, float* x, const Norm& norm, int size, int width, float* normed) {
  double mean = 0, variance = 0;
  for (int i = 0; i < size; ++i) mean += x[i] = x[i] + branch[i];
  mean /= size;
  for (int i = 0; i < size; ++i) variance += (x[i] - mean) * (x[i] - mean);
  const float factor = float(1 / std::sqrt(variance / size + norm.epsilon));
  std::fill_n(normed, width, 0.0f);
  for (int i = 0; i < size; ++i) {
    const float standard = float(x[i] - mean) * factor;
    x[i] = standard * norm.gamma[i] + norm.beta[i];
    normed[i] = x[i] * norm.smooth[i];
  }
}

void attend(const Attention& a) {
  const int length = a.length, dim = a.dim;
  float* scratch = a.scratch;
  for (int i = 0; i < length; ++i) {
    const float* q = a.queries + i * a.stride;
    float largest = -INFINITY, total = 0;
    for (int j = 0; j < length; ++j) {
      float score = 0;
      for (int d = 0; d < dim; ++d) score += q[d] * a.keys[j * a.stride + d];
      if (a.distances != nullptr) score += a.distances[j - i];
      scratch[j] = score;
      largest = std::max(largest, score);
    }
    for (int j = 0; j < length; ++j) total += scratch[j] = std::exp(scratch[j] - largest);
    for (int d = 0; d < dim; ++d) {
      float sum = 0;
      for (int j = 0; j < length; ++j) sum += scratch[j] * a.values[j * a.stride + d];
      a.out[i * a.out_stride + d] = sum / total;
    }
  }
}

}  // namespace

const Kernels kReference{"reference", linear, quantize, add_norm, attend};

}  // namespace nimbed
