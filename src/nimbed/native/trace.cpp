#include "trace.h"

#include <algorithm>

#include "panels.h"
#include "session.h"

namespace nimbed {
namespace {

constexpr int kPieceTokens = 256;

Inputs behind(const Inputs& inputs, const Network& net, ptrdiff_t rows) {
  return {inputs.projection + rows * net.width, inputs.output + rows * net.context_width(),
          inputs.up + rows * net.width, inputs.down + rows * net.inner};
}

}  // namespace

Trace::Trace(const Network& network, const Kernels& kernels, const Batch& texts, int threads)
    : network_(network), kernels_(kernels), ids_(texts.ids, texts.ids + texts.tokens()),
      offsets_(texts.offsets, texts.offsets + texts.count + 1),
      types_(texts.types, texts.types + (texts.types ? texts.tokens() : 0)),
      texts_{ids_.data(), offsets_.data(), texts.types ? types_.data() : nullptr, nullptr, texts.count},
      pieces_(largest_first(pieces_of(texts_, kPieceTokens))),
      hidden_(size_t(texts.tokens()) * network.width), normed_(hidden_.size()) {
  int tokens = 0, count = 0;
  for (const Batch& piece : pieces_) {
    tokens = std::max(tokens, piece.tokens());
    count = std::max(count, piece.count);
  }
  for (int i = 0; i < std::min(threads, int(pieces_.size())); ++i) {
    workspaces_.push_back(std::make_unique<Workspace>());
    workspaces_.back()->reserve(network_, {tokens, count, texts_.longest(), block_rows(network_), 1}, true);
  }
  for_pieces([this](Workspace& own, const Batch& piece) { embed(own, piece); });
}

void Trace::next(const Inputs& inputs) {
  for_pieces([&](Workspace& own, const Batch& piece) { through_layer(own, piece, inputs); });
  ++layer_;
}

void Trace::resume(int layer, const float* hidden, const float* normed) {
  layer_ = layer;
  std::copy_n(hidden, hidden_.size(), hidden_.data());
  std::copy_n(normed, normed_.size(), normed_.data());
}

template <class Work>
void Trace::for_pieces(Work work) {
  parallel_for(int(workspaces_.size()), pieces_.size(),
               [&](int rank, size_t i) { work(*workspaces_[size_t(rank)], pieces_[i]); });
}

void Trace::embed(Workspace& own, const Batch& piece) {
  forward(own, piece).embed();
  keep(own, piece);
}

void Trace::through_layer(Workspace& own, const Batch& piece, const Inputs& inputs) {
  const ptrdiff_t at = ptrdiff_t(piece.offsets[0]) * network_.width;
  const size_t count = size_t(piece.tokens()) * network_.width;
  std::copy_n(hidden_.data() + at, count, own.hidden.get());
  std::copy_n(normed_.data() + at, count, own.normed.exact.get());
  const Inputs here = behind(inputs, network_, piece.offsets[0]);
  forward(own, piece).transformer_layer(layer_, &here);
  keep(own, piece);
}

ForwardPass Trace::forward(Workspace& own, const Batch& piece) {
  return {network_, kernels_, piece, block_rows(network_), Worker{own, own, nullptr, 0}, nullptr, false};
}

void Trace::keep(const Workspace& own, const Batch& piece) {
  const ptrdiff_t at = ptrdiff_t(piece.offsets[0]) * network_.width;
  const size_t count = size_t(piece.tokens()) * network_.width;
  std::copy_n(own.hidden.get(), count, hidden_.data() + at);
  std::copy_n(own.normed.exact.get(), count, normed_.data() + at);
}

}  // namespace nimbed
