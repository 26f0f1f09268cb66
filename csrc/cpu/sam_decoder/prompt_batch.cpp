#include "cpu/sam_decoder/prompt_batch.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "cpu/nn/tile_config_guard.h"
#include "cpu/support/parallel.h"

namespace fastseg::cpu::sam_decoder {
namespace {

constexpr int64_t tiles_of_part = 16;  // a multiple of every table's span

int64_t tile_bytes(const Model& model) {
    return width * tile_size * model.element();
}

}  // namespace

int64_t Group::parts(const Model& model) {
    return (model.tiles() + tiles_of_part - 1) / tiles_of_part;
}

Group::Group(const Model& model, int64_t largest, int64_t tokens, bool draws, int threads)
    : model_(model),
      tokens_(tokens),
      scratch_(float_buffer(2 * width * model.padded(heads * tokens))),
      seen_(float_buffer(largest * tokens * inner)),
      prompts_(static_cast<size_t>(largest)) {
    for (Prompt& prompt : prompts_) {
        for (const Kind kind : {shared, raw}) {
            prompt.looking[kind] = Looking(model, tokens, kind == raw);
            prompt.sight[kind] = Sight(model, tokens, kind == raw);
        }
        prompt.sent[0] = Sent(model, tokens, false);
        prompt.sent[1] = Sent(model, tokens, true);
    }
    for (int index = 0; index < threads; ++index)
        hands_.push_back(std::make_unique<Hand>(model, tokens));
    const int64_t few = std::min(together, largest);
    for (const Kind kind : {shared, raw})
        for (int64_t index = 0; index < few * (threads > 1 ? parts(model) : 1); ++index)
            pieces_[kind].emplace_back(model, tokens, kind == raw);
    if (draws) kept_ = Buffer(few * model.tiles() * tile_bytes(model));
}

void Group::run(const std::byte* state, const float* points, const int32_t* labels, int64_t count,
                const Answered& out, int64_t memory_size, const Drawing& drawing) {
    Tokens rows(model_, count, tokens_);
    rows.embed(points, labels);
    const auto layer = [&](int number, Kind kind, const auto& visit) {
        const Look& look = model_.layers[number].look;
        rows.attend(model_.layers[number], number == 0);
        start(rows, look, kind);
        for_companies(count, [&](Company company) { see(state, company, kind, tokens_, visit); });
        finish(look, kind, {0, count}, tokens_);
        rows.take_in(model_.layers[number], seen_.floats());
        send(rows, number, out.memory, memory_size);
    };
    layer(0, shared, [&](Hand& hand, const Place& at, const Prompt& prompt, Sight& sight) {
        hand.sweep.look_shared(at.image, at.valid, prompt.looking[shared], sight, tokens_);
    });
    layer(1, raw, [&](Hand& hand, const Place& at, const Prompt& prompt, Sight& sight) {
        hand.sweep.update_first(at.image, prompt.sent[0], tokens_, at.slot, true);
        look(hand, model_.layers[1].look, at, prompt, sight, tokens_);
    });
    rows.keep_outputs();
    start(rows, model_.last, raw);
    for_companies(count, [&](Company company) { look_last(state, rows, company, out, drawing); });
}

void Group::look_last(const std::byte* state, Tokens& rows, Company company, const Answered& out,
                      const Drawing& drawing) {
    const auto visit = [&](Hand& hand, const Place& at, const Prompt& prompt, Sight& sight) {
        hand.sweep.update_first(at.image, prompt.sent[0], tokens_, at.slot, false);
        hand.sweep.update_second(at.tile, prompt.sent[1], tokens_, at.slot, true);
        if (drawing.logits)
            std::memcpy(kept(&prompt - &prompts_[static_cast<size_t>(company.first)], at.tile),
                        hand.sweep.image(), static_cast<size_t>(tile_bytes(model_)));
        look(hand, model_.last, at, prompt, sight, outputs);
    };
    see(state, company, raw, outputs, visit);
    finish(model_.last, raw, company, outputs);
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
        for_parts([&](Hand& hand, int64_t, TileRange tiles) {
            for (int64_t tile = tiles.first; tile < tiles.end; ++tile) {
                const std::byte* image = kept(index - company.first, tile);
                const bool last = tile + 1 == tiles.end;
                hand.head.draw(image, tile, outlines, last ? nullptr : image + tile_bytes(model_),
                               tile_bytes(model_));
            }
        });
    }
}

std::byte* Group::kept(int64_t index, int64_t tile) const {
    return kept_.bytes() + (index * model_.tiles() + tile) * tile_bytes(model_);
}

Sight& Group::piece(Kind kind, int64_t part, int64_t index) {
    const int64_t few = std::min<int64_t>(together, static_cast<int64_t>(prompts_.size()));
    return pieces_[kind][static_cast<size_t>((hands_.size() > 1 ? part * few : 0) + index)];
}

void Group::look(Hand& hand, const Look& look, const Place& at, const Prompt& prompt, Sight& sight,
                 int64_t tokens) const {
    hand.sweep.look_raw(look, at.tile, at.valid, prompt.looking[raw], sight, tokens, at.slot);
    if (at.ends_span) hand.sweep.gather(sight, tokens);
}

// Visit a few prompts at a time.
template <class Visit>
void Group::for_companies(int64_t count, const Visit& visit) {
    for (int64_t first = 0; first < count; first += together)
        visit(Company{first, std::min(first + together, count)});
}

template <class Visit>
void Group::for_parts(const Visit& visit) {
    std::atomic<size_t> next{0};
    share(static_cast<int>(hands_.size()), parts(model_), [&] {
        Hand& hand = *hands_[next++];
        return [&](int64_t part) {
            const TileConfigGuard tile_config(model_.table);
            visit(hand, part,
                  TileRange{part * tiles_of_part,
                            std::min((part + 1) * tiles_of_part, model_.tiles())});
        };
    });
}

template <class Visit>
void Group::see(const std::byte* state, Company company, Kind kind, int64_t tokens,
                const Visit& visit) {
    const int64_t count = company.end - company.first;
    Prompt* const prompts = &prompts_[static_cast<size_t>(company.first)];
    for (int64_t index = 0; index < count; ++index)
        prompts[index].sight[kind].clear(model_, tokens);
    const auto join = [&](int64_t part) {
        for (int64_t index = 0; index < count; ++index)
            prompts[index].sight[kind].join(model_, piece(kind, part, index), tokens);
    };
    const bool alone = hands_.size() == 1;
    for_parts([&](Hand& hand, int64_t part, TileRange tiles) {
        for (int64_t index = 0; index < count; ++index)
            piece(kind, part, index).clear(model_, tokens);
        for_tiles(state, tiles, count, [&](const Place& at, int64_t index) {
            visit(hand, at, prompts[index], piece(kind, part, index));
        });
        if (alone) join(part);
    });
    // Always in the same order, so that results do not depend on who was first.
    for (int64_t part = 0; !alone && part < parts(model_); ++part) join(part);
}

// A span of tiles at a time, for one prompt after another.
template <class Visit>
void Group::for_tiles(const std::byte* state, TileRange tiles, int64_t prompts,
                      const Visit& visit) const {
    const int64_t span = model_.table.span;
    for (int64_t first = tiles.first; first < tiles.end; first += span) {
        for (int64_t index = 0; index < prompts; ++index) {
            const int64_t end = std::min(first + span, tiles.end);
            for (int64_t tile = first; tile < end; ++tile) {
                const int64_t valid = std::min(tile_size, model_.places() - tile * tile_size);
                visit(Place{state_tile(model_, state + tile * state_tile_bytes(model_)), tile,
                            tile - first, valid, tile + 1 == end},
                      index);
            }
        }
    }
}

void Group::start(Tokens& rows, const Look& look, Kind kind) {
    const float* queries = rows.project_placed(look.query);
    for (int64_t index = 0; index < rows.prompts(); ++index)
        prompts_[static_cast<size_t>(index)].looking[kind].start(
            model_, look, queries + index * rows.tokens() * inner, rows.tokens(),
            scratch_.floats());
}

void Group::finish(const Look& look, Kind kind, Company company, int64_t tokens) {
    for (int64_t index = company.first; index < company.end; ++index)
        prompts_[static_cast<size_t>(index)].sight[kind].finish(
            model_, look, tokens, seen_.floats() + index * tokens * inner, scratch_.floats());
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
        const PromptState kept(memory + index * memory_size, rows.tokens());
        std::memcpy(kept.keys(layer), keys + index * size,
                    static_cast<size_t>(size) * sizeof(float));
        std::memcpy(kept.values(layer), values + index * size,
                    static_cast<size_t>(size) * sizeof(float));
    }
}

}  // namespace fastseg::cpu::sam_decoder
