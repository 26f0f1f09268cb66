// Bilinear resampling of 8-bit pictures as Pillow defines it.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels.h"

namespace fastseg::cpu {

// What every output along one axis takes from the inputs (triangle.h).
struct Triangle {
    std::vector<int64_t> first;    // [outputs] first input
    std::vector<int64_t> count;    // [outputs] inputs
    std::vector<int32_t> weights;  // [outputs, widest]
    int64_t widest;

    Triangle(int64_t inputs, int64_t outputs);

    const int32_t* weight(int64_t output) const { return weights.data() + output * widest; }
};

// A picture resampled along one axis, and the recipe for the other one. Which comes first shows in
// the last bit (triangle.h).
class HalfResized {
  public:
    // `part` may be a piece of a larger picture, whose rows are `row_bytes` apart.
    HalfResized(Picture part, int64_t row_bytes, Size size, int threads);

    // Row `y` of the result. // out [width, 3]
    void row(int64_t y, uint8_t* out) const;

  private:
    Size size_;
    bool vertical_first_;
    Triangle horizontal_, vertical_;
    int64_t half_width_;
    std::vector<uint8_t> half_;  // [rows, half_width_, 3]
};

}  // namespace fastseg::cpu
