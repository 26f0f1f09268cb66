// Bilinear resampling of 8-bit pictures as Pillow defines it.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels.h"

namespace fastseg::cpu {

// What one axis of the output takes from the input: a triangle around each output's centre, as wide
// as an output pixel when shrinking (so that every input counts), an input pixel when enlarging.
// Weights are fixed point with `precision` fractional bits.
struct Triangle {
    static constexpr int precision = 22;

    std::vector<int64_t> first;    // [outputs] first input
    std::vector<int64_t> count;    // [outputs] inputs
    std::vector<int32_t> weights;  // [outputs, widest]
    int64_t widest;

    Triangle(int64_t inputs, int64_t outputs);

    const int32_t* weight(int64_t output) const { return weights.data() + output * widest; }
};

// A picture resampled along one axis, and the recipe for the other one. Both passes round to 8
// bits, so their order shows in the last bit: horizontally first, unless the height loses more than
// twice as many pixels as the width (Pillow from version 13 on; earlier ones always go horizontally
// first).
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
