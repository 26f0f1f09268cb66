#include "cpu/sam_decoder/prompt_batch.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "cpu/nn/tile_config_guard.h"
#include "cpu/sam_decoder/batch_of.h"
#include "cpu/sam_decoder/low_rank_pass.h"
#include "cpu/sam_decoder/prompt_state.h"
#include "cpu/sam_decoder/tile_pass.h"

namespace fastseg::cpu::sam_decoder {
namespace {

constexpr int64_t tiles_of_part = 16;  // a multiple of every table's span
constexpr int64_t tiles_drawn = 4;     // by a thread at a time: few, so that none waits long

bool draws_all(const MasksAbove& masks) {
    return masks.threshold == -std::numeric_limits<float>::infinity();
}

// The slots of the masks that are drawn, given the predicted IoU [4] of all.
std::vector<int64_t> slots_above(const float* ious, const MasksAbove& masks) {
    std::vector<int64_t> above;
    for (int64_t slot = masks.first; slot < masks.end; ++slot)
        if (draws_all(masks) || ious[slot] > masks.threshold) above.push_back(slot);
    return above;
}

// False if none of the tile's logits, 4 x 4 of a token, are wanted. A padded image has many of
// these.
bool shows(int64_t grid, int64_t tile, const MasksAbove& masks) {
    const int64_t first = tile * tile_size, row = first / grid, column = first % grid;
    return 4 * row < masks.rows && (grid % tile_size != 0 || 4 * column < masks.columns);
}

}  // namespace

template <class Pass>
BatchOf<Pass>::BatchOf(const Model& model, int64_t largest, int64_t tokens, bool draws, int threads)
    : model_(model),
      team_(threads),
      tokens_(tokens),
      first_bytes_(Pass::first_bytes(model, tokens)),
      second_bytes_(Pass::second_bytes(model, tokens)),
      scratch_(float_buffer(Pass::Prompt::scratch_floats(model, tokens))),
      attended_(float_buffer(largest * tokens * inner)),
      final_queries_(float_buffer(largest * model.outputs() * inner)),
      prompts_(static_cast<size_t>(largest)) {
    for (Prompt& prompt : prompts_) {
        prompt.tokens = typename Pass::Prompt(model, tokens);
        for (const Stage stage : stages)
            prompt.accumulators[static_cast<int>(stage)] = Pass::accumulator(model, tokens, stage);
    }
    for (int index = 0; index < threads; ++index)
        scratch_of_thread_.push_back(std::make_unique<ThreadScratch>(model, tokens));
    const int64_t few = std::min(prompts_a_tile, largest);
    for (const Stage stage : stages)
        for (int64_t index = 0; index < few * (threads > 1 ? parts(model) : 1); ++index)
            partials_[static_cast<int>(stage)].push_back(Pass::accumulator(model, tokens, stage));
    first_ = Buffer::unwritten(largest * model.tiles() * first_bytes_);
    if (draws) second_ = Buffer::unwritten(few * model.tiles() * second_bytes_);
    if (draws) canvas_head_ = make_canvas_head(model);
}

template <class Pass>
void BatchOf<Pass>::run(const PromptImage& image, const float* points, const int32_t* labels,
                        int64_t count, const DecodeResult& out, int64_t prompt_state_size,
                        const MasksAbove& masks) {
    Tokens rows(model_, count, tokens_, team_);
    rows.embed(points, labels);
    for (int layer = 0; layer < 2; ++layer) {
        const Stage stage = stages[layer];
        rows.self_attend(model_.layers[layer], layer == 0);
        set_queries(rows, stage);
        const auto visit = [&](ThreadScratch& scratch, const TileCursor& at, const Prompt& prompt,
                               AttentionAccumulator& accumulator) {
            if (layer == 1)
                scratch.pass.update_first_layer(at, prompt.tokens, true,
                                                first_tile(index_of(prompt), at.tile));
            scratch.pass.attend(stage, at, prompt.tokens, accumulator, tokens_);
        };
        for_prompt_ranges(count,
                          [&](PromptRange range) { attend(image, range, stage, tokens_, visit); });
        finish_attention(stage, {0, count}, tokens_);
        rows.add_attention(model_.layers[layer], attended_.floats());
        set_keys_values(rows, layer, out.prompt_state, prompt_state_size);
    }
    rows.keep_output_tokens();
    const float* queries = rows.project_with_positions(model_.final_attention.query);
    std::copy_n(queries, count * model_.outputs() * inner, final_queries_.floats());
    for_prompt_ranges(count,
                      [&](PromptRange range) { finish_prompts(image, rows, range, out, masks); });
}

template <class Pass>
void BatchOf<Pass>::finish_prompts(const PromptImage& image, Tokens& rows, PromptRange range,
                                   const DecodeResult& out, const MasksAbove& masks) {
    const bool scores_first = masks.logits && !model_.table.bf16 && !draws_all(masks);
    const bool hq = model_.kind == Kind::sam_hq;
    ChosenTokens chosen{0};
    for (int64_t slot = masks.first; !scores_first && slot < masks.end; ++slot)
        chosen.push_back(1 + slot);
    if (!scores_first && hq) chosen.push_back(output_count);
    const int64_t tokens = static_cast<int64_t>(chosen.size());
    for (int64_t index = range.first; index < range.end; ++index) set_final_queries(index, chosen);
    const auto visit = [&](ThreadScratch& scratch, const TileCursor& at, const Prompt& prompt,
                           AttentionAccumulator& accumulator) {
        const int64_t index = index_of(prompt);
        if (first_bytes_)
            scratch.pass.load_first_layer(first_tile(index, at.tile), prompt.tokens);
        else
            scratch.pass.update_first_layer(at, prompt.tokens, false, nullptr);
        scratch.pass.update_second_layer(
            at, prompt.tokens, true,
            masks.logits ? second_tile(index - range.first, at.tile) : nullptr);
        scratch.pass.attend(Stage::last, at, prompt.tokens, accumulator, tokens);
    };
    attend(image, range, Stage::last, tokens, visit);
    add_final_attention(rows, range, chosen);
    std::vector<int64_t> prompts;
    for (int64_t index = range.first; index < range.end; ++index) prompts.push_back(index);
    rows.read_ious(prompts, out.ious);
    if (scores_first) {
        attend_masks_above(image, rows, range, out, masks);
    } else {
        for (int64_t slot = masks.first; slot < masks.end; ++slot)
            rows.read_vectors(prompts, slot, out.vectors);
        if (hq) rows.read_hq_vectors(prompts, out.vectors);
    }
    if (masks.logits) draw(image, range, out, masks);
}

template <class Pass>
void BatchOf<Pass>::attend_masks_above(const PromptImage& image, Tokens& rows, PromptRange range,
                                       const DecodeResult& out, const MasksAbove& masks) {
    std::vector<int64_t> prompts_of_slot[slots], drawn;
    const bool hq = model_.kind == Kind::sam_hq;
    for (int64_t index = range.first; index < range.end; ++index) {
        const std::vector<int64_t> above = slots_above(out.ious + index * slots, masks);
        if (above.empty()) continue;
        drawn.push_back(index);
        ChosenTokens chosen;
        for (const int64_t slot : above) {
            chosen.push_back(1 + slot);
            prompts_of_slot[slot].push_back(index);
        }
        if (hq) chosen.push_back(output_count);
        const int64_t tokens = static_cast<int64_t>(chosen.size());
        set_final_queries(index, chosen);
        const auto visit = [&](ThreadScratch& scratch, const TileCursor& at, const Prompt& prompt,
                               AttentionAccumulator& accumulator) {
            scratch.pass.load_first_layer(first_tile(index, at.tile), prompt.tokens);
            scratch.pass.load_second_layer(second_tile(index - range.first, at.tile));
            scratch.pass.attend(Stage::last, at, prompt.tokens, accumulator, tokens);
        };
        attend(image, {index, index + 1}, Stage::last, tokens, visit);
        add_final_attention(rows, {index, index + 1}, chosen);
    }
    for (int64_t slot = masks.first; slot < masks.end; ++slot)
        if (!prompts_of_slot[slot].empty())
            rows.read_vectors(prompts_of_slot[slot], slot, out.vectors);
    if (hq && !drawn.empty()) rows.read_hq_vectors(drawn, out.vectors);
}

template <class Pass>
void BatchOf<Pass>::set_final_queries(int64_t index, const ChosenTokens& chosen) {
    float queries[(output_count + 1) * inner];
    const float* of_prompt = final_queries_.floats() + index * model_.outputs() * inner;
    for (size_t i = 0; i < chosen.size(); ++i)
        std::copy_n(of_prompt + chosen[i] * inner, inner,
                    queries + static_cast<int64_t>(i) * inner);
    prompts_[static_cast<size_t>(index)].tokens.set_queries(
        model_, Stage::last, queries, static_cast<int64_t>(chosen.size()), scratch_.floats());
}

template <class Pass>
void BatchOf<Pass>::add_final_attention(Tokens& rows, PromptRange range,
                                        const ChosenTokens& chosen) {
    const int64_t tokens = static_cast<int64_t>(chosen.size());
    finish_attention(Stage::last, range, tokens);
    std::vector<int64_t> of_rows;
    for (int64_t index = range.first; index < range.end; ++index)
        for (const int64_t token : chosen) of_rows.push_back(index * model_.outputs() + token);
    rows.add_final_attention(attended_.floats() + range.first * tokens * inner, of_rows);
}

template <class Pass>
void BatchOf<Pass>::draw(const PromptImage& image, PromptRange range, const DecodeResult& out,
                         const MasksAbove& masks) {
    const int64_t area = model_.area();
    for (int64_t index = range.first; index < range.end; ++index) {
        MaskTargets targets;
        for (const int64_t slot : slots_above(out.ious + index * slots, masks))
            targets.add(out.vectors + (index * slots + slot) * model_.vector(),
                        masks.logits + (index * masks.masks() + slot - masks.first) * area);
        if (targets.masks == 0) continue;
        auto& prompt = prompts_[static_cast<size_t>(index)].tokens;
        prompt.set_upscaling(model_);
        for_parts(tiles_drawn, [&](ThreadScratch& scratch, int64_t, TileRange tiles) {
            for (int64_t tile = tiles.first; tile < tiles.end; ++tile) {
                if (!canvas_head_ && !shows(model_.grid, tile, masks)) continue;
                const TileCursor at = cursor(image, tile, tile, tile + 1);
                const std::byte* second = second_tile(index - range.first, tile);
                const bool last = tile + 1 == tiles.end;
                scratch.pass.load_first_layer(first_tile(index, tile), prompt);
                scratch.pass.load_second_layer(second);
                scratch.head.draw(
                    {[&](int64_t part, float* to) { scratch.pass.upscale(at, prompt, part, to); },
                     scratch.pass.first_bias()},
                    at.image, tile, targets,
                    {last ? nullptr : second + second_bytes_, second_bytes_}, canvas_head_.get());
            }
        });
        if (canvas_head_) canvas_head_->finish(image.state, {targets}, team_.size());
    }
}

template <class Pass>
AttentionAccumulator& BatchOf<Pass>::partial(Stage stage, int64_t part, int64_t index) {
    const int64_t few = std::min<int64_t>(prompts_a_tile, static_cast<int64_t>(prompts_.size()));
    return partials_[static_cast<int>(stage)]
                    [static_cast<size_t>((team_.size() > 1 ? part * few : 0) + index)];
}

// Visit a few prompts at a time.
template <class Pass>
template <class Visit>
void BatchOf<Pass>::for_prompt_ranges(int64_t count, const Visit& visit) {
    for (int64_t first = 0; first < count; first += prompts_a_tile)
        visit(PromptRange{first, std::min(first + prompts_a_tile, count)});
}

template <class Pass>
template <class Visit>
void BatchOf<Pass>::for_parts(int64_t size, const Visit& visit) {
    team_.run((model_.tiles() + size - 1) / size, [&](int thread, int64_t part) {
        const TileConfigGuard tile_config(model_.table);
        visit(*scratch_of_thread_[static_cast<size_t>(thread)], part,
              TileRange{part * size, std::min((part + 1) * size, model_.tiles())});
    });
}

template <class Pass>
template <class Visit>
void BatchOf<Pass>::attend(const PromptImage& image, PromptRange range, Stage stage, int64_t tokens,
                           const Visit& visit) {
    const int64_t count = range.end - range.first;
    Prompt* const prompts = &prompts_[static_cast<size_t>(range.first)];
    for (int64_t index = 0; index < count; ++index)
        prompts[index].accumulators[static_cast<int>(stage)].reset(model_, tokens);
    const auto merge = [&](int64_t part) {
        for (int64_t index = 0; index < count; ++index)
            prompts[index].accumulators[static_cast<int>(stage)].merge(
                model_, partial(stage, part, index), tokens);
    };
    const bool alone = team_.size() == 1;
    for_parts(tiles_of_part, [&](ThreadScratch& scratch, int64_t part, TileRange tiles) {
        for (int64_t index = 0; index < count; ++index)
            partial(stage, part, index).reset(model_, tokens);
        for_tiles(image, tiles, count, [&](const TileCursor& at, int64_t index) {
            visit(scratch, at, prompts[index], partial(stage, part, index));
        });
        if (alone) merge(part);
    });
    // Always in the same order, so that results do not depend on who was first.
    for (int64_t part = 0; !alone && part < parts(model_); ++part) merge(part);
}

// A span of tiles at a time, for one prompt after another.
template <class Pass>
template <class Visit>
void BatchOf<Pass>::for_tiles(const PromptImage& image, TileRange tiles, int64_t prompts,
                              const Visit& visit) const {
    const int64_t span = model_.table.span;
    for (int64_t first = tiles.first; first < tiles.end; first += span) {
        for (int64_t index = 0; index < prompts; ++index) {
            const int64_t end = std::min(first + span, tiles.end);
            for (int64_t tile = first; tile < end; ++tile)
                visit(cursor(image, tile, first, end), index);
        }
    }
}

template <class Pass>
TileCursor BatchOf<Pass>::cursor(const PromptImage& image, int64_t tile, int64_t first,
                                 int64_t end) const {
    const int64_t at = tile * state_tile_bytes(model_);
    ConstStateTile of_image = state_tile(model_, image.state + at);
    if (image.masked) of_image = with_mask(model_, of_image, image.masked + at);
    return {image.state,
            of_image,
            tile,
            tile - first,
            std::min(tile_size, model_.image_tokens() - tile * tile_size),
            tile + 1 == end};
}

template <class Pass>
void BatchOf<Pass>::set_queries(Tokens& rows, Stage stage) {
    const float* queries = rows.project_with_positions(model_.token_to_image(stage).query);
    for (int64_t index = 0; index < rows.prompts(); ++index)
        prompts_[static_cast<size_t>(index)].tokens.set_queries(
            model_, stage, queries + index * rows.tokens() * inner, rows.tokens(),
            scratch_.floats());
}

template <class Pass>
void BatchOf<Pass>::finish_attention(Stage stage, PromptRange range, int64_t tokens) {
    for (int64_t index = range.first; index < range.end; ++index) {
        Prompt& prompt = prompts_[static_cast<size_t>(index)];
        prompt.tokens.finish(model_, stage, prompt.accumulators[static_cast<int>(stage)], tokens,
                             attended_.floats() + index * tokens * inner, scratch_.floats());
    }
}

template <class Pass>
void BatchOf<Pass>::set_keys_values(Tokens& rows, int layer, float* prompt_state,
                                    int64_t prompt_state_size) {
    const ImageToTokenAttention& attention = model_.layers[layer].image_to_token;
    const int64_t size = rows.tokens() * inner;
    const float* keys = rows.project_with_positions(attention.key);
    const float* values = rows.project(attention.value);
    for (int64_t index = 0; index < rows.prompts(); ++index) {
        prompts_[static_cast<size_t>(index)].tokens.set_keys_values(
            model_, layer, keys + index * size, values + index * size, rows.tokens(),
            scratch_.floats());
        if (!prompt_state) continue;
        const PromptState stored(prompt_state + index * prompt_state_size, rows.tokens());
        std::memcpy(stored.keys(layer), keys + index * size,
                    static_cast<size_t>(size) * sizeof(float));
        std::memcpy(stored.values(layer), values + index * size,
                    static_cast<size_t>(size) * sizeof(float));
    }
}

int64_t PromptBatch::parts(const Model& model) {
    return (model.tiles() + tiles_of_part - 1) / tiles_of_part;
}

std::unique_ptr<PromptBatch> make_prompt_batch(const Model& model, bool low_rank, int64_t largest,
                                               int64_t tokens, bool draws, int threads) {
    if (low_rank)
        return std::make_unique<BatchOf<LowRankPass>>(model, largest, tokens, draws, threads);
    return std::make_unique<BatchOf<TilePass>>(model, largest, tokens, draws, threads);
}

}  // namespace fastseg::cpu::sam_decoder
