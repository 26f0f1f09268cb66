// Bfloat16 with AVX-512: products by pairs, vdpbf16ps.
#define FASTSEG_BF16
#define FASTSEG_LANES 16
#define FASTSEG_ROWS 12
#include "cpu/nn/kernels_bf16.h"

namespace fastseg::cpu::nn {
namespace {

void no_tiles() {}

// 8 rows by `vectors` times 16 columns; m is a multiple of 16, k of 32.
template <int vectors>
FASTSEG_INLINE void pairs(const Gemm& p, const Bf16* a, const uint32_t* b, float* c) {
    constexpr int rows = 8;
    __m512 sums[rows][vectors];
#pragma GCC unroll 8
    for (int row = 0; row < rows; ++row)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v)
            sums[row][v] =
                p.add ? _mm512_loadu_ps(c + row * p.c_stride + v * 16) : _mm512_setzero_ps();
    for (int64_t block = 0; block < p.k / 32; ++block, a += 512 - 32) {
        for (int64_t step = 0; step < 16; ++step, a += 2, b += 16) {
            __m512bh columns[vectors];
#pragma GCC unroll 2
            for (int v = 0; v < vectors; ++v)
                columns[v] = (__m512bh)_mm512_loadu_si512(b + v * (p.b_stride / 2) * 16);
#pragma GCC unroll 8
            for (int row = 0; row < rows; ++row) {
                int32_t both;
                std::memcpy(&both, a + row * 32, sizeof(both));
                const auto factor = (__m512bh)_mm512_set1_epi32(both);
#pragma GCC unroll 2
                for (int v = 0; v < vectors; ++v)
                    sums[row][v] = _mm512_dpbf16_ps(sums[row][v], factor, columns[v]);
            }
        }
    }
#pragma GCC unroll 8
    for (int row = 0; row < rows; ++row)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v)
            _mm512_storeu_ps(c + row * p.c_stride + v * 16, sums[row][v]);
}

void gemm(const Gemm& p) {
    for (int64_t n = 0; n < p.n; n += 32) {
        const auto* b = static_cast<const uint32_t*>(p.b) + n * (p.b_stride / 2);
        for (int64_t m = 0; m < p.m; m += 8) {
            const auto* a = static_cast<const Bf16*>(p.a) + m / 16 * p.a_stride * 16 + m % 16 * 32;
            float* c = p.c + m * p.c_stride + n;
            if (p.n - n > 16)
                pairs<2>(p, a, b, c);
            else
                pairs<1>(p, a, b, c);
        }
    }
}

void gemm_pair(const Gemm& first, const Gemm& second) {
    gemm(first);
    Gemm more = second;
    more.add = true;
    gemm(more);
}

void gemm_residual_layernorm(const Gemm& p, const ResidualLayerNorm& s) {
    alignas(64) float made[width * tile_size];
    Gemm whole = p;
    whole.c = made;
    gemm(whole);
    Moments moments[2];
    add_rows(made, width, static_cast<const Fp16*>(s.residual), static_cast<Fp16*>(s.sums),
             moments);
    layer_norm(s, moments);
}

}  // namespace

extern const KernelTable avx512_bf16_kernels = bf16_kernels(
    "avx512-bf16",
    {no_tiles, no_tiles, gemm, gemm_pair, pack_weights_f32, project_f32, gemm_residual_layernorm});

}  // namespace fastseg::cpu::nn
