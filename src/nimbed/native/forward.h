// The forward pass: some texts through the network, as one thread computes it.
#pragma once

#include "network.h"
#include "query_priority.h"
#include "thread_pool.h"
#include "workspace.h"

namespace nimbed {

// A thread's part in a pass.
struct Worker {
  Workspace& own;
  Workspace& shared;  // of rank 0
  ThreadPool* pool;   // whose threads share the pass; nullptr where this thread has it for itself
  int rank;
};

// Where the inputs of a layer's products are copied to, [tokens, inputs] each, of a network in fp32.
struct Inputs {
  float *projection, *output, *up, *down;
};

// Threads take contiguous parts of `count` things.
struct Share {
  int begin, end;
  Share(int count, int rank, int threads) : begin(count * rank / threads), end(count * (rank + 1) / threads) {}
};

// A group of heads that is computed together: of each of its heads of keys, the heads of queries from `first` to `end`.
struct HeadGroup {
  int group, first, end;
};

// Neighbouring rows of a piece.
struct RowRange {
  int first, end;
  int count() const { return end - first; }
};

// Neighbouring tokens of a text, and where the first of them is among the rows that are computed together.
struct Tokens {
  int text, first, count;
  ptrdiff_t row;
};

class ForwardPass {
 public:
  // `block_rows`: how many rows pass together through what follows attention in a layer. `yield_to`: nullptr in a
  // session for queries. `only_pooled`: of the last layer, the rows that pooling takes are enough.
  ForwardPass(const Network& net, const Kernels& kernels, const Batch& texts, int block_rows, const Worker& worker,
              QueryPriority* yield_to, bool only_pooled)
      : net_(net), kernels_(kernels), texts_(texts), tokens_(texts.tokens()), block_rows_(block_rows), own_(worker.own),
        shared_(worker.shared), pool_(worker.pool), rank_(worker.rank), yield_to_(yield_to),
        only_pooled_(only_pooled && net.pools_one_token()), shares_rows_(pool_ != nullptr && tokens_ > kOwnRows),
        stream_(shares_rows_ ? shared_ : own_), rows_(tokens_) {}

  // The embeddings and so many layers. Each layer is a step of the thread pool's batch, and so is the end;
  // `first_step`: how many steps the batch has behind it.
  void run(int layers, int first_step);

  // The parts of a run, for who looks at what is between: `inputs` or nullptr.
  void embed();
  void transformer_layer(int number, const Inputs* inputs = nullptr);

  // What rank 0 has after `run`: the residual stream [rows, width], a row a token or, of pooled ones alone, a text.
  const float* hidden() const { return own_.hidden.get(); }

  // From it the texts' vectors [texts, dim], or where nothing is pooled the tokens' [tokens, size].
  void pool(float* out) const;

 private:
  int enter_layer(int layer, int first_step);
  void copy_hidden();
  void barrier();
  void yield_to_queries();
  Share share_of(int rows) const;
  void rows_done();

  void add_words(int id, float* x) const;
  int pooled_token(int text) const;
  void attention(const Layer& layer, bool narrow);
  void attention_of_one_group(const Layer& layer, bool narrow);
  void attend_rows(const Layer& layer, const HeadGroup& heads, RowRange rows, bool narrow, const float* q,
                   const Workspace& from);
  void project_together(const Layer& layer, RowRange asking, bool narrow, RowRange asked);
  void project_keys(const Layer& layer, int group, RowRange some, Workspace& to);
  void project_values(const Layer& layer, int group, RowRange some, Workspace& to);
  void project_queries(const Layer& layer, const HeadGroup& heads, RowRange rows, bool narrow);
  void project(const Activations& x, const Linear& projection, int first_panel, int panels, float* out,
               ptrdiff_t stride);
  void place(const Layer& layer, const HeadNorm& norm, RowRange rows, bool narrow, int count, float* heads, int width);
  void attend(const Layer& layer, const HeadGroup& heads, const Tokens& queries, const float* q, const Workspace& from,
              float* out, ptrdiff_t stride);
  void round_heads(const Layer& layer, const HeadGroup& heads, RowRange rows);
  template <class Work>
  void each_part(RowRange some, Work work);
  template <class Work>
  void each_text(RowRange rows, bool narrow, Work work) const;
  void keep_pooled_rows();
  void add_norm(int first, int rows, float* branch, const NormStep& step, const Linear* reader);
  void add_norm_row(int row, float* branch, const NormStep& step, const Linear* reader);
  Activations pooled_rows(const Linear& reader);
  Activations context_rows(int first, int rows, const Linear& reader);
  void round_row(const float* x, int row, const Linear& reader, const ActivationBuffer& to);
  void round_group(const float* x, int row, int g, const Linear& reader, const ActivationBuffer& to);
  void linear(const Activations& x, const Linear& weights, float* out);
  Activations feed_forward_up(const Activations& x, const Linear& up, const Linear& down);
  float* split_group(int panels, int first) const;
  void inner_panel(const Activations& x, const Linear& up, int i, float* out, ptrdiff_t stride);
  void linear_panel(const Activations& x, const Linear& weights, int panel, const Epilogue& then);
  Panel next_panel(const Linear& weights, int panel) const;

  const Network& net_;
  const Kernels& kernels_;
  const Batch texts_;
  const int tokens_, block_rows_;
  Workspace &own_, &shared_;
  ThreadPool* pool_;
  const int rank_;
  QueryPriority* yield_to_;
  const bool only_pooled_;
  const bool shares_rows_;  // threads share the rows of one residual stream
  Workspace& stream_;       // where the residual stream is
  int rows_;         // of the residual stream
  int threads_ = 1;  // that take part in this layer
  bool has_hidden_ = false;
};

}  // namespace nimbed
