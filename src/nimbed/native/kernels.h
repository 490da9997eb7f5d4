// The arithmetic of an encoder layer, once per instruction set. Every function works on a few rows of activations
// ("a row" is one token), never allocates, and gives a row the same result whatever rows are beside it.
//
// Widths are padded to multiples of 64 (kPanel); the padding of activations, weights and parameters is zero.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nimbed {

constexpr int kMaxWidth = 8192;  // of a row of activations
constexpr int kPanel = 64;       // columns of weights that are packed together
constexpr int kGroup = 384;      // inputs of a product that are rounded together, behind attention
constexpr int kTile = 6;         // rows that pass over a panel together: 6 x 64 int32 sums fill 24 of 32 registers

// A row of activations in 8 bits: x = low + step * q, q from 0 to 255.
struct RowScale {
  float step;
  float low;
};

struct QuantizedRows {
  const uint8_t* values;
  ptrdiff_t stride;  // numbers from a row to the next
  const RowScale* scales;  // [rows]
  int rows;
};

// Weights of 64 output channels: int8 [inputs / 4][64][4], and float[64] each: weight = scale * int8, sum = scale * (sum
// of the channel's int8). `next`: the weights of the panel that comes after, for the cache to fetch meanwhile.
struct Panel {
  const int8_t *weights, *next;
  const float *scale, *sum;
  int inputs;  // a multiple of 64
};

enum class Activation : int { none = 0, gelu = 1, relu = 2 };

// What becomes of a product: out[r, 0:64] = activation(product + addend[r]). Row r of each lies `stride` floats behind
// row r - 1; a bias is an addend with the stride 0. The addend may be `out` itself.
struct Epilogue {
  const float* addend;
  ptrdiff_t addend_stride;
  Activation activation;
  float* out;
  ptrdiff_t out_stride;
};

// LayerNorm's parameters, float[width] each. What the next products read is the norm times `smooth` (and their weights
// are divided by it), so that no channel is much larger than the others.
struct Norm {
  const float* gamma;
  const float* beta;
  const float* smooth;
  float epsilon;
};

// Attention of one head over one text of `length` tokens. Queries are scaled already.
struct Attention {
  const float *queries, *keys, *values;
  ptrdiff_t stride;  // of all three
  int length, dim;   // dim: a multiple of 16
  // What a score gets for the distance of its key from its query, from 1 - length on to length - 1 (and 15 that do not
  // matter), or nullptr.
  const float* distances;
  float* out;
  ptrdiff_t out_stride;
  float* scratch;  // attention_scratch(length, dim) floats
};

struct Kernels {
  const char* name;

  // A product with a panel of weights in 8 bits.
  void (*linear)(const QuantizedRows& x, const Panel& weights, const Epilogue& then);

  // q = round((x - low) / step) for one row of `width` floats, low and step from its smallest and largest value.
  RowScale (*quantize)(const float* x, int width, uint8_t* q);

  // x += branch, then normed = LayerNorm(x) * smooth for one row, of which `size` of `width` floats are real; and
  // x = LayerNorm(x).
  void (*add_norm)(const float* branch, float* x, const Norm& norm, int size, int width, float* normed);

  // out = softmax(q k^T) v.
  void (*attend)(const Attention& a);
};

constexpr size_t round_up(size_t n, size_t step) { return (n + step - 1) / step * step; }

constexpr int groups_of(int inputs, int group) { return (inputs + group - 1) / group; }

constexpr size_t attention_scratch(size_t length, size_t dim) {
  return round_up(length, 64) * (dim + kTile) + kTile * dim + 64;
}

// Plain C++, which the others are tested against.
extern const Kernels kReference;
#if defined(NIMBED_X86)
extern const Kernels kAvx2;
extern const Kernels kAvx512Vnni;
#endif

// The kernels of that name, or the best that this CPU has for "auto"; nullptr where it cannot run them.
const Kernels* find_kernels(const char* name);

}  // namespace nimbed
