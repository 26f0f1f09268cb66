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
    Byte* middle;   // [4 parts, 64, tile] floats; of SAM 2 alone
    Byte* fine;     // [4 parts, 4 finer parts, 32, tile] floats; likewise
};

using StateTile = BasicStateTile<std::byte>;
using ConstStateTile = BasicStateTile<const std::byte>;

// What the encoder makes of an image: the embedding [256, grid, grid], and
//   SAM 2   maps [grid * grid, 4 parts, 64] and [grid * grid, 4 parts, 4 finer parts, 32], parts x
//           before y and finer parts y before x
//   SAM-HQ  features [32, 4 * grid, 4 * grid]
using ImageMaps = std::vector<const float*>;

// A state is its tiles, then in float32 as many SharedMaps, then SAM-HQ's features.
int64_t state_bytes(const Model& model);
int64_t state_tile_bytes(const Model& model);
const float* hq_features(const Model& model, const std::byte* state);

StateTile state_tile(const Model& model, std::byte* tile);
ConstStateTile state_tile(const Model& model, const std::byte* tile);

// An image without a mask prompt to one tile of the state that begins at `to`; `floats` is scratch
// of 3 * 256 * tile floats.
void fill_state_tile(const Model& model, const ImageMaps& maps, int64_t tile, std::byte* to,
                     float* floats);

// A row of a mask prompt [4 * grid, 4 * grid] to [16, grid * grid], what is left of it before the
// last, a 1 x 1 convolution.
void shrink_mask_row(const Model& model, const float* mask, int64_t row, float* shrunk);

// The tile of an image without a mask prompt to that of an image with one, but for the maps of
// higher resolution, which a mask prompt does not change; scratch as above.
void fill_masked_tile(const Model& model, const ConstStateTile& plain, const float* shrunk,
                      int64_t tile, const StateTile& state, float* floats);

// Such a tile, which begins at `masked`, with those maps of the image without the mask prompt.
ConstStateTile with_mask(const Model& model, const ConstStateTile& plain, const std::byte* masked);

}  // namespace fastseg::cpu::sam_decoder
