// Products of rows of activations with a panel of weights, in 8 bits and in fp32. `Isa::template tile<R>` is that of R
// rows in 8 bits.
#pragma once

#include <algorithm>

#include "vector_functions.h"

namespace nimbed {

template <class Isa>
struct VectorLinear {
  using F = typename Isa::F;
  static constexpr int kTogether = Isa::kTogether;

  // The epilogue of some rows; product(r, c, addend) is a vector of row r's product, from column c on, with the addend.
  template <Activation kActivation, class Product>
  __attribute__((noinline)) static void finish_by(const Epilogue& then, int rows, Product product) {
    for (int r = 0; r < rows; ++r) {
      const float *addend = then.addend + r * then.addend_stride, *gate = then.gate + r * then.gate_stride;
      float* out = then.out + r * then.out_stride;
      for (int c = 0; c < kPanel; c += kTogether * kLanes) {
        F x[kTogether];
        unroll<kTogether>([&](auto i) {
          const int at = c + i * kLanes;
          x[i] = product(r, at, Isa::load(addend + at));
        });
        VectorFunctions<Isa>::template activate<kActivation>(x);
        if (then.gate != nullptr) {
          unroll<kTogether>([&](auto i) { x[i] = Isa::mul(x[i], Isa::load(gate + c + i * kLanes)); });
        }
        unroll<kTogether>([&](auto i) { Isa::store(out + c + i * kLanes, x[i]); });
      }
    }
  }

  template <class Product>
  static void finish(Epilogue then, int first, int rows, Product product) {
    then.addend += first * then.addend_stride, then.out += first * then.out_stride;
    if (then.gate != nullptr) then.gate += first * then.gate_stride;
    switch (then.activation) {
      case Activation::none:
        return finish_by<Activation::none>(then, rows, product);
      case Activation::gelu:
        return finish_by<Activation::gelu>(then, rows, product);
      case Activation::gelu_tanh:
        return finish_by<Activation::gelu_tanh>(then, rows, product);
      case Activation::relu:
        return finish_by<Activation::relu>(then, rows, product);
      case Activation::silu:
        return finish_by<Activation::silu>(then, rows, product);
      case Activation::tanh:
        return finish_by<Activation::tanh>(then, rows, product);
      case Activation::sigmoid:
        return finish_by<Activation::sigmoid>(then, rows, product);
    }
  }

  static void linear(const QuantizedRows& x, const Panel& panel, const Epilogue& then) {
    alignas(64) int32_t sums[kTile * kPanel];
    const int tiles = (x.rows + kTile - 1) / kTile;  // each prefetches its part of the next panel
    Stream<int8_t> stream{panel.weights, reinterpret_cast<const char*>(panel.next), 4 * kPanel / tiles};
    for_tiles(x.rows, [&](auto height, int first) {
      Isa::template tile<height>(x.values + first * x.stride, x.stride, panel.inputs, stream, sums);
      const RowScale* scales = x.scales + first;
      finish(then, first, height, [&](int r, int c, F addend) {
        const F scaled = Isa::mul(Isa::load_int(sums + r * kPanel + c), Isa::load(panel.scale + c));
        const F offset = Isa::fma(Isa::splat(scales[r].low), Isa::load(panel.sum + c), addend);
        return Isa::fma(scaled, Isa::splat(scales[r].step), offset);
      });
      stream.next += panel.inputs / 4 * stream.step;
    });
  }

  static constexpr int kDepth = 64;  // inputs whose weights stay in the L1 cache while rows pass over them
  static constexpr int kRows = 96;   // rows whose sums are kept meanwhile

  // sums[R, 64] += x[R, depth] times weights[depth, 64], for kColumns vectors of columns.
  template <int R, int kColumns>
  __attribute__((noinline)) static void accumulate(const float* x, ptrdiff_t stride, int depth, Stream<float> stream,
                                                   float* sums) {
    F sum[R * kColumns];
    unroll<R * kColumns>([&](auto i) { sum[i] = Isa::load(sums + i / kColumns * kPanel + i % kColumns * kLanes); });
    for (int d = 0; d < depth; ++d, stream.weights += kPanel, stream.next += stream.step) {
      F column[kColumns];
      Isa::prefetch(stream.next);
      unroll<kColumns>([&](auto c) { column[c] = Isa::in_register(Isa::load(stream.weights + c * kLanes)); });
      unroll<R>([&](auto r) {
        const F value = Isa::splat(x[r * stride + d]);
        unroll<kColumns>([&](auto c) { sum[r * kColumns + c] = Isa::fma(value, column[c], sum[r * kColumns + c]); });
      });
    }
    unroll<R * kColumns>([&](auto i) { Isa::store(sums + i / kColumns * kPanel + i % kColumns * kLanes, sum[i]); });
  }

  static void linear_fp32_rows(const FloatRows& x, const FloatPanel& panel, const Epilogue& then, int first) {
    alignas(64) float sums[kRows * kPanel] = {};
    const int tiles = (x.rows + kTile - 1) / kTile;
    Stream<float> stream{panel.weights, reinterpret_cast<const char*>(panel.next), 4 * kPanel / tiles};
    for (int at = 0; at < panel.inputs; at += kDepth, stream.weights += kDepth * kPanel) {
      const int depth = std::min(kDepth, panel.inputs - at);
      for_tiles(x.rows, [&](auto height, int row) {
        for_columns<Isa, height>(0, kPanel, [&](auto columns, int c) {
          accumulate<height, columns>(x.values + row * x.stride + at, x.stride, depth,
                                      {stream.weights + c, stream.next, stream.step}, sums + row * kPanel + c);
        });
        stream.next += depth * stream.step;
      });
    }
    finish(then, first, x.rows, [&](int r, int c, F addend) {
      return Isa::add(Isa::load(sums + r * kPanel + c), addend);
    });
  }

  static void linear_fp32(const FloatRows& x, const FloatPanel& panel, const Epilogue& then) {
    const int parts = (x.rows + kRows - 1) / kRows;
    for (int part = 0; part < parts; ++part) {
      const int first = x.rows * part / parts, end = x.rows * (part + 1) / parts;
      linear_fp32_rows({x.values + first * x.stride, x.stride, end - first}, panel, then, first);
    }
  }
};

}  // namespace nimbed
