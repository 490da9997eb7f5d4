// Plain loops: slow, short, and the definition of what every other set of kernels gives, bit for bit. Compiled without
// contraction of products and sums.
#include <algorithm>
#include <cmath>

#include "reference.h"

namespace nimbed {
namespace {

using namespace reference;

constexpr int kNormLanes = 64, kHeadLanes = 16;

void finish(const Epilogue& then, int r, int c, float sum) {
  const float value = activated(sum, then.activation);
  then.out[r * then.out_stride + c] = then.gate == nullptr ? value : value * then.gate[r * then.gate_stride + c];
}

// sum + what a group of inputs of a row of codes gives.
float add_group(float sum, const uint8_t* row, RowScale scale, const Panel& panel, int g, int c) {
  int32_t products = 0;
  for (int i = g * panel.group; i < panel.end(g); ++i) {
    products += row[i] * panel.weights[c / kStrip * panel.strip() + (i / 4 * kStrip + c % kStrip) * 4 + i % 4];
  }
  const int channel = g * kPanel + c;
  return std::fma(float(products) * panel.scale[channel], scale.step, std::fma(scale.low, panel.sum[channel], sum));
}

void linear(const QuantizedRows& x, const Panel& panel, const Panel&, const Epilogue& then) {
  for (int r = 0; r < x.rows; ++r) {
    for (int c = 0; c < kPanel; ++c) {
      float sum = then.addend[r * then.addend_stride + c];
      for (int i = 0; i < x.passes * panel.groups; ++i) {
        const uint8_t* row = x.values + i / panel.groups * x.value_pass + r * x.stride;
        sum = add_group(sum, row, x.scales[i * x.scale_group + r], panel, i % panel.groups, c);
      }
      finish(then, r, c, sum);
    }
  }
}

void linear_fp32(const FloatRows& x, const FloatPanel& panel, const Epilogue& then) {
  for (int r = 0; r < x.rows; ++r) {
    for (int c = 0; c < kPanel; ++c) {
      float sum = 0;
      for (int i = 0; i < panel.inputs; ++i) {
        sum = std::fma(x.values[r * x.stride + i], panel.weights[i * kPanel + c], sum);
      }
      finish(then, r, c, sum + then.addend[r * then.addend_stride + c]);
    }
  }
}

RowScale quantize(const float* x, int width, uint8_t* q) {
  const float low = *std::min_element(x, x + width) + 0.0f;  // no -0
  const float range = *std::max_element(x, x + width) + 0.0f - low;
  const float inverse = range > 0 ? 255.0f / range : 0.0f;
  for (int i = 0; i < width; ++i) q[i] = uint8_t(std::min(255.0f, std::nearbyint((x[i] - low) * inverse)));
  return {range / 255.0f, low};
}

void remainder(const float* x, const uint8_t* q, RowScale scale, int width, float* rest) {
  for (int i = 0; i < width; ++i) rest[i] = x[i] - std::fma(scale.step, float(q[i]), scale.low);
}

void add_norm(const float* branch, float* x, const Norm& norm, int size, int width, float* normed) {
  float sums[kNormLanes] = {}, squares[kNormLanes] = {};
  for (int i = 0; i < width; ++i) {
    if (branch != nullptr) x[i] += branch[i];
    sums[i % kNormLanes] += x[i];
  }
  const float mean = norm.rms ? 0.0f : sum_of(sums, kNormLanes) / float(size);
  for (int i = 0; i < size; ++i) {
    const float off = x[i] - mean;
    squares[i % kNormLanes] = std::fma(off, off, squares[i % kNormLanes]);
  }
  const float factor = 1.0f / std::sqrt(sum_of(squares, kNormLanes) / float(size) + norm.epsilon);
  for (int i = 0; i < width; ++i) {
    const float value = std::fma((x[i] - mean) * factor, norm.gamma[i], norm.beta[i]);
    if (!norm.keeps) x[i] = value;
    normed[i] = value * norm.smooth[i];
  }
}

void norm_heads(float* x, int heads, int dim, const HeadNorm& norm) {
  for (int head = 0; head < heads; ++head, x += dim) {
    float squares[kHeadLanes] = {};
    for (int i = 0; i < dim; ++i) squares[i % kHeadLanes] = std::fma(x[i], x[i], squares[i % kHeadLanes]);
    const float factor = 1.0f / std::sqrt(sum_of(squares, kHeadLanes) / float(norm.size) + norm.epsilon);
    for (int i = 0; i < dim; ++i) x[i] = x[i] * factor * norm.gamma[i];
  }
}

void rotate(float* x, int heads, int dim, const float* rotation) {
  const int half = dim / 2;
  for (int head = 0; head < heads; ++head, x += dim) {
    for (int i = 0; i < half; ++i) {
      const float a = x[i], b = x[half + i], cosine = rotation[i], sine = rotation[half + i];
      x[i] = a * cosine - b * sine;
      x[half + i] = b * cosine + a * sine;
    }
  }
}

}  // namespace

const Kernels kReference{"reference", linear,     linear_fp32, quantize, remainder,
                         add_norm,    norm_heads, rotate,      reference::attend, reference::attend_fp32};

}  // namespace nimbed
