// From what is kept of a prompt to its low-resolution logits, tile by tile of the image.
#pragma once

#include "cpu/decoder/memory.h"
#include "cpu/decoder/sweep.h"

namespace fastseg::cpu::decoder {

struct TileRange {
    int64_t first, end;
};

// Draws the masks of one prompt after another.
class Pen {
  public:
    // `longest` is the most tokens that a prompt has.
    Pen(const Model& model, int64_t longest);

    void take(const Memory& memory);
    // vectors [masks, 32], logits [masks, 4 * grid, 4 * grid] of which the tiles' part is written.
    void draw(std::byte* state, TileRange tiles, const float* vectors, int64_t masks,
              float* logits);

  private:
    StateTile image(std::byte* state, int64_t tile);
    // The masks' values at the sub-pixels of a tile: drawn_ [4 parts, masks, 4 parts, tile].
    void upscale(const float* vectors, int64_t masks);
    void place(int64_t tile, int64_t masks, float* logits) const;

    const Model& model_;
    Sweep sweep_;
    Sent sent_[2];
    Buffer scratch_, half_, half_as_b_, canvas_, drawn_, own_;
    Memory memory_{nullptr, 0};
    const std::byte* ahead_ = nullptr;  // image of the tile after the one that is drawn
};

}  // namespace fastseg::cpu::decoder
