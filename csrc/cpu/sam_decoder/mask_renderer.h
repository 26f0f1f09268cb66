// From the states of a few prompts to their low-resolution logits, tile by tile of the image.
#pragma once

#include <vector>

#include "cpu/sam_decoder/mask_head.h"
#include "cpu/sam_decoder/prompt_state.h"
#include "cpu/sam_decoder/tile_pass.h"

namespace fastseg::cpu::sam_decoder {

struct RenderTask {
    ConstPromptState prompt;
    std::vector<MaskTargets> targets;  // as many as the prompt's masks need
};

// Makes the image tokens of prompts on one image again and draws their masks. The prompts read a
// tile of the image while it is in the cache.
class MaskRenderer {
  public:
    static constexpr int64_t max_prompts = 4;  // at a time

    // `longest` is the most tokens that a prompt has.
    MaskRenderer(const Model& model, int64_t longest);

    // Write the logits of these tiles; at most `max_prompts` tasks, with a `canvas_head` one.
    void draw(const std::byte* state, TileRange tiles, const std::vector<RenderTask>& tasks,
              CanvasHead* canvas_head);

  private:
    // A prompt's keys and values, layer by layer.
    struct Prompt {
        TokenKeysValues keys_values[2];
    };

    void load(const ConstPromptState& state, Prompt& prompt);
    ConstStateTile image(const std::byte* state, int64_t tile, const ConstPromptState& prompt);

    const Model& model_;
    TilePass tile_pass_;
    MaskHead head_;
    Prompt prompts_[max_prompts];
    Buffer scratch_, masked_tile_;
};

}  // namespace fastseg::cpu::sam_decoder
