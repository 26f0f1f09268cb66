// A block in one register; the inputs of its rows fit two.
#include <immintrin.h>

#include "cpu/masks/row_threshold.h"

namespace fastseg::cpu {
namespace {

PixelCounts pass(const RowStencils& rows, Thresholds thresholds, const ColumnBlocks& column) {
    const __m512 low = _mm512_set1_ps(thresholds.low), middle = _mm512_set1_ps(thresholds.middle),
                 high = _mm512_set1_ps(thresholds.high);
    const __m512i one = _mm512_set1_epi32(1);
    int64_t lows = 0, highs = 0;
    for (int64_t i = 0; i < column.count; ++i) {
        const int64_t block = column.blocks[i], top = block * block_rows;
        const float* inputs = column.values + rows.first[block];
        const __m512 near = _mm512_loadu_ps(inputs), far = _mm512_loadu_ps(inputs + 16);
        __m512i which = _mm512_loadu_si512(rows.offsets + top);
        const __m512 a = _mm512_mul_ps(_mm512_loadu_ps(rows.weights[0] + top),
                                       _mm512_permutex2var_ps(near, which, far));
        which = _mm512_add_epi32(which, one);
        const __m512 b = _mm512_mul_ps(_mm512_loadu_ps(rows.weights[1] + top),
                                       _mm512_permutex2var_ps(near, which, far));
        which = _mm512_add_epi32(which, one);
        const __m512 c = _mm512_mul_ps(_mm512_loadu_ps(rows.weights[2] + top),
                                       _mm512_permutex2var_ps(near, which, far));
        const __m512 sum = _mm512_add_ps(_mm512_add_ps(a, b), c);
        const __mmask16 valid = rows.valid[block];
        lows += __builtin_popcount(_mm512_mask_cmp_ps_mask(valid, sum, low, _CMP_GT_OQ));
        highs += __builtin_popcount(_mm512_mask_cmp_ps_mask(valid, sum, high, _CMP_GT_OQ));
        column.above[block] = _mm512_mask_cmp_ps_mask(valid, sum, middle, _CMP_GT_OQ);
    }
    return {lows, highs};
}

}  // namespace

extern const RowThresholdKernel avx512_row_threshold;
const RowThresholdKernel avx512_row_threshold{"avx512", 16, 32, pass};

}  // namespace fastseg::cpu
