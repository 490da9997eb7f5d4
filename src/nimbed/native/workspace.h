// The memory that one member of a team computes in.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <new>

#include "network.h"

namespace nimbed {

constexpr size_t kBlockBytes = 480 << 10;  // of the widest activations of a block of rows: they stay in the L2 cache
constexpr int kMostRows = 96;

// Memory that grows and is aligned to cache lines. It begins as zeros, which padding that nobody writes must be.
template <class T>
class Buffer {
 public:
  T* at_least(size_t count) {
    if (count > size_) {
      std::free(data_);
      size_ = 0;
      data_ = static_cast<T*>(std::aligned_alloc(64, round_up(count * sizeof(T), 64)));
      if (data_ == nullptr) throw std::bad_alloc();
      std::fill_n(data_, count, T{});
      size_ = count;
    }
    return data_;
  }
  T* get() const { return data_; }
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  ~Buffer() { std::free(data_); }

 private:
  T* data_ = nullptr;
  size_t size_ = 0;
};

// Rows of activations in 8 bits.
struct Rounded {
  Buffer<uint8_t> values;
  Buffer<RowScale> scales;

  void at_least(size_t rows, size_t width) {
    values.at_least(rows * width);
    scales.at_least(rows * groups_of(int(width), kGroup));
  }
};

inline int block_rows(const Network& net) {
  const size_t widest = net.layers.empty() ? kPanel : size_t(net.layers[0].up.panels) * kPanel;
  const int rows = int(kBlockBytes / (widest * sizeof(float))) / kTile * kTile;
  return std::clamp(rows, 2 * kTile, kMostRows);
}

// What one member of a team computes in. What members read of each other is that of rank 0.
struct Workspace {
  Buffer<float> hidden, heads, scratch, context, mixed, wide, narrow;
  Rounded input, block;

  void prepare(const Network& net, int tokens, int longest) {
    const size_t rows = size_t(std::min(tokens, block_rows(net)));
    const size_t context_width = size_t(net.groups) * net.group_width;
    const size_t wide_width = net.layers.empty() ? kPanel : size_t(net.layers[0].up.panels) * kPanel;
    hidden.at_least(size_t(tokens) * net.width);
    input.at_least(tokens, net.width);
    heads.at_least(3 * size_t(tokens) * net.group_width);
    scratch.at_least(attention_scratch(longest, net.head_dim));
    context.at_least(tokens * context_width);
    mixed.at_least(rows * net.width);
    wide.at_least(rows * wide_width);
    narrow.at_least(rows * net.width);
    block.at_least(rows, std::max({context_width, wide_width, size_t(net.width)}));
  }
};

}  // namespace nimbed
