// The kernels one by one, by the name of their set, as functions of numpy arrays: for tests, and for measurements,
// which run them many times.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <tuple>

#include "arrays.h"
#include "query_priority.h"

using namespace nanobind::literals;

namespace nimbed {
namespace {

void demand(bool holds, const char* what) {
  if (!holds) refuse(what);
}

template <class T>
Output<T, 1> copy_of(const Input<T, 1>& x) {
  auto copy = new_array<T, 1>({x.shape(0)});
  std::copy_n(x.data(), x.shape(0), copy.data());
  return copy;
}

bool is_width(size_t n) { return n > 0 && n % kPanel == 0 && n <= kMaxWidth; }

Output<float, 2> linear(const std::string& kernels, const Input<uint8_t, 2>& a, const Input<float, 1>& steps,
                        const Input<float, 1>& lows, const Input<int8_t, 3>& weights, const Input<float, 1>& scale,
                        const Input<float, 1>& sum, const Input<float, 2>& addend, int activation, int times) {
  const size_t rows = a.shape(0), k = a.shape(1);
  demand(rows > 0 && k > 0 && k % kPanel == 0 && k <= 1 << 16, "a is no [rows, k] with k a multiple of 64");
  demand(steps.shape(0) == rows && lows.shape(0) == rows, "there is not a step and a low for each row");
  demand(weights.shape(0) == k / 4 && weights.shape(1) == kPanel && weights.shape(2) == 4,
         "weights are no [k / 4, 64, 4]");
  demand(scale.shape(0) == kPanel && sum.shape(0) == kPanel, "scale or sum is no [64]");
  demand(addend.shape(1) == kPanel && (addend.shape(0) == 1 || addend.shape(0) == rows),
         "addend is no [1, 64] or [rows, 64]");
  demand(activation >= 0 && activation <= 2, "there is no such activation");
  std::unique_ptr<RowScale[]> scales(new RowScale[rows]);
  for (size_t r = 0; r < rows; ++r) scales[r] = {steps(r), lows(r)};
  auto out = new_array<float, 2>({rows, size_t(kPanel)});
  const QuantizedRows x{a.data(), ptrdiff_t(k), scales.get(), int(rows)};
  const Panel panel{weights.data(), weights.data(), scale.data(), sum.data(), int(k)};
  const Epilogue then{addend.data(), addend.shape(0) == 1 ? 0 : kPanel, Activation(activation), out.data(), kPanel};
  const Kernels& set = kernels_named(kernels);
  nb::gil_scoped_release release;
  for (int i = 0; i < times; ++i) set.linear(x, panel, then);
  return out;
}

std::tuple<Output<uint8_t, 1>, float, float> quantize(const std::string& kernels, const Input<float, 1>& x, int times) {
  demand(is_width(x.shape(0)), "x is no multiple of 64 long");
  auto q = new_array<uint8_t, 1>({x.shape(0)});
  const Kernels& set = kernels_named(kernels);
  RowScale scale{};
  for (int i = 0; i < times; ++i) scale = set.quantize(x.data(), int(x.shape(0)), q.data());
  return {q, scale.step, scale.low};
}

std::pair<Output<float, 1>, Output<float, 1>> add_norm(
    const std::string& kernels, const Input<float, 1>& y, const Input<float, 1>& x, int size,
    const Input<float, 1>& gamma, const Input<float, 1>& beta, const Input<float, 1>& smooth, float epsilon,
    int times) {
  const size_t width = x.shape(0);
  demand(is_width(width) && size > 0 && size_t(size) <= width, "x is no multiple of 64 long, or size is beyond it");
  demand(y.shape(0) == width && gamma.shape(0) == width && beta.shape(0) == width && smooth.shape(0) == width,
         "y, gamma, beta or smooth is not as long as x");
  auto sum = copy_of(x);
  auto normed = new_array<float, 1>({width});
  const Norm norm{gamma.data(), beta.data(), smooth.data(), epsilon};
  const Kernels& set = kernels_named(kernels);
  for (int i = 0; i < times; ++i) set.add_norm(y.data(), sum.data(), norm, size, int(width), normed.data());
  return {sum, normed};
}

Output<float, 2> attend(const std::string& kernels, const Input<float, 2>& q, const Input<float, 2>& k,
                        const Input<float, 2>& v, int dim, const std::optional<Input<float, 1>>& distances,
                        int times) {
  const size_t length = q.shape(0), stride = q.shape(1);
  demand(k.shape(0) == length && v.shape(0) == length && k.shape(1) == stride && v.shape(1) == stride,
         "q, k and v are of different shapes");
  demand(length > 0 && length <= 1 << 16 && dim > 0 && dim % 16 == 0 && size_t(dim) <= stride,
         "dim is no multiple of 16, or longer than a row");
  demand(!distances || distances->shape(0) >= 2 * length + 15, "there are not distances enough");
  auto out = new_array<float, 2>({length, size_t(dim)});
  std::unique_ptr<float, decltype(&std::free)> scratch(
      static_cast<float*>(std::aligned_alloc(64, attention_scratch(length, dim) * sizeof(float))), std::free);
  if (!scratch) throw std::bad_alloc();
  const Kernels& set = kernels_named(kernels);
  const Attention attention{q.data(), k.data(), v.data(), ptrdiff_t(stride), int(length), dim,
                            distances ? distances->data() + length : nullptr, out.data(), dim, scratch.get()};
  for (int i = 0; i < times; ++i) set.attend(attention);
  return out;
}

// Whether a run that ends in an exception still counts as running, so that others would wait for it.
bool counts_as_running_after_exception(bool bulk) {
  QueryPriority priority;
  try {
    const QueryPriority::Running running(priority, bulk);
    throw std::bad_alloc();
  } catch (const std::bad_alloc&) {
  }
  return priority.bulk_running() || priority.query_running();
}

}  // namespace

void bind_kernels(nb::module_& m) {
  nb::module_ of = m.def_submodule("testing", "The kernels one by one, for tests. Nothing else should call them.");
  of.def("linear", linear, "kernels"_a, "a"_a, "steps"_a, "lows"_a, "weights"_a, "scale"_a, "sum"_a, "addend"_a,
         "activation"_a, "times"_a = 1);
  of.def("quantize", quantize, "kernels"_a, "x"_a, "times"_a = 1);
  of.def("add_norm", add_norm, "kernels"_a, "y"_a, "x"_a, "size"_a, "gamma"_a, "beta"_a, "smooth"_a, "epsilon"_a,
         "times"_a = 1);
  of.def("attend", attend, "kernels"_a, "q"_a, "k"_a, "v"_a, "dim"_a, "distances"_a.none() = nb::none(),
         "times"_a = 1);
  of.def("counts_as_running_after_exception", counts_as_running_after_exception, "bulk"_a);
}

}  // namespace nimbed
