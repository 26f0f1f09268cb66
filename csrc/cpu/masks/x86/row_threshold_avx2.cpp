// A block in two registers; the inputs of the rows of each fit one.
#include <immintrin.h>

#include "cpu/masks/row_threshold.h"

namespace fastseg::cpu {
namespace {

constexpr int64_t lanes = 8;

PixelCounts pass(const RowStencils& rows, Thresholds thresholds, const ColumnBlocks& column) {
    const __m256 low = _mm256_set1_ps(thresholds.low), middle = _mm256_set1_ps(thresholds.middle),
                 high = _mm256_set1_ps(thresholds.high);
    const auto above = [](__m256 sum, __m256 threshold) {
        return static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(sum, threshold, _CMP_GT_OQ)));
    };
    int64_t lows = 0, highs = 0;
    for (int64_t i = 0; i < column.count; ++i) {
        const int64_t block = column.blocks[i];
        unsigned passed[3] = {0, 0, 0};
        for (int64_t row = 0; row < block_rows; row += lanes) {
            const int64_t top = block * block_rows + row;
            const int32_t offset = rows.offsets[top];
            const __m256 inputs = _mm256_loadu_ps(column.values + rows.first[block] + offset);
            const __m256i which = _mm256_sub_epi32(
                _mm256_loadu_si256(reinterpret_cast<const __m256i*>(rows.offsets + top)),
                _mm256_set1_epi32(offset));
            const auto product = [&](int tap) {
                const __m256i taken = _mm256_add_epi32(which, _mm256_set1_epi32(tap));
                return _mm256_mul_ps(_mm256_loadu_ps(rows.weights[tap] + top),
                                     _mm256_permutevar8x32_ps(inputs, taken));
            };
            const __m256 sum = _mm256_add_ps(_mm256_add_ps(product(0), product(1)), product(2));
            passed[0] |= above(sum, low) << row;
            passed[1] |= above(sum, middle) << row;
            passed[2] |= above(sum, high) << row;
        }
        const unsigned valid = rows.valid[block];
        lows += __builtin_popcount(passed[0] & valid);
        highs += __builtin_popcount(passed[2] & valid);
        column.above[block] = static_cast<uint16_t>(passed[1] & valid);
    }
    return {lows, highs};
}

}  // namespace

extern const RowThresholdKernel avx2_row_threshold;
const RowThresholdKernel avx2_row_threshold{"avx2", lanes, lanes, pass};

}  // namespace fastseg::cpu
