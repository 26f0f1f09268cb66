// The kernel table: what the networks ask of one instruction set, matrix products and passes over
// small matrices.
//
// Image tokens go through SAM's decoder in tiles of 32, with the tokens along the lanes of a
// vector: a softmax over prompt tokens and a layer norm over channels then need no sum across
// lanes. Products are c[m, n] = a[m, k] b[k, n] with c in float32. The operands of the image side
// are in the table's own format, float32 or bfloat16:
//
//   float32   a [m, k] and b [k, n], both row by row
//   bfloat16  a [m / 16, k / 32, 16, 32]; b [n / 16, k / 2, 16, 2], two neighbours of a column side
//             by side: the 16 x 32 values that a step of a product takes are 1 KB of memory
#pragma once

#include <cstdint>

#include "cpu/nn/conv_kernels.h"
#include "cpu/nn/dense_kernels.h"

namespace fastseg::cpu::nn {

inline constexpr int64_t tile_size = 32;  // image tokens
inline constexpr int64_t width = 256;     // channels of a token
inline constexpr int64_t inner = 128;     // channels inside a cross attention
inline constexpr int64_t heads = 8;
inline constexpr int64_t channels = 16;   // of one head of a cross attention
inline constexpr int64_t sum_lanes = 16;  // partial sums side by side, in the widest vector

// Operands may be parts of larger ones.
struct Gemm {
    const void* a;
    int64_t a_stride;  // k of the whole operand
    const void* b;
    int64_t b_stride;  // of the whole operand: n in float32, k in bfloat16
    float* c;
    int64_t c_stride;
    int64_t m, n, k;
    bool add;  // to the values in c
};

// Columns of a weight matrix are laid out in panels of this width.
inline constexpr int64_t panel = 32;

// Tokens times a matrix: y [m, out] = x [m, in] W + bias, row by row. A row of y does not depend on
// the others.
struct Projection {
    const float* x;
    int64_t m, in;       // `in` is a multiple of 32
    const void* panels;  // of W, see KernelTable::pack_weights
    const float* bias;   // [out]
    int64_t out;
    float* y;
    int64_t y_stride;
    void* scratch;  // projection_bytes(m, in); float32 takes none
};

inline int64_t projection_bytes(int64_t m, int64_t in) {
    return (m + 15) / 16 * 16 * (in + panel) * 4;
}

// One step of an online softmax over all image tokens, a tile at a time: exp(logit - running
// maximum). The running maximum moves up, and earlier sums are scaled down, only when a logit
// exceeds it by far.
struct OnlineSoftmax {
    float* logits;  // [rows, tile]; float32 tables leave the weights in them
    int64_t rows;
    void* weights;       // [rows, tile] in format a; null in float32
    float* running_max;  // [rows] starts at -infinity
    float* sums;         // [rows, sum_lanes] starts at 0; a row's sum is that of all of its lanes
    float* rescale;      // [rows] factors for sums that were made with the earlier maximum
};

// The residual that is added to a tile, and the layer norm of the sum.
struct ResidualLayerNorm {
    void* sums;            // [256, tile] as a residual; the result, unless packed_a is given
    const void* residual;  // [256, tile]
    const float* scale;    // [256]
    const float* shift;    // [256]
    float epsilon;         // added to the variance
    void* packed_b;        // [256, tile] in format b; null in float32
    void* packed_a;        // [256, span * tile] in format a, or null; null in float32
    int64_t slot;          // of the tile in its span
};

// A term of a chain of products of heads: sum = (sum + a b) scale. Row `token` of a head takes
// a + head * a_head + token * a_token, and all rows of a head b + head * b_head.
struct HeadTerm {
    const float* a;  // [k] a row
    int64_t a_head, a_token;
    const float* b;  // [k, tile]
    int64_t b_head;
    int64_t k, k_head;   // of the first head, and how many fewer each further head has
    const float* scale;  // [tile], or null for 1
    int64_t ahead = 0;   // floats from b to what is needed next; prefetched; 0 for nothing
};

// The sums of some terms, one after another, added to those of `from` unless it is null.
struct HeadChain {
    const HeadTerm* terms;
    int64_t count;
    int64_t heads, tokens;
    const float* from;  // [heads * tokens, tile]
    float* to;          // likewise
};

struct KernelTable {
    const char* name;
    bool bf16;         // operands are bfloat16, else float32
    int64_t span;      // tiles whose weighted sums are made by one product
    int64_t row_step;  // rows of operands are padded to a multiple of it

    // Around the work of a thread; products need the first, see TileConfigGuard.
    void (*configure_tiles)();
    void (*release_tiles)();

    // Operands in the table's format. b may be read up to the next 16 columns. With bfloat16, m and
    // n must be multiples of 16 and k of 32.
    void (*gemm)(const Gemm&);
    // The sum of two products of one size but for k, into the c of the first.
    void (*gemm_pair)(const Gemm& first, const Gemm& second);
    // A product in float32, any sizes.
    void (*gemm_f32)(const Gemm&);

    // Panels [out / 32, in, 32] of a matrix, the last one filled up with zeros, to the form of the
    // same size in which `project` takes them. A projection is exact to 16 bits or more.
    void (*pack_weights)(const float* panels, void* to, int64_t in, int64_t out);
    void (*project)(const Projection&);

    // Image tokens [256, tile] as a residual: in float32, or in fp16 where operands are bfloat16,
    // which has three bits less.
    void (*store_residual)(const float* from, void* to);
    void (*load_residual)(const void* from, float* to);

    void (*pack_a)(const float* from, void* to, int64_t m, int64_t k);  // [m, k] to format a
    void (*pack_b)(const float* from, void* to, int64_t k, int64_t n);  // [k, n] to format b
    void (*transpose)(const float* from, int64_t rows, int64_t columns, int64_t from_stride,
                      float* to, int64_t to_stride);

    // logits [8 * tokens, tile] to a softmax over the tokens of each head: in place in float32,
    // else to `packed_b`, which has `padded` rows.
    void (*softmax_over_tokens)(float* logits, int64_t tokens, void* packed_b, int64_t padded);
    // The same in float32, in place, where a further token of each head has logits of zero and its
    // weights are left out.
    void (*softmax_beside_zero)(float* logits, int64_t tokens);
    // True if any rescale factor is not 1.
    bool (*online_softmax)(const OnlineSoftmax&);
    // x [256, rows] = x times x_scale [rows] + y times y_scale [rows]; rows are padded.
    void (*merge)(float* x, const float* y, const float* x_scale, const float* y_scale,
                  int64_t rows);
    // weights [rows, tile] in format a (in float32 plain rows) to the slot's rows of
    // [span * tile, rows] in format b.
    void (*pack_transposed)(const void* weights, int64_t rows, int64_t slot, void* packed_b);
    // A product [256, tile], whose c holds it only in float32, then residual and layer norm.
    void (*gemm_residual_layernorm)(const Gemm&, const ResidualLayerNorm&);

    // rows [64, tile] + bias -> norm -> GELU -> format b, in float32 in place.
    void (*norm_gelu)(float* rows, const float* bias, const float* scale, const float* shift,
                      void* packed_b);
    // rows [count, tile] * scale [count] + shift [count] -> GELU, in place.
    void (*scale_gelu)(float* rows, int64_t count, const float* scale, const float* shift);
    // canvas [4, 32, tile] + bias -> GELU -> times vectors [masks, 32]: out [masks, 4, tile].
    void (*gelu_dot)(const float* canvas, const float* bias, const float* vectors, int64_t masks,
                     float* out);

    void (*head_chain)(const HeadChain&);
    // to [tile] += x [k] times b [k, tile].
    void (*add_row_product)(const float* x, const float* b, int64_t k, float* to);
    // to [tile] = the sums over the rows of a [rows, tile] times b [rows, tile].
    void (*column_dots)(const float* a, const float* b, int64_t rows, float* to);
    // x [rows, tile] times by [tile], in place.
    void (*scale_columns)(float* x, int64_t rows, const float* by);
    // to [tile] = 1 / deviation, from the squares [tile] of 256 centred channels.
    void (*inverse_deviations)(const float* squares, float epsilon, float* to);

    const DenseKernels* dense;  // null with bfloat16
    const ConvKernels* conv;    // null with bfloat16
};

// Bytes from the start of an operand [.., k] in format a to a row and a column at which blocks
// start.
inline int64_t a_offset(const KernelTable& table, int64_t k, int64_t row, int64_t column) {
    return table.bf16 ? (row / 16 * (k / 32) + column / 32) * 1024 : (row * k + column) * 4;
}

// The same for [k, n] in format b.
inline int64_t b_offset(const KernelTable& table, int64_t k, int64_t n, int64_t row,
                        int64_t column) {
    return table.bf16 ? (column / 16 * (k / 2) + row / 2) * 64 : (row * n + column) * 4;
}

inline int64_t b_stride(const KernelTable& table, int64_t k, int64_t n) {
    return table.bf16 ? k : n;
}

// Tables compiled into this library that this processor can run, fastest first.
const KernelTable* const* kernel_tables();  // ends with null
// By name; null if it is not compiled in or not for this processor.
const KernelTable* find_kernel_table(const char* name);

}  // namespace fastseg::cpu::nn
