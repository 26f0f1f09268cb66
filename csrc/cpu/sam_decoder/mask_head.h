// From a tile of a prompt's image tokens to its part of the low-resolution logits.
#pragma once

#include "cpu/sam_decoder/model.h"

namespace fastseg::cpu::sam_decoder {

struct TileRange {
    int64_t first, end;
};

// Masks of a prompt: their vectors and where their planes [4 * grid, 4 * grid] lie.
struct Outlines {
    int64_t masks = 0;
    const float* vectors[slots];
    float* planes[slots];

    void add(const float* vector, float* plane) {
        vectors[masks] = vector;
        planes[masks++] = plane;
    }
};

// Image tokens as a prompt leaves them to logits: SAM's output upscaling, and a product.
class MaskHead {
  public:
    explicit MaskHead(const Model& model);

    // Write the part of the planes that belongs to a tile; `image` is [256, tile] in format b.
    // Meanwhile `ahead`, a cache's next `ahead_bytes`, is fetched, if it is not null.
    void draw(const void* image, int64_t tile, const Outlines& outlines, const std::byte* ahead,
              int64_t ahead_bytes);

  private:
    void place(int64_t tile, const Outlines& outlines) const;

    const Model& model_;
    // The masks' values at the sub-pixels of a tile: drawn_ [4 parts, masks, 4 parts, tile].
    Buffer vectors_, upscaled_, upscaled_as_b_, canvas_, drawn_;
};

}  // namespace fastseg::cpu::sam_decoder
