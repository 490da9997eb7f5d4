// A BERT-like encoder with 8-bit weights, over ragged batches: no token is computed that was not asked for.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels.h"
#include "team.h"

namespace nimbed {

// y = x W^T + b, packed in panels of 64 output channels. The inputs are in groups, each with a scale of its own, in
// activations and weights: a few of them are much larger than the others.
struct Linear {
  const int8_t* weights;  // [panels][inputs / 4][64][4]
  const float* scale;     // [panels][groups][64]
  const float* sum;       // the same
  const float* bias;      // [panels][64]
  int panels;
  int inputs;  // multiple of 64
  int group;   // inputs in one; the last has what is left

  int groups() const { return groups_of(inputs, group); }
  int width_of(int g) const { return g + 1 < groups() ? group : inputs - g * group; }

  Panel panel(int i, int g) const {
    const ptrdiff_t at = (ptrdiff_t(i) * inputs + ptrdiff_t(g) * group) * kPanel;
    const ptrdiff_t next = at + ptrdiff_t(width_of(g)) * kPanel, all = ptrdiff_t(panels) * inputs * kPanel;
    const ptrdiff_t numbers = (ptrdiff_t(i) * groups() + g) * kPanel;
    return {weights + at, weights + (next < all ? next : 0), scale + numbers, sum + numbers};
  }
};

// Heads are computed in groups that fill a panel. `projection` has for each group its panels for q, then k, then v.
struct Layer {
  Linear projection, output, up, down;
  Norm attention_norm, output_norm;

  int64_t products() const {
    int64_t sum = 0;
    for (const Linear* linear : {&projection, &output, &up, &down}) sum += int64_t(linear->panels) * kPanel * linear->inputs;
    return sum;
  }
};

enum class Pooling : int { cls = 0, mean = 1, last = 2, max = 3 };

// What an engine file says; the arrays belong to others.
struct Network {
  int size;         // of a token's vector
  int width;        // the same, padded
  int head_dim;     // padded to a multiple of 16
  int group_heads;  // heads in a group
  int groups;
  int group_width;  // columns of q (or k, or v) in a group: a multiple of 64
  int vocabulary;
  int positions;
  int types;
  int padding;  // RoBERTa counts positions from this token's id on, and does not count that token; else -1
  Activation activation;
  Pooling pooling;
  bool normalise;
  const float* words;           // [vocabulary][width]
  const float* position_table;  // [positions][width]
  const float* type_table;      // [types][width]
  // MPNet adds a number to each head's scores by distance, [heads][distances], distance 0 in the middle; or nullptr.
  const float* relative;
  Norm embedding_norm;
  std::vector<Layer> layers;

  int longest() const { return positions - padding - 1; }
  int distances() const { return int(round_up(2 * size_t(longest()) + 16, 16)); }
  // Of a token with the weights of one layer.
  int64_t products() const { return layers.empty() ? 0 : layers[0].products(); }
};

struct Batch {
  const int32_t* ids;
  const int32_t* offsets;  // [count + 1]
  const int32_t* types;    // or nullptr
  int count;
};

struct Workspace;

// One lane of execution: a team and its memory. Used by one caller at a time.
class Session {
 public:
  Session(const Network& network, const Kernels& kernels, RightOfWay& way, int threads, bool in_bulk);
  ~Session();

  // How many threads there are; fewer than were asked for where the system gave no more.
  int threads() const { return team_->size(); }

  // A batch is about to come: what sleeps wakes, and the first weights are on their way. From any thread.
  void expect();

  // Sentence vectors, float [count, size]. The batch must be valid.
  void run(const Batch& batch, float* out);

  // Token vectors after so many layers (0: the embeddings), float [tokens, size]; for tests.
  void hidden(const Batch& batch, int layers, float* out);

 private:
  const Network& network_;
  const Kernels& kernels_;
  RightOfWay& way_;
  bool in_bulk_;
  std::vector<const int8_t*> pages_;  // of weights, in the order in which they are read
  OfProcess<Team> team_;
  std::vector<std::unique_ptr<Workspace>> spaces_;
};

}  // namespace nimbed
