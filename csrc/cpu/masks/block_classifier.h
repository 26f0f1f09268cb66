// Decides blocks of a mask from the extremes of the low-resolution logits alone.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/masks/resample_axes.h"
#include "kernels.h"

namespace fastseg::cpu {

// The number of thresholds, of three, that all pixels of a block lie above, or `undecided`.
using Level = uint8_t;
constexpr Level undecided = 4;

// Classifies the blocks of one mask after the other; keeps its memory between masks. A block here
// is 16 rows of the image and all columns that depend on the same three columns of logits.
class BlockClassifier {
  public:
    // `low` is the size of the logits.
    BlockClassifier(Size low, const Rows& rows, Thresholds thresholds);

    void classify(const float* logits);

    // Of the columns that see logits from `column` on: the topmost block; those below follow
    // `stride` apart.
    const Level* levels(int64_t column) const { return levels_.data() + column; }
    int64_t stride() const { return low_.width; }

    // True if these columns hold anything but background.
    bool occupied(int64_t column) const { return occupied_[static_cast<size_t>(column)] != 0; }

    // The rows of logits that undecided blocks of this mask depend on; none if `begin` is not below
    // `end`.
    int64_t begin() const { return begin_; }
    int64_t end() const { return end_; }

  private:
    Size low_;
    const Rows& rows_;
    Margin margins_[3];
    std::vector<float> least_, most_;  // of the logits of one row of blocks, with room behind
    std::vector<Level> levels_;        // [blocks, width]
    std::vector<Level> occupied_;      // [width] levels, joined
    int64_t begin_ = 0, end_ = 0;
};

}  // namespace fastseg::cpu
