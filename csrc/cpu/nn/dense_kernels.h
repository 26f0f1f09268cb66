// Products of many rows with packed columns in float32, and the passes over rows between them: what
// a transformer over all tokens of an image asks of one instruction set.
//
// Columns of b lie in panels, [k, columns] each: as many as a block of sums has. Rows of a are read
// as they are. Every sum runs over k in order, so that no result depends on how a product is cut.
#pragma once

#include <cstdint>

namespace fastseg::cpu::nn {

// Channels between which the rows of a product are cut: a panel of b [256, columns] stays in the
// first-level cache while rows stream by.
inline constexpr int64_t k_block = 256;

// c [m, columns] = a [m, k] b [k, columns]. Rows of a are read, and rows of c are written, up to
// the next multiple of DenseKernels::rows.
struct PanelGemm {
    const float* a;
    int64_t a_stride;
    int64_t m, k;
    const float* b;
    float* c;
    int64_t c_stride;
    bool add;           // to the values in c
    const float* next;  // a panel of the same size that is prefetched meanwhile, or null
};

// One step of an online softmax down the columns of a panel: columns are queries, rows are keys.
// Keys are tokens of a square, row by row.
struct ColumnSoftmax {
    float* logits;  // [keys, columns] products of keys and queries; becomes their weights
    int64_t first_key, keys;
    int64_t span;  // side of the square in tokens
    float scale;   // of the products
    // [span, columns] what the position of a row (column) of keys adds to the logits of a query.
    const float *along, *across;
    float* running_max;      // [columns] subtracted from logits; set by the first key
    float* sums;             // [columns] of weights; set by the first key
    float* weighted_values;  // [channels, columns] the sums so far, rescaled where needed
    int64_t channels;
};

struct DenseKernels {
    int64_t rows, columns;  // of a block of sums

    void (*panel_gemm)(const PanelGemm&);
    void (*column_softmax)(const ColumnSoftmax&);
    // A row of `width` channels, a multiple of 16, normalised over them. Blocks of k_block channels
    // of the result lie `step` apart; `to` may be `x` where that is k_block.
    void (*layernorm)(const float* x, int64_t width, const float* scale, const float* shift,
                      float* to, int64_t step);
    // gelu(x + bias) of `count` values, a multiple of 16, to such blocks.
    void (*bias_gelu)(const float* x, const float* bias, int64_t count, float* to, int64_t step);
    // As many multiply-adds as a block of sums takes, `steps` times, of values in registers alone.
    float (*multiply_add_chains)(int64_t steps, float term);
};

}  // namespace fastseg::cpu::nn
