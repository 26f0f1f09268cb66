// Bilinear resampling of 8-bit images as Pillow defines it.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels.h"

namespace fastseg::cpu {

// The inputs of every output along one axis and their weights (common/pillow_filter.h).
struct Triangle {
    std::vector<int64_t> first;    // [outputs] first input
    std::vector<int64_t> count;    // [outputs] inputs
    std::vector<int32_t> weights;  // [outputs, widest]
    int64_t widest;

    Triangle(int64_t inputs, int64_t outputs);

    const int32_t* weight(int64_t output) const { return weights.data() + output * widest; }
};

// An image resampled along one axis, and the weights for the other one. The order of the two passes
// shows in the last bit (common/pillow_filter.h).
class TwoPassResize {
  public:
    // `part` may be a piece of a larger image, whose rows are `row_bytes` apart.
    TwoPassResize(Image part, int64_t row_bytes, Size size, int threads);

    // Row `y` of the result. // out [width, 3]
    void row(int64_t y, uint8_t* out) const;

  private:
    Size size_;
    bool vertical_first_;
    Triangle horizontal_, vertical_;
    int64_t first_pass_width_;
    std::vector<uint8_t> first_pass_;  // [rows, first_pass_width_, 3]
};

}  // namespace fastseg::cpu
