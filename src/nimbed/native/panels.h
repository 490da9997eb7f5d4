// Matrices in panels, and what solves a triangle of them.
#pragma once

#include <algorithm>
#include <atomic>
#include <exception>
#include <thread>
#include <vector>

#include "matrix_kernels.h"
#include "workspace.h"

namespace nimbed {

constexpr size_t panels_of(size_t columns, size_t width) { return (columns + width - 1) / width; }

template <class T>
class Panels {
 public:
  static constexpr size_t kWidth = kColumns<T>;

  Panels(size_t rows, size_t columns) : rows_(rows), count_(panels_of(columns, kWidth)) {
    values_.reserve(rows * count_ * kWidth);
  }
  size_t rows() const { return rows_; }
  size_t count() const { return count_; }
  T* panel(size_t number) const { return values_.get() + number * rows_ * kWidth; }
  T& at(size_t row, size_t column) const { return panel(column / kWidth)[row * kWidth + column % kWidth]; }

 private:
  size_t rows_, count_;
  Buffer<T> values_;
};

// body(rank, i) for each i below `count`, on up to `threads` threads, each of which takes the next that nobody has. It
// must not throw.
template <class Body>
void parallel_for(int threads, size_t count, const Body& body) {
  std::atomic<size_t> next{0};
  const auto work = [&](int rank) {
    for (size_t i = next++; i < count; i = next++) body(rank, i);
  };
  std::vector<std::thread> others;
  others.reserve(size_t(threads));
  try {
    for (int rank = 1; rank < threads && size_t(rank) < count; ++rank) others.emplace_back(work, rank);
  } catch (const std::exception&) {  // the system gives no more threads
  }
  work(0);
  for (std::thread& other : others) other.join();
}

// Forward substitution, in U^T x = c of which x holds c, for the rows of one block: x[r] = finish(c[r] - sum of
// U[k][r] x[k] for k from `begin` to r - 1). x is a panel; its rows before the block, from `begin` on, are done.
template <class T, class Finish>
void substitute(const MatrixKernels& kernels, const Panels<T>& upper, size_t block, size_t begin, T* x,
                const Finish& finish) {
  constexpr size_t kWidth = Panels<T>::kWidth, kDepth = 256;  // as much of both panels as the second-level cache holds
  const size_t first = block * kWidth, rows = std::min(kWidth, upper.rows() - first);
  const T* column = upper.panel(block);
  for (size_t k = begin; k < first; k += kDepth) {
    const size_t depth = std::min(kDepth, first - k);
    kernels.subtract(column + k * kWidth, x + k * kWidth, int(rows), int(depth), x + first * kWidth);
  }
  for (size_t r = 0; r < rows; ++r) {
    T* row = x + (first + r) * kWidth;
    kernels.subtract(column + first * kWidth + r, x + first * kWidth, 1, int(r), row);
    finish(first + r, row);
  }
}

}  // namespace nimbed
