// A feature map: pixels row by row, each with its channels in bfloat16, in a frame of zeros that
// pads convolutions.
#pragma once

#include <cstdint>

#include "cpu/nn/buffer.h"
#include "cpu/nn/float16.h"

namespace fastseg::cpu::echo_unet {

using nn::Bf16;

class FeatureMap {
  public:
    // Rows in memory; `begin_at` sets the first of them.
    FeatureMap(int64_t rows, int64_t width, int64_t channels)
        : width(width),
          channels(channels),
          // Pixels a power of two apart would evict each other from the first-level cache.
          pixel(channels < crowded ? channels : channels + 32),
          row((width + 2) * pixel),
          rows_(rows),
          memory_(((rows + 2) * row + overhang * pixel) * 2) {}

    // The first channel of a pixel; one row and one column beyond the border are there too.
    Bf16* at(int64_t y, int64_t x) const {
        return reinterpret_cast<Bf16*>(memory_.bytes()) + (y - first_ + 1) * row + (x + 1) * pixel;
    }

    void begin_at(int64_t first) { first_ = first; }

    // Set rows from `y0` to `y1` that lie outside an image of `height` rows to zero, as a
    // convolution is padded.
    void clear_outside(int64_t y0, int64_t y1, int64_t height) {
        for (int64_t y = y0; y < y1; ++y)
            if (y < 0 || y >= height) __builtin_memset(at(y, -1), 0, static_cast<size_t>(row) * 2);
    }

    const int64_t width, channels;
    const int64_t pixel, row;  // from one to the next, in channels
    int64_t rows() const { return rows_; }

  private:
    static constexpr int64_t crowded = 256;
    static constexpr int64_t overhang = 32;  // pixels that a product may read behind the last row

    int64_t rows_, first_ = 0;
    nn::Buffer memory_;
};

}  // namespace fastseg::cpu::echo_unet
