// What all prompts of an image share in the low-rank form: products of its centred tokens, see
// low_rank_weights.h.
#pragma once

#include "cpu/sam_decoder/model.h"

namespace fastseg::cpu::sam_decoder {

inline constexpr int64_t shared_rows = 8 * inner + width;  // of LowRankWeights::shared
inline constexpr int64_t shared_sums = 3;                  // a token, beside these

// One tile: rows of [.., tile], in the order of LowRankWeights::shared, values token by token.
template <class Float>
struct BasicSharedMaps {
    Float* products1;   // [128, tile] inner products with values of layer 1, twice
    Float* keys;        // [128, tile] of the token-to-image attention of layer 2
    Float* queries;     // [128, tile] of the image-to-token attention of layer 2
    Float* products11;  // [128, tile] behind the first norm, as products1
    Float* products2;   // [128, tile] with values of layer 2, once
    Float* final_keys;  // [128, tile]
    Float* upscaled;    // [256, tile]
    Float* values;      // [tile, 128]
    Float* final_values;
    Float* squares;         // [tile] of the centred tokens
    Float* middle_squares;  // [tile] behind the first norm
    Float* middle_shift;    // [tile] inner products with the middle shift
};

using SharedMaps = BasicSharedMaps<const float>;

// Floats of one tile; 0 for tables that do not use this form.
int64_t shared_tile_floats(const Model& model);

SharedMaps shared_maps(const Model& model, const std::byte* state, int64_t tile);

// Of one tile `image` [256, tile] to `to`; `floats` is scratch of 2 * 256 * tile floats.
void fill_shared_maps(const Model& model, const float* image, float* to, float* floats);

}  // namespace fastseg::cpu::sam_decoder
