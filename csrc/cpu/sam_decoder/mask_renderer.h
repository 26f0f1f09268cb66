// From what is kept of a few prompts to their low-resolution logits, tile by tile of the image.
#pragma once

#include <vector>

#include "cpu/sam_decoder/mask_head.h"
#include "cpu/sam_decoder/prompt_state.h"
#include "cpu/sam_decoder/tile_pass.h"

namespace fastseg::cpu::sam_decoder {

struct Sketch {
    ConstPromptState memory;
    std::vector<Outlines> outlines;  // as many as its masks need
};

// Makes the image tokens of prompts on one image once more, and draws their masks. The prompts read
// a tile of the image while it is in the cache.
class Pen {
  public:
    static constexpr int64_t most = 4;  // prompts at a time

    // `longest` is the most tokens that a prompt has.
    Pen(const Model& model, int64_t longest);

    // The part of the logits that belongs to the tiles; at most `most` sketches.
    void draw(const std::byte* state, TileRange tiles, const std::vector<Sketch>& sketches);

  private:
    // What a prompt sends to the image, layer by layer.
    struct Prompt {
        Sent sent[2];
    };

    void take(const ConstPromptState& memory, Prompt& prompt);
    ConstStateTile image(const std::byte* state, int64_t tile, const ConstPromptState& memory);

    const Model& model_;
    Sweep sweep_;
    MaskHead head_;
    Prompt prompts_[most];
    Buffer scratch_, own_;
};

}  // namespace fastseg::cpu::sam_decoder
