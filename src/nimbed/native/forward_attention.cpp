// Attention, as a layer computes it: a group of heads after the other.
#include <algorithm>

#include "forward.h"

namespace nimbed {

// context = softmax(q k^T) v of every head over every text. Threads share the groups of heads, or where these are fewer
// the heads of queries in them, and wait for each other; what belongs to a group is used from the cache. `narrow`: for
// the pooled tokens' queries alone.
void ForwardPass::attention(const Layer& layer, bool narrow) {
  const bool divisible = net_.group_heads == 1 && net_.head_dim % kPanel == 0;
  const int parts = divisible ? std::min(net_.queries, (threads_ + net_.head_groups - 1) / net_.head_groups) : 1;
  const Share share(net_.head_groups * parts, rank_, threads_);
  const int rows = narrow ? texts_.count : tokens_;
  const bool together = divisible && net_.head_groups == 1 && threads_ > 1 && !shares_rows_;
  Workspace& projected = together ? shared_ : own_;
  if (together) project_together(layer, {0, rows}, narrow);
  for (int at = share.begin; at < share.end;) {
    const int group = at / parts, stop = std::min(share.end, (group + 1) * parts), from = group * parts;
    const HeadGroup heads{group, net_.queries * (at - from) / parts, net_.queries * (stop - from) / parts};
    for (int first = 0; first < rows; first += kAttentionRows) {
      const RowRange some{first, std::min(first + kAttentionRows, rows)};
      yield_to_queries();
      if (!together) project_queries(layer, heads, some, narrow, own_);
      if (!together && first == 0) project_keys(layer, group, own_), project_values(layer, group, own_);
      const bool rounds = net_.rounds_heads();
      const ptrdiff_t stride = rounds ? net_.query_width() : net_.context_width();
      float* out = rounds ? own_.context.get() : shared_.context.get() + first * stride + group * net_.query_width();
      each_text(some, narrow, [&](const Tokens& queries) { attend(layer, heads, queries, projected, out, stride); });
      if (rounds) round_heads(layer, heads, some);
    }
    at = stop;
  }
  barrier();
}

// Of each text its tokens among the rows; `narrow`: a row is a text's pooled token.
template <class Work>
void ForwardPass::each_text(RowRange rows, bool narrow, Work work) const {
  for (int text = narrow ? rows.first : 0; text < (narrow ? rows.end : texts_.count); ++text) {
    const int start = narrow ? text - pooled_token(text) : texts_.row(text);
    const int first = narrow ? text : std::max(start, rows.first);
    const int end = narrow ? text + 1 : std::min(start + texts_.length(text), rows.end);
    if (first < end) work(Tokens{text, first - start, end - first, first - rows.first});
  }
}

// All of a few rows where all heads share their keys and values (Shazeer 2019): threads share the heads of queries, the
// keys and the values, and wait for each other.
void ForwardPass::project_together(const Layer& layer, RowRange rows, bool narrow) {
  const Share share(net_.queries + 2, rank_, threads_);
  for (int head = share.begin; head < share.end; ++head) {
    if (head < net_.queries) project_queries(layer, {0, head, head + 1}, rows, narrow, shared_);
    if (head == net_.queries) project_keys(layer, 0, shared_);
    if (head == net_.queries + 1) project_values(layer, 0, shared_);
  }
  barrier();
}

// The keys of a group of heads, normed where the layer norms them, with their positions.
void ForwardPass::project_keys(const Layer& layer, int group, Workspace& to) {
  const int width = net_.key_width(), first = group * net_.group_panels() + net_.query_width() / kPanel;
  each_part([&](RowRange rows, const Activations& normed) {
    float* k = to.keys.get() + ptrdiff_t(rows.first) * width;
    project(normed, layer.projection, first, width / kPanel, k, width);
    norm_heads(layer.key_norm, k, rows.count(), net_.group_heads, width);
    each_text(rows, false, [&](const Tokens& keys) { rotate(layer, keys, k, net_.group_heads, width); });
  });
}

// The values of a group of heads.
void ForwardPass::project_values(const Layer& layer, int group, Workspace& to) {
  const int width = net_.key_width(), first = (group + 1) * net_.group_panels() - width / kPanel;
  each_part([&](RowRange rows, const Activations& normed) {
    project(normed, layer.projection, first, width / kPanel, to.values.get() + ptrdiff_t(rows.first) * width, width);
  });
}

// Of all tokens so many at a time, with what norms gave them.
template <class Work>
void ForwardPass::each_part(Work work) {
  for (int row = 0; row < tokens_; row += kAttentionRows) {
    const RowRange rows{row, std::min(row + kAttentionRows, tokens_)};
    yield_to_queries();
    work(rows, stream_.normed.view(tokens_).from(row, rows.count(), net_.width));
  }
}

// The queries of some rows.
void ForwardPass::project_queries(const Layer& layer, const HeadGroup& heads, RowRange rows, bool narrow,
                                  Workspace& to) {
  const Linear& projection = layer.projection;
  const Activations normed = narrow ? pooled_rows(projection) : stream_.normed.view(tokens_);
  const int panels = net_.query_width() / kPanel, skipped = panels * heads.first / net_.queries;
  const int some = panels * heads.end / net_.queries - skipped, count = net_.group_heads * (heads.end - heads.first);
  float* q = to.queries.get() + ptrdiff_t(skipped) * kPanel;
  project(normed.from(rows.first, rows.count(), net_.width), projection, heads.group * net_.group_panels() + skipped,
          some, q, net_.query_width());
  norm_heads(layer.query_norm, q, rows.count(), count, net_.query_width());
  each_text(rows, narrow, [&](const Tokens& queries) { rotate(layer, queries, q, count, net_.query_width()); });
}

// out [x.rows, panels * 64], `stride` from one row to the next = some panels of a product.
void ForwardPass::project(const Activations& x, const Linear& projection, int first_panel, int panels, float* out,
                          ptrdiff_t stride) {
  for (int i = 0; i < panels; ++i) {
    const float* bias = projection.bias + ptrdiff_t(first_panel + i) * kPanel;
    linear_panel(x, projection, first_panel + i,
                 {bias, 0, Activation::none, nullptr, 0, out + ptrdiff_t(i) * kPanel, stride});
  }
}

// Heads [rows, width], `count` of each row.
void ForwardPass::norm_heads(const HeadNorm& norm, float* heads, int rows, int count, int width) {
  if (norm.gamma == nullptr) return;
  for (int r = 0; r < rows; ++r) kernels_.norm_heads(heads + ptrdiff_t(r) * width, count, net_.head_dim, norm);
}

// Heads [rows, width] of some tokens, each by its token's place in its text.
void ForwardPass::rotate(const Layer& layer, const Tokens& tokens, float* heads, int count, int width) {
  if (layer.kind->rotation == nullptr) return;
  const float* rotation = layer.kind->rotation + ptrdiff_t(tokens.first) * net_.head_dim;
  for (int i = 0; i < tokens.count; ++i, rotation += net_.head_dim) {
    kernels_.rotate(heads + (tokens.row + i) * width, count, net_.head_dim, rotation);
  }
}

// What a group of heads gives for some tokens of a text, out [rows, its columns].
void ForwardPass::attend(const Layer& layer, const HeadGroup& heads, const Tokens& queries, const Workspace& from,
                         float* out, ptrdiff_t stride) {
  const AttentionKind& kind = *layer.kind;
  const ptrdiff_t key_row = texts_.row(queries.text);
  for (int head = 0; head < net_.group_heads; ++head) {
    const ptrdiff_t first = ptrdiff_t(head) * net_.queries + heads.first, key = ptrdiff_t(head) * net_.head_dim;
    const ptrdiff_t number = ptrdiff_t(heads.group) * net_.group_heads * net_.queries + first;
    const ptrdiff_t column = first * net_.head_dim;
    Attention a{};
    a.queries = from.queries.get() + queries.row * net_.query_width() + column, a.query_stride = net_.query_width();
    a.keys = from.keys.get() + key_row * net_.key_width() + key;
    a.values = from.values.get() + key_row * net_.key_width() + key, a.key_stride = net_.key_width();
    a.heads = heads.end - heads.first, a.dim = net_.head_dim;
    a.first_query = queries.first, a.queries_count = queries.count;
    a.keys_count = texts_.keys_of(queries.text), a.back = kind.back, a.ahead = kind.ahead;
    a.distances = kind.distances ? kind.distances + number * net_.distances() + net_.max_length : nullptr;
    a.distances_stride = net_.distances();
    a.out = out + queries.row * stride + column, a.out_stride = stride, a.scratch = own_.scratch.get();
    (net_.exact ? kernels_.attend_fp32 : kernels_.attend)(a);
  }
}

// The same in 8 bits, as the next product reads it, where each head has groups of inputs of its own.
void ForwardPass::round_heads(const Layer& layer, const HeadGroup& heads, RowRange rows) {
  const int group = layer.output.group, width = net_.query_width();
  const int first = heads.first * net_.head_dim / group, end = heads.end * net_.head_dim / group;
  for (int r = 0; r < rows.count(); ++r) {
    const float* x = own_.context.get() + ptrdiff_t(r) * width;
    for (int g = first; g < end; ++g) {
      round_group(x + g * group, rows.first + r, heads.group * width / group + g, layer.output, shared_.rounded);
    }
  }
}

}  // namespace nimbed
