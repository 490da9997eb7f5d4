// Attention in plain loops: the definition of what every other set of kernels gives, bit for bit.
#include "attention.h"

#include <cfloat>
#include <vector>

#include "reference.h"

namespace nimbed::reference {
namespace {

constexpr int kSoftmaxLanes = 16;

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

// body(keys, result) for each block of keys that a query reads, and out = the mean of the results. Of one block that is
// its result: a mean would lose the sign of a zero.
template <class Body>
void for_blocks(const Attention& a, int token, float* out, Body body) {
  const Reach all = reach(a, token);
  std::fill_n(out, a.dim, 0.0f);
  if (a.keys_count <= kKeyBlock) {
    if (all.begin < all.end) body(all, out);
    return;
  }
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

}  // namespace

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

}  // namespace nimbed::reference
