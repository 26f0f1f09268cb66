// Weighing the rows of one column and comparing them with the thresholds: the innermost loop.
#pragma once

#include <cstdint>

#include "cpu/masks/resample_axes.h"
#include "kernels.h"

namespace fastseg::cpu {

struct PixelCounts {
    int64_t low = 0, high = 0;  // pixels above the outer thresholds
};

// What a sieve reads of `Rows`, in plain pointers: its code is compiled for one processor, and may
// share no function with code for others.
struct SievedRows {
    const int32_t *first, *offsets;
    const float* weights[taps];
    const uint16_t* valid;
};

// One column of the picture. Of every block that is listed, which rows lie above the middle
// threshold, the first row as the lowest bit.
struct SievedColumn {
    const float* values;    // of the column, at the rows of logits; readable 32 beyond the last
    const int32_t* blocks;  // [count]
    int64_t count;
    uint16_t* above;  // of all blocks
};

// The same arithmetic with vectors of one width, so the same bits.
struct Sieve {
    const char* name;
    int64_t lanes, window;  // it finds what `lanes` rows see among `window` values, or cannot

    // Returns how many of the listed rows are above the outer thresholds.
    PixelCounts (*pass)(const SievedRows& rows, Thresholds thresholds, const SievedColumn& column);
};

// What this processor has, the widest first, null behind the last, which serves for any rows.
const Sieve* const* sieves();

}  // namespace fastseg::cpu
