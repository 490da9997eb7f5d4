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
  for (int at = share.begin; at < share.end;) {
    const int group = at / parts, stop = std::min(share.end, (group + 1) * parts), from = group * parts;
    const HeadGroup heads{group, net_.queries * (at - from) / parts, net_.queries * (stop - from) / parts};
    yield_to_queries();
    project_heads(layer, heads, narrow);
    for (int text = 0; text < texts_.count; ++text) attend(layer, heads, text, narrow);
    at = stop;
  }
  barrier();
}

// The queries, keys and values of a group of heads, normed where the layer norms them, with their positions.
void ForwardPass::project_heads(const Layer& layer, const HeadGroup& heads, bool narrow) {
  const Linear& projection = layer.projection;
  const Activations normed = own_.normed.view(tokens_);
  const Activations queries = narrow ? pooled_rows(projection) : normed;
  const int query_panels = net_.query_width() / kPanel, key_panels = net_.key_width() / kPanel;
  const int first = heads.group * net_.group_panels(), skipped = query_panels * heads.first / net_.queries;
  const int some = query_panels * heads.end / net_.queries - skipped;
  float *q = own_.queries.get() + ptrdiff_t(skipped) * kPanel, *k = own_.keys.get(), *v = own_.values.get();
  project(queries, projection, first + skipped, some, q, net_.query_width());
  project(normed, projection, first + query_panels, key_panels, k, net_.key_width());
  project(normed, projection, first + query_panels + key_panels, key_panels, v, net_.key_width());
  const int count = net_.group_heads * (heads.end - heads.first);
  norm_heads(layer.query_norm, q, queries.rows, count, net_.query_width());
  norm_heads(layer.key_norm, k, tokens_, net_.group_heads, net_.key_width());
  if (layer.kind->rotation == nullptr) return;
  rotate(layer, q, count, net_.query_width(), narrow);
  rotate(layer, k, net_.group_heads, net_.key_width(), false);
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

// Heads [rows, width], each row by its token's place in its text.
void ForwardPass::rotate(const Layer& layer, float* heads, int count, int width, bool narrow) {
  for (int text = 0; text < texts_.count; ++text) {
    const int tokens = narrow ? 1 : texts_.length(text), token = narrow ? pooled_token(text) : 0;
    float* row = heads + ptrdiff_t(narrow ? text : texts_.row(text)) * width;
    for (int i = 0; i < tokens; ++i, row += width) {
      kernels_.rotate(row, count, net_.head_dim, layer.kind->rotation + ptrdiff_t(token + i) * net_.head_dim);
    }
  }
}

// The columns of context that belong to a group of heads, for the text's rows.
void ForwardPass::attend(const Layer& layer, const HeadGroup& heads, int text, bool narrow) {
  const AttentionKind& kind = *layer.kind;
  const ptrdiff_t query_row = narrow ? text : texts_.row(text), key_row = texts_.row(text);
  for (int head = 0; head < net_.group_heads; ++head) {
    const ptrdiff_t first = ptrdiff_t(head) * net_.queries + heads.first, key = ptrdiff_t(head) * net_.head_dim;
    const ptrdiff_t number = ptrdiff_t(heads.group) * net_.group_heads * net_.queries + first;
    const ptrdiff_t query = first * net_.head_dim;
    Attention a{};
    a.queries = own_.queries.get() + query_row * net_.query_width() + query, a.query_stride = net_.query_width();
    a.keys = own_.keys.get() + key_row * net_.key_width() + key;
    a.values = own_.values.get() + key_row * net_.key_width() + key, a.key_stride = net_.key_width();
    a.heads = heads.end - heads.first, a.dim = net_.head_dim;
    a.first_query = narrow ? pooled_token(text) : 0, a.queries_count = narrow ? 1 : texts_.length(text);
    a.keys_count = texts_.keys_of(text), a.back = kind.back, a.ahead = kind.ahead;
    a.distances = kind.distances ? kind.distances + number * net_.distances() + net_.max_length : nullptr;
    a.distances_stride = net_.distances();
    a.out = shared_.context.get() + query_row * net_.context_width() + query;
    a.out += heads.group * ptrdiff_t(net_.query_width());
    a.out_stride = net_.context_width(), a.scratch = own_.scratch.get();
    (net_.exact ? kernels_.attend_fp32 : kernels_.attend)(a);
  }
}

}  // namespace nimbed
