// Which parts of a mask a look at the low-resolution logits settles.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/masks/resample_axes.h"
#include "kernels.h"

namespace fastseg::cpu {

// How many of the three thresholds all pixels of a block lie above, or that this is not settled.
using Level = uint8_t;
constexpr Level unsettled = 4;

// Sorts the blocks of one mask after the other; keeps its memory between masks. A block here is 16
// rows of the picture and all columns that see the same three columns of logits.
class BlockSorter {
  public:
    // `low` is the size of the logits.
    BlockSorter(Size low, const Rows& rows, Thresholds thresholds);

    void sort(const float* logits);

    // Of the columns that see logits from `column` on: the topmost block; those below follow
    // `stride` apart.
    const Level* levels(int64_t column) const { return levels_.data() + column; }
    int64_t stride() const { return low_.width; }

    // Whether there is anything but background in these columns.
    bool busy(int64_t column) const { return busy_[static_cast<size_t>(column)] != 0; }

    // The rows of logits that unsettled blocks of this mask see; none if `begin` is not below
    // `end`.
    int64_t begin() const { return begin_; }
    int64_t end() const { return end_; }

  private:
    Size low_;
    const Rows& rows_;
    Margin margins_[3];
    std::vector<float> least_, most_;  // of the logits of one row of blocks, with room behind
    std::vector<Level> levels_;        // [blocks, width]
    std::vector<Level> busy_;          // [width] levels, joined
    int64_t begin_ = 0, end_ = 0;
};

}  // namespace fastseg::cpu
