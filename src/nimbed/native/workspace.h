// The memory that one thread computes in.
#pragma once

#include <algorithm>
#include <cstdlib>
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

// Rows of activations in 8 bits.
struct QuantizedBuffer {
  Buffer<uint8_t> values;   // [rows, width]
  Buffer<RowScale> scales;  // [groups, rows]

  void reserve(size_t rows, size_t width) {
    values.reserve(rows * width);
    scales.reserve(rows * groups_of(int(width), kGroup));
  }
};

// What threads read of each other lies in the workspace of rank 0.
struct Workspace {
  // Of all tokens of a piece.
  Buffer<float> hidden;    // [tokens, width]: the residual stream
  QuantizedBuffer normed;  // [tokens, width]: the same, multiplied by the norm's factors, in 8 bits
  Buffer<float> heads;     // [3, tokens, group_width]: queries, keys and values of a group of heads
  Buffer<float> scratch;   // of one head's attention
  Buffer<float> context;   // [tokens, context_width]: what attention gives
  // Of a block of rows.
  QuantizedBuffer quantized;       // [rows, context_width or inner]
  Buffer<float> attention_out;     // [rows, width]
  Buffer<float> inner;             // [rows, inner]: within the feed-forward network
  Buffer<float> feed_forward_out;  // [rows, width]

  void reserve(const Network& net, int tokens, int longest, int block_rows) {
    const size_t all = size_t(tokens), rows = size_t(std::min(tokens, block_rows));
    const size_t width = size_t(net.width), context_width = size_t(net.context_width()), wide = size_t(net.inner);
    hidden.reserve(all * width);
    normed.reserve(all, width);
    heads.reserve(3 * all * net.group_width);
    scratch.reserve(attention_scratch(longest, net.head_dim));
    context.reserve(all * context_width);
    quantized.reserve(rows, std::max(context_width, wide));
    attention_out.reserve(rows * width);
    inner.reserve(rows * wide);
    feed_forward_out.reserve(rows * width);
  }
};

}  // namespace nimbed
