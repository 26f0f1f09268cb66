// One axis of the enlargement, cut where the outputs begin to see other low-resolution values.
#pragma once

#include <cstddef>
#include <vector>

#include "sampling.h"

namespace fastseg::cpu {

// Outputs [begin, end) that are weighted sums of the same three values, `first` and the next two.
struct Cell {
    int64_t first, begin, end;
};

// Rows are weighed several at a time, so the weights go on for some zeros after the last.
constexpr int64_t lanes = 4;

struct Axis {
    std::vector<Cell> cells;           // all outputs, in order; none is empty
    std::vector<float> weights[taps];  // [outputs + lanes]

    explicit Axis(Enlargement enlargement);
};

}  // namespace fastseg::cpu
