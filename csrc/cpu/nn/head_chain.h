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

template <int rows, int vectors>
void chain_rows(const HeadTerm* terms, int64_t count, int64_t head, int64_t token, float* to) {
    for (int64_t n = 0; n < tile_size; n += vectors * lanes)
        chain_block<rows, vectors>(terms, count, head, token, n, to);
}

// As many rows of the `left` ones as have their sums in the registers; returns how many. Four rows
// have eight sums on AVX2, which is as many as it needs to be busy, so that other numbers are
// preferred.
int64_t next_chain_rows(const HeadTerm* terms, int64_t count, int64_t head, int64_t token,
                        int64_t left, float* to) {
    constexpr int whole = tile_size / lanes;
    const auto run = [&](auto function, int64_t rows) {
        function(terms, count, head, token, to);
        return rows;
    };
#if FASTSEG_LANES == 16
    switch (left) {
        case 1:
            return run(chain_rows<1, whole>, 1);
        case 2:
            return run(chain_rows<2, whole>, 2);
        case 3:
            return run(chain_rows<3, whole>, 3);
        case 4:
            return run(chain_rows<4, whole>, 4);
        case 5:
        case 9:
        case 10:
            return run(chain_rows<5, whole>, 5);
        case 6:
        case 11:
        case 12:
            return run(chain_rows<6, whole>, 6);
        case 7:
        case 13:
        case 14:
            return run(chain_rows<7, whole>, 7);
        default:
            return run(chain_rows<8, whole>, 8);
    }
#else
    constexpr int half = whole / 2;
    switch (left) {
        case 1:
            return run(chain_rows<1, whole>, 1);
        case 2:
            return run(chain_rows<2, whole>, 2);
        case 4:
            return run(chain_rows<4, half>, 4);
        case 5:
        case 7:
        case 8:
        case 10:
            return run(chain_rows<5, half>, 5);
        default:
            return run(chain_rows<3, whole>, 3);
    }
#endif
}

void head_chain(const HeadTerm* terms, int64_t count, int64_t tokens, float* to) {
    for (int64_t head = 0; head < heads; ++head, to += tokens * tile_size)
        for (int64_t token = 0; token < tokens;)
            token += next_chain_rows(terms, count, head, token, tokens - token, to);
}

}  // namespace
}  // namespace fastseg::cpu::nn
