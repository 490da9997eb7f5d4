// Texts through a network in fp32 a layer at a time, for who wants to see what its products read.
#pragma once

#include <memory>
#include <vector>

#include "forward.h"

namespace nimbed {

class Trace {
 public:
  // The batch is copied. Threads take whole pieces, so that results do not depend on their number.
  Trace(const Network& network, const Kernels& kernels, const Batch& texts, int threads);

  Trace(const Trace&) = delete;

  int tokens() const { return texts_.tokens(); }
  int layer() const { return layer_; }  // the next one

  // The next layer, with the inputs of its products, [tokens, inputs] each.
  void next(const Inputs& inputs);

  // What the next layer is given: the residual stream and its norm, [tokens, width] each.
  const std::vector<float>& hidden() const { return hidden_; }
  const std::vector<float>& normed() const { return normed_; }

  // Goes on from there, where another trace of the same texts was.
  void resume(int layer, const float* hidden, const float* normed);

 private:
  template <class Work>
  void for_pieces(Work work);
  void embed(Workspace& own, const Batch& piece);
  void through_layer(Workspace& own, const Batch& piece, const Inputs& inputs);
  ForwardPass forward(Workspace& own, const Batch& piece);
  void keep(const Workspace& own, const Batch& piece);

  const Network& network_;
  const Kernels& kernels_;
  std::vector<int32_t> ids_, offsets_, types_;
  Batch texts_;
  std::vector<Batch> pieces_;
  std::vector<std::unique_ptr<Workspace>> workspaces_;  // one a thread
  std::vector<float> hidden_, normed_;                  // [tokens, width]
  int layer_ = 0;
};

}  // namespace nimbed
