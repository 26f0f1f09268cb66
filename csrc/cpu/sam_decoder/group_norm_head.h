// EfficientSAM's mask head: between the steps of upscaling, one norm over all channels and pixels.
#pragma once

#include <vector>

#include "cpu/sam_decoder/canvas_head.h"

namespace fastseg::cpu::sam_decoder {

class GroupNormHead : public CanvasHead {
  public:
    explicit GroupNormHead(const Model& model);

    // A part [64, tile] of the first step.
    void keep(int64_t tile, int64_t part, const float* rows, const float* bias) override;
    void finish(const std::byte* state, const std::vector<MaskTargets>& targets,
                int threads) override;

  private:
    // The factor and the summand of each channel that the norm comes to.
    void measure(float* scale, float* shift) const;

    const Model& model_;
    Buffer rows_;                  // [tiles, 4 parts, 64, tile]
    std::vector<double> moments_;  // [tiles, 4 parts, 2] sums and sums of squares
};

}  // namespace fastseg::cpu::sam_decoder
