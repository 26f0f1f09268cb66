// The part of a mask head that cannot work tile by tile.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "cpu/sam_decoder/mask_head.h"
#include "cpu/sam_decoder/model.h"

namespace fastseg::cpu::sam_decoder {

// Scratch for one prompt after another.
class CanvasHead {
  public:
    virtual ~CanvasHead() = default;

    // Keep a part of a tile, as `MaskHead::draw` hands it over: of the canvas, or of the first
    // step, to which `bias` [64] is yet to be added. Tiles do not touch each other's memory.
    virtual void keep(int64_t tile, int64_t part, const float* rows, const float* bias) = 0;

    // Complete the planes of all targets of a prompt on the image of `state`, all of whose tiles
    // were kept.
    virtual void finish(const std::byte* state, const std::vector<MaskTargets>& targets,
                        int threads) = 0;
};

// Null unless `model.whole_canvas()`.
std::unique_ptr<CanvasHead> make_canvas_head(const Model& model);

}  // namespace fastseg::cpu::sam_decoder
