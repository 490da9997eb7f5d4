// What Python sees. Arrays are checked here: everything behind this file trusts its inputs.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <vector>

#include "model.h"
#include "session.h"
#include "trace.h"

using namespace nanobind::literals;

namespace nimbed {

void bind_kernels(nb::module_& m);   // testing.cpp
void bind_rounding(nb::module_& m);  // rounding_module.cpp

namespace {

using Ids = Input<int32_t, 1>;
using Vectors = Output<float, 2>;

void check_lengths(const Network& net, const Ids& ids, const Ids& offsets) {
  const size_t count = offsets.shape(0) - 1;
  if (offsets.shape(0) < 2 || offsets(0) != 0 || size_t(offsets(count)) != ids.shape(0)) {
    refuse("offsets do not go from 0 to the number of ids");
  }
  for (size_t i = 0; i < count; ++i) {
    const int64_t length = int64_t(offsets(i + 1)) - offsets(i);
    if (length < 1 || length > net.max_length) {
      refuse("sequence " + std::to_string(i) + " has " + std::to_string(length) + " tokens; 1 to " +
             std::to_string(net.max_length) + " are possible");
    }
  }
}

void check_keys(const Ids& offsets, const Ids& keys) {
  if (keys.shape(0) + 1 != offsets.shape(0)) refuse("there are not as many numbers of keys as sequences");
  for (size_t i = 0; i < keys.shape(0); ++i) {
    if (keys(i) < 1 || keys(i) > offsets(i + 1) - offsets(i)) {
      refuse("sequence " + std::to_string(i) + " has " + std::to_string(keys(i)) + " keys, which is no part of it");
    }
  }
}

Batch check_batch(const Network& net, const Ids& ids, const Ids& offsets, const std::optional<Ids>& types,
                  const std::optional<Ids>& keys) {
  check_lengths(net, ids, offsets);
  if (keys) check_keys(offsets, *keys);
  for (size_t i = 0; i < ids.shape(0); ++i) {
    if (ids(i) < 0 || ids(i) >= net.vocabulary) {
      refuse("token id " + std::to_string(ids(i)) + " is not in the vocabulary of " + std::to_string(net.vocabulary));
    }
  }
  if (types) {
    if (types->shape(0) != ids.shape(0)) refuse("there are not as many segment ids as ids");
    for (size_t i = 0; i < ids.shape(0); ++i) {
      const int32_t type = (*types)(i);
      if (type < 0 || (type >= net.types && net.types > 1)) refuse("segment id " + std::to_string(type) + " is unknown");
    }
  }
  // A network with one segment has all tokens in it, whatever the tokenizer says of pairs.
  return {ids.data(), offsets.data(), types && net.types > 1 ? types->data() : nullptr, keys ? keys->data() : nullptr,
          int(offsets.shape(0) - 1)};
}

// A session has memory for one batch at a time.
class InUse {
 public:
  explicit InUse(std::atomic_flag& flag) : flag_(flag) {
    if (flag_.test_and_set(std::memory_order_acquire)) throw std::runtime_error("another thread is using this session");
  }
  ~InUse() { flag_.clear(std::memory_order_release); }
  InUse(const InUse&) = delete;

 private:
  std::atomic_flag& flag_;
};

class PySession {
 public:
  PySession(Model& model, int threads, bool bulk, const std::string& kernels)
      : model_(model), session_(model.network, kernels_named(kernels), *model.priority, std::max(1, threads), bulk) {}

  Vectors run(const Ids& ids, const Ids& offsets, const std::optional<Ids>& types, const std::optional<Ids>& keys) {
    const Network& net = model_.network;
    const Batch batch = check_batch(net, ids, offsets, types, keys);
    const size_t rows = net.pooling == Pooling::none ? ids.shape(0) : size_t(batch.count);
    auto result = new_array<float, 2>({rows, size_t(net.dim())});
    float* data = result.data();
    const InUse in_use(in_use_);
    nb::gil_scoped_release release;
    session_.run(batch, data);
    return result;
  }

  Vectors hidden(const Ids& ids, const Ids& offsets, const std::optional<Ids>& types, int layers) {
    const Batch batch = check_batch(model_.network, ids, offsets, types, std::nullopt);
    if (layers < 0 || layers > int(model_.network.layers.size())) refuse("there are not so many layers");
    auto result = new_array<float, 2>({ids.shape(0), size_t(model_.network.size)});
    float* data = result.data();
    const InUse in_use(in_use_);
    nb::gil_scoped_release release;
    session_.hidden(batch, layers, data);
    return result;
  }

  void expect() { session_.expect(); }

  int threads() const { return session_.threads(); }

 private:
  Model& model_;
  Session session_;
  std::atomic_flag in_use_ = ATOMIC_FLAG_INIT;
};

class PyTrace {
 public:
  PyTrace(Model& model, const Ids& ids, const Ids& offsets, const std::optional<Ids>& types, int threads,
          const std::string& kernels)
      : network_(model.network),
        trace_(checked(model.network), kernels_named(kernels),
               check_batch(model.network, ids, offsets, types, std::nullopt), std::max(1, threads)) {}

  nb::dict next() {
    if (trace_.layer() == int(network_.layers.size())) refuse("there are no more layers");
    const size_t tokens = size_t(trace_.tokens()), width = size_t(network_.width);
    auto projection = new_array<float, 2>({tokens, width});
    auto output = new_array<float, 2>({tokens, size_t(network_.context_width())});
    auto up = new_array<float, 2>({tokens, width});
    auto down = new_array<float, 2>({tokens, size_t(network_.inner)});
    {
      nb::gil_scoped_release release;
      trace_.next({projection.data(), output.data(), up.data(), down.data()});
    }
    nb::dict inputs;
    inputs["projection"] = projection, inputs["output"] = output, inputs["up"] = up, inputs["down"] = down;
    return inputs;
  }

  // What the next layer is given: the residual stream and its norm.
  nb::dict state() const {
    nb::dict given;
    given["hidden"] = copied(trace_.hidden()), given["normed"] = copied(trace_.normed());
    return given;
  }

  void resume(int layer, const Input<float, 2>& hidden, const Input<float, 2>& normed) {
    if (layer < 0 || layer > int(network_.layers.size())) refuse("there are not so many layers");
    for (const auto* one : {&hidden, &normed}) {
      if (one->shape(0) != size_t(trace_.tokens()) || one->shape(1) != size_t(network_.width)) {
        refuse("a layer is given [tokens, width]");
      }
    }
    trace_.resume(layer, hidden.data(), normed.data());
  }

  int layer() const { return trace_.layer(); }

 private:
  Output<float, 2> copied(const std::vector<float>& values) const {
    auto result = new_array<float, 2>({size_t(trace_.tokens()), size_t(network_.width)});
    std::copy(values.begin(), values.end(), result.data());
    return result;
  }

  static const Network& checked(const Network& network) {
    if (!network.exact) refuse("only networks in fp32 can be traced");
    return network;
  }

  const Network& network_;
  Trace trace_;
};

}  // namespace
}  // namespace nimbed

NB_MODULE(_native, m) {
  using namespace nimbed;
  nb::set_leak_warnings(false);  // a program may end while its encoders are open
  m.doc() = "nimbed's own engine; see docs/native.md.";
  m.attr("REVISION") = 4;  // of the arithmetic: raised when vectors change
  nb::class_<Model>(m, "Model").def(nb::init<nb::dict, nb::dict, bool>(), "settings"_a, "arrays"_a,
                                    "words_mapped"_a = false);
  nb::class_<PySession>(m, "Session")
      .def(nb::init<Model&, int, bool, const std::string&>(), nb::keep_alive<1, 2>(), "model"_a, "threads"_a,
           "bulk"_a, "kernels"_a = "auto")
      .def("run", &PySession::run, "ids"_a, "offsets"_a, "types"_a.none() = nb::none(),
           "keys"_a.none() = nb::none())
      .def("expect", &PySession::expect)
      .def_prop_ro("threads", &PySession::threads)
      .def("hidden", &PySession::hidden, "ids"_a, "offsets"_a, "types"_a.none(), "layers"_a);
  nb::class_<PyTrace>(m, "Trace")
      .def(nb::init<Model&, const Ids&, const Ids&, const std::optional<Ids>&, int, const std::string&>(),
           nb::keep_alive<1, 2>(), "model"_a, "ids"_a, "offsets"_a, "types"_a.none(), "threads"_a,
           "kernels"_a = "auto")
      .def("next", &PyTrace::next)
      .def("state", &PyTrace::state)
      .def("resume", &PyTrace::resume, "layer"_a, "hidden"_a.noconvert(), "normed"_a.noconvert())
      .def_prop_ro("layer", &PyTrace::layer);
  m.def(
      "kernels",
      [](const std::string& name) -> std::optional<std::string> {
        const Kernels* found = find_kernels(name.c_str());
        if (found == nullptr) return std::nullopt;
        return found->name;
      },
      "name"_a = "auto");
  bind_kernels(m);
  bind_rounding(m);
}
