// The memory that one thread computes in.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <memory>
#include <new>
#include <utility>

#include "network.h"

namespace nimbed {

// Memory that grows and is aligned to cache lines. It begins as zeros, which padding that nobody writes must be.
template <class T>
class Buffer {
 public:
  void reserve(size_t count) {
    if (count <= size_) return;
    std::free(data_);
    size_ = 0;
    data_ = static_cast<T*>(std::aligned_alloc(64, round_up(count * sizeof(T), 64)));
    if (data_ == nullptr) throw std::bad_alloc();
    std::fill_n(data_, count, T{});
    size_ = count;
  }
  T* get() const { return data_; }
  Buffer() = default;
  Buffer(Buffer&& other) noexcept : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  ~Buffer() { std::free(data_); }

 private:
  T* data_ = nullptr;
  size_t size_ = 0;
};

// Rows of activations as a product reads them: in fp32, or in 8 bits, rounded once or twice.
struct Activations {
  int rows;
  const float* exact;      // [rows, inputs], or nullptr
  const uint8_t* values;   // [passes][rows, inputs], `value_pass` from one pass to the next
  const RowScale* scales;  // [passes][groups][rows], `scale_group` from one group to the next
  ptrdiff_t value_pass, scale_group;

  // Some of the rows, where a row has `inputs` numbers.
  Activations from(int first, int count, int inputs) const {
    const ptrdiff_t at = ptrdiff_t(first) * inputs;
    if (exact != nullptr) return {count, exact + at, nullptr, nullptr, 0, 0};
    return {count, nullptr, values + at, scales + first, value_pass, scale_group};
  }
  QuantizedRows quantized(const Linear& reader) const {
    return {values, reader.inputs, scales, rows, reader.passes, value_pass, scale_group};
  }
};

// Room for them.
struct ActivationBuffer {
  Buffer<float> exact;
  Buffer<uint8_t> values;
  Buffer<RowScale> scales;
  size_t rows = 0, width = 0;

  void reserve(const Network& net, size_t new_rows, size_t new_width) {
    rows = new_rows, width = new_width;
    if (net.exact) return exact.reserve(rows * width);
    values.reserve(net.passes * rows * width);
    scales.reserve(net.passes * rows * net.groups);
  }
  // The first rows of another, as wide.
  void copy(const ActivationBuffer& other, const Network& net, size_t count) {
    if (net.exact) std::copy_n(other.exact.get(), count * width, exact.get());
    for (int pass = 0; !net.exact && pass < net.passes; ++pass) {
      std::copy_n(other.values.get() + pass * other.rows * width, count * width, values.get() + pass * rows * width);
    }
    for (int i = 0; !net.exact && i < net.passes * net.groups; ++i) {
      std::copy_n(other.scales.get() + i * other.rows, count, scales.get() + i * rows);
    }
  }
  Activations view(int count) const {
    return {count, exact.get(), values.get(), scales.get(), ptrdiff_t(rows * width), ptrdiff_t(rows)};
  }
};

// Rows of a piece up to which each thread keeps the residual stream for itself: it computes all norms, and there is no
// barrier behind them. Of more rows there is one stream, and threads share the rows.
constexpr int kOwnRows = 48;

// Rows whose queries, keys or values are computed at a time: of the keys of a text that are prepared for each, at most a
// thirtieth of what its attention takes.
constexpr int kAttentionRows = 1024;

// What a piece needs room for; `threads` compute it together.
struct PieceSize {
  int tokens, texts, longest, block_rows, threads;
};

// Groups of what is between the products of the feed-forward network that several threads compute, each some panels.
class SplitGroups {
 public:
  void reserve(size_t groups, size_t size, size_t threads) {
    if (groups > groups_) done_.reset(new std::atomic<int>[groups_ = groups]());
    values_.reserve(size * threads);
    size_ = size;
  }
  // [rows, group], of the only one whose first panel that thread has and others have some of.
  float* first_of(int rank) const { return values_.get() + size_ * size_t(rank); }
  // Whether all panels of a group are done now that so many more are.
  bool completes(int group, int panels, int all) {
    if (done_[group].fetch_add(panels, std::memory_order_acq_rel) + panels < all) return false;
    done_[group].store(0, std::memory_order_relaxed);  // for the next layer, behind a barrier
    return true;
  }

 private:
  std::unique_ptr<std::atomic<int>[]> done_;  // panels of each group
  size_t groups_ = 0, size_ = 0;
  Buffer<float> values_;
};

// What threads read of each other lies in the workspace of rank 0.
struct Workspace {
  // Of all tokens of a piece.
  Buffer<float> hidden;        // [tokens, width]: the residual stream
  ActivationBuffer normed;     // [tokens, width]: what its norms give the next products
  Buffer<float> keys, values;  // [tokens, key_width], of a group of heads
  Buffer<float> context;       // [tokens, context_width]: what attention gives, or of some rows and a group of heads
  ActivationBuffer rounded;    // [tokens, or a block's rows, context_width]: the same in 8 bits
  ActivationBuffer pooled;     // [texts, width]: the rows of `normed` that pooling takes
  // Of some rows.
  Buffer<float> queries;  // [rows, query_width], of a group of heads
  Buffer<float> scratch;  // of attention
  // Of a block of rows.
  Buffer<float> attention_out;     // [rows, width]
  Buffer<float> gate;              // [rows, 64]
  Buffer<float> inner;             // [rows, inner]: within the feed-forward network; in 8 bits, of a group alone
  SplitGroups split;
  ActivationBuffer inner_rounded;  // [rows, inner], in 8 bits
  Buffer<float> feed_forward_out;  // [rows, width]
  // Of a row.
  Buffer<float> row, rest;  // what is rounded, and what rounding left
  Buffer<float> branch;     // the norm of what is added
  // Of texts.
  Buffer<float> vectors[2];  // [texts, padded outputs]: what a dense layer reads and gives

  // `shares`: what all threads of a piece read lies here.
  void reserve(const Network& net, const PieceSize& piece, bool shares) {
    const size_t all = size_t(piece.tokens), stream = shares ? all : std::min(all, size_t(kOwnRows));
    const size_t rows = std::min(all, size_t(piece.block_rows)), some = std::min(all, size_t(kAttentionRows));
    const size_t width = size_t(net.width);
    hidden.reserve(stream * width);
    normed.reserve(net, stream, width);
    keys.reserve(all * net.key_width());
    values.reserve(all * net.key_width());
    queries.reserve(some * net.query_width());
    const int longest = std::min(piece.longest, kAttentionRows);
    scratch.reserve(attention_scratch(piece.longest, net.head_dim, size_t(net.queries) * longest));
    if (net.rounds_heads()) context.reserve(some * net.query_width());
    if (net.pools_one_token()) pooled.reserve(net, piece.texts, width);
    if (net.gated) gate.reserve(rows * kPanel);
    inner.reserve(rows * (net.exact ? net.inner : net.inner_group()));
    row.reserve(width);
    branch.reserve(width);
    rest.reserve(std::max({width, size_t(net.widest()), size_t(net.widest_vector())}));
    if (shares) reserve_shared(net, all, rows, size_t(piece.threads));
    if (!net.exact && !net.rounds_heads()) rounded.reserve(net, rows, net.context_width());
    for (Buffer<float>& some : vectors) some.reserve(size_t(piece.texts) * net.widest_vector());
  }

 private:
  void reserve_shared(const Network& net, size_t all, size_t rows, size_t threads) {
    if (!net.rounds_heads()) context.reserve(all * net.context_width());
    if (net.rounds_heads()) rounded.reserve(net, all, net.context_width());
    if (!net.exact) inner_rounded.reserve(net, rows, net.inner);
    if (!net.exact && threads > 1) split.reserve(net.inner / kPanel, rows * net.inner_group(), threads);
    attention_out.reserve(rows * net.width);
    feed_forward_out.reserve(rows * net.width);
  }
};

}  // namespace nimbed
