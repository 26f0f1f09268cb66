// A table whose operands are bfloat16, for processors with AVX-512 BF16, which
// the including file multiplies. Everything else, sums of products included, is float32.
#pragma once

#include "cpu/decoder/passes.h"
#include "cpu/decoder/product32.h"
#include "cpu/decoder/transpose.h"
#include "cpu/decoder/vectors.h"

namespace fastseg::cpu::decoder {
namespace {

using Half = uint16_t;

constexpr int64_t span = 4;

// 32 floats as 32 bfloat16 in order.
FASTSEG_INLINE __m512i narrow_32(Floats low, Floats high) {
    return (__m512i)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low);
}

// low[0], high[0], low[1], high[1], ...: the order of format b.
FASTSEG_INLINE __m512i interleave(Floats low, Floats high) {
    alignas(64) static constexpr Half order[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                   21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                   11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    return _mm512_permutexvar_epi16(_mm512_load_si512(order), narrow_32(low, high));
}

void as_a(const float* from, void* to, int64_t m, int64_t k) {
    auto* out = static_cast<Half*>(to);
    for (int64_t row = 0; row < m; ++row)
        for (int64_t column = 0; column < k; column += 32) {
            const float* at = from + row * k + column;
            Half* block = out + (row / 16 * (k / 32) + column / 32) * 512;
            _mm512_storeu_si512(block + row % 16 * 32, narrow_32(load(at), load(at + 16)));
        }
}

void as_b(const float* from, void* to, int64_t k, int64_t n) {
    auto* out = static_cast<uint32_t*>(to);
    for (int64_t row = 0; row < k; row += 2)
        for (int64_t column = 0; column < n; column += 16) {
            const float* at = from + row * n + column;
            _mm512_storeu_si512(out + (column / 16 * (k / 2) + row / 2) * 16,
                                interleave(load(at), load(at + n)));
        }
}

void soften(float* maps, int64_t tokens, void* to, int64_t padded) {
    soften_floats(maps, tokens);
    std::memset(maps + heads * tokens * tile_size, 0,
                static_cast<size_t>(padded - heads * tokens) * tile_size * sizeof(float));
    as_b(maps, to, padded, tile_size);
}

bool weigh(const Weighing& w) {
    auto* out = static_cast<Half*>(w.weights);  // one block of format a a row of blocks
    return weigh_rows(w, [&](int64_t row, const Floats* weights) {
        _mm512_storeu_si512(out + row * tile_size, narrow_32(weights[0], weights[1]));
    });
}

// Two weights of neighbouring image tokens are one value of 32 bits, and stay together.
void turn(const void* weights, int64_t rows, int64_t slot, void* to) {
    for (int64_t row = 0; row < rows; row += 16)
        transpose_block(static_cast<const float*>(weights) + row * 16, 16,
                        static_cast<float*>(to) + (row / 16 * span + slot) * 256, 16);
}

// What follows a product into sums that hold the residual too.
FASTSEG_INLINE void settle_measured(const Settling& s, const Statistics (&found)[2]) {
    auto* b = static_cast<uint32_t*>(s.as_b);
    auto* a = static_cast<Half*>(s.as_a);
    const Floats offset[2] = {-found[0].mean * found[0].scale, -found[1].mean * found[1].scale};
    for (int64_t c = 0; c < width; c += 2) {
        Floats normal[2][2];
        for (int row = 0; row < 2; ++row) {
            const Floats scale = spread(s.scale[c + row]), shift = spread(s.shift[c + row]);
            for (int v = 0; v < 2; ++v) {
                float* at = s.sums + (c + row) * tile_size + v * 16;
                normal[row][v] = (load(at) * found[v].scale + offset[v]) * scale + shift;
                if (!a) store(at, normal[row][v]);
            }
            if (a)
                _mm512_storeu_si512(a + ((c / 16 * span + s.slot) * 16 + c % 16 + row) * 32,
                                    narrow_32(normal[row][0], normal[row][1]));
        }
        for (int v = 0; v < 2; ++v)
            _mm512_storeu_si512(b + (v * (width / 2) + c / 2) * 16,
                                interleave(normal[0][v], normal[1][v]));
    }
}

void norm_gelu(float* half, const float* bias, const float* scale, const float* shift, void* to) {
    constexpr int64_t count = width / 4;
    auto* b = static_cast<uint32_t*>(to);
    Floats rate[2], offset[2];
    for (int v = 0; v < 2; ++v) {
        Moments moments;
        for (int64_t c = 0; c < count; ++c)
            moments.take(load(half + c * tile_size + v * 16) + spread(bias[c]));
        const Statistics found = moments.found(count, head_epsilon);
        rate[v] = found.scale;
        offset[v] = -found.mean * found.scale;
    }
    for (int64_t c = 0; c < count; c += 2)
        for (int v = 0; v < 2; ++v) {
            Floats values[2];
            for (int row = 0; row < 2; ++row) {
                const Floats raw =
                    load(half + (c + row) * tile_size + v * 16) + spread(bias[c + row]);
                const Floats normal = raw * rate[v] + offset[v];
                values[row] = gelu(normal * spread(scale[c + row]) + spread(shift[c + row]));
            }
            _mm512_storeu_si512(b + (v * (count / 2) + c / 2) * 16,
                                interleave(values[0], values[1]));
        }
}

constexpr Table half_table(const char* name, void (*begin)(), void (*end)(),
                           void (*product)(const Product&),
                           void (*receive)(const Product&, const Settling&)) {
    return {name, true,      span,   32,    begin, end,     product,   product32, as_a,
            as_b, transpose, soften, weigh, turn,  receive, norm_gelu, gelu_dot};
}

}  // namespace
}  // namespace fastseg::cpu::decoder
