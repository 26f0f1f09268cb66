// From a tile of a prompt's image tokens to its part of the low-resolution logits.
#pragma once

#include <functional>

#include "cpu/sam_decoder/image_state.h"
#include "cpu/sam_decoder/model.h"
#include "cpu/sam_decoder/tile_cursor.h"

namespace fastseg::cpu::sam_decoder {

// Masks of a prompt: their vectors and the planes [4 * grid, 4 * grid] that they are drawn to.
struct MaskTargets {
    int64_t masks = 0;
    const float* vectors[slots];
    float* planes[slots];

    void add(const float* vector, float* plane) {
        vectors[masks] = vector;
        planes[masks++] = plane;
    }
};

// The first step of the upscaling of a prompt's tile.
struct FirstStep {
    std::function<void(int64_t part, float* to)> write;  // [64, tile] of a part
    const float* bias;                                   // [4 parts, 64] that is yet to be added
};

// Memory to prefetch; `data` may be null.
struct Ahead {
    const std::byte* data;
    int64_t bytes;
};

class CanvasHead;

// A prompt's image tokens to logits: SAM's output upscaling, and a product with the mask vectors.
class MaskHead {
  public:
    explicit MaskHead(const Model& model);

    // Write the part of the planes that belongs to a tile; `state` is the tile of the image that
    // its prompt is on. A `canvas_head` gets what it keeps.
    void draw(const FirstStep& first, const ConstStateTile& state, int64_t tile,
              const MaskTargets& targets, const Ahead& ahead, CanvasHead* canvas_head);
    // Draw from the first step `rows` [4 parts, 64, tile], times `scale` [64] plus `shift` [64].
    void draw_scaled(const float* rows, int64_t tile, const MaskTargets& targets,
                     const float* scale, const float* shift);

  private:
    void set_vectors(const MaskTargets& targets);
    void write_pixels(int64_t tile, const MaskTargets& targets) const;
    // The masks of a part of a canvas after its GELU.
    void multiply(const float* canvas, int64_t part, int64_t masks) const;

    const Model& model_;
    // The masks' values at the sub-pixels of a tile: drawn_ [4 parts, masks, 4 parts, tile].
    Buffer vectors_, upscaled_, packed_upscaled_, canvas_, drawn_;
};

}  // namespace fastseg::cpu::sam_decoder
