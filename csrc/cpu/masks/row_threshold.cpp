// The kernels that this processor can run, and the one for every processor.
#include "cpu/masks/row_threshold.h"

namespace fastseg::cpu {
namespace {

PixelCounts pass(const RowStencils& rows, Thresholds thresholds, const ColumnBlocks& column) {
    PixelCounts counts;
    for (int64_t i = 0; i < column.count; ++i) {
        const int64_t block = column.blocks[i], top = block * block_rows;
        const float* inputs = column.values + rows.first[block];
        unsigned above = 0;
        for (unsigned lane = 0; lane < block_rows; ++lane) {
            if (!(rows.valid[block] >> lane & 1)) break;
            const int64_t row = top + lane;
            const float* values = inputs + rows.offsets[row];
            const float sum = weighted_sum(rows.weights[0][row], rows.weights[1][row],
                                           rows.weights[2][row], values[0], values[1], values[2]);
            counts.low += sum > thresholds.low;
            counts.high += sum > thresholds.high;
            above |= static_cast<unsigned>(sum > thresholds.middle) << lane;
        }
        column.above[block] = static_cast<uint16_t>(above);
    }
    return counts;
}

constexpr RowThresholdKernel portable{"portable", 1, taps, pass};

}  // namespace

#ifdef FASTSEG_X86_KERNELS
extern const RowThresholdKernel avx2_row_threshold, avx512_row_threshold;

const RowThresholdKernel* const* row_threshold_kernels() {
    static const RowThresholdKernel* found[4] = {};
    static const bool filled = [] {
        const RowThresholdKernel** next = found;
        if (__builtin_cpu_supports("avx512f")) *next++ = &avx512_row_threshold;
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt")) {
            *next++ = &avx2_row_threshold;
        }
        *next = &portable;
        return true;
    }();
    static_cast<void>(filled);
    return found;
}
#else
const RowThresholdKernel* const* row_threshold_kernels() {
    static const RowThresholdKernel* found[2] = {&portable, nullptr};
    return found;
}
#endif

}  // namespace fastseg::cpu
