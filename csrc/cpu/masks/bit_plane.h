// A mask of one bit a pixel, worked on 64 pixels at a time.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/masks/connected_components.h"
#include "kernels.h"

namespace fastseg::cpu {

// Rows of whole words, the lowest bit first; bits beyond the width are zero.
class BitPlane {
  public:
    static constexpr int64_t word_bits = 64;

    explicit BitPlane(Size size);

    // Set the pixels whose value is greater than the threshold; a NaN is not. // values [height,
    // width]
    void set_above(const float* values, float threshold);
    void set_nonzero(const uint8_t* bytes);  // bytes [height, width]
    void write(uint8_t* bytes) const;        // 0 or 1 // bytes [height, width]

    Size size() const { return size_; }
    int64_t words() const { return words_; }
    uint64_t* row(int64_t y) { return bits_.data() + y * words_; }
    const uint64_t* row(int64_t y) const { return bits_.data() + y * words_; }

    // True if a pixel is set; no pixel outside the plane is.
    bool at(int64_t y, int64_t x) const {
        return y >= 0 && x >= 0 && y < size_.height && x < size_.width &&
               (row(y)[x / word_bits] >> (x % word_bits) & 1) != 0;
    }

    // The pieces of every row that are set, or that are not, in raster order.
    std::vector<Segment> segments(bool set) const;
    void clear();
    void fill(const Segment& segment);

    // Morphological closing by the disk of radius 2 (13 pixels). What lies outside counts as
    // background while it grows and as foreground while it shrinks, so a border changes nothing.
    void close_by_disk();

  private:
    // Word `index` of an inverted row: only pixels are inverted.
    uint64_t inverted(uint64_t word, int64_t index) const {
        return index == words_ - 1 ? ~word & last_ : ~word;
    }
    void invert();
    void dilate_by_disk();

    Size size_;
    int64_t words_;
    uint64_t last_;  // the valid bits of a row's last word
    std::vector<uint64_t> bits_;
};

}  // namespace fastseg::cpu
