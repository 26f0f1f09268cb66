#include "cpu/decoder/group.h"

#include <algorithm>
#include <cstring>

namespace fastseg::cpu::decoder {
namespace {

int64_t tile_bytes(const Model& model) {
    return width * tile_size * model.element();
}

}  // namespace

Group::Group(const Model& model, int64_t largest, int64_t tokens, bool draws)
    : model_(model),
      tokens_(tokens),
      sweep_(model, tokens),
      head_(model),
      scratch_(float_buffer(2 * width * model.padded(heads * tokens))),
      seen_(float_buffer(largest * tokens * inner)),
      prompts_(static_cast<size_t>(largest)) {
    for (Prompt& prompt : prompts_) {
        prompt.shared = Looking(model, tokens, false);
        prompt.raw = Looking(model, tokens, true);
        prompt.sent[0] = Sent(model, tokens, false);
        prompt.sent[1] = Sent(model, tokens, true);
    }
    if (draws) kept_ = Buffer(std::min(together, largest) * model.tiles() * tile_bytes(model));
}

void Group::run(std::byte* state, const float* points, const int32_t* labels, int64_t count,
                const Answered& out, int64_t memory_size, const Drawing& drawing) {
    Tokens rows(model_, count, tokens_);
    rows.embed(points, labels);
    const auto see = [&](int layer, Looking Prompt::* looking, const auto& visit) {
        const Look& look = model_.layers[layer].look;
        rows.attend(model_.layers[layer], layer == 0);
        start(rows, look, looking);
        for_companies(count, [&](Company company) { for_tiles(state, company, visit); });
        finish(look, looking, {0, count}, tokens_);
        rows.take_in(model_.layers[layer], seen_.floats());
        send(rows, layer, out.memory, memory_size);
    };
    see(0, &Prompt::shared, [&](const Place& at, Prompt& prompt) {
        sweep_.look_shared(at.image, at.valid, prompt.shared, tokens_);
    });
    see(1, &Prompt::raw, [&](const Place& at, Prompt& prompt) {
        sweep_.update_first(at.image, prompt.sent[0], tokens_, at.slot, true);
        look(model_.layers[1].look, at, prompt, tokens_);
    });
    rows.keep_outputs();
    start(rows, model_.last, &Prompt::raw);
    for_companies(count, [&](Company company) { look_last(state, rows, company, out, drawing); });
}

void Group::look_last(std::byte* state, Tokens& rows, Company company, const Answered& out,
                      const Drawing& drawing) {
    for_tiles(state, company, [&](const Place& at, Prompt& prompt) {
        sweep_.update_first(at.image, prompt.sent[0], tokens_, at.slot, false);
        sweep_.update_second(at.tile, prompt.sent[1], tokens_, at.slot, true);
        if (drawing.logits)
            std::memcpy(kept(&prompt - &prompts_[static_cast<size_t>(company.first)], at.tile),
                        sweep_.image(), static_cast<size_t>(tile_bytes(model_)));
        look(model_.last, at, prompt, outputs);
    });
    finish(model_.last, &Prompt::raw, company, outputs);
    const int64_t first = company.first, count = company.end - first;
    rows.take_in_last(seen_.floats() + first * outputs * inner, first, count);
    rows.read(first, count, out.ious + first * slots, out.vectors + first * slots * vector_size);
    if (drawing.logits) draw(company, out, drawing);
}

void Group::draw(Company company, const Answered& out, const Drawing& drawing) {
    const int64_t area = 16 * model_.places();
    for (int64_t index = company.first; index < company.end; ++index) {
        Outlines outlines;
        for (int64_t slot = 1; slot < slots; ++slot)
            if (out.ious[index * slots + slot] > drawing.above)
                outlines.add(out.vectors + (index * slots + slot) * vector_size,
                             drawing.logits + (index * (slots - 1) + slot - 1) * area);
        if (outlines.masks == 0) continue;
        for (int64_t tile = 0; tile < model_.tiles(); ++tile) {
            const std::byte* image = kept(index - company.first, tile);
            const bool last = tile + 1 == model_.tiles();
            head_.draw(image, tile, outlines, last ? nullptr : image + tile_bytes(model_),
                       tile_bytes(model_));
        }
    }
}

std::byte* Group::kept(int64_t index, int64_t tile) const {
    return kept_.bytes() + (index * model_.tiles() + tile) * tile_bytes(model_);
}

void Group::look(const Look& look, const Place& at, Prompt& prompt, int64_t tokens) {
    sweep_.look_raw(look, at.tile, at.valid, prompt.raw, tokens, at.slot);
    if (at.ends_span) sweep_.gather(prompt.raw, tokens);
}

// Visit a few prompts at a time.
template <class Visit>
void Group::for_companies(int64_t count, const Visit& visit) {
    for (int64_t first = 0; first < count; first += together)
        visit(Company{first, std::min(first + together, count)});
}

// Visit every tile for every prompt, a span of tiles at a time.
template <class Visit>
void Group::for_tiles(std::byte* state, Company company, const Visit& visit) {
    const int64_t span = model_.table.span;
    for (int64_t first = 0; first < model_.tiles(); first += span) {
        for (int64_t index = company.first; index < company.end; ++index) {
            const int64_t end = std::min(first + span, model_.tiles());
            for (int64_t tile = first; tile < end; ++tile) {
                const int64_t valid = std::min(tile_size, model_.places() - tile * tile_size);
                visit(Place{state_tile(model_, state + tile * state_tile_bytes(model_)), tile,
                            tile - first, valid, tile + 1 == end},
                      prompts_[static_cast<size_t>(index)]);
            }
        }
    }
}

void Group::start(Tokens& rows, const Look& look, Looking Prompt::* looking) {
    const float* queries = rows.project_placed(look.query);
    for (int64_t index = 0; index < rows.prompts(); ++index)
        (prompts_[static_cast<size_t>(index)].*looking)
            .start(model_, look, queries + index * rows.tokens() * inner, rows.tokens(),
                   scratch_.floats());
}

void Group::finish(const Look& look, Looking Prompt::* looking, Company company, int64_t tokens) {
    for (int64_t index = company.first; index < company.end; ++index)
        (prompts_[static_cast<size_t>(index)].*looking)
            .finish(model_, look, tokens, seen_.floats() + index * tokens * inner,
                    scratch_.floats());
}

void Group::send(Tokens& rows, int layer, float* memory, int64_t memory_size) {
    const Update& update = model_.layers[layer].update;
    const int64_t size = rows.tokens() * inner;
    const float* keys = rows.project_placed(update.key);
    const float* values = rows.project(update.value);
    for (int64_t index = 0; index < rows.prompts(); ++index) {
        prompts_[static_cast<size_t>(index)].sent[layer].fill(model_, update, keys + index * size,
                                                              values + index * size, rows.tokens(),
                                                              scratch_.floats());
        if (!memory) continue;
        const Memory kept(memory + index * memory_size, rows.tokens());
        std::memcpy(kept.keys(layer), keys + index * size,
                    static_cast<size_t>(size) * sizeof(float));
        std::memcpy(kept.values(layer), values + index * size,
                    static_cast<size_t>(size) * sizeof(float));
    }
}

}  // namespace fastseg::cpu::decoder
