// What Python sees. Arrays are checked here: everything behind this file trusts its inputs.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <vector>

#include "arrays.h"
#include "session.h"

using namespace nanobind::literals;

namespace nimbed {

void bind_kernels(nb::module_& m);   // testing.cpp
void bind_rounding(nb::module_& m);  // rounding_module.cpp

namespace {

using Ids = Input<int32_t, 1>;
using Vectors = Output<float, 2>;

// Attention's sums of weights and values in 32 bits have room for 262,400 keys.
constexpr int kMaxPositions = 1 << 18;

// Reads a model's settings and arrays, each by its name; `kept` takes every array that it gave the memory of.
class Reader {
 public:
  Reader(nb::dict settings, nb::dict arrays, std::vector<nb::object>& kept)
      : settings_(settings), arrays_(arrays), kept_(kept) {}

  int number(const char* name, int min, int max) const {
    if (!settings_.contains(name)) refuse(std::string("the setting ") + name + " is missing");
    int64_t value = 0;
    if (!nb::try_cast<int64_t>(settings_[name], value, false) || value < min || value > max) {
      refuse(std::string("the setting ") + name + " is no number from " + std::to_string(min) + " to " +
             std::to_string(max));
    }
    return int(value);
  }

  float real(const char* name) const {
    double value = 0;
    if (!settings_.contains(name) || !nb::try_cast<double>(settings_[name], value)) {
      refuse(std::string("the setting ") + name + " is no number");
    }
    return float(value);
  }

  template <class T>
  const T* array(const std::string& name, std::initializer_list<size_t> shape) const {
    using Any = nb::ndarray<const T, nb::numpy, nb::c_contig, nb::device::cpu>;
    Any found;
    if (!arrays_.contains(name.c_str()) || !nb::try_cast<Any>(arrays_[name.c_str()], found, false)) {
      refuse("the array " + name + " is missing or of another type");
    }
    bool fits = found.ndim() == shape.size();
    for (size_t i = 0; fits && i < shape.size(); ++i) fits = found.shape(i) == shape.begin()[i];
    if (!fits) refuse("the array " + name + " has another shape than the settings say");
    kept_.push_back(nb::object(arrays_[name.c_str()]));
    return found.data();
  }

  Norm norm(const std::string& name, size_t width, float epsilon) const {
    return {array<float>(name + ".gamma", {width}), array<float>(name + ".beta", {width}),
            array<float>(name + ".smooth", {width}), epsilon, false};
  }

  Linear linear(const std::string& name, int inputs, int outputs, int group) const {
    const size_t panels = size_t(outputs) / kPanel, groups = size_t(groups_of(inputs, group));
    return {array<int8_t>(name + ".weights", {panels, size_t(inputs) / 4, size_t(kPanel), 4}),
            array<float>(name + ".scale", {panels, groups, size_t(kPanel)}),
            array<float>(name + ".sum", {panels, groups, size_t(kPanel)}),
            array<float>(name + ".bias", {panels * kPanel}),
            int(panels),
            inputs,
            group};
  }

 private:
  nb::dict settings_, arrays_;
  std::vector<nb::object>& kept_;
};

Network read_sizes(const Reader& from) {
  Network net;
  net.size = from.number("hidden_size", 1, kMaxWidth);
  net.width = int(round_up(net.size, kPanel));
  net.inner = from.number("intermediate_width", kPanel, 1 << 16);
  net.head_dim = from.number("head_dim", 16, 1024);
  net.group_heads = from.number("group_heads", 1, 1024);
  net.head_groups = from.number("groups", 1, 1024);
  net.group_width = int(round_up(size_t(net.head_dim) * net.group_heads, kPanel));
  net.vocabulary = from.number("vocab_size", 1, 1 << 24);
  net.positions = from.number("positions", 1, kMaxPositions);
  net.types = from.number("type_vocab_size", 1, 1 << 10);
  net.padding = from.number("padding_id", -1, net.positions - 2);
  constexpr Activation kActivations[] = {Activation::none, Activation::gelu, Activation::relu};
  net.activation = kActivations[from.number("activation", 0, 2)];
  net.pooling = Pooling(from.number("pooling", 0, 3));
  net.normalize = from.number("normalize", 0, 1) == 1;
  if (net.inner % kPanel != 0) refuse("the setting intermediate_width is no multiple of 64");
  if (net.head_dim % 16 != 0) refuse("the setting head_dim is no multiple of 16");
  if (net.context_width() > 1 << 16) refuse("the settings groups, group_heads and head_dim make too many columns");
  return net;
}

void read_tables(const Reader& from, Network& net) {
  const size_t width = size_t(net.width), heads = size_t(net.head_groups) * net.group_heads;
  net.words = from.array<float>("words", {size_t(net.vocabulary), width});
  net.position_table = from.array<float>("positions", {size_t(net.positions), width});
  net.type_table = from.array<float>("types", {size_t(net.types), width});
  const bool relative = from.number("relative", 0, 1) == 1;
  net.relative = relative ? from.array<float>("relative", {heads, size_t(net.distances())}) : nullptr;
}

Layer read_layer(const Reader& from, const Network& net, const std::string& name, float epsilon) {
  const int context = net.context_width();
  return {from.linear(name + "projection", net.width, 3 * context, net.width),
          from.linear(name + "output", context, net.width, kGroup),
          from.norm(name + "attention_norm", net.width, epsilon),
          from.linear(name + "up", net.width, net.inner, net.width),
          from.linear(name + "down", net.inner, net.width, kGroup),
          from.norm(name + "output_norm", net.width, epsilon)};
}

Network read_network(const Reader& from) {
  Network net = read_sizes(from);
  const float epsilon = from.real("layer_norm_eps");
  read_tables(from, net);
  net.embedding_norm = from.norm("norm", net.width, epsilon);
  const int layers = from.number("layers", 1, 1024);
  for (int i = 0; i < layers; ++i) {
    net.layers.push_back(read_layer(from, net, "layers." + std::to_string(i) + ".", epsilon));
  }
  return net;
}

// A network with the arrays that it reads, and the priority of queries among its sessions.
struct Model {
  Model(nb::dict settings, nb::dict arrays) : network(read_network(Reader(settings, arrays, kept))) {}

  std::vector<nb::object> kept;
  Network network;
  ForkSafe<QueryPriority> priority;
};

void check_lengths(const Network& net, const Ids& ids, const Ids& offsets) {
  const size_t count = offsets.shape(0) - 1;
  if (offsets.shape(0) < 2 || offsets(0) != 0 || size_t(offsets(count)) != ids.shape(0)) {
    refuse("offsets do not go from 0 to the number of ids");
  }
  for (size_t i = 0; i < count; ++i) {
    const int64_t length = int64_t(offsets(i + 1)) - offsets(i);
    if (length < 1 || length > net.max_length()) {
      refuse("sequence " + std::to_string(i) + " has " + std::to_string(length) + " tokens; 1 to " +
             std::to_string(net.max_length()) + " are possible");
    }
  }
}

Batch check_batch(const Network& net, const Ids& ids, const Ids& offsets, const std::optional<Ids>& types) {
  check_lengths(net, ids, offsets);
  for (size_t i = 0; i < ids.shape(0); ++i) {
    if (ids(i) < 0 || ids(i) >= net.vocabulary) {
      refuse("token id " + std::to_string(ids(i)) + " is not in the vocabulary of " + std::to_string(net.vocabulary));
    }
  }
  if (types) {
    if (types->shape(0) != ids.shape(0)) refuse("there are not as many segment ids as ids");
    for (size_t i = 0; i < ids.shape(0); ++i) {
      const int32_t type = (*types)(i);
      if (type < 0 || type >= net.types) refuse("segment id " + std::to_string(type) + " is unknown");
    }
  }
  return {ids.data(), offsets.data(), types ? types->data() : nullptr, int(offsets.shape(0) - 1)};
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

  Vectors run(const Ids& ids, const Ids& offsets, const std::optional<Ids>& types) {
    const Batch batch = check_batch(model_.network, ids, offsets, types);
    auto result = new_array<float, 2>({size_t(batch.count), size_t(model_.network.size)});
    float* data = result.data();
    const InUse in_use(in_use_);
    nb::gil_scoped_release release;
    session_.run(batch, data);
    return result;
  }

  Vectors hidden(const Ids& ids, const Ids& offsets, const std::optional<Ids>& types, int layers) {
    const Batch batch = check_batch(model_.network, ids, offsets, types);
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

}  // namespace
}  // namespace nimbed

NB_MODULE(_native, m) {
  using namespace nimbed;
  nb::set_leak_warnings(false);  // a program may end while its encoders are open
  m.doc() = "Encoder kernels in 8 bits; see docs/native.md.";
  m.attr("REVISION") = 3;  // of the arithmetic: raised when vectors change
  m.attr("GROUP") = kGroup;
  nb::class_<Model>(m, "Model").def(nb::init<nb::dict, nb::dict>(), "settings"_a, "arrays"_a);
  nb::class_<PySession>(m, "Session")
      .def(nb::init<Model&, int, bool, const std::string&>(), nb::keep_alive<1, 2>(), "model"_a, "threads"_a,
           "bulk"_a, "kernels"_a = "auto")
      .def("run", &PySession::run, "ids"_a, "offsets"_a, "types"_a.none())
      .def("expect", &PySession::expect)
      .def_prop_ro("threads", &PySession::threads)
      .def("hidden", &PySession::hidden, "ids"_a, "offsets"_a, "types"_a.none(), "layers"_a);
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
