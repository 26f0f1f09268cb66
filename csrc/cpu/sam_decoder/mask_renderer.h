// From the states of a few prompts to their low-resolution logits, tile by tile of the image.
#pragma once

#include <memory>
#include <vector>

#include "cpu/sam_decoder/low_rank_pass.h"
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
    // Prompts of either form, by their place among the tasks.
    template <class Pass>
    struct Form {
        Form(const Model& model, int64_t longest);
        Pass pass;
        typename Pass::Prompt prompts[max_prompts];
        Buffer scratch;
    };

    template <class Pass>
    void load(Form<Pass>& form, const ConstPromptState& state, size_t index);
    template <class Pass>
    void draw(Form<Pass>& form, size_t index, const TileCursor& at, const RenderTask& task,
              Ahead& ahead, CanvasHead* canvas_head);
    ConstStateTile image(const std::byte* state, int64_t tile, const ConstPromptState& prompt);

    const Model& model_;
    MaskHead head_;
    int64_t longest_;
    // Made when they are needed.
    std::unique_ptr<Form<TilePass>> plain_;
    std::unique_ptr<Form<LowRankPass>> low_rank_;
    Buffer scratch_, masked_tile_;
};

}  // namespace fastseg::cpu::sam_decoder
