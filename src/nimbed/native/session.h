// Batches of texts through a network, on some threads.
#pragma once

#include <memory>
#include <vector>

#include "forward.h"

namespace nimbed {

// Whole texts, of `max_tokens` together or one that is longer.
std::vector<Batch> pieces_of(const Batch& batch, int max_tokens);

// The same in an order in which threads that take one after the other end at about the same time.
std::vector<Batch> largest_first(std::vector<Batch> pieces);

// How many rows of a piece pass together through what follows attention in a layer.
int block_rows(const Network& net);

// Used by one caller at a time.
class Session {
 public:
  Session(const Network& network, const Kernels& kernels, QueryPriority& priority, int threads, bool bulk);

  // Fewer than were asked for where the system gave no more.
  int threads() const { return pool_->size(); }

  // A batch is about to come: the threads wake, and fetch the first weights. From any thread.
  void expect();

  // The texts' vectors, out [texts, dim], or where nothing is pooled the tokens', [tokens, size]. The batch must be
  // valid.
  void run(const Batch& batch, float* out);

  // Token vectors after so many layers (0: the embeddings), out [tokens, size]; for tests.
  void hidden(const Batch& batch, int layers, float* out);

 private:
  // How a batch is computed.
  struct Plan {
    int threads;
    std::vector<Batch> pieces;      // whole texts that pass through the layers together
    int block_rows;                 // of a piece, that pass together through what follows attention in a layer
    bool share_pieces = false;      // all threads compute each piece together; else each takes whole pieces
    bool wait_for_threads = false;  // before the first layer
  };

  Plan plan(const Batch& batch) const;
  void reserve(const Plan& plan, const Batch& batch);
  void work(const Plan& plan, const Batch& batch, int rank, std::atomic<size_t>& next_piece, float* out);
  ForwardPass forward(const Plan& plan, const Batch& piece, int rank, bool only_pooled);

  const Network& network_;
  const Kernels& kernels_;
  QueryPriority& priority_;
  const bool bulk_;
  std::vector<const char*> pages_;  // of weights, in the order in which they are read
  ForkSafe<ThreadPool> pool_;
  std::vector<std::unique_ptr<Workspace>> workspaces_;  // one a thread
};

}  // namespace nimbed
