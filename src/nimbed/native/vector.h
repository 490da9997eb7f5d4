// What is written once over an instruction set's vectors is written with these. `Isa`, the instruction set, gives `F`,
// a vector of 16 floats whatever its registers hold, so that sums have the same lanes everywhere, and operations on it.
#pragma once

#include <type_traits>
#include <utility>

#include "kernels.h"

namespace nimbed {

constexpr int kLanes = 16;

// body(0), body(1) ... body(N - 1), each with a constant: arrays that are indexed by them are kept in registers.
template <class Body, int... I>
__attribute__((always_inline)) inline void unroll_indices(Body& body, std::integer_sequence<int, I...>) {
  (body(std::integral_constant<int, I>{}), ...);
}

template <int N, class Body>
__attribute__((always_inline)) inline void unroll(Body body) {
  unroll_indices(body, std::make_integer_sequence<int, N>{});
}

// body(R, first) for tiles of R rows from `first` on, R a constant up to kMost. Tiles are of like height: 8 rows are 4
// and 4, not 6 and 2.
template <int kMost = kTile, class Body>
__attribute__((always_inline)) inline void for_tiles(int rows, Body body) {
  for (int tiles = (rows + kMost - 1) / kMost, first = 0; first < rows; --tiles) {
    const int height = (rows - first + tiles - 1) / tiles;
    unroll<kMost>([&](auto i) {
      if (height == i + 1) body(std::integral_constant<int, i + 1>{}, first);
    });
    first += height;
  }
}

// body(C, at) for blocks of C vectors of columns, C a constant, as many as `Isa` has registers for beside R rows.
template <class Isa, int R, class Body>
__attribute__((always_inline)) inline void for_columns(int from, int to, Body body) {
  constexpr int kMost = Isa::columns(R);
  for (; from + kMost * kLanes <= to; from += kMost * kLanes) body(std::integral_constant<int, kMost>{}, from);
  if constexpr (kMost > 2) {
    for (; from + 2 * kLanes <= to; from += 2 * kLanes) body(std::integral_constant<int, 2>{}, from);
  }
  if constexpr (kMost > 1) {
    for (; from < to; from += kLanes) body(std::integral_constant<int, 1>{}, from);
  }
}

// What a product reads beside its rows: weights, and those that come later, which are prefetched from the third-level
// cache meanwhile: `step` bytes for every 256 bytes of weights.
template <class Number>
struct Stream {
  const Number* weights;
  const char* next;
  ptrdiff_t step;

  // The lines of a step; it spans more than one where few rows pass over the panel, and then waits for memory most.
  template <class Isa>
  void prefetch() const {
    Isa::prefetch(next);
    if (step > 64) Isa::prefetch(next + 64);
    if (step > 128) Isa::prefetch(next + 128), Isa::prefetch(next + 192);
  }
};

}  // namespace nimbed
