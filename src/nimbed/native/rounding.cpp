// GPTQ. All of it is forward substitution: in the triangle R of the moments R^T R, in R's inverse, and in the weights,
// where rounding takes the place of the division.
#include "rounding.h"

#include <cmath>
#include <memory>
#include <numeric>

#include "panels.h"

namespace nimbed {
namespace {

using Order = std::vector<size_t>;

constexpr double kDamping = 0.01;  // of the mean diagonal, added to it
constexpr float kLargest = 127.0f;

// Inputs with the largest moment first.
Order by_moment(const Unrounded& from) {
  const auto diagonal = [&](size_t i) { return from.moments[i * (from.inputs + 1)]; };
  Order order(from.inputs);
  std::iota(order.begin(), order.end(), size_t(0));
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return diagonal(a) > diagonal(b); });
  return order;
}

// The upper triangle of the moments, damped. The inputs are in reverse order: then the inverse of a triangle is one.
Panels<double> reversed_moments(const Unrounded& from, const Order& order, int threads) {
  constexpr size_t kWidth = Panels<double>::kWidth;
  const size_t n = from.inputs;
  double trace = 0;
  for (size_t i = 0; i < n; ++i) trace += from.moments[i * (n + 1)];
  const double damping = kDamping * std::max(trace / double(n), 1e-12);
  Panels<double> made(n, n);
  parallel_for(threads, made.count(), [&](int, size_t p) {
    for (size_t column = p * kWidth; column < std::min(n, (p + 1) * kWidth); ++column) {
      const size_t a = order[n - 1 - column];
      for (size_t row = 0; row <= column; ++row) {
        const size_t b = order[n - 1 - row];
        made.at(row, column) = from.moments[std::max(a, b) * n + std::min(a, b)] + (a == b ? damping : 0);
      }
    }
  });
  return made;
}

void scale(double factor, double* row) {
  for (size_t i = 0; i < Panels<double>::kWidth; ++i) row[i] *= factor;
}

// R in place of the upper triangle of R^T R.
void factorize(const MatrixKernels& kernels, const Panels<double>& upper, int threads) {
  for (size_t block = 0; block < upper.count(); ++block) {
    substitute(kernels, upper, block, 0, upper.panel(block), [](size_t r, double* row) {
      const double pivot = row[r % Panels<double>::kWidth];
      if (!(pivot > 0 && std::isfinite(pivot))) throw NotPositiveDefinite("they are not positive definite");
      scale(1 / std::sqrt(pivot), row);
      std::fill_n(row, r % Panels<double>::kWidth, 0.0);
    });
    parallel_for(threads, upper.count() - block - 1, [&](int, size_t i) {
      substitute(kernels, upper, block, 0, upper.panel(block + 1 + i),
                 [&](size_t r, double* row) { scale(1 / upper.at(r, r), row); });
    });
  }
}

// The columns of R^-T that begin with a block's, in x[n, kWidth].
void invert(const MatrixKernels& kernels, const Panels<double>& r, size_t block, double* x) {
  constexpr size_t kWidth = Panels<double>::kWidth;
  const size_t first = block * kWidth, n = r.rows();
  std::fill(x + first * kWidth, x + n * kWidth, 0.0);
  for (size_t i = 0; i < std::min(kWidth, n - first); ++i) x[(first + i) * kWidth + i] = 1;
  for (size_t b = block; b < r.count(); ++b) {
    substitute(kernels, r, b, first, x, [&](size_t i, double* row) { scale(1 / r.at(i, i), row); });
  }
}

// The upper triangle U of the moments' inverse U^T U, in order, each row divided by its diagonal.
Panels<float> inverse_factor(const MatrixKernels& kernels, const Panels<double>& r, int threads) {
  constexpr size_t kWidth = Panels<double>::kWidth;
  const size_t n = r.rows();
  const Panels<double> columns(n, size_t(threads) * kWidth);  // one for each thread
  Panels<float> made(n, n);
  parallel_for(threads, r.count(), [&](int rank, size_t block) {
    double* x = columns.panel(size_t(rank));
    invert(kernels, r, block, x);
    const size_t first = block * kWidth;
    for (size_t row = first; row < n; ++row) {
      for (size_t column = first; column < std::min(first + kWidth, row + 1); ++column) {
        made.at(n - 1 - row, n - 1 - column) = float(x[row * kWidth + column - first] * r.at(row, row));
      }
    }
  });
  return made;
}

// Weights of a panel of outputs, input by input in order, as one thread rounds them.
class Sweep {
 public:
  static constexpr size_t kWidth = Panels<float>::kWidth;

  Sweep(const Unrounded& from, const Order& order) : from_(from), order_(order) {
    left_.reserve(from.inputs * kWidth);
    rounded_.reserve(from.inputs * kWidth);
    steps_.reserve(from.groups * kWidth);
  }

  void run(const MatrixKernels& kernels, const Panels<float>& factor, size_t panel, int8_t* to) {
    first_ = panel * kWidth, count_ = std::min(kWidth, from_.outputs - first_);
    gather();
    for (size_t block = 0; block < factor.count(); ++block) {
      substitute(kernels, factor, block, 0, left_.get(), [&](size_t i, float* row) { round(i, row); });
    }
    for (size_t o = 0; o < count_; ++o) {
      int8_t* row = to + (first_ + o) * from_.inputs;
      for (size_t i = 0; i < from_.inputs; ++i) row[order_[i]] = rounded_.get()[i * kWidth + o];
    }
  }

 private:
  void gather() {
    std::fill_n(left_.get(), from_.inputs * kWidth, 0.0f);
    std::fill_n(steps_.get(), from_.groups * kWidth, 1.0f);
    for (size_t o = 0; o < count_; ++o) {
      const float* row = from_.weights + (first_ + o) * from_.inputs;
      for (size_t i = 0; i < from_.inputs; ++i) left_.get()[i * kWidth + o] = row[order_[i]];
      for (size_t g = 0; g < from_.groups; ++g) steps_.get()[g * kWidth + o] = from_.steps[(first_ + o) * from_.groups + g];
    }
  }

  // Leaves in the row what rounding changes. A sum as large as kShift has no room for fractions: it rounds to even.
  void round(size_t i, float* row) {
    constexpr float kShift = 12582912.0f;
    const float* steps = steps_.get() + size_t(from_.group_of[order_[i]]) * kWidth;
    int8_t* rounded = rounded_.get() + i * kWidth;
    for (size_t o = 0; o < kWidth; ++o) {
      const float bounded = std::min(std::max(-kLargest, row[o] / steps[o]), kLargest);
      const float whole = (bounded + kShift) - kShift;
      rounded[o] = int8_t(whole);
      row[o] -= whole * steps[o];
    }
  }

  const Unrounded& from_;
  const Order& order_;
  size_t first_ = 0, count_ = 0;
  Buffer<float> left_, steps_;
  Buffer<int8_t> rounded_;
};

Panels<float> factor_of(const MatrixKernels& kernels, const Unrounded& from, const Order& order, int threads) {
  const Panels<double> moments = reversed_moments(from, order, threads);
  factorize(kernels, moments, threads);
  return inverse_factor(kernels, moments, threads);
}

}  // namespace

void gptq(const MatrixKernels& kernels, const Unrounded& from, int threads, int8_t* rounded) {
  const Order order = by_moment(from);
  const Panels<float> factor = factor_of(kernels, from, order, threads);
  std::vector<std::unique_ptr<Sweep>> sweeps;
  for (int i = 0; i < threads; ++i) sweeps.push_back(std::make_unique<Sweep>(from, order));
  parallel_for(threads, panels_of(from.outputs, Sweep::kWidth), [&](int rank, size_t panel) {
    sweeps[size_t(rank)]->run(kernels, factor, panel, rounded);
  });
}

}  // namespace nimbed
