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

// The rows of an epilogue's addend and gate, and what it gives.
struct Ending {
  Ending(size_t rows, const Input<float, 2>& addend, int activation, const std::optional<Input<float, 2>>& gate)
      : out(new_array<float, 2>({rows, size_t(kPanel)})) {
    demand(addend.shape(1) == kPanel && (addend.shape(0) == 1 || addend.shape(0) == rows),
           "addend is no [1, 64] or [rows, 64]");
    demand(activation >= 0 && activation <= int(Activation::fine_gelu), "there is no such activation");
    demand(!gate || (gate->shape(0) == rows && gate->shape(1) == kPanel), "gate is no [rows, 64]");
    then = {addend.data(), addend.shape(0) == 1 ? 0 : kPanel,
            Activation(activation), gate ? gate->data() : nullptr,
            kPanel,        out.data(),
            kPanel};
  }
  Output<float, 2> out;
  Epilogue then;
};

Output<float, 2> linear(const std::string& kernels, const Input<uint8_t, 3>& a, const Input<float, 3>& steps,
                        const Input<float, 3>& lows, const Input<int8_t, 4>& weights, const Input<float, 2>& scale,
                        const Input<float, 2>& sum, const Input<float, 2>& addend, int activation, int times,
                        const std::optional<Input<float, 2>>& gate, int group) {
  const size_t passes = a.shape(0), rows = a.shape(1), k = a.shape(2);
  demand(passes > 0 && rows > 0 && k > 0 && k % kPanel == 0 && k <= 1 << 16,
         "a is no [passes, rows, k] with k a multiple of 64");
  demand(group > 0 && group % kPanel == 0, "group is no multiple of 64");
  const size_t groups = size_t(groups_of(int(k), group));
  for (const auto* one : {&steps, &lows}) {
    demand(one->shape(0) == passes && one->shape(1) == groups && one->shape(2) == rows,
           "steps or lows are no [passes, groups, rows]");
  }
  demand(weights.shape(0) == kPanel / kStrip && weights.shape(1) == k / 4 && weights.shape(2) == kStrip &&
             weights.shape(3) == 4,
         "weights are no [2, k / 4, 32, 4]");
  for (const auto* one : {&scale, &sum}) {
    demand(one->shape(0) == groups && one->shape(1) == kPanel, "scale or sum is no [groups, 64]");
  }
  std::unique_ptr<RowScale[]> scales(new RowScale[steps.size()]);
  for (size_t i = 0; i < steps.size(); ++i) scales[i] = {steps.data()[i], lows.data()[i]};
  const Ending ending(rows, addend, activation, gate);
  const QuantizedRows x{a.data(),    ptrdiff_t(k),        scales.get(),   int(rows),
                        int(passes), ptrdiff_t(rows * k), ptrdiff_t(rows)};
  const Panel panel{weights.data(), scale.data(), sum.data(), int(k), group, int(groups)};
  const Kernels& set = kernels_named(kernels);
  nb::gil_scoped_release release;
  for (int i = 0; i < times; ++i) set.linear(x, panel, panel, ending.then);
  return ending.out;
}

Output<float, 2> linear_fp32(const std::string& kernels, const Input<float, 2>& x, const Input<float, 2>& weights,
                             const Input<float, 2>& addend, int activation, int times,
                             const std::optional<Input<float, 2>>& gate) {
  const size_t rows = x.shape(0), inputs = x.shape(1);
  demand(rows > 0 && inputs > 0 && inputs % kPanel == 0 && inputs <= 1 << 16,
         "x is no [rows, inputs] with inputs a multiple of 64");
  demand(weights.shape(0) == inputs && weights.shape(1) == kPanel, "weights are no [inputs, 64]");
  const Ending ending(rows, addend, activation, gate);
  const FloatRows from{x.data(), ptrdiff_t(inputs), int(rows)};
  const FloatPanel panel{weights.data(), int(inputs)};
  const Kernels& set = kernels_named(kernels);
  for (int i = 0; i < times; ++i) set.linear_fp32(from, panel, ending.then);
  return ending.out;
}

std::tuple<Output<uint8_t, 1>, float, float> quantize(const std::string& kernels, const Input<float, 1>& x, int times) {
  demand(is_width(x.shape(0)), "x is no multiple of 64 long");
  auto q = new_array<uint8_t, 1>({x.shape(0)});
  const Kernels& set = kernels_named(kernels);
  RowScale scale{};
  for (int i = 0; i < times; ++i) scale = set.quantize(x.data(), int(x.shape(0)), q.data());
  return {q, scale.step, scale.low};
}

Output<float, 1> remainder(const std::string& kernels, const Input<float, 1>& x, const Input<uint8_t, 1>& q, float step,
                           float low) {
  demand(is_width(x.shape(0)) && q.shape(0) == x.shape(0), "x or q is no multiple of 64 long");
  auto rest = new_array<float, 1>({x.shape(0)});
  kernels_named(kernels).remainder(x.data(), q.data(), {step, low}, int(x.shape(0)), rest.data());
  return rest;
}

std::pair<Output<float, 1>, Output<float, 1>> add_norm(const std::string& kernels,
                                                       const std::optional<Input<float, 1>>& branch,
                                                       const Input<float, 1>& x, int size, const Input<float, 1>& gamma,
                                                       const Input<float, 1>& beta, const Input<float, 1>& smooth,
                                                       float epsilon, int times, bool keeps, bool rms) {
  const size_t width = x.shape(0);
  demand(is_width(width) && size > 0 && size_t(size) <= width, "x is no multiple of 64 long, or size is beyond it");
  demand((!branch || branch->shape(0) == width) && gamma.shape(0) == width && beta.shape(0) == width &&
             smooth.shape(0) == width,
         "branch, gamma, beta or smooth is not as long as x");
  auto sum = copy_of(x);
  auto normed = new_array<float, 1>({width});
  const Norm norm{gamma.data(), beta.data(), smooth.data(), epsilon, keeps, rms};
  const Kernels& set = kernels_named(kernels);
  const float* added = branch ? branch->data() : nullptr;
  for (int i = 0; i < times; ++i) set.add_norm(added, sum.data(), norm, size, int(width), normed.data());
  return {sum, normed};
}

Output<float, 1> norm_heads(const std::string& kernels, const Input<float, 1>& x, const Input<float, 1>& gamma,
                            int size, float epsilon) {
  const size_t dim = gamma.shape(0);
  demand(dim > 0 && dim % 16 == 0 && x.shape(0) % dim == 0, "x is no heads as long as gamma, a multiple of 16");
  demand(size > 0 && size_t(size) <= dim, "size is beyond a head");
  auto out = copy_of(x);
  kernels_named(kernels).norm_heads(out.data(), int(x.shape(0) / dim), int(dim), {gamma.data(), epsilon, size});
  return out;
}

Output<float, 1> rotate(const std::string& kernels, const Input<float, 1>& x, const Input<float, 1>& rotation) {
  const size_t dim = rotation.shape(0);
  demand(dim > 0 && dim % 32 == 0 && x.shape(0) % dim == 0, "x is no heads as long as the rotation, a multiple of 32");
  auto out = copy_of(x);
  kernels_named(kernels).rotate(out.data(), int(x.shape(0) / dim), int(dim), rotation.data());
  return out;
}

// q: [queries, stride], in the first columns of which are the heads; k, v: [keys, stride], in the first `dim`. What is
// beyond them belongs to others. distances: [heads, columns], distance 0 in the column `zero`.
Output<float, 2> attend(const std::string& kernels, const Input<float, 2>& q, const Input<float, 2>& k,
                        const Input<float, 2>& v, int dim, const std::optional<Input<float, 2>>& distances, int times,
                        int heads, int first_query, int back, int ahead, int zero, bool fp32) {
  const size_t queries = q.shape(0), keys = k.shape(0), stride = k.shape(1);
  demand(v.shape(0) == keys && v.shape(1) == stride, "k and v are of different shapes");
  demand(queries > 0 && queries <= 1 << 16 && keys > 0 && keys <= 1 << 16 && first_query >= 0 && first_query <= 1 << 16,
         "there are no queries or keys, or too many");
  demand(dim > 0 && dim % 16 == 0 && size_t(dim) <= stride && heads > 0 && size_t(heads) * dim <= q.shape(1),
         "dim is no multiple of 16, or longer than a row");
  demand(back >= 0 && back <= kUnlimited && ahead >= 0 && ahead <= kUnlimited, "back or ahead is below 0");
  const size_t last = first_query + queries - 1;
  demand(!distances || (distances->shape(0) == size_t(heads) && size_t(zero) >= last &&
                        distances->shape(1) >= zero - first_query + round_up(keys, 16)),
         "there are not distances enough");
  auto out = new_array<float, 2>({queries, size_t(heads) * dim});
  const size_t bytes = round_up(attention_scratch(keys, dim, heads * queries) * sizeof(float), 64);
  std::unique_ptr<float, decltype(&std::free)> scratch(static_cast<float*>(std::aligned_alloc(64, bytes)), std::free);
  if (!scratch) throw std::bad_alloc();
  const Kernels& set = kernels_named(kernels);
  const Attention attention{q.data(),
                            ptrdiff_t(q.shape(1)),
                            k.data(),
                            v.data(),
                            ptrdiff_t(stride),
                            heads,
                            dim,
                            first_query,
                            int(queries),
                            int(keys),
                            back,
                            ahead,
                            distances ? distances->data() + zero : nullptr,
                            distances ? ptrdiff_t(distances->shape(1)) : 0,
                            out.data(),
                            ptrdiff_t(heads) * dim,
                            scratch.get()};
  for (int i = 0; i < times; ++i) (fp32 ? set.attend_fp32 : set.attend)(attention);
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
  return priority.bulk_running() > 0 || priority.query_running();
}

}  // namespace

void bind_kernels(nb::module_& m) {
  nb::module_ of = m.def_submodule("testing", "The kernels one by one, for tests. Nothing else should call them.");
  of.def("linear", linear, "kernels"_a, "a"_a, "steps"_a, "lows"_a, "weights"_a, "scale"_a, "sum"_a, "addend"_a,
         "activation"_a, "times"_a = 1, "gate"_a.none() = nb::none(), "group"_a = 1 << 16);
  of.def("linear_fp32", linear_fp32, "kernels"_a, "x"_a, "weights"_a, "addend"_a, "activation"_a, "times"_a = 1,
         "gate"_a.none() = nb::none());
  of.def("quantize", quantize, "kernels"_a, "x"_a, "times"_a = 1);
  of.def("remainder", remainder, "kernels"_a, "x"_a, "q"_a, "step"_a, "low"_a);
  of.def("add_norm", add_norm, "kernels"_a, "branch"_a.none(), "x"_a, "size"_a, "gamma"_a, "beta"_a, "smooth"_a,
         "epsilon"_a, "times"_a = 1, "keeps"_a = false, "rms"_a = false);
  of.def("norm_heads", norm_heads, "kernels"_a, "x"_a, "gamma"_a, "size"_a, "epsilon"_a);
  of.def("rotate", rotate, "kernels"_a, "x"_a, "rotation"_a);
  of.def("attend", attend, "kernels"_a, "q"_a, "k"_a, "v"_a, "dim"_a, "distances"_a.none() = nb::none(), "times"_a = 1,
         "heads"_a = 1, "first_query"_a = 0, "back"_a = kUnlimited, "ahead"_a = kUnlimited, "zero"_a = 0,
         "fp32"_a = false);
  of.def("counts_as_running_after_exception", counts_as_running_after_exception, "bulk"_a);
}

}  // namespace nimbed
