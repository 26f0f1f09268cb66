#include "cpu/masks/resample_axes.h"

#include <algorithm>

namespace fastseg::cpu {

Columns::Columns(Enlargement enlargement) {
    for (int64_t x = 0; x < enlargement.size; ++x) {
        const Stencil here = stencil(x, enlargement);
        if (strips.empty() || strips.back().first != here.first) {
            strips.push_back({here.first, x, x});
        }
        strips.back().end = x + 1;
        for (int tap = 0; tap < taps; ++tap) weights[tap].push_back(here.weight[tap]);
    }
}

// Rows that the last block lacks have the inputs of the last row, with weights of zero.
Rows::Rows(Enlargement enlargement) : count(enlargement.size) {
    for (int64_t top = 0; top < count; top += block_rows) {
        const int64_t first_input = stencil(top, enlargement).first;
        int64_t offset = 0;
        uint32_t there = 0;
        for (int64_t lane = 0; lane < block_rows; ++lane) {
            Stencil here{first_input + offset, {0.0f, 0.0f, 0.0f}};
            if (top + lane < count) {
                here = stencil(top + lane, enlargement);
                offset = here.first - first_input;
                there |= 1u << lane;
            }
            offsets.push_back(static_cast<int32_t>(offset));
            for (int tap = 0; tap < taps; ++tap) weights[tap].push_back(here.weight[tap]);
        }
        first.push_back(static_cast<int32_t>(first_input));
        end.push_back(static_cast<int32_t>(first_input + offset + taps));
        valid.push_back(static_cast<uint16_t>(there));
    }
}

int64_t Rows::span_of_inputs(int64_t lanes) const {
    int32_t most = 0;
    for (size_t row = 0; row < offsets.size(); row += static_cast<size_t>(lanes)) {
        const int32_t last = offsets[row + static_cast<size_t>(lanes) - 1];
        most = std::max(most, last - offsets[row] + taps);
    }
    return most;
}

}  // namespace fastseg::cpu
