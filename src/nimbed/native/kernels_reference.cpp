// Plain loops: slow, short, and the definition of what every other set of kernels gives, bit for bit. Compiled without
// contraction of products and sums.
#include <algorithm>
#include <cfloat>
#include <cmath>
#include <vector>

#include "attention.h"

namespace nimbed {
namespace {

constexpr int kNormLanes = 64, kHeadLanes = 16, kSoftmaxLanes = 16;

float polynomial(const float* terms, int degree, float x) {
  float sum = terms[degree];
  for (int i = degree - 1; i >= 0; --i) sum = std::fma(sum, x, terms[i]);
  return sum;
}

// e^x for x <= 0.
float exp(float x) {
  constexpr float kTerms[] = {1.0f, 0.69314694f, 0.24022232f, 0.055507794f, 0.0096719991f, 0.0013254603f};
  const float power = x * 1.44269504f, whole = std::nearbyint(power);
  return whole < -126.0f ? 0.0f : std::ldexp(polynomial(kTerms, 5, power - whole), int(whole));
}

float gelu(float x) {
  constexpr float kRoot[] = {0.84062765f, 0.16575155f, -0.054629111f, -0.0085023748f, 0.0028413661f, 0.00049175339f};
  const float below = -std::fabs(x), root = std::max(polynomial(kRoot, 5, below), 0.0f), square = root * root;
  return std::fma(below, square * square, x > 0 ? x : 0.0f);
}

// x * Phi(x) with erf within 1.5e-7 (Abramowitz and Stegun 1964, 7.1.26).
float fine_gelu(float x) {
  constexpr float kTerms[] = {0.127414796f, -0.142248368f, 0.7107068705f, -0.7265760135f, 0.5307027145f};
  const float below = -std::fabs(x), t = 1.0f / std::fma(-0.23164189f, below, 1.0f);
  const float tail = polynomial(kTerms, 4, t) * t * exp(x * x * -0.5f);
  return std::fma(below, tail, x > 0 ? x : 0.0f);
}

float sigmoid(float x) {
  const float power = exp(-std::fabs(x));
  return (std::signbit(x) ? power : 1.0f) / (1.0f + power);
}

float tanh(float x) {
  const float power = exp(2.0f * -std::fabs(x));
  return std::copysign((1.0f - power) / (1.0f + power), x);
}

float activated(float x, Activation activation) {
  switch (activation) {
    case Activation::gelu:
      return gelu(x);
    case Activation::gelu_tanh:
      return x * sigmoid(x * std::fma(x * x, 0.071354816f, 1.5957691f));
    case Activation::relu:
      return x > 0 ? x : 0.0f;
    case Activation::silu:
      return x * sigmoid(x);
    case Activation::tanh:
      return tanh(x);
    case Activation::sigmoid:
      return sigmoid(x);
    case Activation::fine_gelu:
      return fine_gelu(x);
    default:
      return x;
  }
}

void finish(const Epilogue& then, int r, int c, float sum) {
  const float value = activated(sum, then.activation);
  then.out[r * then.out_stride + c] = then.gate == nullptr ? value : value * then.gate[r * then.gate_stride + c];
}

void linear(const QuantizedRows& x, const Panel& panel, const Epilogue& then) {
  for (int r = 0; r < x.rows; ++r) {
    const uint8_t* row = x.values + r * x.stride;
    for (int c = 0; c < kPanel; ++c) {
      int32_t sum = 0;
      for (int i = 0; i < panel.inputs; ++i) sum += row[i] * panel.weights[(i / 4 * kPanel + c) * 4 + i % 4];
      const float offset = std::fma(x.scales[r].low, panel.sum[c], then.addend[r * then.addend_stride + c]);
      finish(then, r, c, std::fma(float(sum) * panel.scale[c], x.scales[r].step, offset));
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

float sum_of(float* lanes, int count) {
  for (int half = count / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lanes[i] += lanes[half + i];
  }
  return lanes[0];
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

// The weights of the keys that a query reads, in place of their scores; the largest score, and the weights' sum.
struct Softmax {
  float peak = -FLT_MAX, total;
  Softmax(float* scores, Reach keys) {
    float lanes[kSoftmaxLanes] = {};
    for (int j = keys.begin; j < keys.end; ++j) peak = std::max(peak, scores[j]);
    for (int j = keys.begin; j < keys.end; ++j) lanes[j % kSoftmaxLanes] += scores[j] = exp(scores[j] - peak);
    total = sum_of(lanes, kSoftmaxLanes);
  }
};

float distance(const Attention& a, int head, int between) {
  return a.distances == nullptr ? 0.0f : a.distances[head * a.distances_stride + between];
}

// body(head, token, query, out) for every query of every head.
template <class Body>
void for_queries(const Attention& a, Body body) {
  for (int h = 0; h < a.heads; ++h) {
    for (int i = 0; i < a.queries_count; ++i) {
      body(h, a.first_query + i, a.queries + i * a.query_stride + h * a.dim, a.out + i * a.out_stride + h * a.dim);
    }
  }
}

// What a query has of earlier blocks of keys, and the mean of that and of a block's result, by their weights (Milakov
// and Gimelshein 2018).
struct Running {
  float peak = -FLT_MAX, total = 0;

  void add(const Softmax& weights, const float* result, int dim, float* out) {
    if (weights.total == 0) return;
    const float highest = std::max(weights.peak, peak);
    const float before = total == 0 ? 0.0f : total * exp(peak - highest);
    const float now = weights.total * exp(weights.peak - highest);
    peak = highest, total = before + now;
    for (int d = 0; d < dim; ++d) out[d] = std::fma(result[d] - out[d], now / total, out[d]);
  }
};

// body(keys, result) for each block of keys that a query reads, and out = the mean of the results.
template <class Body>
void for_blocks(const Attention& a, int token, float* out, Body body) {
  const Reach all = reach(a, token);
  std::fill_n(out, a.dim, 0.0f);
  std::vector<float> result(a.dim);
  Running running;
  for (int at = 0; at < all.end; at += kKeyBlock) {
    const Reach keys{std::max(all.begin, at), std::min(all.end, at + kKeyBlock)};
    if (keys.begin < keys.end) running.add(body(keys, result.data()), result.data(), a.dim, out);
  }
}

// out = the mean of the keys' values by weights in fp32.
void mean_of(const Attention& a, const float* weights, Reach keys, float total, float* out) {
  const float share = total == 0 ? 0.0f : 1.0f / total;
  for (int d = 0; d < a.dim; ++d) {
    float sum = 0;
    for (int j = keys.begin; j < keys.end; ++j) sum = std::fma(weights[j], a.values[j * a.key_stride + d], sum);
    out[d] = std::fma(sum, share, 0.0f);
  }
}

void attend_fp32(const Attention& a) {
  std::vector<float> scores(a.keys_count);
  for_queries(a, [&](int head, int token, const float* query, float* out) {
    for_blocks(a, token, out, [&](Reach keys, float* result) {
      for (int j = keys.begin; j < keys.end; ++j) {
        float sum = 0;
        for (int d = 0; d < a.dim; ++d) sum = std::fma(query[d], a.keys[j * a.key_stride + d], sum);
        scores[j] = std::fma(sum, 1.0f, 0.0f) + distance(a, head, j - token);
      }
      const Softmax weights(scores.data(), keys);
      mean_of(a, scores.data(), keys, weights.total, result);
      return weights;
    });
  });
}

float max_abs(const float* x, ptrdiff_t stride, int rows, int dim) {
  float largest = 0;
  for (int r = 0; r < rows; ++r) {
    for (int d = 0; d < dim; ++d) largest = std::max(largest, std::fabs(x[r * stride + d]));
  }
  return largest;
}

// A whole number of 16 bits.
float rounded(float x, float factor) {
  return std::max(-32768.0f, std::min(32767.0f, std::nearbyint(x * factor)));
}

// to[rows, dim] = the rounded x, in floats, and what a step of them is worth.
float round_rows(const float* x, ptrdiff_t stride, int rows, int dim, float levels, float* to) {
  const Scale scale(max_abs(x, stride, rows, dim), levels);
  for (int r = 0; r < rows; ++r) {
    for (int d = 0; d < dim; ++d) to[r * dim + d] = rounded(x[r * stride + d], scale.factor);
  }
  return scale.step;
}

// out = the mean of the keys' rounded values by their rounded weights.
void rounded_mean_of(const float* values, int dim, float value_step, float* weights, Reach keys, float total,
                     float* out) {
  const float factor = std::min(kMaxWeight, kTotalWeight / total);
  float sum_of_weights = 0;
  for (int j = keys.begin; j < keys.end; ++j) sum_of_weights += weights[j] = rounded(weights[j], factor);
  const float share = sum_of_weights == 0 ? 0.0f : value_step / sum_of_weights;
  for (int d = 0; d < dim; ++d) {
    double sum = 0;
    for (int j = keys.begin; j < keys.end; ++j) sum += double(weights[j]) * values[j * dim + d];
    out[d] = std::fma(float(sum), share, 0.0f);
  }
}

// Rounded numbers are multiplied and added as doubles, exactly. Where rounding would lose too much of a long text's
// weights, they stay floats.
void attend(const Attention& a) {
  const int dim = a.dim;
  const float levels = key_levels(dim);
  const size_t size = size_t(a.keys_count) * dim;
  std::vector<float> keys(size), values(size), scores(a.keys_count), rounded_query(dim);
  const float key_step = round_rows(a.keys, a.key_stride, a.keys_count, dim, levels, keys.data());
  const float value_step = round_rows(a.values, a.key_stride, a.keys_count, dim, kValueLevels, values.data());
  for_queries(a, [&](int head, int token, const float* query, float* out) {
    const float step = round_rows(query, dim, 1, dim, levels, rounded_query.data()) * key_step;
    for_blocks(a, token, out, [&](Reach some, float* result) {
      for (int j = some.begin; j < some.end; ++j) {
        double sum = 0;
        for (int d = 0; d < dim; ++d) sum += double(rounded_query[d]) * keys[j * dim + d];
        scores[j] = std::fma(float(sum), step, 0.0f) + distance(a, head, j - token);
      }
      const Softmax weights(scores.data(), some);
      if (a.keys_count > kKeyBlock && weights.total <= kSmallTotal) {
        mean_of(a, scores.data(), some, weights.total, result);
      } else {
        rounded_mean_of(values.data(), dim, value_step, scores.data(), some, weights.total, result);
      }
      return weights;
    });
  });
}

}  // namespace

const Kernels kReference{"reference", linear,     linear_fp32, quantize, remainder,
                         add_norm,    norm_heads, rotate,      attend,   attend_fp32};

}  // namespace nimbed
