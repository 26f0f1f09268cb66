#include "cpu/sam_decoder/mask_renderer.h"

#include <algorithm>

namespace fastseg::cpu::sam_decoder {

Pen::Pen(const Model& model, int64_t longest)
    : model_(model), sweep_(model, longest), head_(model) {
    for (Prompt& prompt : prompts_) {
        prompt.sent[0] = Sent(model, longest, false);
        prompt.sent[1] = Sent(model, longest, true);
    }
    scratch_ = float_buffer(width * std::max(2 * model.padded(heads * longest), 3 * tile_size));
    own_ = Buffer(state_tile_bytes(model));
}

void Pen::take(const ConstPromptState& memory, Prompt& prompt) {
    for (int layer = 0; layer < 2; ++layer)
        prompt.sent[layer].fill(model_, model_.layers[layer].update, memory.keys(layer),
                                memory.values(layer), memory.tokens(), scratch_.floats());
}

void Pen::draw(const std::byte* state, TileRange tiles, const std::vector<Sketch>& sketches) {
    const int64_t bytes = state_tile_bytes(model_);
    for (size_t index = 0; index < sketches.size(); ++index)
        take(sketches[index].memory, prompts_[index]);
    for (int64_t tile = tiles.first; tile < tiles.end; ++tile) {
        // The image is larger than the cache; while the first prompt is drawn there is time to
        // fetch the next tile.
        const std::byte* ahead = tile + 1 < tiles.end ? state + (tile + 1) * bytes : nullptr;
        for (size_t index = 0; index < sketches.size(); ++index) {
            const Sketch& sketch = sketches[index];
            const Prompt& prompt = prompts_[index];
            const int64_t tokens = sketch.memory.tokens();
            sweep_.update_first(image(state, tile, sketch.memory), prompt.sent[0], tokens, 0,
                                false);
            sweep_.update_second(tile, prompt.sent[1], tokens, 0, false);
            for (const Outlines& outlines : sketch.outlines) {
                head_.draw(sweep_.image(), tile, outlines, ahead,
                           width * tile_size * model_.element());
                ahead = nullptr;
            }
        }
    }
}

ConstStateTile Pen::image(const std::byte* state, int64_t tile, const ConstPromptState& memory) {
    const ConstStateTile plain = state_tile(model_, state + tile * state_tile_bytes(model_));
    if (!memory.masked()) return plain;
    const StateTile masked = state_tile(model_, own_.bytes());
    fill_masked_tile(model_, plain, memory.mask(), tile, masked, scratch_.floats());
    return {masked.image, masked.keys, masked.values, masked.queries};
}

}  // namespace fastseg::cpu::sam_decoder
