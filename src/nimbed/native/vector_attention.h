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

  // Keys that are prepared: from the text's key `first` to `end`, the first a multiple of 16; and place for a tile.
  struct Block {
    const Products& products;
    int first, end, padded;
    float* scores;    // [kTile, padded]
    Number* queries;  // [kTile, dim]
    float* out;       // [kTile, dim]: the block's results, where there are several blocks; else nullptr
    float* exact;     // [kTile, dim]: those of rows whose weights stay floats
  };

  // What queries have of the blocks so far, [queries] each: the largest score, and the sum of weights.
  struct Running {
    float *peaks, *totals;
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
  static void softmax_weights(float* scores, ptrdiff_t stride, int columns, float* peaks, float* totals) {
    constexpr int N = R < Isa::kRows ? R : Isa::kRows;
    F peak[N], total[N];
    unroll<N>([&](auto r) {
      peak[r] = Isa::splat(-FLT_MAX);
      for (int j = 0; j < columns; j += kLanes) peak[r] = Isa::max(peak[r], Isa::load(scores + r * stride + j));
    });
    unroll<N>([&](auto r) { peak[r] = Isa::splat(peaks[r] = Isa::reduce_max(peak[r])), total[r] = Isa::splat(0.0f); });
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
    if constexpr (R > N) softmax_weights<R - N>(scores + N * stride, stride, columns, peaks + N, totals + N);
  }

  // scores[j] += distances[j], columns of a row.
  static void add_distances(const float* distances, int columns, float* scores) {
    for (int j = 0; j < columns; j += kLanes) {
      Isa::store(scores + j, Isa::add(Isa::load(scores + j), Isa::load(distances + j)));
    }
  }

  // A block's keys that some queries read together, counted from the block's first: `columns` from a multiple of 16 on.
  struct Window {
    int from, to, columns;
    Window(Reach keys, const Block& block)
        : from(std::max(keys.begin - block.first, 0) / kLanes * kLanes),
          to(std::min(keys.end, block.end) - block.first), columns(int(round_up(std::max(to - from, 0), kLanes))) {}
  };

  // What is added to scores [R, columns] by distance, and no score for keys that a query does not read.
  template <int R>
  static void mask(const Attention& a, const Block& block, const Window& keys, int token, const float* distances,
                   float* scores) {
    const int first = block.first + keys.from;
    for (int r = 0; r < R; ++r, ++token, scores += block.padded) {
      if (distances != nullptr) add_distances(distances + first - token, keys.columns, scores);
      const Reach own = reach(a, token);
      for (int j = 0; j < std::min(own.begin - first, keys.columns); ++j) scores[j] = -INFINITY;
      for (int j = std::max(std::min(own.end, block.end) - first, 0); j < keys.columns; ++j) scores[j] = -INFINITY;
    }
  }

  // R rows of queries, the first of which is the text's token `token`: their results for a block, or for all keys.
  template <int R>
  static void attend_rows(const Attention& a, const Block& block, int token, const float* queries,
                          const float* distances, const Running& running, float* out) {
    const Window keys({reach(a, token).begin, reach(a, token + R - 1).end}, block);
    if (keys.from >= keys.to) return;
    float *scores = block.scores, steps[R], peaks[R], totals[R];
    const Rows<Number> rows = block.products.template queries<R>(queries, a.query_stride, block.queries, steps);
    for_columns<Isa, R>(0, keys.columns, [&](auto columns, int j) {
      multiply<R, columns>(rows, a.dim / kNumbers, {block.products.keys + keys.from + j, block.padded}, steps,
                           scores + j, block.padded);
    });
    mask<R>(a, block, keys, token, distances, scores);
    softmax_weights<R>(scores, block.padded, keys.columns, peaks, totals);
    const bool exactly = Products::kRounds && block.out != nullptr;
    if (exactly && *std::min_element(totals, totals + R) <= kSmallTotal) multiply_exactly<R>(a, block, keys, totals);
    const Rows<Number> weights = block.products.template weights<R>(scores, block.padded, keys.columns, totals, steps);
    const Rows<Number> values = block.products.values;
    float* to = block.out == nullptr ? out : block.out;
    const ptrdiff_t stride = block.out == nullptr ? a.out_stride : a.dim;
    for_columns<Isa, R>(0, a.dim, [&](auto columns, int d) {
      multiply<R, columns>(weights, (keys.to - keys.from + kNumbers - 1) / kNumbers,
                           {values.values + keys.from / kNumbers * values.stride + d, values.stride}, steps, to + d,
                           stride);
    });
    for (int r = 0; r < R && block.out != nullptr; ++r) {
      const float* result = exactly && totals[r] <= kSmallTotal ? block.exact : block.out;
      add_block(result + r * a.dim, a.dim, peaks[r], totals[r], running.peaks[r], running.totals[r],
                out + r * a.out_stride);
    }
  }

  // The results of R rows with weights in fp32.
  template <int R>
  static void multiply_exactly(const Attention& a, const Block& block, const Window& keys, const float* totals) {
    float shares[R];
    for (int r = 0; r < R; ++r) shares[r] = totals[r] == 0 ? 0.0f : 1.0f / totals[r];
    const float* values = a.values + (block.first + keys.from) * a.key_stride;
    for_columns<Isa, R>(0, a.dim, [&](auto columns, int d) {
      VectorAttention<Isa, FloatProducts<Isa>>::template multiply<R, columns>(
          {block.scores, block.padded}, keys.to - keys.from, {values + d, a.key_stride}, shares, block.exact + d,
          a.dim);
    });
  }

  // The mean of what there is and of a block's result, by their weights (Milakov and Gimelshein 2018).
  static void add_block(const float* result, int dim, float peak, float total, float& peak_before, float& total_before,
                        float* out) {
    if (total == 0) return;
    const float highest = std::max(peak, peak_before), now = total * power(peak - highest);
    const float before = total_before == 0 ? 0.0f : total_before * power(peak_before - highest);
    peak_before = highest, total_before = before + now;
    const F share = Isa::splat(now / total_before);
    for (int d = 0; d < dim; d += kLanes) {
      const F old = Isa::load(out + d);
      Isa::store(out + d, Isa::fma(Isa::sub(Isa::load(result + d), old), share, old));
    }
  }

  static float power(float x) {
    F one[1] = {Isa::splat(x)};
    VectorFunctions<Isa>::exp(one);
    return Isa::reduce_max(one[0]);
  }

  // The queries that read keys of the block, in tiles.
  static void attend_block(const Attention& a, const Block& block, const Running& running) {
    const int from = std::max(0, block.first - a.ahead - a.first_query);
    const int to = std::min(a.queries_count, block.end + a.back - a.first_query);
    for (int h = 0; h < a.heads && from < to; ++h) {
      for_tiles(to - from, [&](auto height, int tile) {
        const int row = from + tile, at = h * a.queries_count + row;
        attend_rows<height>(a, block, a.first_query + row, a.queries + row * a.query_stride + h * a.dim,
                            a.distances != nullptr ? a.distances + h * a.distances_stride : nullptr,
                            {running.peaks + at, running.totals + at}, a.out + row * a.out_stride + h * a.dim);
      });
    }
  }

  static void attend(const Attention& a) {
    for (int row = 0; row < a.queries_count; ++row) std::fill_n(a.out + row * a.out_stride, a.heads * a.dim, 0.0f);
    const Reach all{reach(a, a.first_query).begin, reach(a, a.first_query + a.queries_count - 1).end};
    const int begin = all.begin / kLanes * kLanes, end = all.end, count = a.heads * a.queries_count;
    // The rows of a block, an odd number of cache lines: few are in one set.
    const int padded = int(round_up(std::min(std::max(end - begin, 0), kKeyBlock), kLanes)) | kLanes;
    Number* keys = reinterpret_cast<Number*>(a.scratch);
    float *scores = a.scratch + 2 * ptrdiff_t(padded) * a.dim, *queries = scores + kTile * padded;
    float *out = queries + kTile * a.dim, *exact = out + kTile * a.dim, *peaks = exact + kTile * a.dim;
    std::fill_n(peaks, count, -FLT_MAX), std::fill_n(peaks + count, count, 0.0f);
    const bool several = a.keys_count > kKeyBlock;  // whichever of them the queries read
    Products products(a);
    for (int at = begin / kKeyBlock * kKeyBlock; at < end; at += kKeyBlock) {
      const int first = std::max(at, begin), last = std::min(at + kKeyBlock, end);
      products.prepare(a, first, last - first, padded, keys, keys + ptrdiff_t(padded) * a.dim);
      attend_block(a, {products, first, last, padded, scores, reinterpret_cast<Number*>(queries),
                       several ? out : nullptr, exact}, {peaks, peaks + count});
    }
  }
};

}  // namespace nimbed
