#include "pooling.h"

#include <algorithm>
#include <cmath>

namespace nimbed {
namespace {

// A vector [width] of a text's token vectors, hidden [tokens, width].
void pool_text(const Network& net, const float* hidden, int tokens, float* out) {
  const ptrdiff_t width = net.width;
  std::copy_n(net.pooling == Pooling::last ? hidden + (tokens - 1) * width : hidden, width, out);
  if (net.pooling != Pooling::mean && net.pooling != Pooling::max) return;
  const bool largest = net.pooling == Pooling::max;
  for (int t = 1; t < tokens; ++t) {
    const float* row = hidden + t * width;
    for (int i = 0; i < width; ++i) out[i] = largest ? std::max(out[i], row[i]) : out[i] + row[i];
  }
  if (largest) return;
  for (int i = 0; i < width; ++i) out[i] /= float(tokens);
}

// y [rows, padded outputs] = the layer of x [rows, padded inputs].
void dense(const Kernels& kernels, const Head& head, const float* x, int rows, Workspace& own, float* y) {
  const Linear& linear = head.linear;
  const ptrdiff_t stride = linear.outputs();
  for (int panel = 0; panel < linear.panels; ++panel) {
    const ptrdiff_t column = ptrdiff_t(panel) * kPanel;
    kernels.linear_fp32({x, linear.inputs, rows}, linear.exact_panel(panel),
                        {linear.bias + column, 0, head.activation, nullptr, 0, y + column, stride});
  }
  for (int r = 0; r < rows; ++r, y += stride) {
    std::fill(y + head.outputs, y + stride, 0.0f);
    if (head.normed) kernels.add_norm(nullptr, y, head.norm, head.outputs, int(stride), own.rest.get());
  }
}

// x / |x|, the squares added in 16 lanes.
void normalize(float* x, int size) {
  float lanes[16] = {};
  for (int i = 0; i < size; ++i) lanes[i % 16] += x[i] * x[i];
  for (int half = 8; half > 0; half /= 2)
    for (int l = 0; l < half; ++l) lanes[l] += lanes[l + half];
  const float norm = std::max(std::sqrt(lanes[0]), 1e-12f);
  for (int i = 0; i < size; ++i) x[i] /= norm;
}

void pool_tokens(const Network& net, const Batch& texts, const float* hidden, float* out) {
  for (int t = 0; t < texts.tokens(); ++t, hidden += net.width, out += net.size) {
    std::copy_n(hidden, net.size, out);
    if (net.normalize) normalize(out, net.size);
  }
}

}  // namespace

void pool(const Network& net, const Kernels& kernels, const Batch& texts, const float* hidden, bool one_row_each,
          Workspace& own, float* out) {
  if (net.pooling == Pooling::none) return pool_tokens(net, texts, hidden, out);
  float *x = own.vectors[0].get(), *y = own.vectors[1].get();
  for (int text = 0; text < texts.count; ++text) {
    const ptrdiff_t row = one_row_each ? text : texts.row(text);
    pool_text(net, hidden + row * net.width, one_row_each ? 1 : texts.length(text), x + ptrdiff_t(text) * net.width);
  }
  ptrdiff_t stride = net.width;
  for (const Head& head : net.head) {
    dense(kernels, head, x, texts.count, own, y);
    std::swap(x, y);
    stride = head.linear.outputs();
  }
  for (int text = 0; text < texts.count; ++text, out += net.dim()) {
    std::copy_n(x + text * stride, net.dim(), out);
    if (net.normalize) normalize(out, net.dim());
  }
}

}  // namespace nimbed
