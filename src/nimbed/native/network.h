// A BERT-like encoder with 8-bit weights: sizes, and pointers into an engine file; the arrays belong to others.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels.h"

namespace nimbed {

// y = x W^T + b. W is packed in panels of 64 output channels. Its inputs are in groups, each with a scale of its own
// for a token's activations and for a channel's weights, since a few inputs are much larger than the others.
struct Linear {
  const int8_t* weights;  // [panels][inputs / 4][64][4]
  const float* scale;     // [panels][groups][64]
  const float* sum;       // [panels][groups][64]
  const float* bias;      // [panels][64]
  int panels;
  int inputs;  // multiple of 64
  int group;   // inputs of a group; the last group has what is left

  int outputs() const { return panels * kPanel; }
  int groups() const { return groups_of(inputs, group); }
  int group_size(int g) const { return std::min(group, inputs - g * group); }
  int64_t bytes() const { return int64_t(outputs()) * inputs; }  // of the weights: one a multiplication of a token

  Panel panel(int i, int g) const {
    const ptrdiff_t at = (ptrdiff_t(i) * inputs + ptrdiff_t(g) * group) * kPanel;
    const ptrdiff_t next = at + ptrdiff_t(group_size(g)) * kPanel;
    const ptrdiff_t channel = (ptrdiff_t(i) * groups() + g) * kPanel;
    return {weights + at, weights + (next < bytes() ? next : 0), scale + channel, sum + channel, group_size(g)};
  }
};

// The four products of a layer in order of execution, and the norms behind the residual sums.
struct Layer {
  Linear projection;  // width -> for each group of heads its queries, then its keys, then its values
  Linear output;      // head_groups * group_width -> width
  Norm attention_norm;
  Linear up;    // width -> inner
  Linear down;  // inner -> width
  Norm output_norm;

  int64_t weight_bytes() const { return projection.bytes() + output.bytes() + up.bytes() + down.bytes(); }
};

enum class Pooling : int { cls = 0, mean = 1, last = 2, max = 3 };

struct Network {
  int size;         // of a token's vector, and of a text's
  int width;        // size, padded to a multiple of 64
  int inner;        // width of the feed-forward network
  int head_dim;     // padded to a multiple of 16
  int group_heads;  // heads in a group: their queries (or keys, or values) fill whole panels
  int head_groups;
  int group_width;  // group_heads * head_dim, padded to a multiple of 64
  int vocabulary;
  int positions;
  int types;
  int padding;  // RoBERTa counts positions from this token's id on, and does not count that token; else -1
  Activation activation;
  Pooling pooling;
  bool normalize;
  const float* words;           // [vocabulary][width]
  const float* position_table;  // [positions][width]
  const float* type_table;      // [types][width]
  // MPNet adds a number to each head's scores by distance, [heads][distances()], distance 0 in the middle; or nullptr.
  const float* relative;
  Norm embedding_norm;
  std::vector<Layer> layers;

  int context_width() const { return head_groups * group_width; }
  int max_length() const { return positions - padding - 1; }  // tokens of a text
  int distances() const { return int(round_up(2 * size_t(max_length()) + 16, 16)); }
};

// Texts, one behind another.
struct Batch {
  const int32_t* ids;
  const int32_t* offsets;  // [count + 1], into ids: a slice of a batch has the ids of the whole
  const int32_t* types;    // [tokens], or nullptr
  int count;               // of texts

  int tokens() const { return offsets[count] - offsets[0]; }
  int length(int text) const { return offsets[text + 1] - offsets[text]; }
  int row(int text) const { return offsets[text] - offsets[0]; }  // of its first token
  int longest() const {
    int longest = 1;
    for (int text = 0; text < count; ++text) longest = std::max(longest, length(text));
    return longest;
  }
};

}  // namespace nimbed
