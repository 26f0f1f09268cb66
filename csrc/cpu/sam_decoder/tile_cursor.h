// A tile of an image on the way through the decoder.
#pragma once

#include "cpu/sam_decoder/image_state.h"
#include "cpu/sam_decoder/model.h"

namespace fastseg::cpu::sam_decoder {

inline constexpr float masked_logit = -1e30f;  // of tokens beyond the end of the image

struct TileRange {
    int64_t first, end;
};

// The image that prompts are on.
struct PromptImage {
    const std::byte* state;
    const std::byte* masked;  // the tiles of its state with a mask prompt added, or null
};

struct TileCursor {
    const std::byte* state;  // of the whole image
    ConstStateTile image;
    int64_t tile, slot;  // its number, and its place in a span of tiles
    int64_t valid;       // tokens before the end of the image
    bool ends_span;
};

}  // namespace fastseg::cpu::sam_decoder
