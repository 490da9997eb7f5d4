// What a network is made of, as the settings of an engine file say it: sizes, and pointers into arrays of others.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels.h"
#include "mapped_rows.h"

namespace nimbed {

// y = x W^T + b. W is packed in panels of 64 output channels, in 8 bits or in fp32. In 8 bits its inputs are in groups,
// each with a scale of its own for a token's activations and for a channel's weights, since a few inputs are much larger
// than the others; and with two passes, what rounding left of the activations is rounded and multiplied too.
struct Linear {
  const int8_t* weights;  // [panels][2][inputs / 4][32][4], or nullptr
  const float* scale;     // [panels][groups][64]
  const float* sum;       // [panels][groups][64]
  const float* exact;     // [panels][inputs][64] where there are no weights in 8 bits
  const float* bias;      // [panels][64]
  int panels;
  int inputs;  // multiple of 64
  int group;   // inputs of a group; the last group has what is left
  int passes;
  const Linear* after = nullptr;  // the product that is computed next

  int outputs() const { return panels * kPanel; }
  int groups() const { return groups_of(inputs, group); }
  int group_size(int g) const { return std::min(group, inputs - g * group); }
  int64_t count() const { return int64_t(outputs()) * inputs; }  // of weights: one a multiplication of a token
  int64_t bytes() const { return count() * (exact ? sizeof(float) : 1); }
  const char* first() const {
    return exact ? reinterpret_cast<const char*>(exact) : reinterpret_cast<const char*>(weights);
  }

  Panel panel(int i) const {
    const int count = groups();
    const ptrdiff_t channel = ptrdiff_t(i) * count * kPanel;
    return {weights + ptrdiff_t(i) * inputs * kPanel, scale + channel, sum + channel, inputs, group, count};
  }
  FloatPanel exact_panel(int i) const {
    return {exact + ptrdiff_t(i) * inputs * kPanel, inputs};
  }
};

// What the layers of one kind let a token read, and how positions come in.
struct AttentionKind {
  int back, ahead;        // tokens before and behind a query; kUnlimited for all
  const float* rotation;  // [max_length][head_dim]: half of a row are cosines, half sines; or nullptr
  // Added to a head's scores by distance, [query heads][distances()], distance 0 at max_length; or nullptr.
  const float* distances;
};

// What is executed when a branch has been added to the residual stream; and a norm of the branch itself, before it is
// (gamma is nullptr where there is none): Gemma's sandwich.
struct NormStep {
  Norm norm;
  Norm branch;
};

// The four products of a layer in order of execution, and the norms behind the sums. A layer's second norm is what
// comes next: its own where norms stand behind (post-norm), the next layer's first where they stand before.
struct Layer {
  const AttentionKind* kind;
  HeadNorm query_norm, key_norm;
  Linear projection;  // width -> for each group of heads its queries, then its keys, then its values
  Linear output;      // context_width -> width
  NormStep attention_norm;
  Linear up;    // width -> inner; where it is gated, panels of the gate and of what it multiplies in turn
  Linear down;  // inner -> width
  NormStep output_norm;

  int64_t weight_count() const { return projection.count() + output.count() + up.count() + down.count(); }
};

enum class Pooling : int { cls, mean, last, max, none };

// A dense layer behind the pooling, in fp32, with the activation and perhaps a norm that follow.
struct Head {
  Linear linear;
  int outputs;  // without the padding
  Activation activation;
  bool normed;
  Norm norm;
};

enum class TableType : int { fp32, bf16, int8 };

// A vector for each word.
struct WordTable {
  TableType type;
  const void* rows;    // [vocabulary][width]
  const float* scale;  // [vocabulary, padded to 16], of int8
  MappedRows* mapped = nullptr;  // of `rows`, where few of their pages may stay resident

  size_t item_size() const { return type == TableType::fp32 ? 4 : type == TableType::bf16 ? 2 : 1; }
};

struct Network {
  int size;         // of a token's vector
  int width;        // size, padded to a multiple of 64
  int inner;        // width of the feed-forward network
  int head_dim;     // padded to a multiple of 16, or of 32 where positions are rotary
  int group_heads;  // key-value heads in a group
  int queries;      // heads of queries that share a key-value head
  int head_groups;
  int vocabulary;
  int positions;   // rows of the table of positions; 0: there is none
  int types;       // rows of the table of segments; 0: there is none
  int max_length;  // tokens of a text
  int padding;     // RoBERTa counts positions from this token's id on, and does not count that token; else -1
  Activation activation;
  bool gated;
  bool exact;   // in fp32
  int passes;   // the most that a product has
  int groups;   // of inputs: the most that a product has
  WordTable words;
  const float* position_table;  // [positions][width]
  const float* type_table;      // [types][width]
  NormStep embedding_norm;
  std::vector<AttentionKind> attention;
  std::vector<Layer> layers;
  Pooling pooling;
  std::vector<Head> head;
  bool normalize;

  // Columns of a group's queries, and of its keys or values, in whole panels.
  int query_width() const { return int(round_up(size_t(group_heads) * queries * head_dim, kPanel)); }
  int key_width() const { return int(round_up(size_t(group_heads) * head_dim, kPanel)); }
  int group_panels() const { return (query_width() + 2 * key_width()) / kPanel; }
  int context_width() const { return head_groups * query_width(); }
  int query_heads() const { return head_groups * group_heads * queries; }
  int distances() const { return int(round_up(2 * size_t(max_length) + 16, 16)); }
  // Of a token in a layer, in the time that one in 8 bits takes.
  int64_t layer_multiplications() const { return layers.empty() ? 0 : layers[0].weight_count() * (exact ? 4 : 1); }
  int dim() const { return head.empty() ? size : head.back().outputs; }  // of a text's vector
  int inner_group() const {  // inputs that a feed-forward network's second product rounds together: the most
    int most = kPanel;
    for (const Layer& layer : layers) most = std::max(most, layer.down.group_size(0));
    return most;
  }
  // Whether each head's results are groups of inputs by themselves of the products that read them, in 8 bits.
  bool rounds_heads() const {
    const auto divides = [this](const Layer& layer) { return head_dim % layer.output.group == 0; };
    return !exact && std::all_of(layers.begin(), layers.end(), divides);
  }
  int widest() const { return std::max(context_width(), inner); }        // of what a product reads behind attention
  int widest_vector() const {
    int widest = width;
    for (const Head& layer : head) widest = std::max(widest, layer.linear.outputs());
    return widest;
  }
  bool pools_one_token() const { return pooling == Pooling::cls || pooling == Pooling::last; }
};

// Texts, one behind another.
struct Batch {
  const int32_t* ids;
  const int32_t* offsets;  // [count + 1], into ids: a slice of a batch has the ids of the whole
  const int32_t* types;    // [tokens], or nullptr
  const int32_t* keys;     // [count]: how many tokens of a text are read by the others, the first ones; nullptr: all
  int count;               // of texts

  int tokens() const { return offsets[count] - offsets[0]; }
  int length(int text) const { return offsets[text + 1] - offsets[text]; }
  int row(int text) const { return offsets[text] - offsets[0]; }  // of its first token
  int keys_of(int text) const { return keys ? keys[text] : length(text); }
  int longest() const {
    int longest = 1;
    for (int text = 0; text < count; ++text) longest = std::max(longest, length(text));
    return longest;
  }
};

}  // namespace nimbed
