// Bfloat16 with AMX: products in tile registers of 16 rows of 64 bytes.
#define FASTSEG_BF16
#define FASTSEG_LANES 16
#define FASTSEG_ROWS 12
#include <cstddef>

#include "cpu/nn/kernels_bf16.h"

namespace fastseg::cpu::nn {
namespace {

struct alignas(64) TileConfig {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t bytes_a_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// In memory of its own: GCC 12 does not see that the instruction reads more than a pointer.
constexpr TileConfig tile_config;

void configure_tiles() {
    _tile_loadconfig(&tile_config);
}

void release_tiles() {
    _tile_release();
}

// Add a block of up to 32 x 32 sums of products to tile registers 0 to 3; a in 4 and 5, b in 6
// and 7.
template <bool two_rows, bool two_columns>
FASTSEG_INLINE void multiply(const Gemm& p, int64_t m, int64_t n) {
    const int64_t a_next = p.a_stride / 32 * 1024, b_next = p.b_stride / 32 * 1024;
    const auto* a = static_cast<const std::byte*>(p.a) + m / 16 * a_next;
    const auto* b = static_cast<const std::byte*>(p.b) + n / 16 * b_next;
    for (const std::byte* end = a + p.k / 32 * 1024; a < end; a += 1024, b += 1024) {
        _tile_loadd(4, a, 64);
        _tile_loadd(6, b, 64);
        _tile_dpbf16ps(0, 4, 6);
        if constexpr (two_columns) {
            _tile_loadd(7, b + b_next, 64);
            _tile_dpbf16ps(1, 4, 7);
        }
        if constexpr (two_rows) {
            _tile_loadd(5, a + a_next, 64);
            _tile_dpbf16ps(2, 5, 6);
            if constexpr (two_columns) _tile_dpbf16ps(3, 5, 7);
        }
    }
}

// The same block of c = a b, or of the sum of that of `more` products that follow the first.
template <bool two_rows, bool two_columns>
FASTSEG_INLINE void tiles(const Gemm& p, int more, int64_t m, int64_t n, float* c) {
    const size_t c_bytes = static_cast<size_t>(p.c_stride) * 4;
    float* below = c + 16 * p.c_stride;
    if (p.add) {
        _tile_loadd(0, c, c_bytes);
        if constexpr (two_columns) _tile_loadd(1, c + 16, c_bytes);
        if constexpr (two_rows) _tile_loadd(2, below, c_bytes);
        if constexpr (two_rows && two_columns) _tile_loadd(3, below + 16, c_bytes);
    } else {
        _tile_zero(0);
        if constexpr (two_columns) _tile_zero(1);
        if constexpr (two_rows) _tile_zero(2);
        if constexpr (two_rows && two_columns) _tile_zero(3);
    }
    multiply<two_rows, two_columns>(p, m, n);
    for (const Gemm* next = &p + 1; next <= &p + more; ++next)
        multiply<two_rows, two_columns>(*next, m, n);
    _tile_stored(0, c, c_bytes);
    if constexpr (two_columns) _tile_stored(1, c + 16, c_bytes);
    if constexpr (two_rows) _tile_stored(2, below, c_bytes);
    if constexpr (two_rows && two_columns) _tile_stored(3, below + 16, c_bytes);
}

FASTSEG_INLINE void all_tiles(const Gemm& p, int more) {
    for (int64_t m = 0; m < p.m; m += 32) {
        const bool two_rows = p.m - m > 16;
        for (int64_t n = 0; n < p.n; n += 32) {
            const bool two_columns = p.n - n > 16;
            float* c = p.c + m * p.c_stride + n;
            if (two_rows && two_columns)
                tiles<true, true>(p, more, m, n, c);
            else if (two_rows)
                tiles<true, false>(p, more, m, n, c);
            else if (two_columns)
                tiles<false, true>(p, more, m, n, c);
            else
                tiles<false, false>(p, more, m, n, c);
        }
    }
}

void gemm(const Gemm& p) {
    all_tiles(p, 0);
}

void gemm_pair(const Gemm& first, const Gemm& second) {
    const Gemm both[] = {first, second};
    all_tiles(both[0], 1);
}

// Values minus their rounding to bfloat16.
FASTSEG_INLINE Floats rounding_error(Floats value) {
    const auto rounded = (__m256i)_mm512_cvtneps_pbh((__m512)value);
    return value - (Floats)_mm512_slli_epi32(_mm512_cvtepu16_epi32(rounded), 16);
}

// Each panel becomes [in, 32] in format b, rounded, and another one of the rounding errors.
void pack_weights(const float* from, void* to, int64_t in, int64_t out) {
    auto* at = static_cast<uint32_t*>(to);
    for (int64_t column = 0; column < out; column += panel, at += in * panel)
        for (int64_t row = 0; row < in; row += 2, from += 2 * panel)
            for (int64_t c = 0; c < panel; c += 16) {
                const Floats low = load(from + c), high = load(from + panel + c);
                uint32_t* pairs = at + c / 16 * (in / 2 * 16) + row / 2 * 16;
                _mm512_storeu_si512(pairs, interleave(low, high));
                _mm512_storeu_si512(pairs + in / 2 * panel,
                                    interleave(rounding_error(low), rounding_error(high)));
            }
}

// Products of the rounded operands, and of each with the rounding error of the other; the product
// of both errors is 2^-18 of that and left out.
void project(const Projection& p) {
    const int64_t rows = (p.m + 15) / 16 * 16;
    auto* rounded_x = static_cast<Bf16*>(p.scratch);
    Bf16* errors = rounded_x + rows * p.in;
    auto* sums = reinterpret_cast<float*>(errors + rows * p.in);
    for (int64_t row = 0; row < p.m; ++row)
        for (int64_t c = 0; c < p.in; c += 32) {
            const Floats low = load(p.x + row * p.in + c), high = load(p.x + row * p.in + c + 16);
            const int64_t at = (row / 16 * (p.in / 32) + c / 32) * 512 + row % 16 * 32;
            _mm512_storeu_si512(rounded_x + at, narrow_32(low, high));
            _mm512_storeu_si512(errors + at, narrow_32(rounding_error(low), rounding_error(high)));
        }
    for (int64_t column = 0; column < p.out; column += panel) {
        const auto* matrix = static_cast<const Bf16*>(p.panels) + 2 * column * p.in;
        const Gemm rounded{rounded_x, p.in, matrix, p.in, sums, panel, rows, panel, p.in, false};
        Gemm parts[] = {rounded, rounded, rounded};
        parts[1].b = matrix + p.in * panel;
        parts[2].a = errors;
        all_tiles(parts[0], 2);
        const int64_t columns = p.out - column < panel ? p.out - column : panel;
        for (int64_t row = 0; row < p.m; ++row)
            for (int64_t c = 0; c < columns; ++c)
                p.y[row * p.y_stride + column + c] = sums[row * panel + c] + p.bias[column + c];
    }
}

// Blocks of 32 channels go from the tiles through 4 KB of scratch to the sums with the residual,
// one block behind the products: sums are written once and tiles are busy meanwhile.
void gemm_residual_layernorm(const Gemm& p, const ResidualLayerNorm& s) {
    constexpr int64_t rows = 32, block = rows * tile_size;
    alignas(64) float scratch[2][block];
    Gemm part = p;
    part.c_stride = tile_size;
    part.add = false;
    const auto make = [&](int64_t c) { tiles<true, true>(part, 0, c, 0, scratch[c / rows % 2]); };
    const auto* residual = static_cast<const Fp16*>(s.residual);
    auto* sums = static_cast<Fp16*>(s.sums);
    Moments moments[2];
    make(0);
    for (int64_t c = 0; c < width; c += rows, residual += block, sums += block) {
        if (c + rows < width) make(c + rows);
        add_rows(scratch[c / rows % 2], rows, residual, sums, moments);
    }
    layer_norm(s, moments);
}

}  // namespace

extern const KernelTable amx_kernels =
    bf16_kernels("amx-bf16", {configure_tiles, release_tiles, gemm, gemm_pair, pack_weights,
                              project, gemm_residual_layernorm});

}  // namespace fastseg::cpu::nn
