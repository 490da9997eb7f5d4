// Attention, as a layer computes it: a group of heads after the other.
#include <algorithm>

#include "forward.h"

namespace nimbed {

// context = softmax(q k^T) v of every head over every text. Threads share the groups of heads, or where these are fewer
// the heads of queries in them, and wait for each other; what belongs to a group is used from the cache. `narrow`: for
// the pooled tokens' queries alone.
void ForwardPass::attention(const Layer& layer, bool narrow) {
  if (net_.head_groups == 1 && threads_ > 1) return attention_of_one_group(layer, narrow);
  const bool divisible = net_.group_heads == 1 && net_.head_dim % kPanel == 0;
  const int parts = divisible ? std::min(net_.queries, (threads_ + net_.head_groups - 1) / net_.head_groups) : 1;
  const Share share(net_.head_groups * parts, rank_, threads_);
  const int rows = narrow ? texts_.count : tokens_;
  for (int at = share.begin; at < share.end;) {
    const int group = at / parts, stop = std::min(share.end, (group + 1) * parts), from = group * parts;
    const HeadGroup heads{group, net_.queries * (at - from) / parts, net_.queries * (stop - from) / parts};
    for (int first = 0; first < rows; first += kAttentionRows) {
      const RowRange some{first, std::min(first + kAttentionRows, rows)};
      yield_to_queries();
      project_queries(layer, heads, some, narrow);
      if (first == 0) project_keys(layer, group, {0, tokens_}, own_), project_values(layer, group, {0, tokens_}, own_);
      attend_rows(layer, heads, some, narrow, own_.queries.get(), own_);
    }
    at = stop;
  }
  barrier();
}

// The same where all heads share their keys and values (Shazeer 2019): threads share the rows. Few rows are projected
// together, so that each weight is read by one thread.
void ForwardPass::attention_of_one_group(const Layer& layer, bool narrow) {
  const HeadGroup all{0, 0, net_.queries};
  const int rows = narrow ? texts_.count : tokens_;
  const Share asked(tokens_, rank_, threads_), asking(rows, rank_, threads_);
  if (shares_rows_) {
    project_keys(layer, 0, {asked.begin, asked.end}, shared_);
    project_values(layer, 0, {asked.begin, asked.end}, shared_);
    barrier();
  } else {
    project_together(layer, {asking.begin, asking.end}, narrow, {asked.begin, asked.end});
  }
  for (int first = asking.begin; first < asking.end; first += kAttentionRows) {
    const RowRange some{first, std::min(first + kAttentionRows, asking.end)};
    yield_to_queries();
    if (shares_rows_) project_queries(layer, all, some, narrow);
    const float* q = shares_rows_ ? own_.queries.get() : shared_.queries.get() + ptrdiff_t(first) * net_.query_width();
    attend_rows(layer, all, some, narrow, q, shared_);
  }
  barrier();
}

// What some rows' queries [rows, query_width] read from a group's keys and values.
void ForwardPass::attend_rows(const Layer& layer, const HeadGroup& heads, RowRange rows, bool narrow, const float* q,
                              const Workspace& from) {
  const bool rounds = net_.rounds_heads();
  const ptrdiff_t stride = rounds ? net_.query_width() : net_.context_width();
  float* out = own_.context.get();
  if (!rounds) out = shared_.context.get() + rows.first * stride + ptrdiff_t(heads.group) * net_.query_width();
  each_text(rows, narrow, [&](const Tokens& queries) { attend(layer, heads, queries, q, from, out, stride); });
  if (rounds) round_heads(layer, heads, rows);
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

// The queries, keys and values of all rows: threads share the panels, and then the rows that they norm and rotate.
void ForwardPass::project_together(const Layer& layer, RowRange asking, bool narrow, RowRange asked) {
  const Linear& projection = layer.projection;
  const Activations all = stream_.normed.view(tokens_), some = narrow ? pooled_rows(projection) : all;
  const int width = net_.query_width(), key_width = net_.key_width(), behind_queries = width / kPanel;
  const Share share(net_.group_panels(), rank_, threads_);
  for (int panel = share.begin; panel < share.end; ++panel) {
    const int key = (panel - behind_queries) * kPanel;  // of keys and values together
    if (key < 0) project(some, projection, panel, 1, shared_.queries.get() + panel * kPanel, width);
    if (key >= 0 && key < key_width) project(all, projection, panel, 1, shared_.keys.get() + key, key_width);
    if (key >= key_width) project(all, projection, panel, 1, shared_.values.get() + key - key_width, key_width);
  }
  barrier();
  place(layer, layer.query_norm, asking, narrow, net_.group_heads * net_.queries,
        shared_.queries.get() + ptrdiff_t(asking.first) * width, width);
  place(layer, layer.key_norm, asked, false, net_.group_heads,
        shared_.keys.get() + ptrdiff_t(asked.first) * key_width, key_width);
  barrier();
}

// The keys of some rows and a group of heads.
void ForwardPass::project_keys(const Layer& layer, int group, RowRange some, Workspace& to) {
  const int width = net_.key_width(), first = group * net_.group_panels() + net_.query_width() / kPanel;
  each_part(some, [&](RowRange rows, const Activations& normed) {
    float* k = to.keys.get() + ptrdiff_t(rows.first) * width;
    project(normed, layer.projection, first, width / kPanel, k, width);
    place(layer, layer.key_norm, rows, false, net_.group_heads, k, width);
  });
}

// The values.
void ForwardPass::project_values(const Layer& layer, int group, RowRange some, Workspace& to) {
  const int width = net_.key_width(), first = (group + 1) * net_.group_panels() - width / kPanel;
  each_part(some, [&](RowRange rows, const Activations& normed) {
    project(normed, layer.projection, first, width / kPanel, to.values.get() + ptrdiff_t(rows.first) * width, width);
  });
}

// Of some tokens so many at a time, with what norms gave them.
template <class Work>
void ForwardPass::each_part(RowRange some, Work work) {
  for (int row = some.first; row < some.end; row += kAttentionRows) {
    const RowRange rows{row, std::min(row + kAttentionRows, some.end)};
    yield_to_queries();
    work(rows, stream_.normed.view(tokens_).from(row, rows.count(), net_.width));
  }
}

// The queries of some rows.
void ForwardPass::project_queries(const Layer& layer, const HeadGroup& heads, RowRange rows, bool narrow) {
  const Linear& projection = layer.projection;
  const Activations normed = narrow ? pooled_rows(projection) : stream_.normed.view(tokens_);
  const int panels = net_.query_width() / kPanel, skipped = panels * heads.first / net_.queries;
  const int some = panels * heads.end / net_.queries - skipped, count = net_.group_heads * (heads.end - heads.first);
  float* q = own_.queries.get() + ptrdiff_t(skipped) * kPanel;
  project(normed.from(rows.first, rows.count(), net_.width), projection, heads.group * net_.group_panels() + skipped,
          some, q, net_.query_width());
  place(layer, layer.query_norm, rows, narrow, count, q, net_.query_width());
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

// Heads [rows, width] of queries or of keys, `count` of each row: normed where the layer norms them, and rotated where it
// rotates them, each by its token's place in its text.
void ForwardPass::place(const Layer& layer, const HeadNorm& norm, RowRange rows, bool narrow, int count, float* heads,
                        int width) {
  for (int r = 0; r < rows.count() && norm.gamma != nullptr; ++r) {
    kernels_.norm_heads(heads + ptrdiff_t(r) * width, count, net_.head_dim, norm);
  }
  if (layer.kind->rotation == nullptr) return;
  each_text(rows, narrow, [&](const Tokens& tokens) {
    const float* rotation = layer.kind->rotation + ptrdiff_t(tokens.first) * net_.head_dim;
    for (int i = 0; i < tokens.count; ++i, rotation += net_.head_dim) {
      kernels_.rotate(heads + (tokens.row + i) * width, count, net_.head_dim, rotation);
    }
  });
}

// What a group of heads gives for some tokens of a text, out [rows, its columns].
void ForwardPass::attend(const Layer& layer, const HeadGroup& heads, const Tokens& queries, const float* q,
                         const Workspace& from, float* out, ptrdiff_t stride) {
  const AttentionKind& kind = *layer.kind;
  const ptrdiff_t key_row = texts_.row(queries.text);
  for (int head = 0; head < net_.group_heads; ++head) {
    const ptrdiff_t first = ptrdiff_t(head) * net_.queries + heads.first, key = ptrdiff_t(head) * net_.head_dim;
    const ptrdiff_t number = ptrdiff_t(heads.group) * net_.group_heads * net_.queries + first;
    const ptrdiff_t column = first * net_.head_dim;
    Attention a{};
    a.queries = q + queries.row * net_.query_width() + column, a.query_stride = net_.query_width();
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
