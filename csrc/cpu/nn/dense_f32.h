// The dense kernels of the instruction set that the including file is compiled for.
#pragma once

#include "cpu/nn/dense_kernels.h"
#include "cpu/nn/simd.h"

namespace fastseg::cpu::nn {
namespace {

// Of a block of sums: as many as the registers hold beside a row of b and a factor.
#if FASTSEG_LANES == 16
constexpr int dense_rows = 14, dense_vectors = 2;
#elif defined(__aarch64__)
constexpr int dense_rows = 6, dense_vectors = 4;
#else
constexpr int dense_rows = 6, dense_vectors = 2;
#endif
constexpr int64_t dense_columns = dense_vectors * lanes;

// Sums of one block over k.
FASTSEG_INLINE void dense_block(const PanelGemm& p, const float* a, float* c) {
    Floats sums[dense_rows][dense_vectors];
#pragma GCC unroll 16
    for (int row = 0; row < dense_rows; ++row)
#pragma GCC unroll 4
        for (int v = 0; v < dense_vectors; ++v)
            sums[row][v] = p.add ? load(c + row * p.c_stride + v * lanes) : Floats{};
    const float* b = p.b;
    for (int64_t k = 0; k < p.k; ++k, b += dense_columns) {
        Floats columns[dense_vectors];
#pragma GCC unroll 4
        for (int v = 0; v < dense_vectors; ++v) columns[v] = load(b + v * lanes);
#pragma GCC unroll 16
        for (int row = 0; row < dense_rows; ++row) {
            const Floats factor = spread(a[row * p.a_stride + k]);
#pragma GCC unroll 4
            for (int v = 0; v < dense_vectors; ++v) sums[row][v] += factor * columns[v];
        }
    }
#pragma GCC unroll 16
    for (int row = 0; row < dense_rows; ++row)
#pragma GCC unroll 4
        for (int v = 0; v < dense_vectors; ++v)
            store(c + row * p.c_stride + v * lanes, sums[row][v]);
}

void panel_gemm(const PanelGemm& p) {
    constexpr int64_t line = 16;  // floats
    const int64_t blocks = (p.m + dense_rows - 1) / dense_rows;
    const int64_t lines = p.next ? (p.k * dense_columns / line + blocks - 1) / blocks : 0;
    const float* next = p.next;
    for (int64_t block = 0; block < blocks; ++block, next += lines * line) {
        for (int64_t l = 0; l < lines; ++l) __builtin_prefetch(next + l * line, 0, 2);
        dense_block(p, p.a + block * dense_rows * p.a_stride,
                    p.c + block * dense_rows * p.c_stride);
    }
}

// Weights of softmax are 1e-28 for smaller logits. That is less than any rounding, and its products
// are not denormal, which would take some processors a hundred times as long.
constexpr float smallest_logit = -64.0f;

// exp(x) for x that do not exceed 0; what is not a number stays so.
FASTSEG_INLINE Floats softmax_weight(Floats x) {
    return bounded_exponential(larger(spread(smallest_logit), x));
}

// The columns from n on that fit into a vector.
FASTSEG_INLINE void softmax_vector(const ColumnSoftmax& s, int64_t n) {
    const Floats scale = spread(s.scale);
    float* logits = s.logits + n;
    const bool first = s.first_key == 0;
    const Floats before = load(s.running_max + n);
    Floats top = first ? spread(-3e38f) : before;
    int64_t key = 0, row = s.first_key / s.span, column = s.first_key % s.span;
    for (; key < s.keys; ++row, column = 0) {
        const Floats along = load(s.along + row * dense_columns + n);
        for (; column < s.span && key < s.keys; ++column, ++key) {
            const Floats across = load(s.across + column * dense_columns + n);
            const Floats logit = load(logits + key * dense_columns) * scale + (along + across);
            store(logits + key * dense_columns, logit);
            top = larger(top, logit);
        }
    }
    Floats sum{};
    for (key = 0; key < s.keys; ++key) {
        const Floats weight = softmax_weight(load(logits + key * dense_columns) - top);
        store(logits + key * dense_columns, weight);
        sum += weight;
    }
    if (!first) {
        const Floats factor = softmax_weight(before - top);
        sum += load(s.sums + n) * factor;
        if (any_above(top - before, 0.0f)) {
            float* values = s.weighted_values + n;
            for (int64_t c = 0; c < s.channels; ++c, values += dense_columns)
                store(values, load(values) * factor);
        }
    }
    store(s.sums + n, sum);
    store(s.running_max + n, top);
}

void column_softmax(const ColumnSoftmax& s) {
    for (int64_t n = 0; n < dense_columns; n += lanes) softmax_vector(s, n);
}

FASTSEG_INLINE float total(Floats values) {
    float sum = values[0];
    for (int lane = 1; lane < lanes; ++lane) sum += values[lane];
    return sum;
}

void layernorm(const float* x, int64_t width, const float* scale, const float* shift, float* to,
               int64_t step) {
    constexpr float epsilon = 1e-6f;
    Floats sum{}, squares{};
    for (int64_t c = 0; c < width; c += lanes) sum += load(x + c);
    const Floats mean = spread(total(sum) / static_cast<float>(width));
    for (int64_t c = 0; c < width; c += lanes) {
        const Floats difference = load(x + c) - mean;
        squares += difference * difference;
    }
    const float variance = total(squares) / static_cast<float>(width);
    const Floats rate = inverse_root(spread(variance + epsilon));
    for (int64_t first = 0; first < width; first += k_block, to += step) {
        const int64_t count = width - first < k_block ? width - first : k_block;
        for (int64_t c = 0; c < count; c += lanes) {
            const int64_t at = first + c;
            const Floats normal = (load(x + at) - mean) * rate;
            store(to + c, normal * load(scale + at) + load(shift + at));
        }
    }
}

void bias_gelu(const float* x, const float* bias, int64_t count, float* to, int64_t step) {
    for (int64_t first = 0; first < count; first += k_block, to += step) {
        const int64_t size = count - first < k_block ? count - first : k_block;
        for (int64_t c = 0; c < size; c += lanes)
            store(to + c, gelu(load(x + first + c) + load(bias + first + c)));
    }
}

float multiply_add_chains(int64_t steps, float term) {
    constexpr int chains = dense_rows * dense_vectors;
    Floats sums[chains];
    for (int chain = 0; chain < chains; ++chain)
        sums[chain] = spread(term + static_cast<float>(chain));  // alike, they would become one
    const Floats factor = spread(term + 0.5f), added = spread(term + 0.25f);
    for (int64_t step = 0; step < steps; ++step) {
#pragma GCC unroll 32
        for (int chain = 0; chain < chains; ++chain) sums[chain] = sums[chain] * factor + added;
    }
    Floats sum{};
    for (int chain = 0; chain < chains; ++chain) sum += sums[chain];
    return total(sum);
}

constexpr DenseKernels dense_f32_kernels = {dense_rows,         dense_columns, panel_gemm,
                                            column_softmax,     layernorm,     bias_gelu,
                                            multiply_add_chains};

}  // namespace
}  // namespace fastseg::cpu::nn
