// What the reference kernels are made of: functions of floats, a sum of lanes, and attention.
#pragma once

#include <algorithm>
#include <cmath>

#include "kernels.h"

namespace nimbed::reference {

inline float polynomial(const float* terms, int degree, float x) {
  float sum = terms[degree];
  for (int i = degree - 1; i >= 0; --i) sum = std::fma(sum, x, terms[i]);
  return sum;
}

// e^x for x <= 0.
inline float exp(float x) {
  constexpr float kTerms[] = {1.0f, 0.69314694f, 0.24022232f, 0.055507794f, 0.0096719991f, 0.0013254603f};
  const float power = x * 1.44269504f, whole = std::nearbyint(power);
  return whole < -126.0f ? 0.0f : std::ldexp(polynomial(kTerms, 5, power - whole), int(whole));
}

inline float gelu(float x) {
  constexpr float kRoot[] = {0.84062765f, 0.16575155f, -0.054629111f, -0.0085023748f, 0.0028413661f, 0.00049175339f};
  const float below = -std::fabs(x), root = std::max(polynomial(kRoot, 5, below), 0.0f), square = root * root;
  return std::fma(below, square * square, x > 0 ? x : 0.0f);
}

// x * Phi(x) with erf within 1.5e-7 (Abramowitz and Stegun 1964, 7.1.26).
inline float fine_gelu(float x) {
  constexpr float kTerms[] = {0.127414796f, -0.142248368f, 0.7107068705f, -0.7265760135f, 0.5307027145f};
  const float below = -std::fabs(x), t = 1.0f / std::fma(-0.23164189f, below, 1.0f);
  const float tail = polynomial(kTerms, 4, t) * t * exp(x * x * -0.5f);
  return std::fma(below, tail, x > 0 ? x : 0.0f);
}

inline float sigmoid(float x) {
  const float power = exp(-std::fabs(x));
  return (std::signbit(x) ? power : 1.0f) / (1.0f + power);
}

inline float tanh(float x) {
  const float power = exp(2.0f * -std::fabs(x));
  return std::copysign((1.0f - power) / (1.0f + power), x);
}

inline float activated(float x, Activation activation) {
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

// The lanes by halves.
inline float sum_of(float* lanes, int count) {
  for (int half = count / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lanes[i] += lanes[half + i];
  }
  return lanes[0];
}

void attend(const Attention& a);
void attend_fp32(const Attention& a);

}  // namespace nimbed::reference
