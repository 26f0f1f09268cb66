// Which parts of a mask a look at the low-resolution logits settles.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/axis.h"
#include "kernels.h"

namespace fastseg::cpu {

constexpr int levels = 3;  // thresholds

// From here downwards a column of cells lies above `least` thresholds at least and `most` at most;
// where both are equal every pixel is settled, else each one must be computed.
struct Event {
    int32_t cell;  // index into the vertical axis
    uint8_t least, most;

    bool settled() const { return least == most; }
};

// Sorts the cells of one mask after the other; keeps its memory between masks.
class CellSorter {
  public:
    // `low` is the size of the logits.
    CellSorter(Size low, const Axis& vertical, Thresholds thresholds);

    void sort(const float* logits);

    // For the cells whose first column is `column`: what changes from top to bottom. Never empty;
    // every cell that is not settled has an event of its own.
    const std::vector<Event>& events(int64_t column) const {
        return events_[static_cast<size_t>(column)];
    }

  private:
    void find_events(int32_t cell);

    Size low_;
    const Axis& vertical_;
    Margin margins_[levels];
    // Of every logit, how many thresholds it is clearly above, and how many not clearly below.
    std::vector<uint8_t> above_, reached_;         // [height, width]
    std::vector<uint8_t> least_, most_, changed_;  // one row of cells, with room behind
    std::vector<uint8_t> key_;                     // least + 4 * most of the row of cells before
    std::vector<std::vector<Event>> events_;       // [width]
};

}  // namespace fastseg::cpu
