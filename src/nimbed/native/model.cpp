#include "model.h"

#include <nanobind/stl/string.h>

#include <iterator>
#include <string>

namespace nimbed {
namespace {

// Attention's sums of weights and values in 32 bits have room for 262,400 keys.
constexpr int kMaxPositions = 1 << 18;
constexpr int kMaxColumns = 1 << 16;

// Settings by name; `where` is their place in the whole, for complaints.
class Settings {
 public:
  Settings(nb::dict values, std::string where) : values_(std::move(values)), where_(std::move(where)) {}

  int number(const char* name, int min, int max) const {
    int64_t value = 0;
    if (!nb::try_cast<int64_t>(get(name), value, false) || value < min || value > max) {
      wrong(name, "is no number from " + std::to_string(min) + " to " + std::to_string(max));
    }
    return int(value);
  }

  float real(const char* name) const {
    double value = 0;
    if (!nb::try_cast<double>(get(name), value)) wrong(name, "is no number");
    return float(value);
  }

  bool flag(const char* name) const {
    const nb::object value = get(name);
    if (!nb::isinstance<nb::bool_>(value)) wrong(name, "is neither true nor false");
    return nb::cast<bool>(value);
  }

  bool is_null(const char* name) const { return get(name).is_none(); }

  // The number of a name among `names`.
  template <size_t N>
  int choice(const char* name, const char* const (&names)[N]) const {
    std::string value;
    nb::try_cast<std::string>(get(name), value, false);
    for (size_t i = 0; i < N; ++i)
      if (value == names[i]) return int(i);
    wrong(name, "is unknown: " + value);
  }

  Settings child(const char* name) const { return {as_dict(get(name), name), where_ + name + "."}; }

  std::vector<Settings> list(const char* name, size_t max) const {
    const nb::object value = get(name);
    if (!nb::isinstance<nb::list>(value) || nb::len(value) > max) wrong(name, "is no list, or too long");
    std::vector<Settings> all;
    for (nb::handle one : nb::list(value)) {
      all.emplace_back(as_dict(nb::borrow(one), name), where_ + name + "." + std::to_string(all.size()) + ".");
    }
    return all;
  }

  [[noreturn]] void wrong(const char* name, const std::string& what) const {
    refuse("the setting " + where_ + name + " " + what);
  }
  const std::string& where() const { return where_; }

 private:
  nb::object get(const char* name) const {
    if (!values_.contains(name)) wrong(name, "is missing");
    return nb::borrow(values_[name]);
  }
  nb::dict as_dict(const nb::object& value, const char* name) const {
    if (!nb::isinstance<nb::dict>(value)) wrong(name, "is no object");
    return nb::borrow<nb::dict>(value);
  }

  nb::dict values_;
  std::string where_;
};

// Arrays by name; `kept` takes every one whose memory was given away.
class Arrays {
 public:
  Arrays(nb::dict arrays, std::vector<nb::object>& kept) : arrays_(std::move(arrays)), kept_(kept) {}

  template <class T>
  const T* get(const std::string& name, std::initializer_list<size_t> shape) const {
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

 private:
  nb::dict arrays_;
  std::vector<nb::object>& kept_;
};

class ModelReader {
 public:
  ModelReader(Settings settings, Arrays arrays, Network& net) : settings_(settings), arrays_(arrays), net_(net) {}

  void read() {
    sizes();
    tables();
    net_.embedding_norm = norm_step(settings_, "embedding_norm", "embedding_norm");
    for (const Settings& kind : settings_.list("attention", 64)) net_.attention.push_back(attention(kind));
    for (const Settings& layer : settings_.list("layers", 1024)) net_.layers.push_back(this->layer(layer));
    Linear* before = nullptr;
    for (Layer& layer : net_.layers) {
      for (Linear* product : {&layer.projection, &layer.output, &layer.up, &layer.down}) {
        if (before != nullptr) before->after = product;
        before = product;
      }
    }
    int inputs = net_.size;
    for (const Settings& head : settings_.list("head", 16)) {
      net_.head.push_back(this->head(head, inputs));
      inputs = net_.head.back().outputs;
    }
    if (net_.pooling == Pooling::none && !net_.head.empty()) settings_.wrong("head", "stands behind no pooling");
  }

 private:
  void sizes() {
    static constexpr const char* kPrecisions[] = {"int8", "fp32"};
    static constexpr const char* kPoolings[] = {"cls", "mean", "lasttoken", "max", "none"};
    net_.exact = settings_.choice("precision", kPrecisions) == 1;
    net_.size = settings_.number("size", 1, kMaxWidth);
    net_.width = int(round_up(net_.size, kPanel));
    net_.inner = settings_.number("inner", kPanel, kMaxColumns / 2);
    net_.head_dim = settings_.number("head_dim", 16, 1024);
    net_.group_heads = settings_.number("group_heads", 1, 1024);
    net_.queries = settings_.number("queries", 1, 1024);
    net_.head_groups = settings_.number("head_groups", 1, 1024);
    net_.max_length = settings_.number("max_length", 1, kMaxPositions);
    net_.activation = activation(settings_, net_.exact);
    net_.gated = settings_.flag("gated");
    net_.pooling = Pooling(settings_.choice("pooling", kPoolings));
    net_.normalize = settings_.flag("normalize");
    net_.passes = net_.groups = 1;
    if (net_.inner % kPanel != 0) settings_.wrong("inner", "is no multiple of 64");
    if (net_.head_dim % 16 != 0) settings_.wrong("head_dim", "is no multiple of 16");
    if (int64_t(net_.head_groups) * net_.group_heads * net_.queries * net_.head_dim > kMaxColumns ||
        net_.context_width() > kMaxColumns) {
      settings_.wrong("head_groups", "makes too many columns");
    }
  }

  static Activation activation(const Settings& from, bool exact) {
    static constexpr const char* kActivations[] = {"identity", "gelu", "gelu_tanh", "relu", "silu", "tanh", "sigmoid"};
    const auto found = Activation(from.choice("activation", kActivations));
    return exact && found == Activation::gelu ? Activation::fine_gelu : found;
  }

  void tables() {
    static constexpr const char* kTypes[] = {"fp32", "bf16", "int8"};
    const size_t width = size_t(net_.width);
    net_.vocabulary = settings_.number("vocabulary", 1, 1 << 24);
    net_.positions = settings_.number("positions", 0, kMaxPositions);
    net_.types = settings_.number("types", 0, 1 << 10);
    net_.padding = settings_.number("padding", -1, 1 << 24);
    if (net_.positions > 0 && net_.positions - net_.padding - 1 < net_.max_length) {
      settings_.wrong("max_length", "is more than the table of positions has");
    }
    const size_t words = size_t(net_.vocabulary);
    net_.words = {TableType(settings_.choice("words", kTypes)), nullptr, nullptr};
    if (net_.words.type == TableType::fp32) net_.words.rows = arrays_.get<float>("words", {words, width});
    if (net_.words.type == TableType::bf16) net_.words.rows = arrays_.get<uint16_t>("words", {words, width});
    if (net_.words.type == TableType::int8) {
      net_.words.rows = arrays_.get<int8_t>("words", {words, width});
      net_.words.scale = arrays_.get<float>("words.scale", {round_up(words, 16)});
    }
    if (net_.positions > 0) net_.position_table = arrays_.get<float>("positions", {size_t(net_.positions), width});
    if (net_.types > 0) net_.type_table = arrays_.get<float>("types", {size_t(net_.types), width});
  }

  AttentionKind attention(const Settings& from) const {
    const std::string name = from.where();
    const auto reach = [&](const char* side) {
      const int tokens = from.number(side, -1, kMaxPositions);
      return tokens < 0 ? kUnlimited : tokens;
    };
    AttentionKind kind{reach("back"), reach("ahead"), nullptr, nullptr};
    const size_t length = size_t(net_.max_length), heads = size_t(net_.query_heads());
    if (from.flag("rotary")) {
      if (net_.head_dim % 32 != 0) settings_.wrong("head_dim", "is no multiple of 32, and positions are rotary");
      kind.rotation = arrays_.get<float>(name + "rotation", {length, size_t(net_.head_dim)});
    }
    if (from.flag("distances")) {
      kind.distances = arrays_.get<float>(name + "distances", {heads, size_t(net_.distances())});
    }
    return kind;
  }

  Layer layer(const Settings& from) {
    const int context = net_.context_width(), projected = net_.head_groups * net_.group_panels() * kPanel;
    const int kind = from.number("attention", 0, int(net_.attention.size()) - 1);
    return {&net_.attention[kind],
            head_norm(from, "query_norm"),
            head_norm(from, "key_norm"),
            linear(from, "projection", net_.width, projected),
            linear(from, "output", context, net_.width),
            norm_step(from, "attention_norm", from.where() + "attention_norm"),
            linear(from, "up", net_.width, net_.gated ? 2 * net_.inner : net_.inner),
            linear(from, "down", net_.inner, net_.width),
            norm_step(from, "output_norm", from.where() + "output_norm")};
  }

  NormStep norm_step(const Settings& from, const char* key, const std::string& name) const {
    const Settings step = from.child(key);
    const Norm norm = this->norm(name, step.real("epsilon"), step.flag("keeps"), step.flag("rms"));
    if (step.is_null("after")) return {norm, {}};
    return {norm, this->norm(name + ".after", step.real("after"), true, norm.rms)};
  }

  Norm norm(const std::string& name, float epsilon, bool keeps, bool rms) const {
    const size_t width = size_t(net_.width);
    return {arrays_.get<float>(name + ".gamma", {width}), arrays_.get<float>(name + ".beta", {width}),
            arrays_.get<float>(name + ".smooth", {width}), epsilon, keeps, rms};
  }

  HeadNorm head_norm(const Settings& from, const char* key) const {
    if (from.is_null(key)) return {};
    const Settings norm = from.child(key);
    const int size = norm.number("size", 1, net_.head_dim);
    return {arrays_.get<float>(from.where() + key, {size_t(net_.head_dim)}), norm.real("epsilon"), size};
  }

  Linear linear(const Settings& from, const char* key, int inputs, int outputs) {
    const std::string name = from.where() + key;
    if (net_.exact) return exact(name, inputs, outputs);
    const Settings product = from.child(key);
    const int group = product.number("group", kPanel, kMaxColumns), passes = product.number("passes", 1, 2);
    if (group % kPanel != 0) product.wrong("group", "is no multiple of 64");
    const size_t panels = size_t(outputs) / kPanel, groups = size_t(groups_of(inputs, group)), columns = kPanel;
    net_.passes = std::max(net_.passes, passes);
    net_.groups = std::max(net_.groups, int(groups));
    return {arrays_.get<int8_t>(name + ".weights", {panels, columns / kStrip, size_t(inputs) / 4, kStrip, 4}),
            arrays_.get<float>(name + ".scale", {panels, groups, columns}),
            arrays_.get<float>(name + ".sum", {panels, groups, columns}),
            nullptr,
            arrays_.get<float>(name + ".bias", {panels * columns}),
            int(panels),
            inputs,
            group,
            passes};
  }

  Linear exact(const std::string& name, int inputs, int outputs) const {
    const size_t panels = size_t(outputs) / kPanel, columns = kPanel;
    const float* weights = arrays_.get<float>(name + ".weights", {panels, size_t(inputs), columns});
    const float* bias = arrays_.get<float>(name + ".bias", {panels * columns});
    return {nullptr, nullptr, nullptr, weights, bias, int(panels), inputs, inputs, 1};
  }

  Head head(const Settings& from, int inputs) const {
    if (from.number("inputs", 1, kMaxWidth) != inputs) from.wrong("inputs", "is not what comes in");
    const int outputs = from.number("outputs", 1, kMaxWidth);
    const std::string name = from.where().substr(0, from.where().size() - 1);
    const int padded = int(round_up(outputs, kPanel));
    Head head{exact(name, int(round_up(inputs, kPanel)), padded), outputs, activation(from, true), false, {}};
    if (from.is_null("norm")) return head;
    const float* gamma = arrays_.get<float>(name + ".norm.gamma", {size_t(padded)});
    const float* beta = arrays_.get<float>(name + ".norm.beta", {size_t(padded)});
    head.normed = true, head.norm = {gamma, beta, gamma, from.real("norm"), false, false};
    return head;
  }

  const Settings settings_;
  const Arrays arrays_;
  Network& net_;
};

}  // namespace

Model::Model(nb::dict settings, nb::dict arrays, bool words_mapped) : network{} {
  ModelReader(Settings(settings, ""), Arrays(arrays, kept), network).read();
  if (!words_mapped) return;
  WordTable& words = network.words;
  words.mapped = &mapped.emplace(words.rows, size_t(network.vocabulary) * network.width * words.item_size());
}

}  // namespace nimbed
