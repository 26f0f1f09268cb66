// The state that the prompts of one image share: its tokens and the first layer's projections of
// them.
#pragma once

#include "cpu/sam_decoder/model.h"

namespace fastseg::cpu::sam_decoder {

// One tile of the state, to be written or only to be read.
template <class Byte>
struct BasicStateTile {
    Byte* image;    // [256, tile] as a residual
    Byte* keys;     // [128, tile] in format b
    Byte* values;   // [tile, 128] in format b
    Byte* queries;  // [128, tile] in format b
    Byte* middle;   // [4 parts, 64, tile] floats; null without maps of higher resolution
    Byte* fine;     // [4 parts, 4 finer parts, 32, tile] floats; likewise
};

using StateTile = BasicStateTile<std::byte>;
using ConstStateTile = BasicStateTile<const std::byte>;

// What the encoder makes of an image.
struct ImageMaps {
    const float* embedding;         // [256, grid, grid]
    const float* middle = nullptr;  // [grid * grid, 4 parts, 64], x before y; null for SAM
    const float* fine = nullptr;    // [grid * grid, 4 parts, 4 finer parts, 32]; null for SAM
};

int64_t state_tile_bytes(const Model& model);

StateTile state_tile(const Model& model, std::byte* tile);
ConstStateTile state_tile(const Model& model, const std::byte* tile);

// An image without a mask prompt to one tile of its state; `floats` is scratch of 3 * 256 * tile
// floats.
void fill_state_tile(const Model& model, const ImageMaps& maps, int64_t tile,
                     const StateTile& state, float* floats);

// A mask prompt [4 * grid, 4 * grid] to [16, grid * grid], what is left of it before the last, a
// 1 x 1 convolution.
void shrink_mask(const Model& model, const float* mask, float* shrunk);

// The tile of an image without a mask prompt to that of an image with one, but for the maps of
// higher resolution, which a mask prompt does not change; scratch as above.
void fill_masked_tile(const Model& model, const ConstStateTile& plain, const float* shrunk,
                      int64_t tile, const StateTile& state, float* floats);

}  // namespace fastseg::cpu::sam_decoder
