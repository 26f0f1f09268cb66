// A kernel table whose operands are bfloat16, for processors with AVX-512 BF16. The including file
// makes the products. Everything else, sums of products included, is float32.
#pragma once

#include "cpu/nn/elementwise.h"
#include "cpu/nn/float16.h"
#include "cpu/nn/gemm_f32.h"
#include "cpu/nn/head_chain.h"
#include "cpu/nn/simd.h"
#include "cpu/nn/transpose.h"

namespace fastseg::cpu::nn {
namespace {

constexpr int64_t span = 4;

// 32 floats as 32 bfloat16 in order.
FASTSEG_INLINE __m512i narrow_32(Floats low, Floats high) {
    return (__m512i)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low);
}

// low[0], high[0], low[1], high[1], ...: the order of format b.
FASTSEG_INLINE __m512i interleave(Floats low, Floats high) {
    alignas(64) static constexpr uint16_t order[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                       21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                       11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    return _mm512_permutexvar_epi16(_mm512_load_si512(order), narrow_32(low, high));
}

FASTSEG_INLINE Floats load_fp16(const Fp16* from) {
    return (Floats)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)from));
}

FASTSEG_INLINE void store_fp16(Fp16* to, Floats values) {
    _mm256_storeu_si256((__m256i*)to, _mm512_cvtps_ph((__m512)values, _MM_FROUND_TO_NEAREST_INT |
                                                                          _MM_FROUND_NO_EXC));
}

void store_residual(const float* from, void* to) {
    for (int64_t at = 0; at < width * tile_size; at += 16)
        store_fp16(static_cast<Fp16*>(to) + at, load(from + at));
}

void load_residual(const void* from, float* to) {
    for (int64_t at = 0; at < width * tile_size; at += 16)
        store(to + at, load_fp16(static_cast<const Fp16*>(from) + at));
}

void pack_a(const float* from, void* to, int64_t m, int64_t k) {
    auto* out = static_cast<Bf16*>(to);
    for (int64_t row = 0; row < m; ++row)
        for (int64_t column = 0; column < k; column += 32) {
            const float* at = from + row * k + column;
            Bf16* block = out + (row / 16 * (k / 32) + column / 32) * 512;
            _mm512_storeu_si512(block + row % 16 * 32, narrow_32(load(at), load(at + 16)));
        }
}

void pack_b(const float* from, void* to, int64_t k, int64_t n) {
    auto* out = static_cast<uint32_t*>(to);
    for (int64_t row = 0; row < k; row += 2)
        for (int64_t column = 0; column < n; column += 16) {
            const float* at = from + row * n + column;
            _mm512_storeu_si512(out + (column / 16 * (k / 2) + row / 2) * 16,
                                interleave(load(at), load(at + n)));
        }
}

void softmax_over_tokens(float* logits, int64_t tokens, void* to, int64_t padded) {
    softmax_of_heads<false>(logits, tokens);
    std::memset(logits + heads * tokens * tile_size, 0,
                static_cast<size_t>(padded - heads * tokens) * tile_size * sizeof(float));
    pack_b(logits, to, padded, tile_size);
}

bool online_softmax(const OnlineSoftmax& w) {
    auto* out = static_cast<Bf16*>(w.weights);  // one block of format a a row of blocks
    return online_softmax_rows(w, [&](int64_t row, const Floats* weights) {
        _mm512_storeu_si512(out + row * tile_size, narrow_32(weights[0], weights[1]));
    });
}

// Two weights of neighbouring image tokens are one value of 32 bits, and stay together.
void pack_transposed(const void* weights, int64_t rows, int64_t slot, void* to) {
    for (int64_t row = 0; row < rows; row += 16)
        transpose_block(static_cast<const float*>(weights) + row * 16, 16,
                        static_cast<float*>(to) + (row / 16 * span + slot) * 256, 16);
}

// Add rows of a product and the residual, and collect the moments of the sums.
FASTSEG_INLINE void add_rows(const float* made, int64_t rows, const Fp16* residual, Fp16* sums,
                             Moments (&moments)[2]) {
    Moments here[2] = {moments[0], moments[1]};  // copies that stay in registers
    for (int64_t at = 0; at < rows * tile_size; at += tile_size)
        for (int v = 0; v < 2; ++v) {
            const Floats value = load(made + at + v * 16) + load_fp16(residual + at + v * 16);
            store_fp16(sums + at + v * 16, value);
            here[v].add(value);
        }
    moments[0] = here[0];
    moments[1] = here[1];
}

// The layer norm that follows.
template <bool for_attention>
FASTSEG_INLINE void normalise_sums(const ResidualLayerNorm& s, const Statistics (&found)[2]) {
    constexpr int64_t pairs = width / 2;
    auto* sums = static_cast<Fp16*>(s.sums);
    const float *scales = s.scale, *shifts = s.shift;
    auto* b = static_cast<uint32_t*>(s.packed_b);
    auto* a = static_cast<Bf16*>(s.packed_a) + s.slot * 512;
    const Floats rate[2] = {found[0].scale, found[1].scale};
    const Floats offset[2] = {-found[0].mean * found[0].scale, -found[1].mean * found[1].scale};
    for (int64_t block = 0; block < width; block += 16, a += span * 512)
        for (int64_t c = 0; c < 16; c += 2) {
            Floats normal[2][2];
            for (int row = 0; row < 2; ++row) {
                const Floats scale = spread(scales[row]), shift = spread(shifts[row]);
                Fp16* at = sums + row * tile_size;
                for (int v = 0; v < 2; ++v) {
                    normal[row][v] = (load_fp16(at + v * 16) * rate[v] + offset[v]) * scale + shift;
                    if constexpr (!for_attention) store_fp16(at + v * 16, normal[row][v]);
                }
                if constexpr (for_attention)
                    _mm512_storeu_si512(a + (c + row) * 32,
                                        narrow_32(normal[row][0], normal[row][1]));
            }
            _mm512_storeu_si512(b, interleave(normal[0][0], normal[1][0]));
            _mm512_storeu_si512(b + pairs * 16, interleave(normal[0][1], normal[1][1]));
            sums += 2 * tile_size;
            scales += 2;
            shifts += 2;
            b += 16;
        }
}

FASTSEG_INLINE void layer_norm(const ResidualLayerNorm& s, const Moments (&moments)[2]) {
    const Statistics found[2] = {moments[0].statistics(width, s.epsilon),
                                 moments[1].statistics(width, s.epsilon)};
    if (s.packed_a)
        normalise_sums<true>(s, found);
    else
        normalise_sums<false>(s, found);
}

void norm_gelu(float* rows, const float* bias, const float* scale, const float* shift, void* to) {
    constexpr int64_t count = width / 4;
    auto* b = static_cast<uint32_t*>(to);
    Floats rate[2], offset[2];
    for (int v = 0; v < 2; ++v) {
        Moments moments;
        for (int64_t c = 0; c < count; ++c)
            moments.add(load(rows + c * tile_size + v * 16) + spread(bias[c]));
        const Statistics found = moments.statistics(count, head_epsilon);
        rate[v] = found.scale;
        offset[v] = -found.mean * found.scale;
    }
    for (int64_t c = 0; c < count; c += 2)
        for (int v = 0; v < 2; ++v) {
            Floats values[2];
            for (int row = 0; row < 2; ++row) {
                const Floats raw =
                    load(rows + (c + row) * tile_size + v * 16) + spread(bias[c + row]);
                const Floats normal = raw * rate[v] + offset[v];
                values[row] = gelu(normal * spread(scale[c + row]) + spread(shift[c + row]));
            }
            _mm512_storeu_si512(b + (v * (count / 2) + c / 2) * 16,
                                interleave(values[0], values[1]));
        }
}

// The kernels that depend on how products are made.
struct GemmKernels {
    void (*configure_tiles)();
    void (*release_tiles)();
    void (*gemm)(const Gemm&);
    void (*gemm_pair)(const Gemm&, const Gemm&);
    void (*pack_weights)(const float*, void*, int64_t, int64_t);
    void (*project)(const Projection&);
    void (*gemm_residual_layernorm)(const Gemm&, const ResidualLayerNorm&);
};

constexpr KernelTable bf16_kernels(const char* name, const GemmKernels& p) {
    return {name,
            true,
            span,
            32,
            p.configure_tiles,
            p.release_tiles,
            p.gemm,
            p.gemm_pair,
            gemm_f32,
            p.pack_weights,
            p.project,
            store_residual,
            load_residual,
            pack_a,
            pack_b,
            transpose,
            softmax_over_tokens,
            softmax_beside_zero,
            online_softmax,
            merge,
            pack_transposed,
            p.gemm_residual_layernorm,
            norm_gelu,
            scale_gelu,
            gelu_dot,
            head_chain,
            add_row_product,
            column_dots,
            scale_columns,
            inverse_deviations,
            nullptr,
            nullptr};
}

}  // namespace
}  // namespace fastseg::cpu::nn
