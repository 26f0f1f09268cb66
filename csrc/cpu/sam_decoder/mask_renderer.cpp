#include "cpu/sam_decoder/mask_renderer.h"

#include <algorithm>

namespace fastseg::cpu::sam_decoder {

template <class Pass>
MaskRenderer::Form<Pass>::Form(const Model& model, int64_t longest)
    : pass(model, longest), scratch(float_buffer(Pass::Prompt::scratch_floats(model, longest))) {
    for (auto& prompt : prompts) prompt = typename Pass::Prompt(model, longest);
}

MaskRenderer::MaskRenderer(const Model& model, int64_t longest)
    : model_(model),
      head_(model),
      longest_(longest),
      scratch_(float_buffer(width * 3 * tile_size)),
      masked_tile_(state_tile_bytes(model)) {}

template <class Pass>
void MaskRenderer::load(Form<Pass>& form, const ConstPromptState& state, size_t index) {
    auto& prompt = form.prompts[index];
    for (int layer = 0; layer < 2; ++layer)
        prompt.set_keys_values(model_, layer, state.keys(layer), state.values(layer),
                               state.tokens(), form.scratch.floats());
    prompt.set_upscaling(model_);
}

template <class Pass>
void MaskRenderer::draw(Form<Pass>& form, size_t index, const TileCursor& at,
                        const RenderTask& task, Ahead& ahead, CanvasHead* canvas_head) {
    const auto& prompt = form.prompts[index];
    form.pass.update_first_layer(at, prompt, false, nullptr);
    form.pass.update_second_layer(at, prompt, false, nullptr);
    for (const MaskTargets& targets : task.targets) {
        head_.draw({[&](int64_t part, float* to) { form.pass.upscale(at, prompt, part, to); },
                    form.pass.first_bias()},
                   at.image, at.tile, targets, ahead, canvas_head);
        ahead.data = nullptr;
    }
}

void MaskRenderer::draw(const std::byte* state, TileRange tiles,
                        const std::vector<RenderTask>& tasks, CanvasHead* canvas_head) {
    const auto low_rank = [&](const RenderTask& task) {
        return model_.takes_low_rank(task.prompt.tokens(), task.prompt.masked());
    };
    for (size_t index = 0; index < tasks.size(); ++index) {
        if (low_rank(tasks[index])) {
            if (!low_rank_)
                low_rank_ = std::make_unique<Form<LowRankPass>>(
                    model_, std::min(longest_, most_low_rank_tokens));
            load(*low_rank_, tasks[index].prompt, index);
        } else {
            if (!plain_) plain_ = std::make_unique<Form<TilePass>>(model_, longest_);
            load(*plain_, tasks[index].prompt, index);
        }
    }
    const int64_t bytes = state_tile_bytes(model_);
    for (int64_t tile = tiles.first; tile < tiles.end; ++tile) {
        // The image is larger than the cache; while the first prompt is drawn there is time to
        // prefetch the next tile.
        Ahead ahead{tile + 1 < tiles.end ? state + (tile + 1) * bytes : nullptr,
                    width * tile_size * model_.element()};
        for (size_t index = 0; index < tasks.size(); ++index) {
            const RenderTask& task = tasks[index];
            const TileCursor at{state, image(state, tile, task.prompt), tile, 0, tile_size, true};
            if (low_rank(task))
                draw(*low_rank_, index, at, task, ahead, canvas_head);
            else
                draw(*plain_, index, at, task, ahead, canvas_head);
        }
    }
}

ConstStateTile MaskRenderer::image(const std::byte* state, int64_t tile,
                                   const ConstPromptState& prompt) {
    const ConstStateTile plain = state_tile(model_, state + tile * state_tile_bytes(model_));
    if (!prompt.masked()) return plain;
    fill_masked_tile(model_, plain, prompt.mask(), tile, state_tile(model_, masked_tile_.bytes()),
                     scratch_.floats());
    return with_mask(model_, plain, masked_tile_.bytes());
}

}  // namespace fastseg::cpu::sam_decoder
