// Chains of small products, head by head, see KernelTable::head_chain: a block of sums stays in
// registers from the first term to the last.
#pragma once

#include "cpu/nn/simd.h"

namespace fastseg::cpu::nn {
namespace {

template <int rows, int vectors>
void chain_block(const HeadTerm* terms, int64_t count, int64_t head, int64_t token, int64_t n,
                 float* to) {
    Floats sums[rows][vectors] = {};
    for (const HeadTerm* term = terms; term < terms + count; ++term) {
        const float* a = term->a + head * term->a_head + token * term->a_token;
        const float* b = term->b + head * term->b_head + n;
        for (int64_t k = 0; k < term->k; ++k, b += tile_size) {
            // The fewer of both wait in registers for the others.
            if constexpr (rows < vectors) {
                Floats factors[rows];
#pragma GCC unroll 16
                for (int row = 0; row < rows; ++row)
                    factors[row] = spread(a[row * term->a_token + k]);
#pragma GCC unroll 8
                for (int v = 0; v < vectors; ++v) {
                    const Floats column = load(b + v * lanes);
#pragma GCC unroll 16
                    for (int row = 0; row < rows; ++row) sums[row][v] += factors[row] * column;
                }
            } else {
                Floats columns[vectors];
#pragma GCC unroll 8
                for (int v = 0; v < vectors; ++v) columns[v] = load(b + v * lanes);
#pragma GCC unroll 16
                for (int row = 0; row < rows; ++row) {
                    const Floats factor = spread(a[row * term->a_token + k]);
#pragma GCC unroll 8
                    for (int v = 0; v < vectors; ++v) sums[row][v] += factor * columns[v];
                }
            }
        }
        if (!term->scale) continue;
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) {
            const Floats scale = load(term->scale + n + v * lanes);
#pragma GCC unroll 16
            for (int row = 0; row < rows; ++row) sums[row][v] *= scale;
        }
    }
#pragma GCC unroll 16
    for (int row = 0; row < rows; ++row)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v)
            store(to + (token + row) * tile_size + n + v * lanes, sums[row][v]);
}

// Rows of a block, of `left` ones, that have their sums in the registers. Four rows have eight sums
// on AVX2, which is as many as it needs to be busy, so that other numbers are preferred.
inline int64_t rows_at_once(int64_t left) {
#if FASTSEG_LANES == 16
    const int64_t blocks = (left + 7) / 8;
    return (left + blocks - 1) / blocks;
#else
    if (left <= 5) return left;
    return left == 7 || left == 8 || left == 10 ? 5 : 3;
#endif
}

template <int rows>
void chain_rows(int64_t count_of_rows, const HeadTerm* terms, int64_t count, int64_t head,
                int64_t token, float* to) {
    constexpr int whole = tile_size / lanes;
    constexpr int vectors = FASTSEG_LANES == 16 || rows <= 3 ? whole : whole / 2;
    if (count_of_rows == rows) {
        for (int64_t n = 0; n < tile_size; n += vectors * lanes)
            chain_block<rows, vectors>(terms, count, head, token, n, to);
        return;
    }
    if constexpr (rows > 1) chain_rows<rows - 1>(count_of_rows, terms, count, head, token, to);
}

void head_chain(const HeadTerm* terms, int64_t count, int64_t tokens, float* to) {
    for (int64_t head = 0; head < heads; ++head, to += tokens * tile_size)
        for (int64_t token = 0; token < tokens;) {
            const int64_t rows = rows_at_once(tokens - token);
            chain_rows<FASTSEG_LANES == 16 ? 8 : 5>(rows, terms, count, head, token, to);
            token += rows;
        }
}

}  // namespace
}  // namespace fastseg::cpu::nn
