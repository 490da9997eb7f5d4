// Functions of floats, by polynomials and exact divisions, for N vectors side by side: one alone would wait for each of
// its products.
#pragma once

#include "vector.h"

namespace nimbed {

template <class Isa>
struct VectorFunctions {
  using F = typename Isa::F;

  // x = e^x for x <= 0: 2^n times a polynomial (minimax) for 2^f, f from -1/2 to 1/2; exactly 0 below 2^-126. The
  // relative error is 2e-7, and what rounding x / ln 2 gives: 6e-8 |x|.
  template <int N>
  __attribute__((always_inline)) static void exp(F (&x)[N]) {
    constexpr float kTerms[] = {1.0f, 0.69314694f, 0.24022232f, 0.055507794f, 0.0096719991f, 0.0013254603f};
    F whole[N], rest[N], sum[N];
    unroll<N>([&](auto i) { x[i] = Isa::mul(x[i], Isa::splat(1.44269504f)); });
    unroll<N>([&](auto i) { whole[i] = Isa::round(x[i]); });
    unroll<N>([&](auto i) { rest[i] = Isa::sub(x[i], whole[i]); });
    unroll<N>([&](auto i) { sum[i] = Isa::fma(Isa::splat(kTerms[5]), rest[i], Isa::splat(kTerms[4])); });
    unroll<4>([&](auto term) {
      unroll<N>([&](auto i) { sum[i] = Isa::fma(sum[i], rest[i], Isa::splat(kTerms[3 - term])); });
    });
    unroll<N>([&](auto i) { x[i] = Isa::times_power_of_two(sum[i], whole[i]); });
  }

  // x * Phi(x) = max(x, 0) - |x| Phi(-|x|), where the root of Phi is nearly a polynomial: within 2.6e-5 of the exact
  // one everywhere, without a division, and exact where x is 0 or far from it.
  template <int N>
  __attribute__((always_inline)) static void gelu(F (&x)[N]) {
    constexpr float kRoot[] = {0.84062765f,    0.16575155f,    -0.054629111f,  // Phi(-t) = max(0, sum (-t)^i root[i])^4
                               -0.0085023748f, 0.0028413661f, 0.00049175339f};
    const F zero = Isa::splat(0.0f);
    F below[N], root[N];
    unroll<N>([&](auto i) { below[i] = Isa::negative_abs(x[i]); });
    unroll<N>([&](auto i) { root[i] = Isa::fma(Isa::splat(kRoot[5]), below[i], Isa::splat(kRoot[4])); });
    unroll<4>([&](auto term) {
      unroll<N>([&](auto i) { root[i] = Isa::fma(root[i], below[i], Isa::splat(kRoot[3 - term])); });
    });
    unroll<N>([&](auto i) { root[i] = Isa::max(root[i], zero); });
    unroll<N>([&](auto i) { root[i] = Isa::mul(root[i], root[i]); });
    unroll<N>([&](auto i) { root[i] = Isa::mul(root[i], root[i]); });
    unroll<N>([&](auto i) { x[i] = Isa::fma(below[i], root[i], Isa::max(x[i], zero)); });
  }

  // x * Phi(x) with erf within 1.5e-7 (Abramowitz and Stegun 1964, 7.1.26).
  template <int N>
  __attribute__((always_inline)) static void fine_gelu(F (&x)[N]) {
    constexpr float kTerms[] = {0.127414796f, -0.142248368f, 0.7107068705f, -0.7265760135f, 0.5307027145f};
    const F one = Isa::splat(1.0f), zero = Isa::splat(0.0f);
    F below[N], t[N], sum[N], power[N];
    unroll<N>([&](auto i) { below[i] = Isa::negative_abs(x[i]); });
    unroll<N>([&](auto i) { t[i] = Isa::div(one, Isa::fma(Isa::splat(-0.23164189f), below[i], one)); });
    unroll<N>([&](auto i) { power[i] = Isa::mul(Isa::mul(x[i], x[i]), Isa::splat(-0.5f)); });
    exp(power);
    unroll<N>([&](auto i) { sum[i] = Isa::fma(Isa::splat(kTerms[4]), t[i], Isa::splat(kTerms[3])); });
    unroll<3>([&](auto term) {
      unroll<N>([&](auto i) { sum[i] = Isa::fma(sum[i], t[i], Isa::splat(kTerms[2 - term])); });
    });
    unroll<N>([&](auto i) { sum[i] = Isa::mul(Isa::mul(sum[i], t[i]), power[i]); });
    unroll<N>([&](auto i) { x[i] = Isa::fma(below[i], sum[i], Isa::max(x[i], zero)); });
  }

  // 1 / (1 + e^-x), with e to a power that is not positive.
  template <int N>
  __attribute__((always_inline)) static void sigmoid(F (&x)[N]) {
    const F one = Isa::splat(1.0f);
    F power[N];
    unroll<N>([&](auto i) { power[i] = Isa::negative_abs(x[i]); });
    exp(power);
    unroll<N>([&](auto i) {
      x[i] = Isa::div(Isa::where_negative(x[i], power[i], one), Isa::add(one, power[i]));
    });
  }

  template <int N>
  __attribute__((always_inline)) static void silu(F (&x)[N]) {
    F gate[N];
    unroll<N>([&](auto i) { gate[i] = x[i]; });
    sigmoid(gate);
    unroll<N>([&](auto i) { x[i] = Isa::mul(x[i], gate[i]); });
  }

  // (1 - e^-2|x|) / (1 + e^-2|x|), with the sign of x.
  template <int N>
  __attribute__((always_inline)) static void tanh(F (&x)[N]) {
    const F one = Isa::splat(1.0f);
    F power[N];
    unroll<N>([&](auto i) { power[i] = Isa::mul(Isa::splat(2.0f), Isa::negative_abs(x[i])); });
    exp(power);
    unroll<N>([&](auto i) {
      const F size = Isa::div(Isa::sub(one, power[i]), Isa::add(one, power[i]));
      x[i] = Isa::where_negative(x[i], Isa::negative_abs(size), size);
    });
  }

  // GELU with the approximation x / 2 (1 + tanh u) = x sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3) (Hendrycks and
  // Gimpel 2016).
  template <int N>
  __attribute__((always_inline)) static void gelu_tanh(F (&x)[N]) {
    F gate[N];
    unroll<N>([&](auto i) {
      const F factor = Isa::fma(Isa::mul(x[i], x[i]), Isa::splat(0.071354816f), Isa::splat(1.5957691f));
      gate[i] = Isa::mul(x[i], factor);
    });
    sigmoid(gate);
    unroll<N>([&](auto i) { x[i] = Isa::mul(x[i], gate[i]); });
  }

  template <Activation kActivation, int N>
  __attribute__((always_inline)) static void activate(F (&x)[N]) {
    if constexpr (kActivation == Activation::gelu) gelu(x);
    if constexpr (kActivation == Activation::gelu_tanh) gelu_tanh(x);
    if constexpr (kActivation == Activation::relu) {
      unroll<N>([&](auto i) { x[i] = Isa::max(x[i], Isa::splat(0.0f)); });
    }
    if constexpr (kActivation == Activation::silu) silu(x);
    if constexpr (kActivation == Activation::tanh) tanh(x);
    if constexpr (kActivation == Activation::sigmoid) sigmoid(x);
    if constexpr (kActivation == Activation::fine_gelu) fine_gelu(x);
  }
};

}  // namespace nimbed
