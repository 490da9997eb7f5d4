// The arithmetic of an encoder layer, once per instruction set. Every function works on a few rows of activations
// ("a row" is one token), allocates nothing (but the reference's attention), and gives a row the same result whatever
// rows are beside it.
//
// The bits rule: every instruction set gives the same bits, those of the reference kernels, which are the definition.
// Integer sums are exact. Floats are added in lanes (number i goes to lane i % lanes) in the order of i, and the lanes
// then by halves (with 16: l and l + 8, l and l + 4, l and l + 2, the last two): a norm has 64 lanes, softmax 16 and a
// product in fp32 one. Products that are added are fused where the reference says std::fma and nowhere else.
//
// Widths are padded to multiples of 64 (kPanel); the padding of activations, weights and parameters is zero.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nimbed {

constexpr int kMaxWidth = 8192;  // of a row of activations that a norm makes
constexpr int kPanel = 64;       // columns of weights that are packed together
constexpr int kStrip = 32;       // columns of them whose weights in 8 bits lie behind each other
constexpr int kTile = 6;         // rows of floats or 16 bits whose sums are kept in registers together

// A row of activations in 8 bits: x = low + step * q, q from 0 to 255.
struct RowScale {
  float step;
  float low;
};

// Rows of activations, `stride` numbers from one to the next.
struct FloatRows {
  const float* values;
  ptrdiff_t stride;
  int rows;
};
// The same in 8 bits, in groups of inputs with a scale each. A row is the sum of its passes: each is what rounding left
// in the passes before.
struct QuantizedRows {
  const uint8_t* values;  // of the first pass; `value_pass` from one to the next
  ptrdiff_t stride;
  const RowScale* scales;  // [passes][groups][rows], `scale_group` from one group to the next
  int rows, passes;
  ptrdiff_t value_pass, scale_group;
};

// Weights of 64 output channels: int8 [2][inputs / 4][32][4], strips whose readers read on and on, which is what
// processors fetch ahead for. Of each group of inputs float[64]: weight = scale * int8, sum = scale * (sum of the
// channel's int8).
struct Panel {
  const int8_t* weights;
  const float *scale, *sum;   // [groups][64]
  int inputs, group, groups;  // both multiples of 64, and how many; the last group has what is left

  int end(int g) const { return (g + 1) * group < inputs ? (g + 1) * group : inputs; }  // of a group
  ptrdiff_t strip() const { return ptrdiff_t(inputs) * kStrip; }  // weights from a strip to the next
};

// The same in fp32: [inputs][64]. The panel that comes after lies behind it.
struct FloatPanel {
  const float* weights;
  int inputs;
};

// gelu is within 2.6e-5 of the exact one, which is less than rounding to 8 bits leaves; fine_gelu, for fp32, within 2e-7.
enum class Activation : int { none, gelu, gelu_tanh, relu, silu, tanh, sigmoid, fine_gelu };

// What becomes of a product: out[r, 0:64] = activation(product + addend[r]) * gate[r]. Row r of each lies `stride`
// floats behind row r - 1; a bias is an addend with the stride 0. The addend and the gate may be `out` itself.
struct Epilogue {
  const float* addend;
  ptrdiff_t addend_stride;
  Activation activation;
  const float* gate;  // or nullptr
  ptrdiff_t gate_stride;
  float* out;
  ptrdiff_t out_stride;
};

// The parameters of LayerNorm or RMSNorm (Zhang and Sennrich 2019), float[width] each. What the next products read is
// the norm times `smooth` (and their weights are divided by it), so that no channel is much larger than the others.
struct Norm {
  const float* gamma;
  const float* beta;
  const float* smooth;
  float epsilon;
  bool keeps;  // whether the residual stream stays the plain sum (pre-norm) or becomes the norm (post-norm)
  bool rms;    // the mean stays in
};

// RMSNorm of each head: its parameters, float[dim], of which `size` are real.
struct HeadNorm {
  const float* gamma;  // or nullptr: there is none
  float epsilon;
  int size;
};

// Attention of some heads that share their keys and values (Ainslie et al. 2023) over one text. Queries are scaled
// already; query i of head h is at queries + i * query_stride + h * dim, its result at the same place of out. Query i
// is the text's token first_query + i, and reads the keys from `back` tokens before itself to `ahead` behind: zeros
// where there are none.
struct Attention {
  const float* queries;
  ptrdiff_t query_stride;
  const float *keys, *values;
  ptrdiff_t key_stride;
  int heads, dim;  // dim: a multiple of 16
  int first_query, queries_count, keys_count;
  int back, ahead;  // from 0 on; kUnlimited for all
  // Head h adds distances[h * distances_stride + (key - query)] to a score, or nullptr. 15 floats that do not matter
  // may be read on both sides of what the text needs.
  const float* distances;
  ptrdiff_t distances_stride;
  float* out;
  ptrdiff_t out_stride;
  float* scratch;  // attention_scratch(keys_count, dim, heads * queries_count) floats, aligned to 64 bytes
};

constexpr int kUnlimited = 1 << 30;
constexpr int kKeyBlock = 512;  // keys that are prepared and read at a time

struct Kernels {
  const char* name;

  // A product with a panel of weights in 8 bits: a group's int32 sums are exact, and pass after pass and group after
  // group is added to the addend. `next`: the panel that comes after, for the cache to fetch meanwhile.
  void (*linear)(const QuantizedRows& x, const Panel& weights, const Panel& next, const Epilogue& then);

  // The same in fp32: a sum begins with 0 and takes one fused product after the other.
  void (*linear_fp32)(const FloatRows& x, const FloatPanel& weights, const Epilogue& then);

  // q = round((x - low) / step) for one row of `width` floats, low and step from its smallest and largest value.
  RowScale (*quantize)(const float* x, int width, uint8_t* q);

  // rest = x - (low + step * q): what rounding left of a row.
  void (*remainder)(const float* x, const uint8_t* q, RowScale scale, int width, float* rest);

  // x += branch (where it is not nullptr), then normed = norm(x) * smooth for one row, of which `size` of `width`
  // floats are real; and x = norm(x) unless the norm keeps it.
  void (*add_norm)(const float* branch, float* x, const Norm& norm, int size, int width, float* normed);

  // Each of `heads` neighbours of `dim` floats becomes its RMSNorm. dim: a multiple of 16.
  void (*norm_heads)(float* x, int heads, int dim, const HeadNorm& norm);

  // Rotary positions (Su et al. 2021) for one token: each of `heads` neighbours of `dim` floats (a, b) by halves
  // becomes (a cos - b sin, b cos + a sin); rotation: dim / 2 cosines, dim / 2 sines. dim: a multiple of 32.
  void (*rotate)(float* x, int heads, int dim, const float* rotation);

  // out = softmax(q k^T) v: with queries, keys, weights and values rounded to 16 bits, or all in fp32. Sums of 16 bits
  // are exact; a query's result depends neither on the others nor on how many there are. Of longer texts the result is
  // the mean of those of blocks of keys, the first of which begins with the text.
  void (*attend)(const Attention& a);
  void (*attend_fp32)(const Attention& a);
};

constexpr size_t round_up(size_t n, size_t step) { return (n + step - 1) / step * step; }

constexpr int groups_of(int inputs, int group) { return (inputs + group - 1) / group; }

// A block's keys and values, scores of a tile; its queries and results; and what a query has of earlier blocks.
constexpr size_t attention_scratch(size_t keys, size_t dim, size_t queries) {
  const size_t block = round_up(keys < kKeyBlock ? keys : kKeyBlock, 64) + 64;
  return block * (2 * dim + kTile) + 3 * kTile * dim + round_up(2 * queries, 16) + 64;
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
