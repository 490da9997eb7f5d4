// Attention, written once over an instruction set's vectors and over what multiplies them (vector_products.h).
#pragma once

#include <algorithm>
#include <cfloat>
#include <cmath>

#include "vector_functions.h"
#include "vector_products.h"

namespace nimbed {

template <class Isa, class Products>
struct VectorAttention {
  using F = typename Isa::F;
  using Number = typename Products::Number;
  static constexpr int kNumbers = Products::kNumbers;

  // Keys that are prepared: from the text's key `first` on, a multiple of 16; and place for the scores of a tile.
  struct Head {
    const Products& products;
    int first, padded;
    float* scores;    // [kTile, padded]
    Number* queries;  // [kTile, dim]
  };

  // out[r, columns] = steps[r] * the products of R rows, of `depth` numbers or pairs, with kColumns vectors of columns.
  template <int R, int kColumns>
  __attribute__((noinline)) static void multiply(Rows<Number> rows, int depth, Rows<Number> columns, const float* steps,
                                                 float* out, ptrdiff_t out_stride) {
    typename Products::Vector sums[R * kColumns];
    unroll<R * kColumns>([&](auto i) { sums[i] = Products::zero(); });
    for (int d = 0; d < depth; ++d, columns.values += columns.stride) {
      typename Products::Vector column[kColumns];
      unroll<kColumns>([&](auto c) { column[c] = Products::load(columns.values + c * kLanes); });
      unroll<R>([&](auto r) {
        const Number x = rows.values[r * rows.stride + d];
        unroll<kColumns>([&](auto c) {
          constexpr int i = r * kColumns + c;
          sums[i] = Products::add_products(sums[i], x, column[c]);
        });
      });
    }
    unroll<R * kColumns>([&](auto i) {
      constexpr int r = i / kColumns, c = i % kColumns;
      const F scaled = Isa::fma(Products::to_float(sums[i]), Isa::splat(steps[r]), Isa::splat(0.0f));  // no -0
      Isa::store(out + r * out_stride + c * kLanes, scaled);
    });
  }

  // The first half of softmax: scores[R, columns] become weights, e^(score - the row's largest), and totals their sums.
  template <int R>
  static void softmax_weights(float* scores, ptrdiff_t stride, int columns, float* totals) {
    constexpr int N = R < Isa::kRows ? R : Isa::kRows;
    F peak[N], total[N];
    unroll<N>([&](auto r) {
      peak[r] = Isa::splat(-FLT_MAX);
      for (int j = 0; j < columns; j += kLanes) peak[r] = Isa::max(peak[r], Isa::load(scores + r * stride + j));
    });
    unroll<N>([&](auto r) { peak[r] = Isa::splat(Isa::reduce_max(peak[r])), total[r] = Isa::splat(0.0f); });
    for (int j = 0; j < columns; j += kLanes) {
      F x[N];
      unroll<N>([&](auto r) { x[r] = Isa::sub(Isa::load(scores + r * stride + j), peak[r]); });
      VectorFunctions<Isa>::exp(x);
      unroll<N>([&](auto r) {
        Isa::store(scores + r * stride + j, x[r]);
        total[r] = Isa::add(total[r], x[r]);
      });
    }
    unroll<N>([&](auto r) { totals[r] = Isa::reduce_add(total[r]); });
    if constexpr (R > N) softmax_weights<R - N>(scores + N * stride, stride, columns, totals + N);
  }

  // scores[j] += distances[j], columns of a row.
  static void add_distances(const float* distances, int columns, float* scores) {
    for (int j = 0; j < columns; j += kLanes) {
      Isa::store(scores + j, Isa::add(Isa::load(scores + j), Isa::load(distances + j)));
    }
  }

  // Keys that some queries read together, counted from the first that is prepared: `columns` from a multiple of 16 on.
  struct Window {
    int from, to, columns;
    Window(Reach keys, int first)
        : from(keys.begin / kLanes * kLanes - first), to(keys.end - first), columns(int(round_up(to - from, kLanes))) {}
  };

  // What is added to scores [R, columns] by distance, and no score for keys that a query does not read.
  template <int R>
  static void mask(const Attention& a, const Head& head, const Window& keys, int token, const float* distances,
                   float* scores) {
    const int first = head.first + keys.from;
    for (int r = 0; r < R; ++r, ++token, scores += head.padded) {
      if (distances != nullptr) add_distances(distances + first - token, keys.columns, scores);
      const Reach own = reach(a, token);
      for (int j = 0; j < std::min(own.begin - first, keys.columns); ++j) scores[j] = -INFINITY;
      for (int j = std::max(own.end - first, 0); j < keys.columns; ++j) scores[j] = -INFINITY;
    }
  }

  // R rows of queries, the first of which is the text's token `token`.
  template <int R>
  static void attend_rows(const Attention& a, const Head& head, int token, const float* queries,
                          const float* distances, float* out) {
    const Window keys({reach(a, token).begin, reach(a, token + R - 1).end}, head.first);
    if (keys.from >= keys.to) {
      for (int r = 0; r < R; ++r) std::fill_n(out + r * a.out_stride, a.dim, 0.0f);
      return;
    }
    float *scores = head.scores, steps[R], totals[R];
    const Rows<Number> rows = head.products.template queries<R>(queries, a.query_stride, head.queries, steps);
    for_columns<Isa, R>(0, keys.columns, [&](auto block, int j) {
      multiply<R, block>(rows, a.dim / kNumbers, {head.products.keys + keys.from + j, head.padded}, steps, scores + j,
                         head.padded);
    });
    mask<R>(a, head, keys, token, distances, scores);
    softmax_weights<R>(scores, head.padded, keys.columns, totals);
    const Rows<Number> weights = head.products.template weights<R>(scores, head.padded, keys.columns, totals, steps);
    const Rows<Number> values = head.products.values;
    for_columns<Isa, R>(0, a.dim, [&](auto block, int d) {
      multiply<R, block>(weights, (keys.to - keys.from + kNumbers - 1) / kNumbers,
                         {values.values + keys.from / kNumbers * values.stride + d, values.stride}, steps, out + d,
                         a.out_stride);
    });
  }

  static void attend(const Attention& a) {
    const int last = a.first_query + a.queries_count - 1;
    const int first = reach(a, a.first_query).begin / kLanes * kLanes;
    const int count = std::max(reach(a, last).end - first, 0);
    const int padded = int(round_up(count, kLanes)) | kLanes;  // of odd cache lines: few are in one set
    Number* keys = reinterpret_cast<Number*>(a.scratch);
    float* scores = a.scratch + ptrdiff_t(padded) * a.dim;
    const Products products(a, first, count, padded, keys, keys + ptrdiff_t(padded) * a.dim / 2);
    const Head head{products, first, padded, scores, reinterpret_cast<Number*>(scores + kTile * padded)};
    for (int h = 0; h < a.heads; ++h) {
      for_tiles(a.queries_count, [&](auto height, int row) {
        attend_rows<height>(a, head, a.first_query + row, a.queries + row * a.query_stride + h * a.dim,
                            a.distances != nullptr ? a.distances + h * a.distances_stride : nullptr,
                            a.out + row * a.out_stride + h * a.dim);
      });
    }
  }
};

}  // namespace nimbed
