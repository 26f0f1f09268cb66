// One column of one mask, from its low-resolution logits: the body of both passes of binarise.
//
// As cpu/masks/binarise.cpp: an output is a weighted sum of 3x3 logits, and where all nine lie on
// one side of every threshold (common/logit_stencil.h) a whole cell of outputs is decided without
// arithmetic. A thread walks down its column with the three weighted rows of the cell in registers.
#pragma once

#include <cstdint>

#include "common/logit_stencil.h"
#include "device/block.h"
#include "device/fp16.h"
#include "device_kernels.h"

namespace fastseg::device {

constexpr int levels = 3;  // thresholds

// The weights of one output along one axis. // 16 bytes, one load
struct alignas(16) AxisTap {
    float weight[taps];
    int32_t first;
};

// Both axes of the enlargement, in device memory. Outputs of row cell r are [begin[r], begin[r+1]).
struct Axes {
    AxisTap* columns;     // [width]
    AxisTap* rows;        // [height]
    int32_t* row_begins;  // [low.height + 1]
};

// The parameters that all columns of a call share.
template <class Number>
struct Tracing {
    const Number* logits;  // [planes, low.height, low.width]
    int64_t low_height, low_width;
    int64_t x0, y0, height, width;  // of the crop
    int64_t image_height, image_width;
    Thresholds thresholds;
    Margin margins[levels];
    Axes axes;

    FASTSEG_HOST_DEVICE bool full_height() const { return height == image_height; }
};

// The three logits of a low-resolution row of a column: their weighted sum and their extremes.
struct WeightedRow {
    float value, least, most;
};

template <class Number>
FASTSEG_HOST_DEVICE inline WeightedRow weighted_row(const Tracing<Number>& job, const Number* plane,
                                                    const AxisTap& tap, int64_t row) {
    const int64_t last = job.low_width - 1, first = tap.first;
    const Number* line = plane + (row < job.low_height ? row : job.low_height - 1) * job.low_width;
    const float a = finite(to_float(line[first]));
    const float b = finite(to_float(line[first + 1 < last ? first + 1 : last]));
    const float c = finite(to_float(line[first + 2 < last ? first + 2 : last]));
    const float ab_least = a < b ? a : b, ab_most = a < b ? b : a;
    return {weighted_sum(tap.weight[0], tap.weight[1], tap.weight[2], a, b, c),
            ab_least < c ? ab_least : c, ab_most < c ? c : ab_most};
}

FASTSEG_HOST_DEVICE inline float weighted_pixel(const AxisTap& tap, const WeightedRow rows[taps]) {
    return weighted_sum(tap.weight[0], tap.weight[1], tap.weight[2], rows[0].value, rows[1].value,
                        rows[2].value);
}

// True if the mask holds the pixel before the first one of column x, in column-major order.
template <class Number>
FASTSEG_HOST_DEVICE inline bool inside_before(const Tracing<Number>& job, const Number* plane,
                                              int64_t x) {
    if (x == 0 || !job.full_height()) return false;
    const AxisTap column = job.axes.columns[x - 1], row = job.axes.rows[job.height - 1];
    WeightedRow rows[taps];
    for (int tap = 0; tap < taps; ++tap) {
        rows[tap] = weighted_row(job, plane, column, row.first + tap);
    }
    return weighted_pixel(row, rows) > job.thresholds.middle;
}

// The part of a column in its mask's measures.
struct ColumnCounts {
    uint32_t low = 0, middle = 0, high = 0;  // pixels above the thresholds
    int32_t top = INT32_MAX, bottom = -1;    // of those above the middle one

    FASTSEG_HOST_DEVICE void add(int64_t begin, int64_t end, int passed) {
        const uint32_t pixels = static_cast<uint32_t>(end - begin);
        low += passed >= 1 ? pixels : 0;
        high += passed >= 3 ? pixels : 0;
        if (passed < 2) return;
        middle += pixels;
        if (begin < top) top = static_cast<int32_t>(begin);
        bottom = static_cast<int32_t>(end) - 1;
    }
};

// Calls `change(position)` where the mask begins or ends in column x, in order, and in the last
// column for the end of the image, if the mask's run lengths need it.
template <class Number, class Change>
FASTSEG_HOST_DEVICE inline ColumnCounts trace_column(const Tracing<Number>& job,
                                                     const Number* plane, int64_t x,
                                                     Change change) {
    const AxisTap column = job.axes.columns[x];
    const uint32_t start = static_cast<uint32_t>((job.x0 + x) * job.image_height + job.y0);
    const uint32_t area = static_cast<uint32_t>(job.image_height * job.image_width);
    const Thresholds limits = job.thresholds;
    ColumnCounts counts;
    bool inside = inside_before(job, plane, x), ended = false;
    const auto pass = [&](int64_t begin, int64_t end, int passed) {
        counts.add(begin, end, passed);
        if ((passed >= 2) == inside) return;
        inside = !inside;
        change(start + static_cast<uint32_t>(begin));
    };
    const int64_t last_cell = job.axes.rows[job.height - 1].first;
    WeightedRow rows[taps] = {weighted_row(job, plane, column, 0),
                              weighted_row(job, plane, column, 1),
                              weighted_row(job, plane, column, 2)};
    int64_t begin = 0;
    for (int64_t cell = 0; cell <= last_cell; ++cell) {
        const int64_t end = job.axes.row_begins[cell + 1];
        if (begin < end) {
            float least = rows[0].least, most = rows[0].most;
            for (int tap = 1; tap < taps; ++tap) {
                least = rows[tap].least < least ? rows[tap].least : least;
                most = rows[tap].most > most ? rows[tap].most : most;
            }
            int above = 0, reached = 0;
            for (int level = 0; level < levels; ++level) {
                above += least > job.margins[level].above;
                reached += most > job.margins[level].below;
            }
            if (above == reached) {
                pass(begin, end, above);
            } else {
                for (int64_t y = begin; y < end; ++y) {
                    const float logit = weighted_pixel(job.axes.rows[y], rows);
                    pass(y, y + 1,
                         (logit > limits.low) + (logit > limits.middle) + (logit > limits.high));
                }
            }
            begin = end;
        }
        rows[0] = rows[1];
        rows[1] = rows[2];
        rows[2] = weighted_row(job, plane, column, cell + 3);
    }
    if (inside && !job.full_height()) {
        const uint32_t below = start + static_cast<uint32_t>(job.height);
        change(below);
        ended = below == area;
        inside = false;
    }
    if (x < job.width - 1) return counts;
    if (inside && job.x0 + job.width < job.image_width) {
        change(start + static_cast<uint32_t>(job.image_height));
    }
    if (!ended) change(area);
    return counts;
}

}  // namespace fastseg::device
