// Chains of small products, head by head, see KernelTable::head_chain: a block of sums stays in
// registers from the first term to the last.
#pragma once

#include "cpu/nn/simd.h"

namespace fastseg::cpu::nn {
namespace {

template <int rows, int vectors>
void chain_block(const HeadChain& chain, int64_t head, int64_t token, int64_t n) {
    const int64_t first = (head * chain.tokens + token) * tile_size + n;
    const float* const from = chain.from;
    float* const to = chain.to + first;
    const HeadTerm *term = chain.terms, *const end = term + chain.count;
    Floats sums[rows][vectors];
#pragma GCC unroll 16
    for (int row = 0; row < rows; ++row)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v)
            sums[row][v] = from ? load(from + first + row * tile_size + v * lanes) : Floats{};
    do {
        const float* a = term->a + head * term->a_head + token * term->a_token;
        const float* b = term->b + head * term->b_head + n;
        const int64_t stride = term->a_token, count = term->k - head * term->k_head;
        const int64_t ahead = term->ahead;
        for (int64_t k = 0; k < count; ++k, b += tile_size) {
            __builtin_prefetch(b + ahead, 0, 2);
            // The fewer of both wait in registers for the others.
            if constexpr (rows < vectors) {
                Floats factors[rows];
#pragma GCC unroll 16
                for (int row = 0; row < rows; ++row) factors[row] = spread(a[row * stride + k]);
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
                    const Floats factor = spread(a[row * stride + k]);
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
    } while (++term != end);
#pragma GCC unroll 16
    for (int row = 0; row < rows; ++row)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) store(to + row * tile_size + v * lanes, sums[row][v]);
}

constexpr int most_rows_of_chain = FASTSEG_LANES == 16 ? 8 : 6;

// Rows of a block, of `left` ones, that have their sums in the registers. Four rows have eight sums
// on AVX2, which is as many as it needs to be busy, so that other numbers are preferred.
inline int64_t rows_at_once(int64_t left) {
    if (left <= most_rows_of_chain) return left;
#if FASTSEG_LANES == 16
    const int64_t blocks = (left + 7) / 8;
    return (left + blocks - 1) / blocks;
#else
    return left == 7 || left == 8 || left == 10 ? 5 : 6;
#endif
}

template <int rows>
void chain_rows(int64_t count_of_rows, const HeadChain& p, int64_t head, int64_t token) {
    constexpr int whole = tile_size / lanes;
    constexpr int vectors = FASTSEG_LANES == 16 || rows <= 3 ? whole : whole / 2;
    if (count_of_rows == rows) {
        for (int64_t n = 0; n < tile_size; n += vectors * lanes)
            chain_block<rows, vectors>(p, head, token, n);
        return;
    }
    if constexpr (rows > 1) chain_rows<rows - 1>(count_of_rows, p, head, token);
}

void head_chain(const HeadChain& p) {
    for (int64_t head = 0; head < p.heads; ++head)
        for (int64_t token = 0; token < p.tokens;) {
            const int64_t rows = rows_at_once(p.tokens - token);
            chain_rows<most_rows_of_chain>(rows, p, head, token);
            token += rows;
        }
}

// See KernelTable::add_row_product. Even and odd k have sums of their own, so that no sum waits for
// itself.
void add_row_product(const float* x, const float* b, int64_t k, float* to) {
    constexpr int vectors = tile_size / lanes;
    Floats sums[2][vectors] = {};
    for (; k >= 2; k -= 2, x += 2, b += 2 * tile_size)
#pragma GCC unroll 2
        for (int odd = 0; odd < 2; ++odd)
#pragma GCC unroll 8
            for (int v = 0; v < vectors; ++v)
                sums[odd][v] += spread(x[odd]) * load(b + odd * tile_size + v * lanes);
    for (int v = 0; v < vectors; ++v) {
        if (k) sums[0][v] += spread(x[0]) * load(b + v * lanes);
        store(to + v * lanes, load(to + v * lanes) + (sums[0][v] + sums[1][v]));
    }
}

}  // namespace
}  // namespace fastseg::cpu::nn
