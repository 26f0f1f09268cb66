// A table whose operands are float32, for the instructions that the including file is compiled for.
#pragma once

#include "cpu/decoder/passes.h"
#include "cpu/decoder/product32.h"
#include "cpu/decoder/transpose.h"
#include "cpu/decoder/vectors.h"

namespace fastseg::cpu::decoder {
namespace {

void nothing() {}

void copy(const float* from, void* to, int64_t rows, int64_t columns) {
    std::memcpy(to, from, static_cast<size_t>(rows * columns) * sizeof(float));
}

void soften(float* maps, int64_t tokens, void*, int64_t) {
    soften_floats(maps, tokens);
}

bool weigh(const Weighing& w) {
    return weigh_floats(w);
}

void turn(const void* weights, int64_t rows, int64_t, void* as_b) {
    transpose(static_cast<const float*>(weights), rows, tile_size, tile_size,
              static_cast<float*>(as_b), rows);
}

void settle(const Settling& s) {
    constexpr int vectors = 2;
    for (int64_t n = 0; n < tile_size; n += vectors * lanes) {
        Statistics found[vectors];
        add_and_measure<vectors>(s.sums, s.residual, n, found);
        for (int64_t c = 0; c < width; ++c) {
            for (int v = 0; v < vectors; ++v) {
                float* at = s.sums + c * tile_size + n + v * lanes;
                const Floats normal = (load(at) - found[v].mean) * found[v].scale;
                store(at, normal * spread(s.scale[c]) + spread(s.shift[c]));
            }
        }
    }
}

void norm_gelu(float* half, const float* bias, const float* scale, const float* shift, void*) {
    norm_gelu_floats(half, bias, scale, shift);
}

constexpr Table float_table(const char* name) {
    return {name, false,     1,      16,    nothing, nothing, product32, product32, copy,
            copy, transpose, soften, weigh, turn,    settle,  norm_gelu, gelu_dot};
}

}  // namespace
}  // namespace fastseg::cpu::decoder
