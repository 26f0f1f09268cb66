// Matrix products in float32: blocks of FASTSEG_ROWS rows by two vectors of columns, or of twice
// as many rows by one, the sums in registers over the whole of k. Every sum runs over k in order,
// so that no result depends on the size of the block that it was computed in.
#pragma once

#include "cpu/nn/simd.h"

namespace fastseg::cpu::nn {
namespace {

FASTSEG_INLINE Floats load_some(const float* from, int64_t count) {
    Floats value{};
    std::memcpy(&value, from, static_cast<size_t>(count) * sizeof(float));
    return value;
}

FASTSEG_INLINE void store_some(float* to, Floats value, int64_t count) {
    std::memcpy(to, &value, static_cast<size_t>(count) * sizeof(float));
}

// `last` is how many columns of the last vector count.
template <int rows, int vectors>
void block(const Gemm& p, const float* a, const float* b, float* c, int64_t last) {
    Floats sums[rows][vectors];
    const bool whole = last == lanes;
#pragma GCC unroll 32
    for (int row = 0; row < rows; ++row) {
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v) {
            float* at = c + row * p.c_stride + v * lanes;
            if (!p.add)
                sums[row][v] = Floats{};
            else if (whole || v + 1 < vectors)
                sums[row][v] = load(at);
            else
                sums[row][v] = load_some(at, last);
        }
    }
    for (int64_t k = 0; k < p.k; ++k) {
        Floats columns[vectors];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v) columns[v] = load(b + k * p.b_stride + v * lanes);
#pragma GCC unroll 32
        for (int row = 0; row < rows; ++row) {
            const Floats factor = spread(a[row * p.a_stride + k]);
#pragma GCC unroll 2
            for (int v = 0; v < vectors; ++v) sums[row][v] += factor * columns[v];
        }
    }
#pragma GCC unroll 32
    for (int row = 0; row < rows; ++row) {
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v) {
            float* at = c + row * p.c_stride + v * lanes;
            if (whole || v + 1 < vectors)
                store(at, sums[row][v]);
            else
                store_some(at, sums[row][v], last);
        }
    }
}

template <int rows, int vectors>
void any_rows(int64_t count, const Gemm& p, const float* a, const float* b, float* c,
              int64_t last) {
    if (count == rows) return block<rows, vectors>(p, a, b, c, last);
    if constexpr (rows > 1) any_rows<rows - 1, vectors>(count, p, a, b, c, last);
}

// One column of blocks, of nearly the same number of rows each: a block of one or two rows waits
// for its own sums.
template <int most, int vectors>
FASTSEG_INLINE void column_of_blocks(const Gemm& p, int64_t n, int64_t last) {
    const auto* a = static_cast<const float*>(p.a);
    const auto* b = static_cast<const float*>(p.b);
    int64_t blocks = (p.m + most - 1) / most;
    for (int64_t m = 0; m < p.m; --blocks) {
        const int64_t rows = (p.m - m + blocks - 1) / blocks;
        any_rows<most, vectors>(rows, p, a + m * p.a_stride, b + n, p.c + m * p.c_stride + n, last);
        m += rows;
    }
}

void gemm_f32(const Gemm& p) {
    for (int64_t n = 0; n < p.n; n += 2 * lanes) {
        const int64_t columns = p.n - n < 2 * lanes ? p.n - n : 2 * lanes;
        const int64_t last = (columns - 1) % lanes + 1;
        if (columns > lanes)
            column_of_blocks<FASTSEG_ROWS, 2>(p, n, last);
        else  // twice as many rows have as many sums
            column_of_blocks<2 * FASTSEG_ROWS, 1>(p, n, last);
    }
}

// Panels of as many columns as a block has, so that a product of few rows reads weights, which are
// in no cache, from the first to the last.
constexpr int64_t block_columns = 2 * lanes;
static_assert(panel % block_columns == 0);

[[maybe_unused]] void pack_weights_f32(const float* panels, void* to, int64_t in, int64_t out) {
    auto* packed = static_cast<float*>(to);
    for (int64_t first = 0; first < out; first += panel, panels += in * panel)
        for (int64_t column = 0; column < panel; column += block_columns)
            for (int64_t k = 0; k < in; ++k, packed += block_columns)
                std::memcpy(packed, panels + k * panel + column, block_columns * sizeof(float));
}

[[maybe_unused]] void project_f32(const Projection& p) {
    for (int64_t row = 0; row < p.m; ++row)
        std::memcpy(p.y + row * p.y_stride, p.bias, static_cast<size_t>(p.out) * sizeof(float));
    for (int64_t column = 0; column < p.out; column += block_columns) {
        const int64_t columns = p.out - column < block_columns ? p.out - column : block_columns;
        gemm_f32({p.x, p.in, static_cast<const float*>(p.panels) + column * p.in, block_columns,
                  p.y + column, p.y_stride, p.m, columns, p.in, true});
    }
}

}  // namespace
}  // namespace fastseg::cpu::nn
