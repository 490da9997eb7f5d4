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

class ForwardPass {
 public:
  // `block_rows`: how many rows pass together through what follows attention in a layer. `yield_to`: nullptr in a
  // session for queries.
  ForwardPass(const Network& net, const Kernels& kernels, const Batch& texts, int block_rows, const Worker& worker,
              QueryPriority* yield_to)
      : net_(net), kernels_(kernels), texts_(texts), tokens_(texts.tokens()), block_rows_(block_rows), own_(worker.own),
        shared_(worker.shared), pool_(worker.pool), rank_(worker.rank), yield_to_(yield_to) {}

  // The embeddings and so many layers. Each layer is a step of the thread pool's batch, and so is the end;
  // `first_step`: how many steps the batch has behind it.
  void run(int layers, int first_step);

  // What rank 0 has after `run`: the residual stream [tokens, width], and from it the texts' vectors [texts, size].
  const float* hidden() const { return own_.hidden.get(); }
  void pool(float* out) const;

 private:
  // Rows of activations in 8 bits, as a product reads them.
  struct Quantized {
    int rows;
    const uint8_t* values;   // [rows, inputs]
    const RowScale* scales;  // [groups, rows]
  };

  int enter_layer(int layer, int first_step);
  void copy_hidden();
  void barrier();
  void yield_to_queries();

  void embed();
  void transformer_layer(const Layer& layer);
  void attention(const Layer& layer);
  void project_heads(const Linear& projection, int group);
  void attend(int group, int head, int text);
  void add_norm(int first, int rows, const float* branch, const Norm& norm);
  Quantized normed(int first, int rows) const;
  Quantized quantize(const float* x, int rows, const Linear& reader);
  void linear(const Quantized& x, const Linear& weights, float* out, Activation activation = Activation::none);
  void linear_panel(const Quantized& x, const Linear& weights, int panel, float* out, ptrdiff_t out_stride,
                    Activation activation = Activation::none);

  const Network& net_;
  const Kernels& kernels_;
  const Batch texts_;
  const int tokens_, block_rows_;
  Workspace &own_, &shared_;
  ThreadPool* pool_;
  const int rank_;
  QueryPriority* yield_to_;
  int threads_ = 1;  // that take part in this layer
  bool has_hidden_ = false;
};

}  // namespace nimbed
