#include "forward.h"

#include <algorithm>
#include <cstring>

#include "pooling.h"

namespace nimbed {
namespace {

float from_bf16(uint16_t bits) {
  const uint32_t wide = uint32_t(bits) << 16;
  float x;
  std::memcpy(&x, &wide, sizeof x);
  return x;
}

void copy_rows(const float* from, int count, int width, float* to) {
  if (to != nullptr) std::copy_n(from, ptrdiff_t(count) * width, to);
}

}  // namespace

void ForwardPass::run(int layers, int first_step) {
  if (rank_ == 0) embed();
  for (int i = 0; (i = enter_layer(i, first_step)) < layers; ++i) transformer_layer(i);
}

// hidden = LayerNorm(word + segment + position).
void ForwardPass::embed() {
  const ptrdiff_t width = net_.width;
  for (int text = 0, row = 0; text < texts_.count; ++text) {
    int next_position = net_.padding + 1;
    for (int at = texts_.offsets[text]; at < texts_.offsets[text + 1]; ++at, ++row) {
      float* x = stream_.hidden.get() + row * width;
      add_words(texts_.ids[at], x);
      const int type = texts_.types ? texts_.types[at] : 0;
      for (int i = 0; net_.types > 0 && i < width; ++i) x[i] += net_.type_table[type * width + i];
      const int position = texts_.ids[at] == net_.padding ? net_.padding : next_position++;
      const float* branch = net_.positions > 0 ? net_.position_table + position * width : nullptr;
      for (int i = 0; branch != nullptr && i < width; ++i) x[i] += branch[i];
      add_norm_row(row, nullptr, net_.embedding_norm, net_.layers.empty() ? nullptr : &net_.layers[0].projection);
    }
  }
}

void ForwardPass::add_words(int id, float* x) const {
  const ptrdiff_t at = ptrdiff_t(id) * net_.width;
  if (net_.words.type == TableType::fp32) {
    std::copy_n(static_cast<const float*>(net_.words.rows) + at, net_.width, x);
  } else if (net_.words.type == TableType::bf16) {
    const auto* row = static_cast<const uint16_t*>(net_.words.rows) + at;
    for (int i = 0; i < net_.width; ++i) x[i] = from_bf16(row[i]);
  } else {
    const auto* row = static_cast<const int8_t*>(net_.words.rows) + at;
    for (int i = 0; i < net_.width; ++i) x[i] = net_.words.scale[id] * float(row[i]);
  }
  if (net_.words.mapped != nullptr) net_.words.mapped->read_row();
}

// The encoder layer of Vaswani et al. 2017 (figure 1). `add_norm` is hidden += branch, then the norm, which is what the
// next product reads, and which the residual stream becomes too or not: post-norm as in the figure, or pre-norm (Xiong
// et al. 2020).
void ForwardPass::transformer_layer(int number, const Inputs* inputs) {
  const Layer& layer = net_.layers[number];
  const bool last = number + 1 == int(net_.layers.size()), narrow = last && only_pooled_;
  if (inputs != nullptr) copy_rows(own_.normed.exact.get(), tokens_, net_.width, inputs->projection);
  attention(layer, narrow);
  if (narrow) keep_pooled_rows();
  if (inputs != nullptr) copy_rows(shared_.context.get(), rows_, net_.context_width(), inputs->output);

  // What follows looks at each row by itself: a block of rows stays in the L2 cache from one product to the next.
  for (int first = 0; first < rows_; first += block_rows_) {
    const int rows = std::min(block_rows_, rows_ - first);
    float *attention_out = shared_.attention_out.get(), *feed_forward_out = shared_.feed_forward_out.get();
    yield_to_queries();

    linear(context_rows(first, rows, layer.output), layer.output, attention_out);
    add_norm(first, rows, attention_out, layer.attention_norm, &layer.up);

    const Activations normed = stream_.normed.view(rows_).from(first, rows, net_.width);
    const Activations inner = feed_forward_up(normed, layer.up, layer.down);
    linear(inner, layer.down, feed_forward_out);
    if (inputs != nullptr) {
      copy_rows(normed.exact, rows, net_.width, inputs->up + ptrdiff_t(first) * net_.width);
      copy_rows(inner.exact, rows, net_.inner, inputs->down + ptrdiff_t(first) * net_.inner);
    }
    add_norm(first, rows, feed_forward_out, layer.output_norm, last ? nullptr : &(&layer)[1].projection);
  }
}

int ForwardPass::pooled_token(int text) const { return net_.pooling == Pooling::cls ? 0 : texts_.length(text) - 1; }

// The residual stream becomes that of the pooled tokens, a row a text.
void ForwardPass::keep_pooled_rows() {
  float* hidden = stream_.hidden.get();
  for (int text = 0; text < texts_.count && (rank_ == 0 || !shares_rows_); ++text) {
    const ptrdiff_t from = texts_.row(text) + pooled_token(text);
    std::copy_n(hidden + from * net_.width, net_.width, hidden + ptrdiff_t(text) * net_.width);
  }
  rows_ = texts_.count;
  rows_done();
}

// hidden += branch (or the branch's norm), and its norm, for some rows from `first` on, branch [rows, width]; and the
// norm as the product reads it that comes next, if one does.
void ForwardPass::add_norm(int first, int rows, float* branch, const NormStep& step, const Linear* reader) {
  const Share share = share_of(rows);
  for (int r = share.begin; r < share.end; ++r) {
    add_norm_row(first + r, branch + ptrdiff_t(r) * net_.width, step, reader);
  }
  rows_done();
}

void ForwardPass::add_norm_row(int row, float* branch, const NormStep& step, const Linear* reader) {
  const ptrdiff_t at = ptrdiff_t(row) * net_.width;
  float* normed = net_.exact ? stream_.normed.exact.get() + at : own_.row.get();
  if (step.branch.gamma != nullptr) {
    kernels_.add_norm(nullptr, branch, step.branch, net_.size, net_.width, own_.branch.get());
    branch = own_.branch.get();
  }
  kernels_.add_norm(branch, stream_.hidden.get() + at, step.norm, net_.size, net_.width, normed);
  if (!net_.exact && reader != nullptr) round_row(normed, row, *reader, stream_.normed);
}

// The rows of `normed` that pooling takes.
Activations ForwardPass::pooled_rows(const Linear& reader) {
  const ActivationBuffer &all = stream_.normed, &some = own_.pooled;
  const ptrdiff_t width = net_.width;
  for (int text = 0; text < texts_.count; ++text) {
    const ptrdiff_t from = texts_.row(text) + pooled_token(text);
    if (net_.exact) std::copy_n(all.exact.get() + from * width, width, some.exact.get() + text * width);
    for (int pass = 0; !net_.exact && pass < reader.passes; ++pass) {
      std::copy_n(all.values.get() + (pass * ptrdiff_t(all.rows) + from) * width, width,
                  some.values.get() + (pass * ptrdiff_t(some.rows) + text) * width);
      for (ptrdiff_t g = ptrdiff_t(pass) * reader.groups(); g < ptrdiff_t(pass + 1) * reader.groups(); ++g) {
        some.scales.get()[g * some.rows + text] = all.scales.get()[g * all.rows + from];
      }
    }
  }
  return some.view(texts_.count);
}

// Rows of what attention gave, as the product reads them.
Activations ForwardPass::context_rows(int first, int rows, const Linear& reader) {
  if (net_.rounds_heads()) return shared_.rounded.view(rows_).from(first, rows, reader.inputs);
  const float* context = shared_.context.get() + ptrdiff_t(first) * reader.inputs;
  if (net_.exact) return {rows, context, nullptr, nullptr, 0, 0};
  const Share share = share_of(rows);
  for (int r = share.begin; r < share.end; ++r) {
    round_row(context + ptrdiff_t(r) * reader.inputs, r, reader, stream_.rounded);
  }
  rows_done();
  return stream_.rounded.view(rows);
}

// A row in 8 bits, in the groups and passes of the product that reads it.
void ForwardPass::round_row(const float* x, int row, const Linear& reader, const ActivationBuffer& to) {
  for (int g = 0; g < reader.groups(); ++g) round_group(x + g * reader.group, row, g, reader, to);
}

// A group of a row.
void ForwardPass::round_group(const float* x, int row, int g, const Linear& reader, const ActivationBuffer& to) {
  const int size = reader.group_size(g);
  for (int pass = 0; pass < reader.passes; ++pass, x = own_.rest.get()) {
    uint8_t* values = to.values.get() + (pass * to.rows * to.width) + size_t(row) * reader.inputs + g * reader.group;
    const RowScale scale = kernels_.quantize(x, size, values);
    to.scales.get()[(size_t(pass) * reader.groups() + g) * to.rows + row] = scale;
    if (pass + 1 < reader.passes) kernels_.remainder(x, values, scale, size, own_.rest.get());
  }
}

// out [x.rows, weights.outputs()] = x W^T + b. Threads share the panels, and wait for each other.
void ForwardPass::linear(const Activations& x, const Linear& weights, float* out) {
  const Share share(weights.panels, rank_, threads_);
  for (int panel = share.begin; panel < share.end; ++panel) {
    const ptrdiff_t column = ptrdiff_t(panel) * kPanel;
    linear_panel(x, weights, panel,
                 {weights.bias + column, 0, Activation::none, nullptr, 0, out + column, weights.outputs()});
  }
  barrier();
}

// activation(x W^T + b), or activation(x G^T + c) * (x W^T + b) where it is gated (Shazeer 2020), as `down` reads it:
// threads share the panels, and wait for each other. Who computes the last of a group of its inputs rounds the group.
Activations ForwardPass::feed_forward_up(const Activations& x, const Linear& up, const Linear& down) {
  const int panels = net_.inner / kPanel, most = net_.exact ? panels : down.group_size(0) / kPanel;
  const Share share(panels, rank_, threads_);
  for (int begin = share.begin, end; begin < share.end; begin = end) {
    const int group = begin / most, first = group * most, last = std::min(first + most, panels);
    end = std::min(last, share.end);
    const bool alone = begin == first && end == last;
    float* out = net_.exact ? shared_.inner.get() : alone ? own_.inner.get() : split_group(panels, first);
    for (int i = begin; i < end; ++i) inner_panel(x, up, i, out + (i - first) * kPanel, most * kPanel);
    if (net_.exact || !(alone || shared_.split.completes(group, end - begin, last - first))) continue;
    for (int r = 0; r < x.rows; ++r) round_group(out + r * most * kPanel, r, group, down, shared_.inner_rounded);
  }
  barrier();
  if (net_.exact) return {x.rows, shared_.inner.get(), nullptr, nullptr, 0, 0};
  return shared_.inner_rounded.view(x.rows);
}

// Where threads that share a group of panels put it: at the one that has its first.
float* ForwardPass::split_group(int panels, int first) const {
  int rank = rank_;
  while (Share(panels, rank, threads_).begin > first) --rank;
  return shared_.split.first_of(rank);
}

// 64 columns of what is between the products of the feed-forward network.
void ForwardPass::inner_panel(const Activations& x, const Linear& up, int i, float* out, ptrdiff_t stride) {
  const int panel = net_.gated ? 2 * i : i;
  const float* bias = up.bias + ptrdiff_t(panel) * kPanel;
  if (!net_.gated) return linear_panel(x, up, panel, {bias, 0, net_.activation, nullptr, 0, out, stride});
  float* gate = own_.gate.get();
  linear_panel(x, up, panel, {bias, 0, net_.activation, nullptr, 0, gate, kPanel});
  linear_panel(x, up, panel + 1, {bias + kPanel, 0, Activation::none, gate, kPanel, out, stride});
}

// 64 columns of a product.
void ForwardPass::linear_panel(const Activations& x, const Linear& weights, int panel, const Epilogue& then) {
  if (weights.exact == nullptr) {
    return kernels_.linear(x.quantized(weights), weights.panel(panel), next_panel(weights, panel), then);
  }
  kernels_.linear_fp32({x.exact, weights.inputs, x.rows}, weights.exact_panel(panel), then);
}

// The panel that this thread reads next: behind its share of a product comes its share of the product after.
Panel ForwardPass::next_panel(const Linear& weights, int panel) const {
  const bool last = panel + 1 == Share(weights.panels, rank_, threads_).end;
  if (!last || weights.after == nullptr) return weights.panel((panel + 1) % weights.panels);
  return weights.after->panel(Share(weights.after->panels, rank_, threads_).begin);
}

void ForwardPass::pool(float* out) const {
  nimbed::pool(net_, kernels_, texts_, hidden(), rows_ == texts_.count, own_, out);
}

// The layer that this thread takes part in next: `layer`, or a later one where it woke too late for that.
int ForwardPass::enter_layer(int layer, int first_step) {
  if (pool_ == nullptr) return layer;
  // In bulk, others that run have a thread each.
  const int others = yield_to_ == nullptr ? 0 : yield_to_->bulk_running() - 1;
  const ThreadPool::Step step = pool_->enter_step(rank_, first_step + layer, std::max(1, pool_->size() - others));
  threads_ = step.threads;
  const int next = step.number - first_step;
  has_hidden_ = has_hidden_ && next == layer;
  if (rank_ != 0 && !shares_rows_ && !has_hidden_ && next < int(net_.layers.size())) copy_hidden();
  return next;
}

// What rank 0 has come to; it changes that after the next barrier.
void ForwardPass::copy_hidden() {
  const size_t count = size_t(tokens_) * net_.width;
  std::copy_n(shared_.hidden.get(), count, own_.hidden.get());
  own_.normed.copy(shared_.normed, net_, tokens_);
  has_hidden_ = true;
}

// The rows that this thread computes: its share of one residual stream, or all of its own.
Share ForwardPass::share_of(int rows) const { return shares_rows_ ? Share(rows, rank_, threads_) : Share(rows, 0, 1); }

void ForwardPass::rows_done() {
  if (shares_rows_) barrier();
}

void ForwardPass::barrier() {
  if (pool_ != nullptr) pool_->barrier(threads_);
}

void ForwardPass::yield_to_queries() {
  if (yield_to_ != nullptr) yield_to_->yield_to_queries();
}

}  // namespace nimbed
