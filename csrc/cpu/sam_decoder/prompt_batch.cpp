#include "cpu/sam_decoder/prompt_batch.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>
#include <numeric>

#include "cpu/nn/tile_config_guard.h"
#include "cpu/support/parallel.h"

namespace fastseg::cpu::sam_decoder {
namespace {

constexpr int64_t tiles_of_part = 16;  // a multiple of every table's span

int64_t tile_bytes(const Model& model) {
    return width * tile_size * model.element();
}

}  // namespace

int64_t PromptBatch::parts(const Model& model) {
    return (model.tiles() + tiles_of_part - 1) / tiles_of_part;
}

PromptBatch::PromptBatch(const Model& model, int64_t largest, int64_t tokens, bool draws,
                         int threads)
    : model_(model),
      tokens_(tokens),
      scratch_(float_buffer(2 * width * model.padded(heads * tokens))),
      attended_(float_buffer(largest * tokens * inner)),
      final_queries_(float_buffer(largest * model.outputs() * inner)),
      prompts_(static_cast<size_t>(largest)) {
    for (Prompt& prompt : prompts_) {
        for (const Form form : {projected, folded}) {
            prompt.queries[form] = TokenQueries(model, tokens, form == folded);
            prompt.accumulator[form] = AttentionAccumulator(model, tokens, form == folded);
        }
        prompt.keys_values[0] = TokenKeysValues(model, tokens, false);
        prompt.keys_values[1] = TokenKeysValues(model, tokens, true);
    }
    for (int index = 0; index < threads; ++index)
        threads_.push_back(std::make_unique<ThreadScratch>(model, tokens));
    const int64_t few = std::min(prompts_a_tile, largest);
    for (const Form form : {projected, folded})
        for (int64_t index = 0; index < few * (threads > 1 ? parts(model) : 1); ++index)
            partials_[form].emplace_back(model, tokens, form == folded);
    if (draws) image_tokens_ = Buffer::unwritten(few * model.tiles() * tile_bytes(model));
    if (draws) canvas_head_ = make_canvas_head(model);
}

void PromptBatch::run(const std::byte* state, const float* points, const int32_t* labels,
                      int64_t count, const DecodeResult& out, int64_t prompt_state_size,
                      const MasksAbove& masks) {
    Tokens rows(model_, count, tokens_);
    rows.embed(points, labels);
    const auto layer = [&](int number, Form form, const auto& visit) {
        const TokenToImageAttention& attention = model_.layers[number].token_to_image;
        rows.self_attend(model_.layers[number], number == 0);
        set_queries(rows, attention, form);
        for_prompt_ranges(count,
                          [&](PromptRange range) { attend(state, range, form, tokens_, visit); });
        finish_attention(attention, form, {0, count}, tokens_);
        rows.add_attention(model_.layers[number], attended_.floats());
        set_keys_values(rows, number, out.prompt_state, prompt_state_size);
    };
    layer(0, projected,
          [&](ThreadScratch& scratch, const TileCursor& at, const Prompt& prompt,
              AttentionAccumulator& accumulator) {
              scratch.tile_pass.attend_projected(at.image, at.valid, prompt.queries[projected],
                                                 accumulator, tokens_);
          });
    layer(1, folded,
          [&](ThreadScratch& scratch, const TileCursor& at, const Prompt& prompt,
              AttentionAccumulator& accumulator) {
              scratch.tile_pass.update_first_layer(at.image, prompt.keys_values[0], tokens_,
                                                   at.slot, true);
              attend_tile(scratch, model_.layers[1].token_to_image, at, prompt, accumulator,
                          tokens_);
          });
    rows.keep_output_tokens();
    const float* queries = rows.project_with_positions(model_.final_attention.query);
    std::copy_n(queries, count * model_.outputs() * inner, final_queries_.floats());
    for_prompt_ranges(count,
                      [&](PromptRange range) { finish_prompts(state, rows, range, out, masks); });
}

void PromptBatch::finish_prompts(const std::byte* state, Tokens& rows, PromptRange range,
                                 const DecodeResult& out, const MasksAbove& masks) {
    const bool scores_first = masks.logits && !model_.table.bf16;
    ChosenTokens chosen(static_cast<size_t>(scores_first ? 1 : model_.outputs()));
    std::iota(chosen.begin(), chosen.end(), 0);
    const int64_t tokens = static_cast<int64_t>(chosen.size());
    for (int64_t index = range.first; index < range.end; ++index) set_final_queries(index, chosen);
    const auto visit = [&](ThreadScratch& scratch, const TileCursor& at, const Prompt& prompt,
                           AttentionAccumulator& accumulator) {
        scratch.tile_pass.update_first_layer(at.image, prompt.keys_values[0], tokens_, at.slot,
                                             false);
        scratch.tile_pass.update_second_layer(at.tile, prompt.keys_values[1], tokens_, at.slot,
                                              true);
        if (masks.logits)
            std::memcpy(
                image_tokens(&prompt - &prompts_[static_cast<size_t>(range.first)], at.tile),
                scratch.tile_pass.image(), static_cast<size_t>(tile_bytes(model_)));
        attend_tile(scratch, model_.final_attention, at, prompt, accumulator, tokens);
    };
    attend(state, range, folded, tokens, visit);
    add_final_attention(rows, range, chosen);
    std::vector<int64_t> prompts;
    for (int64_t index = range.first; index < range.end; ++index) prompts.push_back(index);
    rows.read_ious(prompts, out.ious);
    if (scores_first) {
        attend_masks_above(state, rows, range, out, masks.threshold);
    } else {
        for (int64_t slot = 0; slot < slots; ++slot) rows.read_vectors(prompts, slot, out.vectors);
        if (model_.kind == Kind::sam_hq) rows.read_hq_vectors(prompts, out.vectors);
    }
    if (masks.logits) draw(state, range, out, masks);
}

void PromptBatch::attend_masks_above(const std::byte* state, Tokens& rows, PromptRange range,
                                     const DecodeResult& out, float threshold) {
    std::vector<int64_t> prompts_of_slot[slots], drawn;
    const bool hq = model_.kind == Kind::sam_hq;
    for (int64_t index = range.first; index < range.end; ++index) {
        const std::vector<int64_t> above = slots_above(out.ious + index * slots, threshold);
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
            scratch.tile_pass.set_image(image_tokens(index - range.first, at.tile));
            attend_tile(scratch, model_.final_attention, at, prompt, accumulator, tokens);
        };
        attend(state, {index, index + 1}, folded, tokens, visit);
        add_final_attention(rows, {index, index + 1}, chosen);
    }
    for (int64_t slot = 1; slot < slots; ++slot)
        if (!prompts_of_slot[slot].empty())
            rows.read_vectors(prompts_of_slot[slot], slot, out.vectors);
    if (hq && !drawn.empty()) rows.read_hq_vectors(drawn, out.vectors);
}

std::vector<int64_t> PromptBatch::slots_above(const float* ious, float threshold) {
    const bool all = threshold == -std::numeric_limits<float>::infinity();
    std::vector<int64_t> above;
    for (int64_t slot = 1; slot < slots; ++slot)
        if (all || ious[slot] > threshold) above.push_back(slot);
    return above;
}

void PromptBatch::set_final_queries(int64_t index, const ChosenTokens& chosen) {
    float queries[(output_count + 1) * inner];
    const float* of_prompt = final_queries_.floats() + index * model_.outputs() * inner;
    for (size_t i = 0; i < chosen.size(); ++i)
        std::copy_n(of_prompt + chosen[i] * inner, inner,
                    queries + static_cast<int64_t>(i) * inner);
    prompts_[static_cast<size_t>(index)].queries[folded].fill(
        model_, model_.final_attention, queries, static_cast<int64_t>(chosen.size()),
        scratch_.floats());
}

void PromptBatch::add_final_attention(Tokens& rows, PromptRange range, const ChosenTokens& chosen) {
    const int64_t tokens = static_cast<int64_t>(chosen.size());
    finish_attention(model_.final_attention, folded, range, tokens);
    std::vector<int64_t> of_rows;
    for (int64_t index = range.first; index < range.end; ++index)
        for (const int64_t token : chosen) of_rows.push_back(index * model_.outputs() + token);
    rows.add_final_attention(attended_.floats() + range.first * tokens * inner, of_rows);
}

void PromptBatch::draw(const std::byte* state, PromptRange range, const DecodeResult& out,
                       const MasksAbove& masks) {
    const int64_t area = model_.area();
    for (int64_t index = range.first; index < range.end; ++index) {
        MaskTargets targets;
        for (const int64_t slot : slots_above(out.ious + index * slots, masks.threshold))
            targets.add(out.vectors + (index * slots + slot) * model_.vector(),
                        masks.logits + (index * (slots - 1) + slot - 1) * area);
        if (targets.masks == 0) continue;
        for_parts([&](ThreadScratch& scratch, int64_t, TileRange tiles) {
            for (int64_t tile = tiles.first; tile < tiles.end; ++tile) {
                const std::byte* image = image_tokens(index - range.first, tile);
                const bool last = tile + 1 == tiles.end;
                scratch.head.draw(image,
                                  state_tile(model_, state + tile * state_tile_bytes(model_)), tile,
                                  targets, last ? nullptr : image + tile_bytes(model_),
                                  tile_bytes(model_), canvas_head_.get());
            }
        });
        if (canvas_head_) canvas_head_->finish(state, {targets}, static_cast<int>(threads_.size()));
    }
}

std::byte* PromptBatch::image_tokens(int64_t index, int64_t tile) const {
    return image_tokens_.bytes() + (index * model_.tiles() + tile) * tile_bytes(model_);
}

AttentionAccumulator& PromptBatch::partial(Form form, int64_t part, int64_t index) {
    const int64_t few = std::min<int64_t>(prompts_a_tile, static_cast<int64_t>(prompts_.size()));
    return partials_[form][static_cast<size_t>((threads_.size() > 1 ? part * few : 0) + index)];
}

void PromptBatch::attend_tile(ThreadScratch& scratch, const TokenToImageAttention& attention,
                              const TileCursor& at, const Prompt& prompt,
                              AttentionAccumulator& accumulator, int64_t tokens) const {
    scratch.tile_pass.attend_folded(attention, at.tile, at.valid, prompt.queries[folded],
                                    accumulator, tokens, at.slot);
    if (at.ends_span) scratch.tile_pass.accumulate_pending(accumulator, tokens);
}

// Visit a few prompts at a time.
template <class Visit>
void PromptBatch::for_prompt_ranges(int64_t count, const Visit& visit) {
    for (int64_t first = 0; first < count; first += prompts_a_tile)
        visit(PromptRange{first, std::min(first + prompts_a_tile, count)});
}

template <class Visit>
void PromptBatch::for_parts(const Visit& visit) {
    std::atomic<size_t> next{0};
    parallel_for(static_cast<int>(threads_.size()), parts(model_), [&] {
        ThreadScratch& scratch = *threads_[next++];
        return [&](int64_t part) {
            const TileConfigGuard tile_config(model_.table);
            visit(scratch, part,
                  TileRange{part * tiles_of_part,
                            std::min((part + 1) * tiles_of_part, model_.tiles())});
        };
    });
}

template <class Visit>
void PromptBatch::attend(const std::byte* state, PromptRange range, Form form, int64_t tokens,
                         const Visit& visit) {
    const int64_t count = range.end - range.first;
    Prompt* const prompts = &prompts_[static_cast<size_t>(range.first)];
    for (int64_t index = 0; index < count; ++index)
        prompts[index].accumulator[form].reset(model_, tokens);
    const auto merge = [&](int64_t part) {
        for (int64_t index = 0; index < count; ++index)
            prompts[index].accumulator[form].merge(model_, partial(form, part, index), tokens);
    };
    const bool alone = threads_.size() == 1;
    for_parts([&](ThreadScratch& scratch, int64_t part, TileRange tiles) {
        for (int64_t index = 0; index < count; ++index)
            partial(form, part, index).reset(model_, tokens);
        for_tiles(state, tiles, count, [&](const TileCursor& at, int64_t index) {
            visit(scratch, at, prompts[index], partial(form, part, index));
        });
        if (alone) merge(part);
    });
    // Always in the same order, so that results do not depend on who was first.
    for (int64_t part = 0; !alone && part < parts(model_); ++part) merge(part);
}

// A span of tiles at a time, for one prompt after another.
template <class Visit>
void PromptBatch::for_tiles(const std::byte* state, TileRange tiles, int64_t prompts,
                            const Visit& visit) const {
    const int64_t span = model_.table.span;
    for (int64_t first = tiles.first; first < tiles.end; first += span) {
        for (int64_t index = 0; index < prompts; ++index) {
            const int64_t end = std::min(first + span, tiles.end);
            for (int64_t tile = first; tile < end; ++tile) {
                const int64_t valid = std::min(tile_size, model_.image_tokens() - tile * tile_size);
                visit(TileCursor{state_tile(model_, state + tile * state_tile_bytes(model_)), tile,
                                 tile - first, valid, tile + 1 == end},
                      index);
            }
        }
    }
}

void PromptBatch::set_queries(Tokens& rows, const TokenToImageAttention& attention, Form form) {
    const float* queries = rows.project_with_positions(attention.query);
    for (int64_t index = 0; index < rows.prompts(); ++index)
        prompts_[static_cast<size_t>(index)].queries[form].fill(
            model_, attention, queries + index * rows.tokens() * inner, rows.tokens(),
            scratch_.floats());
}

void PromptBatch::finish_attention(const TokenToImageAttention& attention, Form form,
                                   PromptRange range, int64_t tokens) {
    for (int64_t index = range.first; index < range.end; ++index)
        prompts_[static_cast<size_t>(index)].accumulator[form].finish(
            model_, attention, tokens, attended_.floats() + index * tokens * inner,
            scratch_.floats());
}

void PromptBatch::set_keys_values(Tokens& rows, int layer, float* prompt_state,
                                  int64_t prompt_state_size) {
    const ImageToTokenAttention& attention = model_.layers[layer].image_to_token;
    const int64_t size = rows.tokens() * inner;
    const float* keys = rows.project_with_positions(attention.key);
    const float* values = rows.project(attention.value);
    for (int64_t index = 0; index < rows.prompts(); ++index) {
        prompts_[static_cast<size_t>(index)].keys_values[layer].fill(
            model_, attention, keys + index * size, values + index * size, rows.tokens(),
            scratch_.floats());
        if (!prompt_state) continue;
        const PromptState stored(prompt_state + index * prompt_state_size, rows.tokens());
        std::memcpy(stored.keys(layer), keys + index * size,
                    static_cast<size_t>(size) * sizeof(float));
        std::memcpy(stored.values(layer), values + index * size,
                    static_cast<size_t>(size) * sizeof(float));
    }
}

}  // namespace fastseg::cpu::sam_decoder
