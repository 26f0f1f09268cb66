#include "cpu/sam_decoder/mask_renderer.h"

#include <algorithm>

namespace fastseg::cpu::sam_decoder {

MaskRenderer::MaskRenderer(const Model& model, int64_t longest)
    : model_(model), tile_pass_(model, longest), head_(model) {
    for (Prompt& prompt : prompts_) {
        prompt.keys_values[0] = TokenKeysValues(model, longest, false);
        prompt.keys_values[1] = TokenKeysValues(model, longest, true);
    }
    scratch_ = float_buffer(width * std::max(2 * model.padded(heads * longest), 3 * tile_size));
    masked_tile_ = Buffer(state_tile_bytes(model));
}

void MaskRenderer::load(const ConstPromptState& state, Prompt& prompt) {
    for (int layer = 0; layer < 2; ++layer)
        prompt.keys_values[layer].fill(model_, model_.layers[layer].image_to_token,
                                       state.keys(layer), state.values(layer), state.tokens(),
                                       scratch_.floats());
}

void MaskRenderer::draw(const std::byte* state, TileRange tiles,
                        const std::vector<RenderTask>& tasks, CanvasHead* canvas_head) {
    const int64_t bytes = state_tile_bytes(model_);
    for (size_t index = 0; index < tasks.size(); ++index)
        load(tasks[index].prompt, prompts_[index]);
    for (int64_t tile = tiles.first; tile < tiles.end; ++tile) {
        // The image is larger than the cache; while the first prompt is drawn there is time to
        // prefetch the next tile.
        const std::byte* ahead = tile + 1 < tiles.end ? state + (tile + 1) * bytes : nullptr;
        for (size_t index = 0; index < tasks.size(); ++index) {
            const RenderTask& task = tasks[index];
            const Prompt& prompt = prompts_[index];
            const int64_t tokens = task.prompt.tokens();
            const ConstStateTile of_prompt = image(state, tile, task.prompt);
            tile_pass_.update_first_layer(of_prompt, prompt.keys_values[0], tokens, 0, false);
            tile_pass_.update_second_layer(tile, prompt.keys_values[1], tokens, 0, false);
            for (const MaskTargets& targets : task.targets) {
                head_.draw(tile_pass_.image(), of_prompt, tile, targets, ahead,
                           width * tile_size * model_.element(), canvas_head);
                ahead = nullptr;
            }
        }
    }
}

ConstStateTile MaskRenderer::image(const std::byte* state, int64_t tile,
                                   const ConstPromptState& prompt) {
    const ConstStateTile plain = state_tile(model_, state + tile * state_tile_bytes(model_));
    if (!prompt.masked()) return plain;
    const StateTile masked = state_tile(model_, masked_tile_.bytes());
    fill_masked_tile(model_, plain, prompt.mask(), tile, masked, scratch_.floats());
    return {masked.image, masked.keys, masked.values, masked.queries, plain.middle, plain.fine};
}

}  // namespace fastseg::cpu::sam_decoder
