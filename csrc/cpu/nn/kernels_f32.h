// A table whose operands are float32, for the instructions that the including file is compiled for.
#pragma once

#include "cpu/nn/elementwise.h"
#include "cpu/nn/gemm_f32.h"
#include "cpu/nn/simd.h"
#include "cpu/nn/transpose.h"

namespace fastseg::cpu::nn {
namespace {

void nothing() {}

void copy(const float* from, void* to, int64_t rows, int64_t columns) {
    std::memcpy(to, from, static_cast<size_t>(rows * columns) * sizeof(float));
}

void keep(const float* from, void* to) {
    std::memcpy(to, from, width * tile_size * sizeof(float));
}

void recall(const void* from, float* to) {
    std::memcpy(to, from, width * tile_size * sizeof(float));
}

void soften(float* maps, int64_t tokens, void*, int64_t) {
    soften_floats(maps, tokens);
}

bool weigh(const Weighing& w) {
    return weigh_rows(w, [&](int64_t row, const Floats* weights) {
        for (int v = 0; v < tile_size / lanes; ++v)
            store(w.maps + row * tile_size + v * lanes, weights[v]);
    });
}

void turn(const void* weights, int64_t rows, int64_t, void* as_b) {
    transpose(static_cast<const float*>(weights), rows, tile_size, tile_size,
              static_cast<float*>(as_b), rows);
}

void receive(const Product& p, const Settling& s) {
    product32(p);
    auto* sums = static_cast<float*>(s.sums);
    const auto* residual = static_cast<const float*>(s.residual);
    constexpr int vectors = 2;
    for (int64_t n = 0; n < tile_size; n += vectors * lanes) {
        Statistics found[vectors];
        add_and_measure<vectors>(sums, residual, n, found);
        for (int64_t c = 0; c < width; ++c) {
            for (int v = 0; v < vectors; ++v) {
                float* at = sums + c * tile_size + n + v * lanes;
                const Floats normal = (load(at) - found[v].mean) * found[v].scale;
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

void products(const Product& first, const Product& second) {
    product32(first);
    Product more = second;
    more.add = true;
    product32(more);
}

constexpr Table float_table(const char* name) {
    return {name,      false, 1,         16,   nothing, nothing,   product32, products,
            product32, lay32, project32, keep, recall,  copy,      copy,      transpose,
            soften,    weigh, blend,     turn, receive, norm_gelu, gelu_dot};
}

}  // namespace
}  // namespace fastseg::cpu::nn
