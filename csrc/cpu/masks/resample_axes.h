// The two axes of the enlargement, cut into parts that are worked on together.
#pragma once

#include <cstdint>
#include <vector>

#include "common/logit_stencil.h"

namespace fastseg::cpu {

// Columns [begin, end) of the image that are weighted sums of the same three columns of logits,
// `first` and the next two.
struct Strip {
    int64_t first, begin, end;
};

struct Columns {
    std::vector<Strip> strips;         // all columns, in order; none is empty
    std::vector<float> weights[taps];  // [columns]

    explicit Columns(Enlargement enlargement);
};

constexpr int64_t block_rows = 16;

// Rows of the image, in blocks of sixteen from the top; the last block may have less.
struct Rows {
    int64_t count;                     // of rows
    std::vector<int32_t> first, end;   // [blocks] the rows of logits that a block depends on
    std::vector<int32_t> offsets;      // [blocks, 16] the first input of a row, from `first`
    std::vector<float> weights[taps];  // [blocks, 16]
    std::vector<uint16_t> valid;       // [blocks] the rows that there are, the first one lowest

    explicit Rows(Enlargement enlargement);

    int64_t blocks() const { return static_cast<int64_t>(first.size()); }

    // The most rows of logits that `lanes` (a divisor of 16) rows of a block depend on together.
    int64_t span_of_inputs(int64_t lanes) const;
};

}  // namespace fastseg::cpu
