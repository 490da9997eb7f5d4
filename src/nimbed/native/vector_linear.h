// Products of rows of activations with a panel of weights, in 8 bits and in fp32. `Isa::template tile<R>` is that of R
// rows in 8 bits, up to `Isa::kTall`.
#pragma once

#include <algorithm>

#include "vector_functions.h"

namespace nimbed {

template <class Isa>
struct VectorLinear {
  using F = typename Isa::F;
  static constexpr int kTogether = Isa::kTogether;

  // The epilogue of some rows from `first` on, a constant number of them where they are a tile; product(c) reads what
  // all rows share, vectors from column c on, and makes of the addend x there the sum with row r of the product. What is
  // read is handed on by reference: copies of what was just written would wait for the writes.
  template <Activation kActivation, class Rows, class Product>
  __attribute__((noinline)) static void finish_by(const Epilogue& then, int first, Rows rows, const Product& product) {
    const ptrdiff_t addend_stride = then.addend_stride, gate_stride = then.gate_stride, out_stride = then.out_stride;
    for (int c = 0; c < kPanel; c += kTogether * kLanes) {
      const auto add_product = product(c);
      const float* addend = then.addend + first * addend_stride + c;
      const float* gate = then.gate == nullptr ? nullptr : then.gate + first * gate_stride + c;
      float* out = then.out + first * out_stride + c;
      for (int r = 0; r < rows; ++r, addend += addend_stride, out += out_stride) {
        F x[kTogether];
        unroll<kTogether>([&](auto i) { x[i] = Isa::load(addend + i * kLanes); });
        add_product(r, x);
        VectorFunctions<Isa>::template activate<kActivation>(x);
        if (gate != nullptr) {
          unroll<kTogether>([&](auto i) { x[i] = Isa::mul(x[i], Isa::load(gate + r * gate_stride + i * kLanes)); });
        }
        unroll<kTogether>([&](auto i) { Isa::store(out + i * kLanes, x[i]); });
      }
    }
  }

  template <class Rows, class Product>
  static void finish(const Epilogue& then, int first, Rows rows, const Product& product) {
    switch (then.activation) {
      case Activation::none:
        return finish_by<Activation::none>(then, first, rows, product);
      case Activation::gelu:
        return finish_by<Activation::gelu>(then, first, rows, product);
      case Activation::gelu_tanh:
        return finish_by<Activation::gelu_tanh>(then, first, rows, product);
      case Activation::relu:
        return finish_by<Activation::relu>(then, first, rows, product);
      case Activation::silu:
        return finish_by<Activation::silu>(then, first, rows, product);
      case Activation::tanh:
        return finish_by<Activation::tanh>(then, first, rows, product);
      case Activation::fine_gelu:
        return finish_by<Activation::fine_gelu>(then, first, rows, product);
      case Activation::sigmoid:
        return finish_by<Activation::sigmoid>(then, first, rows, product);
    }
  }

  // A vector of a group's columns, in registers what all rows share.
  struct Column {
    const RowScale* scales;
    F scale, sum;
    const float* addend;
    ptrdiff_t addend_stride;
    float* out;
    ptrdiff_t out_stride;

    // Row r, of which these are the sums of products.
    void add(int r, F products) const {
      const F offset = Isa::fma(Isa::splat(scales[r].low), sum, Isa::load(addend + r * addend_stride));
      Isa::store(out + r * out_stride, Isa::fma(Isa::mul(products, scale), Isa::splat(scales[r].step), offset));
    }
  };

  // A tile of rows in 8 bits, which pass over a panel group after group of inputs.
  struct Tile {
    const uint8_t* values;
    ptrdiff_t stride;
    const RowScale* scales;  // of the first group
    ptrdiff_t scale_group;
    const Panel &panel, &next;
    const float* addend;
    ptrdiff_t addend_stride;
    float* sums;  // [rows, 64]: the addend and the groups so far
    float* out;   // the same with the last group
    ptrdiff_t out_stride;

    Column column(int g, int c) const {
      const int channel = g * kPanel + c;
      const bool first = g == 0, last = g + 1 == panel.groups;
      return {scales + g * scale_group,         Isa::load(panel.scale + channel),
              Isa::load(panel.sum + channel),   (first ? addend : sums) + c,
              first ? addend_stride : kPanel,   (last ? out : sums) + c,
              last ? out_stride : kPanel};
    }
    void prefetch(int g, int c) const {
      Isa::prefetch(reinterpret_cast<const char*>(next.scale + g * kPanel + c));
      Isa::prefetch(reinterpret_cast<const char*>(next.sum + g * kPanel + c));
    }
  };

  static void linear(const QuantizedRows& x, const Panel& panel, const Panel& next, const Epilogue& then) {
    alignas(64) float sums[Isa::kTall * kPanel];
    const int tiles = (x.rows + Isa::kTall - 1) / Isa::kTall;
    // Each time that the panel is read, a part of the next is prefetched.
    const ptrdiff_t step = 4 * kPanel / (tiles * x.passes);
    Stream<int8_t> stream{panel.weights, reinterpret_cast<const char*>(next.weights), step};
    const bool plain = then.activation == Activation::none && then.gate == nullptr;
    for_tiles<Isa::kTall>(x.rows, [&](auto height, int first) {
      const float* addend = then.addend + first * then.addend_stride;
      ptrdiff_t addend_stride = then.addend_stride;
      for (int p = 0; p < x.passes; ++p, addend = sums, addend_stride = kPanel) {
        const uint8_t* values = x.values + p * x.value_pass + first * x.stride;
        const RowScale* scales = x.scales + p * panel.groups * x.scale_group + first;
        const bool ends = plain && p + 1 == x.passes;
        Isa::template tile<height>(
            Tile{values, x.stride, scales, x.scale_group, panel, next, addend, addend_stride, sums,
                 ends ? then.out + first * then.out_stride : sums, ends ? then.out_stride : kPanel},
            stream);
        stream.next += panel.inputs / 4 * step;
      }
      if (plain) return;
      finish(then, first, height, [from = sums](int c) {
        return [from = from + c](int r, F(&x)[kTogether]) {
          unroll<kTogether>([&](auto i) { x[i] = Isa::load(from + r * kPanel + i * kLanes); });
        };
      });
    });
  }

  static constexpr int kDepth = 64;  // inputs whose weights stay in the L1 cache while rows pass over them
  static constexpr int kRows = 96;   // rows whose sums are kept meanwhile
  // Bytes from weights to those that are fetched: a panel may fill the L2 cache. Beyond the last weights nobody needs
  // what comes.
  static constexpr ptrdiff_t kAhead = 32 << 10;

  // sums[R, 64] += x[R, depth] times weights[depth, 64], for kColumns vectors of columns.
  template <int R, int kColumns>
  __attribute__((noinline)) static void accumulate(const float* x, ptrdiff_t stride, int depth,
                                                   const Stream<float>& from, float* sums) {
    Stream<float> stream = from;
    F sum[R * kColumns];
    unroll<R * kColumns>([&](auto i) { sum[i] = Isa::load(sums + i / kColumns * kPanel + i % kColumns * kLanes); });
    for (int d = 0; d < depth; ++d, stream.weights += kPanel, stream.next += stream.step) {
      F column[kColumns];
      stream.template prefetch<Isa>();
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
    Stream<float> stream{panel.weights, reinterpret_cast<const char*>(panel.weights) + kAhead, 4 * kPanel / tiles};
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
    const float* products = sums;
    finish(then, first, x.rows, [products](int c) {
      return [from = products + c](int r, F(&out)[kTogether]) {
        unroll<kTogether>([&](auto i) { out[i] = Isa::add(Isa::load(from + r * kPanel + i * kLanes), out[i]); });
      };
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
