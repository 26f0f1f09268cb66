// Passes over rows of tokens between the encoder's products: float32 in, bfloat16 out, in AVX-512.
// Formats a and b are those of the decoder's kernel tables.
#pragma once

#include <cstdint>

#include "cpu/nn/float16.h"
#include "cpu/sam_encoder/model.h"

namespace fastseg::cpu::sam_encoder {

using nn::Bf16;

// x [rows, width] normalised over its channels, to rows `first` and on of `to` [.., width] in
// format a.
void norm_to_a(const float* x, int64_t rows, int64_t width, const Norm& norm, int64_t first,
               Bf16* to);
// The same in place, in float32.
void norm_rows(float* x, int64_t rows, int64_t width, const Norm& norm);
// x [rows, width] as it is, to format a.
void rows_to_a(const float* x, int64_t rows, int64_t width, int64_t first, Bf16* to);
// A row of `count` floats to bfloat16.
void narrow_row(const float* from, int64_t count, Bf16* to);

// The result of a product: `rows` by `columns` sums, and the bias of the columns.
struct Sums {
    const float* data;
    int64_t stride, rows, columns;
    const float* bias;  // or null
};

// x [rows, width] += sums; x points to the first of the columns.
void add_to(const Sums& sums, float* x, int64_t width);
// gelu(sums) to format a: rows `first` and on, columns `column` and on of [.., width].
void gelu_to_a(const Sums& sums, int64_t first, int64_t column, int64_t width, Bf16* to);

// Columns are whole heads of queries, keys or values.
struct Heads {
    const TokenSquares& squares;
    int64_t channels, depth;
    int64_t first_token, first_head;
    Bf16* to;
};

// Queries: every head [count * room, depth] in format a.
void queries_to_a(const Sums& sums, const Heads& heads);
// Keys: every head [count * room, depth] row by row.
void keys_to_rows(const Sums& sums, const Heads& heads);
// Values: every square of every head [room, channels] in format b. Rows come in pairs.
void values_to_b(const Sums& sums, const Heads& heads);

// Keys [tokens, depth] row by row to [depth, tokens] in format b; a multiple of 16 tokens.
void keys_to_b(const Bf16* rows, int64_t tokens, int64_t depth, Bf16* to);

// One step of an online softmax over all keys, which come in several parts.
struct SoftmaxStep {
    float* logits;  // [rows, stride] products of queries and keys
    int64_t rows, stride;
    int64_t keys;    // keys that exist; those up to `padded` get weight 0
    int64_t padded;  // a multiple of 32
    float scale;     // of the logits
    // [rows, steps] the relative position terms of a row (column) of keys, for each query. They
    // point to the term of the first row (column) for a query in the first one; for a query farther
    // down (to the right) it lies as many values before.
    const float *along, *across;
    int64_t steps;
    bool first;              // the first keys of these queries
    float* running_max;      // [rows] subtracted from logits to the base 2
    float* sums;             // [rows] of weights; starts at 0
    float* weighted_values;  // [rows, channels] the sums so far, rescaled where needed
    int64_t channels;
    Bf16* weights;  // [rows, padded] in format a
};

// Queries and keys are all of a window.
void softmax_window(const SoftmaxStep& s);
// Queries are a row of a grid, keys some of its rows. `along` is that of the row of the queries and
// the first row of the keys. A side of 16, 32, 48 or 64.
void softmax_rows(const SoftmaxStep& s, int64_t grid);

// weighted_values [channels] / sum, to a row of [.., width] in format a.
void normalise_row(const float* weighted_values, float sum, int64_t channels, int64_t row,
                   int64_t column, int64_t width, Bf16* to);

}  // namespace fastseg::cpu::sam_encoder
