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

// 64 output channels: weights[k / 4][64][4] in int8, and float[64] each: weight = scale * int8, sum = scale * (sum of
// the channel's int8). `next`: the weights of the panel that comes after, for the cache to fetch meanwhile.
struct Panel {
  const int8_t *weights, *next;
  const float* scale;
  const float* sum;
};

// What a product is added to: row r's 64 numbers begin at values + r * stride. A bias has the stride 0.
struct Addend {
  const float* values;
  ptrdiff_t stride;
};

enum class Activation : int { none = 0, gelu = 1, relu = 2 };

// LayerNorm's parameters, float[width] each. The copy of a row that is rounded is multiplied by `smooth` (and the
// weights that read it are divided by it), so that no channel is much larger than the others.
struct Norm {
  const float* gamma;
  const float* beta;
  const float* smooth;
  float epsilon;
};

struct Kernels {
  const char* name;

  // out[r, 0:64] = activation(a[r] x panel + addend[r]), float; a: uint8 [rows, k], k a multiple of 64. The addend may
  // be `out` itself.
  void (*linear)(const uint8_t* a, ptrdiff_t a_stride, const RowScale* scales, int rows, int k, const Panel& panel,
                 const Addend& addend, Activation activation, float* out, ptrdiff_t out_stride);

  // q = round((x - low) / step) for one row of `width` floats, low and step from its smallest and largest value.
  RowScale (*quantize)(const float* x, int width, uint8_t* q);

  // x = LayerNorm(x + y) for one row, of which `size` of `width` floats are real; and x * smooth, rounded, in q.
  RowScale (*add_norm)(const float* y, float* x, int size, int width, const Norm& norm, uint8_t* q);

  // Softmax(q k^T) v of one head over one sequence of `length` tokens. q, k, v: float [length, dim] with `stride`
  // floats from row to row; dim a multiple of 16; q is scaled already. out: the same shape, with `out_stride`.
  // distances: what a score gets for the distance of its key from its query, from 1 - length on to length - 1 (and 15
  // that do not matter), or nullptr. scratch: attention_scratch(length, dim) floats.
  void (*attend)(const float* q, const float* k, const float* v, ptrdiff_t stride, int length, int dim,
                 const float* distances, float* out, ptrdiff_t out_stride, float* scratch);
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
