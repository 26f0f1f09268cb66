// A kernel table whose operands are float32, for the instruction set that the including file is
// compiled for.
#pragma once

#include "cpu/nn/conv_f32.h"
#include "cpu/nn/dense_f32.h"
#include "cpu/nn/elementwise.h"
#include "cpu/nn/gemm_f32.h"
#include "cpu/nn/head_chain.h"
#include "cpu/nn/simd.h"
#include "cpu/nn/transpose.h"

namespace fastseg::cpu::nn {
namespace {

void no_tiles() {}

void copy(const float* from, void* to, int64_t rows, int64_t columns) {
    std::memcpy(to, from, static_cast<size_t>(rows * columns) * sizeof(float));
}

void store_residual(const float* from, void* to) {
    std::memcpy(to, from, width * tile_size * sizeof(float));
}

void load_residual(const void* from, float* to) {
    std::memcpy(to, from, width * tile_size * sizeof(float));
}

void softmax_over_tokens(float* logits, int64_t tokens, void*, int64_t) {
    softmax_of_heads<false>(logits, tokens);
}

bool online_softmax(const OnlineSoftmax& w) {
    return online_softmax_rows(w, [&](int64_t row, const Floats* weights) {
        for (int v = 0; v < tile_size / lanes; ++v)
            store(w.logits + row * tile_size + v * lanes, weights[v]);
    });
}

void pack_transposed(const void* weights, int64_t rows, int64_t, void* packed_b) {
    transpose(static_cast<const float*>(weights), rows, tile_size, tile_size,
              static_cast<float*>(packed_b), rows);
}

void gemm_residual_layernorm(const Gemm& p, const ResidualLayerNorm& s) {
    gemm_f32(p);
    auto* sums = static_cast<float*>(s.sums);
    const auto* residual = static_cast<const float*>(s.residual);
    constexpr int vectors = 2;
    for (int64_t n = 0; n < tile_size; n += vectors * lanes) {
        Statistics statistics[vectors];
        add_and_measure<vectors>(sums, residual, n, s.epsilon, statistics);
        for (int64_t c = 0; c < width; ++c) {
            for (int v = 0; v < vectors; ++v) {
                float* at = sums + c * tile_size + n + v * lanes;
                const Floats normal = (load(at) - statistics[v].mean) * statistics[v].scale;
                store(at, normal * spread(s.scale[c]) + spread(s.shift[c]));
            }
        }
    }
}

// One sub-pixel's channels: bias added, normalised over them, GELU; in place.
void norm_gelu(float* rows, const float* bias, const float* scale, const float* shift, void*) {
    constexpr int64_t count = width / 4;
    for (int64_t n = 0; n < tile_size; n += lanes) {
        Floats sum{}, squares{};
        for (int64_t c = 0; c < count; ++c) sum += load(rows + c * tile_size + n) + spread(bias[c]);
        const Floats mean = sum * spread(1.0f / count);
        for (int64_t c = 0; c < count; ++c) {
            const Floats value = load(rows + c * tile_size + n) + spread(bias[c]) - mean;
            store(rows + c * tile_size + n, value);
            squares += value * value;
        }
        const Floats rate = inverse_root(squares * spread(1.0f / count) + spread(head_epsilon));
        for (int64_t c = 0; c < count; ++c) {
            const Floats normal = load(rows + c * tile_size + n) * rate;
            store(rows + c * tile_size + n, gelu(normal * spread(scale[c]) + spread(shift[c])));
        }
    }
}

void gemm_pair(const Gemm& first, const Gemm& second) {
    gemm_f32(first);
    Gemm more = second;
    more.add = true;
    gemm_f32(more);
}

constexpr KernelTable f32_kernels(const char* name) {
    return {name,
            false,
            1,
            lanes,
            no_tiles,
            no_tiles,
            gemm_f32,
            gemm_pair,
            gemm_f32,
            pack_weights_f32,
            project_f32,
            store_residual,
            load_residual,
            copy,
            copy,
            transpose,
            softmax_over_tokens,
            softmax_beside_zero,
            online_softmax,
            merge,
            pack_transposed,
            gemm_residual_layernorm,
            norm_gelu,
            scale_gelu,
            gelu_dot,
            head_chain,
            add_row_product,
            column_dots,
            scale_columns,
            inverse_deviations,
            &dense_f32_kernels,
            &conv_f32_kernels};
}

}  // namespace
}  // namespace fastseg::cpu::nn
