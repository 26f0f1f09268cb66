// Which sieves this processor can run, and the one that all can.
#include "cpu/masks/row_threshold.h"

namespace fastseg::cpu {
namespace {

PixelCounts pass(const SievedRows& rows, Thresholds thresholds, const SievedColumn& column) {
    PixelCounts counts;
    for (int64_t i = 0; i < column.count; ++i) {
        const int64_t block = column.blocks[i], top = block * block_rows;
        const float* seen = column.values + rows.first[block];
        unsigned above = 0;
        for (unsigned lane = 0; lane < block_rows; ++lane) {
            if (!(rows.valid[block] >> lane & 1)) break;
            const int64_t row = top + lane;
            const float* values = seen + rows.offsets[row];
            const float sum = weigh(rows.weights[0][row], rows.weights[1][row],
                                    rows.weights[2][row], values[0], values[1], values[2]);
            counts.low += sum > thresholds.low;
            counts.high += sum > thresholds.high;
            above |= static_cast<unsigned>(sum > thresholds.middle) << lane;
        }
        column.above[block] = static_cast<uint16_t>(above);
    }
    return counts;
}

constexpr Sieve portable{"portable", 1, taps, pass};

}  // namespace

#ifdef FASTSEG_X86_KERNELS
extern const Sieve avx2_sieve, avx512_sieve;

const Sieve* const* sieves() {
    static const Sieve* found[4] = {};
    static const bool filled = [] {
        const Sieve** next = found;
        if (__builtin_cpu_supports("avx512f")) *next++ = &avx512_sieve;
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt")) {
            *next++ = &avx2_sieve;
        }
        *next = &portable;
        return true;
    }();
    static_cast<void>(filled);
    return found;
}
#else
const Sieve* const* sieves() {
    static const Sieve* found[2] = {&portable, nullptr};
    return found;
}
#endif

}  // namespace fastseg::cpu
