// What the prompts of one image share: its tokens and the first layer's projections of them.
#pragma once

#include "cpu/sam_decoder/model.h"

namespace fastseg::cpu::sam_decoder {

// One tile of the state.
struct StateTile {
    void* image;         // [256, tile] kept
    std::byte* keys;     // [128, tile] in format b
    std::byte* values;   // [tile, 128] in format b
    std::byte* queries;  // [128, tile] in format b
};

int64_t state_tile_bytes(const Model& model);

StateTile state_tile(const Model& model, void* tile);

// embedding [256, grid, grid] without a mask prompt to one tile of its state; `floats` is scratch
// of 3 * 256 * tile floats.
void fill_state_tile(const Model& model, const float* embedding, int64_t tile,
                     const StateTile& state, float* floats);

// A mask prompt [4 * grid, 4 * grid] to [16, grid * grid], what is left of it before the last, a
// 1 x 1 convolution.
void shrink_mask(const Model& model, const float* mask, float* shrunk);

// The tile of an image without a mask prompt to that of an image with one; scratch as above.
void fill_masked_tile(const Model& model, const StateTile& plain, const float* shrunk, int64_t tile,
                      const StateTile& state, float* floats);

}  // namespace fastseg::cpu::sam_decoder
