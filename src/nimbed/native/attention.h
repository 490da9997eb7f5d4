// How attention rounds to 16 bits, and which keys a query reads: the same for every set of kernels.
#pragma once

#include <algorithm>
#include <cmath>

#include "kernels.h"

namespace nimbed {

constexpr float kMaxSum = 2147483520.0f;  // the largest float below 2^31
constexpr float kValueLevels = 4095.0f;
constexpr float kMaxWeight = 32767.0f;
constexpr float kTotalWeight = 393216.0f;  // of a row; with kValueLevels, what rounding adds to weights has room yet

// Where a block's weights have no larger sum, the step of rounding is one of the largest weight, in which all others
// may be lost (a sink's tail): in long texts such weights stay floats.
constexpr float kSmallTotal = kTotalWeight / kMaxWeight;

// Levels of a query and of a key.
inline float key_levels(int dim) { return std::min(32767.0f, std::floor(std::sqrt(kMaxSum / float(dim)))); }

// x = step * round(x * factor), and |x * factor| <= levels.
struct Scale {
  float factor, step;
  Scale(float largest, float levels)
      : factor(largest > 1e-30f ? levels / largest : 0.0f), step(largest > 1e-30f ? largest / levels : 0.0f) {}
};

// The keys that the query of a token reads; none where begin >= end.
struct Reach {
  int begin, end;
};
inline Reach reach(const Attention& a, int token) {
  return {std::max(0, token - a.back), std::min(a.keys_count, token + a.ahead + 1)};
}

}  // namespace nimbed
