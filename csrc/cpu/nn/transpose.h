// Rows to columns, for values of 32 bits.
#pragma once

#if FASTSEG_LANES == 16
#include <immintrin.h>
#endif

#include "cpu/nn/simd.h"

namespace fastseg::cpu::nn {
namespace {

#if FASTSEG_LANES == 16

// 16 x 16 values.
FASTSEG_INLINE void transpose_block(const float* from, int64_t from_stride, float* to,
                                    int64_t to_stride) {
    __m512 r[16], s[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) r[i] = _mm512_loadu_ps(from + i * from_stride);
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
        s[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        s[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
        const __m512d a = _mm512_castps_pd(s[i]), b = _mm512_castps_pd(s[i + 2]);
        const __m512d c = _mm512_castps_pd(s[i + 1]), d = _mm512_castps_pd(s[i + 3]);
        r[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
        r[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
        r[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(c, d));
        r[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(c, d));
    }
    // r[4 g + j] holds column 4 q + j of rows 4 g .. 4 g + 3 in its quarter q.
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
        const __m512 low01 = _mm512_shuffle_f32x4(r[j], r[4 + j], 0x44);
        const __m512 high01 = _mm512_shuffle_f32x4(r[j], r[4 + j], 0xee);
        const __m512 low23 = _mm512_shuffle_f32x4(r[8 + j], r[12 + j], 0x44);
        const __m512 high23 = _mm512_shuffle_f32x4(r[8 + j], r[12 + j], 0xee);
        _mm512_storeu_ps(to + j * to_stride, _mm512_shuffle_f32x4(low01, low23, 0x88));
        _mm512_storeu_ps(to + (4 + j) * to_stride, _mm512_shuffle_f32x4(low01, low23, 0xdd));
        _mm512_storeu_ps(to + (8 + j) * to_stride, _mm512_shuffle_f32x4(high01, high23, 0x88));
        _mm512_storeu_ps(to + (12 + j) * to_stride, _mm512_shuffle_f32x4(high01, high23, 0xdd));
    }
}

#endif

// Blocks of lanes x lanes values at a time; plain elements at the edges.
[[maybe_unused]] void transpose(const float* from, int64_t rows, int64_t columns,
                                int64_t from_stride, float* to, int64_t to_stride) {
    int64_t row = 0;
#if FASTSEG_LANES == 16
    for (; row + lanes <= rows; row += lanes) {
        const int64_t blocks = columns / lanes * lanes;
        for (int64_t column = 0; column < blocks; column += lanes)
            transpose_block(from + row * from_stride + column, from_stride,
                            to + column * to_stride + row, to_stride);
        for (int64_t column = blocks; column < columns; ++column)
            for (int64_t r = row; r < row + lanes; ++r)
                to[column * to_stride + r] = from[r * from_stride + column];
    }
#endif
    for (; row < rows; ++row)
        for (int64_t column = 0; column < columns; ++column)
            to[column * to_stride + row] = from[row * from_stride + column];
}

}  // namespace
}  // namespace fastseg::cpu::nn
