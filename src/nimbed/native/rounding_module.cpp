// The builder's arithmetic as Python sees it. Arrays are checked here.
#include <nanobind/stl/string.h>

#include <algorithm>
#include <cmath>

#include "arrays.h"
#include "rounding.h"

using namespace nanobind::literals;

namespace nimbed {
namespace {

using Sums = nb::ndarray<double, nb::numpy, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

constexpr size_t kMaxInputs = 1 << 16;

void demand(bool holds, const char* what) {
  if (!holds) refuse(what);
}

const MatrixKernels& matrix_kernels_named(const std::string& name) {
  const MatrixKernels* found = find_matrix_kernels(name.c_str());
  if (found == nullptr) refuse("this CPU has no matrix kernels of the name " + name);
  return *found;
}

template <class T>
bool finite(const T* x, size_t count) {
  return std::all_of(x, x + count, [](T value) { return std::isfinite(value); });
}

void second_moments(const Input<float, 2>& x, const Sums& sums, int threads, const std::string& kernels) {
  const size_t inputs = x.shape(1);
  demand(inputs > 0 && inputs <= kMaxInputs, "x is no [rows, inputs] with 1 to 65536 inputs");
  demand(sums.shape(0) == inputs && sums.shape(1) == inputs, "sums are no [inputs, inputs]");
  const MatrixKernels& set = matrix_kernels_named(kernels);
  nb::gil_scoped_release release;
  add_second_moments(set, x.data(), x.shape(0), inputs, std::clamp(threads, 1, 1024), sums.data());
}

void check(const Input<float, 2>& weights, const Input<float, 2>& steps, const Input<int64_t, 1>& groups,
           const Input<double, 2>& moments) {
  const size_t inputs = weights.shape(1);
  demand(inputs > 0 && inputs <= kMaxInputs, "weights are no [outputs, inputs] with 1 to 65536 inputs");
  demand(steps.shape(0) == weights.shape(0), "there are not steps for each output");
  demand(groups.shape(0) == inputs, "there is not a group for each input");
  demand(moments.shape(0) == inputs && moments.shape(1) == inputs, "moments are no [inputs, inputs]");
  demand(std::all_of(groups.data(), groups.data() + inputs,
                     [&](int64_t g) { return g >= 0 && size_t(g) < steps.shape(1); }),
         "a group has no steps");
  demand(finite(weights.data(), weights.size()), "a weight is not finite");
  demand(finite(steps.data(), steps.size()) &&
             std::all_of(steps.data(), steps.data() + steps.size(), [](float step) { return step > 0; }),
         "a step is not positive and finite");
  demand(finite(moments.data(), moments.size()), "a moment is not finite");
}

Output<int8_t, 2> round_weights(const Input<float, 2>& weights, const Input<float, 2>& steps,
                                const Input<int64_t, 1>& groups, const Input<double, 2>& moments, int threads,
                                const std::string& kernels) {
  check(weights, steps, groups, moments);
  const MatrixKernels& set = matrix_kernels_named(kernels);
  auto rounded = new_array<int8_t, 2>({weights.shape(0), weights.shape(1)});
  int8_t* data = rounded.data();
  const Unrounded from{weights.data(), weights.shape(0), weights.shape(1), steps.data(),
                       steps.shape(1), groups.data(),    moments.data()};
  nb::gil_scoped_release release;
  gptq(set, from, std::clamp(threads, 1, 1024), data);
  return rounded;
}

}  // namespace

void bind_rounding(nb::module_& m) {
  nb::module_ of = m.def_submodule("rounding", "The builder's arithmetic: the same bits on any CPU and any threads.");
  of.def("second_moments", second_moments, "x"_a.noconvert(), "sums"_a.noconvert(), "threads"_a, "kernels"_a = "auto");
  of.def("gptq", round_weights, "weights"_a.noconvert(), "steps"_a.noconvert(), "groups"_a.noconvert(),
         "moments"_a.noconvert(), "threads"_a, "kernels"_a = "auto");
  of.def(
      "kernels",
      [](const std::string& name) -> nb::object {
        const MatrixKernels* found = find_matrix_kernels(name.c_str());
        return found == nullptr ? nb::none() : nb::object(nb::str(found->name));
      },
      "name"_a = "auto");
}

}  // namespace nimbed
