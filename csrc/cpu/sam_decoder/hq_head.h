// The second half of SAM-HQ's mask head, which needs the whole canvas of a prompt.
//
// SAM-HQ adds one more mask to each mask of a prompt: its vector times two convolutions of 3 x 3 of
// the canvas and the features of the encoder. A product of the vector with the second convolution's
// weights comes first, once a prompt: the convolution then has one output channel and not 32.
#pragma once

#include <vector>

#include "cpu/sam_decoder/canvas_head.h"

namespace fastseg::cpu::sam_decoder {

class HqHead : public CanvasHead {
  public:
    explicit HqHead(const Model& model);

    // A part of the canvas, [4 finer parts, 32, tile].
    void keep(int64_t tile, int64_t part, const float* canvas, const float*) override;
    // Add the mask, whose vector is that of the first target.
    void finish(const std::byte* state, const std::vector<MaskTargets>& targets,
                int threads) override;

  private:
    // One row of pixels of the taps: the first convolution, and the folded second one.
    void convolve_row(int64_t y, const float* folded, float* hidden, float* products);
    void add_row(int64_t y, const float* vector, float bias, const float* features,
                 const std::vector<MaskTargets>& targets, float* row) const;

    const Model& model_;
    int64_t side_, stride_, plane_;  // of a plane with a border of zeros of one pixel
    Buffer canvas_;                  // [32, stride, stride]
    Buffer taps_;                    // [9, stride, stride] products before they are shifted
};

}  // namespace fastseg::cpu::sam_decoder
