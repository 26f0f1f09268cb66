// The row threshold kernel: weighted sums of the rows of one column, compared with the thresholds.
// It is the innermost loop of binarise.
#pragma once

#include <cstdint>

#include "cpu/masks/resample_axes.h"
#include "kernels.h"

namespace fastseg::cpu {

struct PixelCounts {
    int64_t low = 0, high = 0;  // pixels above the outer thresholds
};

// The parts of `Rows` that a kernel reads, in plain pointers: its code is compiled for one
// processor and may share no function with code for others.
struct RowStencils {
    const int32_t *first, *offsets;
    const float* weights[taps];
    const uint16_t* valid;
};

// One column of the image. Of every block that is listed, which rows lie above the middle
// threshold, the first row as the lowest bit.
struct ColumnBlocks {
    const float* values;    // of the column, at the rows of logits; readable 32 beyond the last
    const int32_t* blocks;  // [count]
    int64_t count;
    uint16_t* above;  // of all blocks
};

// The same arithmetic with vectors of one width, so the same bits.
struct RowThresholdKernel {
    const char* name;
    int64_t lanes, window;  // supported if `lanes` rows read at most `window` values

    // Returns how many of the listed rows are above the outer thresholds.
    PixelCounts (*pass)(const RowStencils& rows, Thresholds thresholds, const ColumnBlocks& column);
};

// The kernels of this processor, the widest first; null follows the last one, which supports any
// rows.
const RowThresholdKernel* const* row_threshold_kernels();

}  // namespace fastseg::cpu
