#include "forward.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace nimbed {
namespace {

// Threads take contiguous parts of `count` things.
struct Share {
  int begin, end;
  Share(int count, int rank, int threads) : begin(count * rank / threads), end(count * (rank + 1) / threads) {}
};

// A text's vector, out [size], from those of its tokens, hidden [tokens, width].
void pool_text(const Network& net, const float* hidden, int tokens, float* out) {
  const ptrdiff_t width = net.width;
  std::copy_n(net.pooling == Pooling::last ? hidden + (tokens - 1) * width : hidden, net.size, out);
  if (net.pooling == Pooling::mean || net.pooling == Pooling::max) {
    const bool largest = net.pooling == Pooling::max;
    for (int t = 1; t < tokens; ++t) {
      const float* row = hidden + t * width;
      for (int i = 0; i < net.size; ++i) out[i] = largest ? std::max(out[i], row[i]) : out[i] + row[i];
    }
    if (!largest)
      for (int i = 0; i < net.size; ++i) out[i] /= float(tokens);
  }
  if (!net.normalize) return;
  const float norm = std::sqrt(std::inner_product(out, out + net.size, out, 0.0f));
  for (int i = 0; i < net.size; ++i) out[i] /= std::max(norm, 1e-12f);
}

}  // namespace

void ForwardPass::run(int layers, int first_step) {
  if (rank_ == 0) embed();
  for (int i = 0; (i = enter_layer(i, first_step)) < layers; ++i) transformer_layer(net_.layers[i]);
}

// hidden = LayerNorm(word + segment + position).
void ForwardPass::embed() {
  const ptrdiff_t width = net_.width;
  for (int text = 0, row = 0; text < texts_.count; ++text) {
    int next_position = net_.padding + 1;
    for (int at = texts_.offsets[text]; at < texts_.offsets[text + 1]; ++at, ++row) {
      const int position = texts_.ids[at] == net_.padding ? net_.padding : next_position++;
      const float* word = net_.words + texts_.ids[at] * width;
      const float* type = net_.type_table + (texts_.types ? texts_.types[at] : 0) * width;
      float* x = own_.hidden.get() + row * width;
      for (int i = 0; i < width; ++i) x[i] = word[i] + type[i];
      add_norm(row, 1, net_.position_table + position * width, net_.embedding_norm);
    }
  }
}

// The encoder layer of Vaswani et al. 2017 (figure 1), every product with inputs and weights in 8 bits. `add_norm` is
// hidden = LayerNorm(hidden + branch).
void ForwardPass::transformer_layer(const Layer& layer) {
  attention(layer);
  // What follows looks at each row by itself: a block of rows stays in the L2 cache from one product to the next.
  for (int first = 0; first < tokens_; first += block_rows_) {
    const int rows = std::min(block_rows_, tokens_ - first);
    const float* context = shared_.context.get() + ptrdiff_t(first) * net_.context_width();
    float *attention_out = shared_.attention_out.get(), *inner = shared_.inner.get();
    float* feed_forward_out = shared_.feed_forward_out.get();
    yield_to_queries();

    linear(quantize(context, rows, layer.output), layer.output, attention_out);
    add_norm(first, rows, attention_out, layer.attention_norm);

    linear(normed(first, rows), layer.up, inner, net_.activation);
    linear(quantize(inner, rows, layer.down), layer.down, feed_forward_out);
    add_norm(first, rows, feed_forward_out, layer.output_norm);
  }
}

// context = softmax(q k^T) v of every head over every text. Threads share the groups of heads, and wait for each other;
// a group's queries, keys and values are used from the cache.
void ForwardPass::attention(const Layer& layer) {
  const Share share(net_.head_groups, rank_, threads_);
  for (int group = share.begin; group < share.end; ++group) {
    yield_to_queries();
    project_heads(layer.projection, group);
    for (int text = 0; text < texts_.count; ++text) {
      for (int head = 0; head < net_.group_heads; ++head) attend(group, head, text);
    }
  }
  barrier();
}

// heads[0, 1, 2] = queries, keys and values of a group of heads, each [tokens, group_width].
void ForwardPass::project_heads(const Linear& projection, int group) {
  const int panels = net_.group_width / kPanel;  // of the queries; the keys have as many, and so do the values
  for (int i = 0; i < 3 * panels; ++i) {
    float* out = own_.heads.get() + i / panels * ptrdiff_t(tokens_) * net_.group_width + i % panels * kPanel;
    linear_panel(normed(0, tokens_), projection, group * 3 * panels + i, out, net_.group_width);
  }
}

// The head's columns of context, for the text's rows.
void ForwardPass::attend(int group, int head, int text) {
  const ptrdiff_t width = net_.group_width, context_width = net_.context_width(), first = texts_.row(text);
  const ptrdiff_t matrix = tokens_ * width, column = ptrdiff_t(head) * net_.head_dim;
  const float* queries = own_.heads.get() + first * width + column;
  const ptrdiff_t table_row = (ptrdiff_t(group) * net_.group_heads + head) * net_.distances();
  const float* distances = net_.relative ? net_.relative + table_row + net_.max_length() : nullptr;
  float* out = shared_.context.get() + first * context_width + group * width + column;
  const int length = texts_.length(text);
  kernels_.attend({queries, width, queries + matrix, queries + 2 * matrix, width, 1, net_.head_dim, 0, length, length,
                   kUnlimited, kUnlimited, distances, 0, out, context_width, own_.scratch.get()});
}

// hidden = LayerNorm(hidden + branch) for some rows from `first` on, branch [rows, width]; and the same in 8 bits, for
// the product that comes next. Every thread does it for all rows, in memory of its own.
void ForwardPass::add_norm(int first, int rows, const float* branch, const Norm& norm) {
  alignas(64) float normed[kMaxWidth];
  for (int r = 0; r < rows; ++r) {
    const ptrdiff_t at = ptrdiff_t(first + r) * net_.width;
    kernels_.add_norm(branch + ptrdiff_t(r) * net_.width, own_.hidden.get() + at, norm, net_.size, net_.width, normed);
    own_.normed.scales.get()[first + r] = kernels_.quantize(normed, net_.width, own_.normed.values.get() + at);
  }
}

// What `add_norm` gave for some rows: one group, since the norm's factors make its channels alike.
ForwardPass::Quantized ForwardPass::normed(int first, int rows) const {
  return {rows, own_.normed.values.get() + ptrdiff_t(first) * net_.width, own_.normed.scales.get() + first};
}

// x [rows, reader.inputs] in 8 bits, in the groups of the product that reads it.
ForwardPass::Quantized ForwardPass::quantize(const float* x, int rows, const Linear& reader) {
  uint8_t* values = own_.quantized.values.get();
  RowScale* scales = own_.quantized.scales.get();
  for (int r = 0; r < rows; ++r) {
    for (int g = 0; g < reader.groups(); ++g) {
      const ptrdiff_t at = ptrdiff_t(r) * reader.inputs + g * reader.group;
      scales[g * rows + r] = kernels_.quantize(x + at, reader.group_size(g), values + at);
    }
  }
  return {rows, values, scales};
}

// out [x.rows, weights.outputs()] = activation(x W^T + b). Threads share the panels, and wait for each other.
void ForwardPass::linear(const Quantized& x, const Linear& weights, float* out, Activation activation) {
  const Share share(weights.panels, rank_, threads_);
  for (int panel = share.begin; panel < share.end; ++panel) {
    linear_panel(x, weights, panel, out + ptrdiff_t(panel) * kPanel, weights.outputs(), activation);
  }
  barrier();
}

// 64 columns of a product: group after group of inputs is added to the bias.
void ForwardPass::linear_panel(const Quantized& x, const Linear& weights, int panel, float* out, ptrdiff_t out_stride,
                               Activation activation) {
  const int last = weights.groups() - 1;
  Epilogue then{weights.bias + ptrdiff_t(panel) * kPanel, 0, Activation::none, nullptr, 0, out, out_stride};
  for (int g = 0; g <= last; ++g) {
    if (g == last) then.activation = activation;
    kernels_.linear({x.values + g * weights.group, weights.inputs, x.scales + g * x.rows, x.rows},
                    weights.panel(panel, g), then);
    then.addend = out, then.addend_stride = out_stride;
  }
}

void ForwardPass::pool(float* out) const {
  for (int text = 0; text < texts_.count; ++text) {
    pool_text(net_, hidden() + ptrdiff_t(texts_.row(text)) * net_.width, texts_.length(text),
              out + ptrdiff_t(text) * net_.size);
  }
}

// The layer that this thread takes part in next: `layer`, or a later one where it woke too late for that.
int ForwardPass::enter_layer(int layer, int first_step) {
  if (pool_ == nullptr) return layer;
  const ThreadPool::Step step = pool_->enter_step(rank_, first_step + layer);
  threads_ = step.threads;
  const int next = step.number - first_step;
  if (rank_ != 0 && !has_hidden_ && next < int(net_.layers.size())) copy_hidden();
  return next;
}

// What rank 0 has come to; it changes that after the next barrier.
void ForwardPass::copy_hidden() {
  const size_t count = size_t(tokens_) * net_.width;
  std::copy_n(shared_.hidden.get(), count, own_.hidden.get());
  std::copy_n(shared_.normed.values.get(), count, own_.normed.values.get());
  std::copy_n(shared_.normed.scales.get(), tokens_, own_.normed.scales.get());
  has_hidden_ = true;
}

void ForwardPass::barrier() {
  if (pool_ != nullptr) pool_->barrier(threads_);
}

void ForwardPass::yield_to_queries() {
  if (yield_to_ != nullptr) yield_to_->yield_to_queries();
}

}  // namespace nimbed
